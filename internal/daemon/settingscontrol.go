package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry/changes"
	"github.com/nyxnet/nyx/internal/wire"
)

// errNoSettings says that another process of the control plane has the configuration.
var errNoSettings = errors.New("this control process has no configuration; another one has")

const (
	// operatorsMost bounds the connections of operators, who are people and their
	// programs: each costs some 10 kB.
	operatorsMost = 64
	// operatorHeadMost is how long a request's head may take on this machine. Who shows
	// no token holds no place for long, and none that an operator wants.
	operatorHeadMost = 2 * time.Second
	// operatorsFull is what a connection beyond them is told.
	operatorsFull = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 5\r\nConnection: close\r\n\r\n" +
		"as many connections of operators are open as may be; close some, or come again\n"
)

// openSettings opens the configuration of the network, where this process has a part in
// it, and serves operators.
func (c *Control) openSettings(ctx context.Context) error {
	if c.cfg.Settings == nil {
		return nil
	}
	c.cfg.Settings = &timedStore{Store: c.cfg.Settings}
	log, err := changes.Open(ctx, changes.Config{Store: c.cfg.Settings, Schema: settings.Network(), Now: time.Now, Log: c.log})
	if err != nil {
		return err
	}
	c.settings, c.desk = log, NewSettingsDesk(log, systemEntropy(), c.log)
	c.desk.tell, c.desk.own = c.tell, c.cfg.Name
	if c.cfg.History != nil {
		c.cfg.History.log.Store(log)
	}
	if c.cfg.Operators != "" {
		return c.serveOperators()
	}
	return nil
}

// serveOperators answers operators on this machine, who show what the operator file
// holds.
func (c *Control) serveOperators() error {
	ln, err := net.Listen("tcp", c.cfg.Operators)
	if err != nil {
		return fmt.Errorf("cannot listen on %s for operators: %w; stop what uses it or choose another address", c.cfg.Operators, err)
	}
	var token [32]byte
	systemEntropy().Stream("operator").Read(token[:])
	f := OperatorFile{URL: "http://" + ln.Addr().String(), Token: hex.EncodeToString(token[:])}
	mux := http.NewServeMux()
	turned := func(why string) { c.turn(operatorsDoor, why) }
	who := ByToken("operator", f.Token)
	c.desk.RegisterOperator(mux, func(r *http.Request) (name, why string) {
		if name, why = who(r); why == "" {
			front.Known(r)
		}
		return name, why
	}, turned)
	c.operators = newServer(onlyLoopbackHost(mux, func() { turned(foreignPage) }))
	c.operators.ReadHeaderTimeout = operatorHeadMost
	bounded := &front.Listener{Listener: ln, Limits: front.NewLimits(operatorsMost, operatorsMost), Answer: []byte(operatorsFull), Turned: turned, Yields: true}
	bounded.Watch(c.operators)
	if err := f.Save(c.cfg.OperatorFile); err != nil {
		ln.Close()
		return err
	}
	c.running.Go(func() { c.operators.Serve(bounded) })
	return nil
}

// serveSettings answers a node that asks for what follows a revision.
func (c *Control) serveSettings(w http.ResponseWriter, r *http.Request, from wire.NodeID) {
	if c.desk == nil {
		http.Error(w, errNoSettings.Error(), http.StatusServiceUnavailable)
		return
	}
	c.desk.serve(w, r, hex.EncodeToString(from[:]))
}

// followSettings has this process take what the configuration says of it, as a node
// does.
func (c *Control) followSettings(ctx context.Context) {
	s := newSettler(c.cfg.Name, settings.Control, "", []settings.Subscriber{logLevel(c.cfg.Level), c.policy.subscriber()}, nil, c.log)
	s.traces = newTracer(c.cfg.Name, c.cfg.Spans)
	s.follow(ctx, func(ctx context.Context, query url.Values) (int, []byte, error) {
		status, b := c.desk.answer(ctx, c.cfg.Name, query)
		return status, b, ctx.Err()
	})
}

// lead does what one process does for all whenever this one is the leader.
func (c *Control) lead(ctx context.Context) {
	h := &herald{store: c.cfg.Settings, log: c.settings, policy: c.policy, record: c, name: c.cfg.Name, note: c.log, traces: newTracer(c.cfg.Name, c.cfg.Spans)}
	serve := func(term context.Context) {
		done := make(chan struct{})
		go func() { defer close(done); h.run(term) }()
		c.desk.Lead(term)
		<-done
	}
	if c.cfg.Office == nil {
		serve(ctx)
		return
	}
	for ctx.Err() == nil {
		err := c.cfg.Office.Hold(ctx, "leader", c.cfg.Name, func(term context.Context) {
			c.log.Info("this process leads the control plane")
			c.tell(audit.Event{Kind: audit.ControlElection, Severity: audit.Notice, Action: "lead", Subject: c.cfg.Name, Details: details("leader", c.cfg.Name)})
			serve(term)
		})
		if err != nil && ctx.Err() == nil {
			c.log.Warn("no leader of the control plane could be found; trying again", "why", err)
			pause(ctx, settleAgain)
		}
	}
}
