package lab

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/engine/etcd"
	"github.com/nyxnet/nyx/internal/lab/servers"
)

// members is an etcd cluster of processes of their own on this machine.
type members struct {
	dir  string
	all  []*member
	urls []string // for clients
	lead chan *member
}

// member is one process.
type member struct {
	name  string
	cmd   *exec.Cmd
	input io.WriteCloser
	said  sync.WaitGroup // its output is read
	dead  bool
}

// membersWait bounds the start of a cluster.
const membersWait = time.Minute

// startMembers starts a cluster. The program calls etcd.RunMember first.
func startMembers(n int) (c *members, err error) {
	c = &members{lead: make(chan *member, 64)}
	if c.dir, err = os.MkdirTemp("", "nyx-members-*"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ports, err := servers.FreePorts(2 * n)
	if err != nil {
		return nil, err
	}
	var cluster []string
	for i := range n {
		cluster = append(cluster, fmt.Sprintf("m%d=http://127.0.0.1:%s", i, ports[2*i]))
	}
	ready := make(chan error, n)
	for i := range n {
		at := etcd.Member{Name: fmt.Sprint("m", i), Dir: filepath.Join(c.dir, fmt.Sprint(i)), Peer: "http://127.0.0.1:" + ports[2*i],
			Client: "http://127.0.0.1:" + ports[2*i+1], Cluster: strings.Join(cluster, ",")}
		if err := c.start(program, at, ready); err != nil {
			return nil, err
		}
		c.urls = append(c.urls, at.Client)
	}
	limit := time.After(membersWait)
	for range n {
		select {
		case err = <-ready:
		case <-limit:
			err = fmt.Errorf("the cluster does not stand after %v", membersWait)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *members) start(program string, at etcd.Member, ready chan<- error) error {
	m := &member{name: at.Name, cmd: exec.Command(program)}
	m.cmd.Env = append(os.Environ(), at.Environment())
	out, err := m.cmd.StdoutPipe()
	if err == nil {
		m.input, err = m.cmd.StdinPipe()
	}
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		return err
	}
	c.all = append(c.all, m)
	m.said.Go(func() {
		told := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			switch lines.Text() {
			case "ready":
				told = true
				ready <- nil
			case "leads":
				select {
				case c.lead <- m:
				default: // nobody counts that many
				}
			default:
				if !told {
					told = true
					ready <- fmt.Errorf("member %s: %s", m.name, lines.Text())
				}
			}
		}
		if !told {
			ready <- fmt.Errorf("member %s ended at its start", m.name)
		}
	})
	return nil
}

// kill ends a member at once, without a word to the others.
func (m *member) kill() {
	if !m.dead {
		m.dead = true
		m.cmd.Process.Kill()
		m.said.Wait()
		m.cmd.Wait()
	}
}

func (c *members) stop() {
	for _, m := range c.all {
		m.kill()
	}
	os.RemoveAll(c.dir)
}
