package client

import (
	"fmt"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// circuit is the routes to one exit, and the session on them once there is
// one. Circuits are built ahead of need; a session takes the oldest.
type circuit struct {
	isolation string
	purpose   purpose
	service   *hosted        // of a circuit that serves one
	meeting   wire.MeetingID // where it waits, calls or answers
	call      wire.CallID    // that it answers
	exit      *directory.Node
	routes    [stream.MaxPaths]*route
	member    *session.Member[*circuit]
	begun     machine.Time // when the session was asked for
}

// purpose is what a circuit's last hop is to its session.
type purpose uint8

const (
	exiting   purpose = iota // the session ends at the last hop
	waiting                  // a service waits at the last hop for calls
	answering                // a service joins its route to a caller's
	calling                  // a client joins its route to a service's
)

// wanted is how many routes the circuit holds. An answering one takes what its
// caller builds.
func (k *circuit) wanted(perSession int) int {
	switch k.purpose {
	case waiting:
		return 1
	case answering:
		return 0
	}
	return perSession
}

// ready counts the routes that stand.
func (k *circuit) ready() (n int) {
	for _, r := range k.routes {
		if r != nil && r.ready {
			n++
		}
	}
	return n
}

// standing reports whether a route of the circuit serves its purpose.
func (k *circuit) standing() bool {
	for _, r := range k.routes {
		if r != nil && r.joined {
			return true
		}
	}
	return false
}

// held counts the routes that stand or are being built, without those whose
// replacement is under way.
func (k *circuit) held() (n int) {
	for _, r := range k.routes {
		if r != nil && r.replaces == nil {
			n++
		}
	}
	return n
}

// free is a place without a route, or -1.
func (k *circuit) free() int {
	for i, r := range k.routes {
		if r == nil {
			return i
		}
	}
	return -1
}

// circuitFor returns the circuit whose session serves an isolation key.
func (c *Client) circuitFor(now machine.Time, isolation string) (*circuit, error) {
	if k := c.circuits[isolation]; k != nil {
		return k, nil
	}
	if c.view == nil {
		return nil, ErrNoDirectory
	}
	k := c.take()
	if k == nil {
		k = &circuit{}
	}
	return k, c.start(now, k, isolation)
}

// circuitTo returns the circuit of an isolation key to one exit.
func (c *Client) circuitTo(now machine.Time, isolation string, exit *directory.Node) (*circuit, error) {
	if k := c.circuits[isolation]; k != nil {
		return k, nil
	}
	k := &circuit{exit: exit}
	return k, c.start(now, k, isolation)
}

// take removes the best circuit built ahead: one whose session is established,
// else the one with most routes.
func (c *Client) take() *circuit {
	best, most := -1, -1
	for i, k := range c.ahead {
		if k.exit == nil {
			continue
		}
		worth := k.ready()
		if k.member != nil && k.member.Core.Established() {
			worth += stream.MaxPaths
		}
		if worth > most {
			best, most = i, worth
		}
	}
	if best < 0 {
		return nil
	}
	k := c.ahead[best]
	c.ahead = append(c.ahead[:best], c.ahead[best+1:]...)
	return k
}

// start gives a circuit's session to an isolation key. On a circuit built ahead
// the session is there; else its handshake begins, and where no route stands
// yet, its first flight travels in the set-up of a fresh one.
func (c *Client) start(now machine.Time, k *circuit, isolation string) error {
	if k.exit == nil {
		path, err := c.draw(k)
		if err != nil {
			return err
		}
		k.exit = path.Exit()
	}
	if k.member == nil {
		if err := c.handshake(now, k); err != nil {
			return err
		}
	}
	k.isolation = isolation
	c.circuits[isolation] = k
	if k.ready() == 0 && k.held() == 0 {
		if err := c.build(now, k, 0, k.member.Core.FirstFlight()); err != nil {
			c.lastError = err
		}
	}
	c.timers.Set(&c.plan, now)
	return nil
}

// handshake begins the session of a circuit. Of the isolation key that will
// have it nothing is known yet, and nothing of it goes into the handshake.
func (c *Client) handshake(now machine.Time, k *circuit) error {
	key, ok := c.view.Link(k.exit.ID)
	if !ok {
		return fmt.Errorf("client: the directory has no usable link key for exit %x", k.exit.ID[:4])
	}
	core, err := stream.Dial(now, c.cfg.Stream, key, c.child("session"), &c.Counts)
	if err != nil {
		return err
	}
	k.begun = now
	k.member = c.Add(core, k)
	for slot, r := range k.routes {
		if r != nil && r.joined {
			core.AddPath(now, uint8(slot))
		}
	}
	return nil
}

// buildAhead keeps every circuit at its number of routes, and enough circuits
// waiting. It runs when something changed and on its own schedule, never
// because of what a user sends.
func (c *Client) buildAhead(now machine.Time) {
	if c.view == nil {
		return
	}
	for _, m := range c.Members() {
		c.fill(now, m.Owner)
	}
	for _, h := range c.hosted {
		for _, k := range h.waits {
			c.fill(now, k)
		}
	}
	for len(c.ahead) < c.cfg.Ahead {
		c.ahead = append(c.ahead, &circuit{})
	}
	for _, k := range c.ahead {
		c.fill(now, k)
	}
	c.timers.Set(&c.plan, now.Add(planInterval))
}

// planInterval is how often the number of routes is looked at when nothing
// else gives reason to.
const planInterval = 5 * time.Second

// fill starts the routes that a circuit lacks.
func (c *Client) fill(now machine.Time, k *circuit) {
	for k.held() < k.wanted(c.cfg.RoutesPerSession) {
		slot := k.free()
		if slot < 0 {
			return
		}
		if err := c.build(now, k, slot, nil); err != nil {
			c.lastError = err
			c.failures++
			return
		}
	}
}

// endCircuit releases a session and its routes.
func (c *Client) endCircuit(now machine.Time, m *session.Member[*circuit], code uint64) {
	k := m.Owner
	c.Remove(m)
	if k.purpose == answering {
		k.service.acceptor.Forget(m.Core)
	}
	if c.circuits[k.isolation] == k {
		delete(c.circuits, k.isolation)
	}
	c.ahead = slices.DeleteFunc(c.ahead, func(a *circuit) bool { return a == k })
	c.timers.Set(&c.plan, now)
	k.member = nil
	for _, r := range k.routes {
		if r != nil {
			c.drop(now, r)
		}
	}
	c.events = append(c.events, session.Event{Kind: session.Closed, Ref: session.Ref{Session: m.ID, Stream: session.AllStreams}})
	c.cfg.Sink.Emit(now, trace.SessionDown, code, 0)
}

// suspect is told by a session that a path went silent: the route is given up
// unless it is the last.
func (c *Client) suspect(now machine.Time, k *circuit, path uint8) {
	r := k.routes[path]
	if r == nil || !r.ready || k.ready() < 2 {
		return
	}
	c.fail(now, r, errSilent)
}
