package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// hosted is a service that this client offers.
type hosted struct {
	kem      *seal.KEMPrivate
	address  service.Address
	waits    []*circuit
	acceptor *stream.Acceptor
	sessions map[uint32]*session.Member[*circuit] // by connection id
	calls    int                                  // answering routes
}

const (
	// meetingsPerService is at how many Stream nodes a service waits: with
	// three, one may fail while its route is rebuilt.
	meetingsPerService = 3
	// callsMax bounds the calls that one service answers at a time.
	callsMax = 1024
)

// ErrNoMeeting means that no Stream node can serve as a meeting point.
var ErrNoMeeting = errors.New("client: no meeting point in the directory")

// Host offers a service: routes to meeting points are built and kept, and
// sessions of callers are accepted. Meetings says where.
func (c *Client) Host(now machine.Time, k *service.Key) error {
	if c.view == nil {
		return ErrNoDirectory
	}
	for _, h := range c.hosted {
		if h.address == k.Address() {
			return fmt.Errorf("client: service %v is offered already", h.address)
		}
	}
	nodes := c.meetingNodes()
	if len(nodes) == 0 {
		return ErrNoMeeting
	}
	c.paths.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	h := &hosted{kem: k.KEM, address: k.Address(), acceptor: stream.NewAcceptor(c.cfg.Stream, c.child("service")),
		sessions: map[uint32]*session.Member[*circuit]{}}
	for _, n := range nodes[:min(len(nodes), meetingsPerService)] {
		w := &circuit{purpose: waiting, service: h, exit: n}
		c.newMeeting(w)
		h.waits = append(h.waits, w)
	}
	c.hosted = append(c.hosted, h)
	c.timers.Set(&c.plan, now)
	return nil
}

// relocate has a service wait at another meeting point in place of one that
// cannot be reached.
func (c *Client) relocate(k *circuit) {
	nodes := slices.DeleteFunc(c.meetingNodes(), func(n *directory.Node) bool {
		return slices.ContainsFunc(k.service.waits, func(w *circuit) bool { return w.exit.ID == n.ID })
	})
	if len(nodes) > 0 {
		k.exit = nodes[c.paths.IntN(len(nodes))]
		c.newMeeting(k)
	}
}

// newMeeting gives a waiting circuit a meeting that nobody else can listen at.
func (c *Client) newMeeting(k *circuit) {
	c.paths.Read(k.secret[:])
	k.meeting = service.MeetingOf(k.secret)
}

// Withdraw ends a service: its routes close, its sessions go on.
func (c *Client) Withdraw(now machine.Time, a service.Address) {
	for i, h := range c.hosted {
		if h.address != a {
			continue
		}
		c.hosted = append(c.hosted[:i], c.hosted[i+1:]...)
		for _, k := range h.waits {
			c.dropRoutes(now, k)
		}
		return
	}
}

func (c *Client) dropRoutes(now machine.Time, k *circuit) {
	for _, r := range k.routes {
		if r != nil {
			c.drop(now, r)
		}
	}
}

// Meetings returns where a service waits now: what its descriptor must say.
func (c *Client) Meetings(a service.Address) (out []service.Meeting) {
	for _, h := range c.hosted {
		if h.address != a {
			continue
		}
		for _, k := range h.waits {
			if k.standing() {
				out = append(out, service.Meeting{Node: k.exit.ID, ID: k.meeting})
			}
		}
	}
	return out
}

// Keepers returns the Stream nodes that keep the descriptor of an index.
func (c *Client) Keepers(ix service.Index, n int) []wire.NodeID {
	var ids []wire.NodeID
	for _, node := range c.meetingNodes() {
		ids = append(ids, node.ID)
	}
	return service.Keepers(ix, ids, n)
}

func (c *Client) meetingNodes() (out []*directory.Node) {
	if c.view == nil {
		return nil
	}
	for i := range c.view.Len() {
		if n := c.view.At(i); n.Roles.Has(directory.RoleMeeting) && n.Roles.Has(directory.RoleExit) {
			out = append(out, n)
		}
	}
	return out
}

// OpenAt opens a stream that ends at one Stream node, in a session of its own
// for each isolation key.
func (c *Client) OpenAt(now machine.Time, isolation string, node wire.NodeID, t wire.Target) (session.Ref, error) {
	if c.view == nil {
		return session.Ref{}, ErrNoDirectory
	}
	n, ok := c.view.Node(node)
	if !ok {
		return session.Ref{}, fmt.Errorf("client: node %x is not in the directory", node[:4])
	}
	k, err := c.circuitTo(now, isolation, n)
	if err != nil {
		return session.Ref{}, err
	}
	return c.openOn(now, k, t)
}

// Call opens a stream to a service by its descriptor. Streams of one isolation
// key to one service share a session. Its routes call at different meeting points;
// one at which a route fails, is refused, or finds no answer is left for the next,
// for as long as the session's handshake has time (stream.Config.HandshakeTimeout).
func (c *Client) Call(now machine.Time, isolation string, d *service.Descriptor, t wire.Target) (session.Ref, error) {
	key := circuitKey{isolation: isolation, service: d.Address}
	k := c.circuits[key]
	if k != nil && k.member.Core.Established() {
		return c.openOn(now, k, t)
	}
	if c.view == nil {
		return session.Ref{}, ErrNoDirectory
	}
	var at []spot
	for _, m := range d.Meetings {
		if _, ok := c.view.Node(m.Node); ok {
			at = append(at, spot{Meeting: m})
		}
	}
	if len(at) == 0 {
		return session.Ref{}, ErrNoMeeting
	}
	c.paths.Shuffle(len(at), func(i, j int) { at[i], at[j] = at[j], at[i] })
	if k != nil { // where the service waits now
		k.at = at
		return c.openOn(now, k, t)
	}
	if !c.roomFor(key) {
		return session.Ref{}, ErrTooManyKeys
	}
	k = &circuit{purpose: calling, at: at}
	core, err := stream.Dial(now, c.cfg.Stream, d.KEM, c.child("session"), &c.Counts)
	if err != nil {
		return session.Ref{}, err
	}
	k.key, k.begun = key, now
	k.member = c.add(core, k)
	c.circuits[key] = k
	c.fill(now, k)
	return c.openOn(now, k, t)
}

// answerPatience is how long a call waits for the service's route: half the time of
// a handshake, in which the service is told, has a route stand, and joins.
const answerPatience = 7500 * time.Millisecond

var (
	errUnanswered = errors.New("client: a meeting point brings no answer of the service")
	errNobody     = errors.New("client: the service waits at none of its meeting points")
)

// spot is a meeting point of a service that is called, and how often in a row a
// route of the call came to nothing there.
type spot struct {
	service.Meeting
	failed int
}

// spotOf is where a route of a call leads; one that is known no more counts nothing.
func (k *circuit) spotOf(r *route) *spot {
	for i := range k.at {
		if k.at[i].ID == r.meeting {
			return &k.at[i]
		}
	}
	return &spot{}
}

// aim has the next route of a call lead to the meeting point that failed least, and
// of those to one at which no other route of it calls, if there is one.
func (c *Client) aim(k *circuit) error {
	k.exit = nil
	least := 0
	for _, s := range k.at {
		n, ok := c.view.Node(s.Node)
		cost := 2 * s.failed
		if slices.ContainsFunc(k.routes[:], func(r *route) bool { return r != nil && r.meeting == s.ID }) {
			cost++
		}
		if ok && (k.exit == nil || cost < least) {
			k.exit, k.meeting, least = n, s.ID, cost
		}
	}
	if k.exit == nil {
		return ErrNoMeeting
	}
	return nil
}

// meet tells the meeting point what a route that stands now is for.
func (c *Client) meet(now machine.Time, r *route) {
	k := r.circuit
	m := wire.MeetingPacket{Meeting: r.meeting}
	switch k.purpose {
	case waiting:
		m = wire.MeetingPacket{Kind: wire.SessionMeetListen, Secret: k.secret}
	case answering:
		m.Kind, m.Call = wire.SessionMeetAnswer, k.call
	case calling:
		c.paths.Read(r.call[:])
		m.Kind, m.Call = wire.SessionMeetCall, r.call
	}
	c.sendMeeting(now, r, m)
}

func (c *Client) sendMeeting(now machine.Time, r *route, m wire.MeetingPacket) {
	m.Put(c.packet[:])
	c.sendPacket(now, r)
}

// sendPacket sends c.packet, which is not a session's of ours: at once on a
// route without shaping, else in the route's next slot.
func (c *Client) sendPacket(now machine.Time, r *route) {
	if r.shaper.Shaped() {
		r.outbox = append(r.outbox, append([]byte(nil), c.packet[:]...))
		return
	}
	c.emit(now, r, true)
}

// handleMeeting takes a meeting point's word.
func (c *Client) handleMeeting(now machine.Time, r *route, packet []byte) {
	k := r.circuit
	m, ok := wire.ParseMeetingPacket(packet)
	if !ok || k.purpose == exiting {
		c.Counts[trace.DropSessionMalformed]++
		return
	}
	switch m.Kind {
	case wire.SessionMeetJoined:
		if !r.joined {
			c.join(now, r)
		}
	case wire.SessionMeetCall:
		if k.purpose == waiting {
			c.answer(now, k, m.Call)
		}
	case wire.SessionMeetRefused:
		c.refused(now, k, r)
	}
}

// answer builds the route that will be joined to a caller's.
func (c *Client) answer(now machine.Time, k *circuit, call wire.CallID) {
	if k.service.calls >= callsMax {
		c.Counts[trace.DropSetupLimit]++
		return
	}
	c.takeCall(now, &circuit{purpose: answering, service: k.service, exit: k.exit, meeting: k.meeting, call: call})
}

// takeCall builds the route of an answer, again if its set-up failed.
func (c *Client) takeCall(now machine.Time, k *circuit) {
	if err := c.build(now, k, 0, nil); err != nil {
		c.lastError = err
		return
	}
	k.service.calls++
}

// refused gives up a call or an answer that found nobody. A call whose session does
// not stand goes on at the other meeting points, and ends when there is none.
func (c *Client) refused(now machine.Time, k *circuit, r *route) {
	c.drop(now, r)
	if k.purpose != calling || k.member == nil {
		return
	}
	if k.member.Core.Established() {
		k.spotOf(r).failed++
		return
	}
	k.at = slices.DeleteFunc(k.at, func(s spot) bool { return s.ID == r.meeting })
	if len(k.at) == 0 {
		c.lastError = errNobody
		c.endCircuit(now, k.member, uint64(wire.CodeNone))
		return
	}
	c.fill(now, k)
}

// adopt makes a route that answered a caller's further call a path of the
// session of which it brought a packet, if that is authentic.
func (c *Client) adopt(now machine.Time, r *route, packet []byte) {
	m := r.circuit.service.sessions[wire.SessionPacketID(packet)]
	slot := -1
	if m != nil {
		slot = m.Owner.free()
	}
	if slot < 0 {
		c.Counts[trace.DropSessionUnknown]++
		return
	}
	if m.Core.HandleNewPath(now, uint8(slot), packet) {
		c.move(r, m.Owner, slot)
		c.Touch(m)
		c.pass(now, m)
	}
}

// move makes a route another circuit's.
func (c *Client) move(r *route, k *circuit, slot int) {
	r.circuit.routes[r.slot] = nil
	r.circuit, r.slot = k, slot
	k.routes[slot] = r
}

// hellosMax bounds the key work that one route of a caller can cause: it brings
// one HELLO, repeated ten times in 15 s.
const hellosMax = 16

// handleHello takes part of a caller's HELLO that came through a meeting.
func (c *Client) handleHello(now machine.Time, r *route, packet []byte) {
	hello, whole := r.hello.Add(packet)
	if !whole {
		return
	}
	k := r.circuit
	if r.hellos++; r.hellos > hellosMax {
		c.Counts[trace.DropSessionUnknown]++
		return
	}
	core, err := k.service.acceptor.Accept(now, c.cfg.Stream.Level, k.service.kem, hello, &c.Counts)
	if refusal := (*stream.Refusal)(nil); errors.As(err, &refusal) {
		c.packet = refusal.Packet
		c.sendPacket(now, r)
		return
	}
	if err != nil {
		c.Counts[trace.DropSessionMalformed]++
		return
	}
	m := k.service.sessions[core.LocalID()]
	switch {
	case m == nil && k.member != nil: // a second session on a route that has one
		k.service.acceptor.Forget(core)
		c.Counts[trace.DropSessionUnknown]++
		return
	case m == nil:
		m = c.add(core, k)
		k.member, k.begun = m, now
		k.service.sessions[core.LocalID()] = m
		core.AddPath(now, uint8(r.slot))
	case k.member == nil: // the same HELLO by another route
		slot := m.Owner.free()
		if slot < 0 {
			return
		}
		c.move(r, m.Owner, slot)
		core.AddPath(now, uint8(slot))
	}
	c.Touch(m)
	c.pass(now, m)
}

// ServiceOf returns the address of the service whose session a stream is of.
func (c *Client) ServiceOf(ref session.Ref) (a service.Address, ok bool) {
	m := c.Get(ref.Session)
	if m == nil || m.Owner.service == nil {
		return a, false
	}
	return m.Owner.service.address, true
}
