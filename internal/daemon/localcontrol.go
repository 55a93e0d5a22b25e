package daemon

import (
	"fmt"
	"net"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/prng"
)

// startedControl is what became of the start of a control process.
type startedControl struct {
	control *Control
	err     error
}

// startControl begins to start the control process of a network on this machine, whose
// key comes back at the next start, and returns where nodes reach it. The directory runs
// already: it lists the nodes that may speak. Engines take as long to open as the network
// takes to start, so nobody waits for them here: who asks early is answered when they are
// open.
func (l *Local) startControl(cfg *LocalConfig, keys prng.Source) (controls []string, err error) {
	if cfg.Control == nil {
		return nil, nil
	}
	var key [front.KeySize]byte
	keys.Stream("control").Read(key[:])
	c := ControlConfig{
		Name: LocalControl, Key: &key, Trust: l.trust, Authorities: []string{l.Authority.URL()},
		Poll: localPoll, StateDir: cfg.ControlDir, Fresh: true, OperatorFile: cfg.OperatorFile, Issuer: cfg.issuer, Spans: cfg.Spans,
	}
	if c.OperatorFile != "" {
		c.Operators = "127.0.0.1:0"
	}
	server := mirror.Server{Replica: true}
	cert, err := front.Issue(&key, time.Now())
	if err == nil {
		server.Pin, err = front.Pin(&cert)
	}
	if err == nil {
		c.listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	server.URL = "https://" + c.listener.Addr().String()
	l.starting = make(chan startedControl, 1)
	go func() {
		control, err := cfg.Control(c)
		if err != nil {
			c.listener.Close()
		}
		l.starting <- startedControl{control, err}
	}()
	controls = []string{server.String()}
	return controls, l.Authority.consult(controls)
}

// awaitControl waits until the control process has started, if there is one.
func (l *Local) awaitControl() error {
	if l.starting == nil {
		return nil
	}
	started := <-l.starting
	l.starting, l.Control = nil, started.control
	return started.err
}
