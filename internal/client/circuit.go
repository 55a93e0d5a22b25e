package client

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// circuit is the routes to one exit, and the session on them once there is
// one. Circuits are built ahead of need; a session takes the oldest.
type circuit struct {
	key      circuitKey
	purpose  purpose
	service  *hosted            // of a circuit that serves one
	meeting  wire.MeetingID     // where it waits or answers, or its next route calls
	at       []spot             // of a calling one: where its service waits
	secret   wire.MeetingSecret // of the meeting where it waits
	call     wire.CallID        // that it answers
	exit     *directory.Node
	routes   [stream.MaxPaths]*route
	member   *session.Member[*circuit]
	begun    machine.Time   // when the session was asked for
	lacks    machine.Time   // since when no path is found for a route; 0: one was
	failed   int            // set-ups in a row that failed
	failedAt machine.Time   // the last of them
	why      error          // it did
	launches bool           // its session was started, and nothing of it sent
	ticket   *stream.Ticket // that the session was given
	doubt    *doubt         // whether its exit lives
	compared machine.Time   // its routes with each other, by what the session says
	rescued  bool           // a spare route is being drawn
	leaves   *route         // the route whose replacement is being drawn
	spareAt  machine.Time   // when another may be
	respite  time.Duration  // between the last and that
	goneBy   wire.NodeID    // the last mix that said that the exit is gone
	goneAt   machine.Time
}

// circuitKey is whose streams a circuit carries: those of one isolation key,
// to wherever an exit leads, to one Stream node itself, or to one service.
type circuitKey struct {
	isolation string
	node      wire.NodeID
	service   service.Address
}

// KeysMax bounds the circuits that carry users' streams: each holds a session
// and at least two routes, which the entries must admit and the network must
// carry, cover included. A browser that isolates each site has tens. Circuits to
// one Stream node, over which descriptors of services are fetched and laid
// down, have as many places of their own: look-ups take none from users.
const KeysMax = 256

// ErrTooManyKeys means that KeysMax isolation keys are in use. A key's place is
// free again when its session has been idle until its end.
var ErrTooManyKeys = errors.New("client: too many isolation keys are in use")

// roomFor reports whether streams of another key may be carried. Those of who
// sets no key always are.
func (c *Client) roomFor(key circuitKey) bool {
	n := 0
	for other := range c.circuits {
		if other.lookUp() == key.lookUp() && other != (circuitKey{}) {
			n++
		}
	}
	return key == circuitKey{} || n < KeysMax
}

// lookUp reports whether the circuit is for the store of a Stream node.
func (k circuitKey) lookUp() bool { return k.node != wire.NodeID{} }

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

// ending reports whether the circuit's session takes no more streams.
func (k *circuit) ending() bool { return k.member != nil && k.member.Core.Ending() }

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
	key := circuitKey{isolation: isolation}
	if k := c.circuits[key]; k != nil {
		return k, nil
	}
	if c.view == nil {
		return nil, ErrNoDirectory
	}
	if !c.roomFor(key) {
		return nil, ErrTooManyKeys
	}
	k := c.take(now)
	if k == nil {
		k = &circuit{}
	}
	return k, c.start(now, k, key)
}

// circuitTo returns the circuit of an isolation key to one exit.
func (c *Client) circuitTo(now machine.Time, isolation string, exit *directory.Node) (*circuit, error) {
	key := circuitKey{isolation: isolation, node: exit.ID}
	if k := c.circuits[key]; k != nil {
		return k, nil
	}
	if !c.roomFor(key) {
		return nil, ErrTooManyKeys
	}
	k := &circuit{exit: exit}
	return k, c.start(now, k, key)
}

// take removes the best circuit built ahead: one whose session is established,
// else the one with most routes.
func (c *Client) take(now machine.Time) *circuit {
	best, most := -1, -1
	for i, k := range c.ahead {
		if k.exit == nil || k.ending() || c.dead.has(now, k.exit.ID) || c.leaving(k.exit.ID) {
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
func (c *Client) start(now machine.Time, k *circuit, key circuitKey) error {
	if k.exit == nil {
		plan, err := c.draw(now, k)
		if err != nil {
			return err
		}
		k.exit = plan.Exit()
	}
	if k.member == nil {
		if err := c.handshake(now, k, c.ticketOf(now, key)); err != nil {
			c.dropRoutes(now, k)
			return err
		}
	}
	k.key = key
	c.circuits[key] = k
	k.launches = true
	c.replan(now)
	return nil
}

// launch sends the first flight of a session that has just been started, with what
// was written until now, in the set-up of a route if none stands.
func (c *Client) launch(now machine.Time, k *circuit) {
	if k.launches = false; k.ready() == 0 && k.held() == 0 {
		if err := c.build(now, k, 0, k.member.Core.FirstFlight()); err != nil {
			c.lastError = err
		}
	}
}

// handshake begins the session of a circuit. Of the isolation key that will
// have it nothing is known yet, and nothing of it goes into the handshake, unless
// it has a ticket.
func (c *Client) handshake(now machine.Time, k *circuit, ticket *stream.Ticket) error {
	key, ok := c.view.Link(k.exit.ID)
	if !ok {
		return fmt.Errorf("client: the directory has no usable link key for exit %x", k.exit.ID[:4])
	}
	core, err := stream.Resume(now, c.cfg.Stream, key, ticket, c.child("session"), &c.Counts)
	if err != nil {
		return err
	}
	k.begun = now
	k.member = c.add(core, k)
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
	if c.cfg.Level != wire.Fast && c.circuits[circuitKey{}] == nil {
		// The session of who sets no isolation key stands from the beginning:
		// its first use changes nothing that can be seen.
		if _, err := c.circuitFor(now, ""); err != nil {
			c.lastError = err
		}
	}
	for len(c.ahead) < c.cfg.Ahead {
		c.ahead = append(c.ahead, &circuit{})
	}
	for _, k := range c.ahead {
		c.fill(now, k)
	}
	c.timers.Set(&c.plan, now.Add(c.planGap()))
}

// planInterval is the mean time between two looks at what must be built. On
// shaped levels each gap is drawn, within half and one and a half of it.
const planInterval = 20 * time.Second

func (c *Client) planGap() time.Duration {
	if c.cfg.Level == wire.Fast {
		return planInterval
	}
	return planInterval/2 + time.Duration(c.plans.Uint64N(uint64(planInterval)))
}

// replan has what was used up built again: at once where nothing is hidden, and
// at the next look on its own schedule where a set-up would tell that a user
// has begun something.
func (c *Client) replan(now machine.Time) {
	if c.cfg.Level == wire.Fast {
		c.timers.Set(&c.plan, now)
	}
}

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

// keepTicket keeps the ticket of a session that broke, for the next one of its
// isolation key. Those of sessions that ended by agreement or idle are forgotten:
// a ticket tells the fleet's nodes that two sessions are of one client.
func (c *Client) keepTicket(now machine.Time, k *circuit, code uint64) {
	t := k.ticket
	k.ticket = nil
	if t == nil {
		return
	}
	maps.DeleteFunc(c.tickets, func(_ circuitKey, old *stream.Ticket) bool { return !old.Good(now) })
	if c.circuits[k.key] != k || k.key.lookUp() || code != uint64(wire.CodeVanished) || len(c.tickets) >= KeysMax {
		t.Clear()
		return
	}
	c.tickets[k.key] = t
}

// ticketOf takes the ticket of an isolation key, or returns nil. It is used once.
func (c *Client) ticketOf(now machine.Time, key circuitKey) *stream.Ticket {
	t := c.tickets[key]
	delete(c.tickets, key)
	if !t.Good(now) {
		t.Clear()
		return nil
	}
	return t
}

// endCircuit releases a session and its routes.
func (c *Client) endCircuit(now machine.Time, m *session.Member[*circuit], code uint64) {
	k := m.Owner
	c.End(m)
	c.keepTicket(now, k, code)
	if code == uint64(wire.CodeIdle) && k.purpose == exiting && k.key == (circuitKey{}) && k.standing() {
		// The routes stay as they are, so that nobody sees the change.
		k.member = nil
		if err := c.handshake(now, k, nil); err != nil {
			c.lastError = err
		}
		return
	}
	if k.purpose == answering {
		k.service.acceptor.Forget(m.Core)
		delete(k.service.sessions, m.Core.LocalID())
	}
	if c.circuits[k.key] == k {
		delete(c.circuits, k.key)
	}
	c.ahead = slices.DeleteFunc(c.ahead, func(a *circuit) bool { return a == k })
	c.replan(now)
	k.member = nil
	c.dropRoutes(now, k)
	c.cfg.Sink.Emit(now, trace.SessionDown, code, 0)
}
