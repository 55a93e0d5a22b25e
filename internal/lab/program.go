package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// upWait bounds the start of a network, and upStop its end: it promises 5 s.
	upWait = 90 * time.Second
	upStop = 10 * time.Second
)

// errNoProgram says that a scenario needs what only the program has.
var errNoProgram = errors.New("the scenario looks at a network that runs, and this is not the program that starts one: use nyx scenario run")

// up is nyx up as a process of its own: the whole program as it ships, of which a scenario
// reads what anybody reads.
type up struct {
	metrics string // host:port
	cmd     *exec.Cmd
	said    chan string // lines, until it ends
}

// startUp runs nyx up in a directory, and returns when traffic can flow.
func (r *Run) startUp(dir string, args ...string) (*up, error) {
	if r.program == nil {
		return nil, errNoProgram
	}
	cmd, err := r.program(append([]string{"up", "--data", filepath.Join(dir, "data"), "--socks", "127.0.0.1:0"}, args...)...)
	if err != nil {
		return nil, err
	}
	// Nor is it among the processes that nyx status shows this user.
	cmd.Env = append(cmd.Environ(), "XDG_CONFIG_HOME="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("nyx up: %w", err)
	}
	u := &up{cmd: cmd, said: make(chan string, 1)}
	go func() {
		defer close(u.said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			u.said <- lines.Text()
		}
	}()
	if err := u.awaitMetrics(); err != nil {
		return nil, errors.Join(err, u.stop())
	}
	return u, nil
}

// awaitMetrics reads what the network says of itself up to where its metrics are: that
// comes when it is ready.
func (u *up) awaitMetrics() error {
	limit := time.After(upWait)
	for {
		select {
		case line, ok := <-u.said:
			if !ok {
				return errors.New("nyx up ended before it was ready")
			}
			if at, ok := strings.CutPrefix(line, "metrics http://"); ok {
				u.metrics = strings.TrimSuffix(at, "/metrics")
				return nil
			}
		case <-limit:
			return fmt.Errorf("nyx up is not ready after %v", upWait)
		}
	}
}

// stop ends the network as an interrupt does.
func (u *up) stop() error {
	u.cmd.Process.Signal(os.Interrupt)
	ctx, cancel := context.WithTimeout(context.Background(), upStop)
	defer cancel()
	defer context.AfterFunc(ctx, func() { u.cmd.Process.Kill() })()
	for range u.said { // to its end
	}
	return u.cmd.Wait()
}
