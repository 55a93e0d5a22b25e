// Package servers is for tests and scenarios: it runs servers of others, real ones, on
// this machine, each in a directory of its own and until it is stopped. test/servers.sh
// builds them; nothing of them is part of Nyx.
package servers

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// DirEnv names the directory of the programs; without it they are in nyx-servers of the
// user's cache directory.
const DirEnv = "NYX_SERVERS"

// Find returns the path of a program, or an error that says how to get it.
func Find(name string) (string, error) {
	dir := os.Getenv(DirEnv)
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "nyx-servers")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not built here; test/servers.sh %s does it, in some minutes", name, name)
	}
	return path, nil
}

const (
	// startMost is how long a server may take until it serves: some replay a log first.
	// stopMost is how long until it is gone: some write what they hold.
	startMost = 3 * time.Minute
	stopMost  = time.Minute
	// dialPause is between looks whether it listens: some say that they do before.
	dialPause = 5 * time.Millisecond
)

// process is a running server.
type process struct {
	cmd  *exec.Cmd
	ends chan error
}

// start runs a program until it has printed a text and listens at an address.
func start(ready, at string, cmd *exec.Cmd) (*process, error) {
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, make(chan error, 1)}
	go func() {
		err := cmd.Wait()
		write.CloseWithError(io.EOF)
		p.ends <- err
	}()
	said, serves := make(chan string, 1), make(chan struct{})
	go func() {
		lines, last := bufio.NewScanner(read), ""
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if last = lines.Text(); strings.Contains(last, ready) {
				close(serves)
				break
			}
		}
		said <- last
		io.Copy(io.Discard, read)
	}()
	late := time.NewTimer(startMost)
	defer late.Stop()
	select {
	case <-serves:
		return p, listens(at, late.C)
	case last := <-said:
		select {
		case <-serves:
			return p, listens(at, late.C)
		default:
		}
		return nil, errors.Join(fmt.Errorf("%s ended before it served; it said last: %s", cmd.Path, last), p.stop())
	case <-late.C:
		return nil, errors.Join(fmt.Errorf("%s does not serve after %v", cmd.Path, startMost), p.stop())
	}
}

// listens waits until somebody listens at an address.
func listens(at string, late <-chan time.Time) error {
	for {
		conn, err := net.Dial("tcp", at)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(dialPause):
		case <-late:
			return err
		}
	}
}

// stop ends the process.
func (p *process) stop() error {
	p.cmd.Process.Signal(os.Interrupt)
	late := time.AfterFunc(stopMost, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	err := <-p.ends
	if exit := (&exec.ExitError{}); errors.As(err, &exit) {
		err = nil // it was told to
	}
	return err
}

// Stop ends the server, which first writes, or passes on, what it holds in memory, and
// returns the processor time that it has used.
func (p *process) Stop() (used time.Duration, err error) {
	err = p.stop()
	if s := p.cmd.ProcessState; s != nil {
		used = s.UserTime() + s.SystemTime()
	}
	return used, err
}
