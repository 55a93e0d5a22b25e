package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/setup"
)

// children are the nodes of a network, each a process of its own.
type children struct {
	mu      sync.Mutex
	running sync.WaitGroup
	list    []*exec.Cmd
	say     func(string, ...any)
}

// ownProgram is this program with other arguments, as a process that ends with this one.
func ownProgram(args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program: %w", err)
	}
	cmd := exec.Command(self, args...)
	cmd.SysProcAttr = dieWithParent()
	return cmd, nil
}

// start runs one node.
func (c *children) start(config string, out io.Writer) error {
	cmd, err := ownProgram("node", "--quiet", "--config", config)
	if err != nil {
		return err
	}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start a node: %w", err)
	}
	name := filepath.Base(filepath.Dir(config))
	c.say("%s is process %d", name, cmd.Process.Pid)
	c.mu.Lock()
	c.list = append(c.list, cmd)
	c.mu.Unlock()
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		if err := cmd.Wait(); err != nil {
			c.say("%s ended: %v", name, err)
		}
	}()
	return nil
}

// stop asks every node to stop and waits; who does not is killed.
func (c *children) stop() {
	c.mu.Lock()
	list := c.list
	c.mu.Unlock()
	for _, cmd := range list {
		cmd.Process.Signal(os.Interrupt)
	}
	done := make(chan struct{})
	go func() { c.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(3 * time.Second):
		for _, cmd := range list {
			cmd.Process.Kill()
		}
		<-done
	}
}

// runProcesses is nyx up with every node as a process of its own, so that any
// one of them can be killed.
func runProcesses(ctx context.Context, f upFlags, cfg daemon.LocalConfig, say func(string, ...any)) error {
	dir, files, networkFile, err := processNetwork(f, len(cfg.Carriers) > 0)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	network, err := setup.LoadNetwork(networkFile)
	if err != nil {
		return err
	}
	nodes := &children{say: say}
	defer nodes.stop()
	for _, file := range files {
		if err := nodes.start(file, os.Stderr); err != nil {
			return err
		}
	}
	p, err := daemon.StartProxy(daemon.ProxyConfig{
		Network: network, Poll: 2 * time.Second, Client: cfg.Client, Socks: cfg.Socks, Use: cfg.Use, Carriers: cfg.UseCarriers,
	})
	if err != nil {
		return err
	}
	defer p.Close()
	shows, err := p.ServeStanding(cli.Shown(), network, f.level)
	if err != nil {
		say("%v", err)
	}
	defer shows.Close()
	waiting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := p.Client.WaitReady(waiting); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("the network is not ready after %v: %w", readyTimeout, err)
	}
	if f.ready != "" {
		if err := setup.WriteReady(f.ready, setup.Ready{Socks: p.Addr(), PID: os.Getpid()}); err != nil {
			return err
		}
		defer os.Remove(f.ready)
	}
	say("ready; proxy %s (SOCKS5 and HTTP)", p.Addr())
	select {
	case <-ctx.Done():
		return nil
	case <-p.Client.Done():
		return errors.New("the client stopped by itself; this is a defect, please report it")
	}
}
