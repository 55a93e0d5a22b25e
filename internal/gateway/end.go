package gateway

import (
	"errors"
	"slices"
	"strconv"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// end is the last hop's state of a route: what is bound to it, a session or the
// end of another route. What only some routes need hangs off pointers: a million
// idle ones fit in memory.
type end struct {
	id     mix.End
	slots  *slots           // nil: not shaped
	part   *part            // nil: none in a meeting so far
	hello  *stream.Assembly // a HELLO that comes in parts; nil: none
	member *session.Member[ending]
	peer   *end         // set while joined
	heard  machine.Time // the last cell

	level  wire.Level
	path   uint8 // of member
	hellos uint8 // whole HELLOs that came
}

// slots is what a shaped route has: its sending schedule, and what waits for it.
type slots struct {
	shaper *obfs.Shaper
	timer  machine.Timer[*end]
	even   *obfs.Playout // nil: what has come is taken in as it is
	intake wire.Queue    // packets for sessions
	queue  packetQueue   // packets to be sent: answers, joined traffic
}

// hellosMax bounds the key work that one route can cause: it serves one
// session, whose HELLO is repeated ten times in 15 s.
const hellosMax = 16

// packetQueue is a bounded queue of session packets.
type packetQueue struct {
	packets [][]byte
}

// queueMax bounds the packets that wait at an end. Joined routes of unequal
// class drop beyond it, and the sessions across them find the loss.
const queueMax = 512

func (q *packetQueue) push(p []byte) bool {
	if len(q.packets) >= queueMax {
		return false
	}
	q.packets = append(q.packets, append(make([]byte, 0, wire.SessionPacketSize), p...))
	return true
}

func (q *packetQueue) pop() ([]byte, bool) {
	if len(q.packets) == 0 {
		return nil, false
	}
	p := q.packets[0]
	q.packets[0] = nil
	q.packets = q.packets[1:]
	if len(q.packets) == 0 {
		q.packets = nil
	}
	return p, true
}

// handleOpened takes a route that ends here, and the first flight in its
// set-up if there is one.
func (g *Gateway) handleOpened(now machine.Time, d mix.Delivery) {
	g.serial++
	policy := obfs.PolicyOf(d.Level).For(d.Profile).In(g.cover.Region(g.cfg.Region))
	if g.cfg.Class != 0 && policy.Floor != 0 {
		policy = policy.Pinned(g.cfg.Class)
	}
	if g.cfg.Moving && policy.Floor != 0 {
		policy = policy.Moving()
	}
	e := &end{id: d.Route, level: d.Level}
	g.ends[d.Route] = e
	if policy.Floor != 0 {
		e.slots = &slots{shaper: obfs.NewShaper(policy, g.rng.Child("end/"+strconv.FormatUint(g.serial, 10)), now), even: obfs.NewPlayout(policy)}
		e.slots.timer.Value = e
		g.slots.Set(&e.slots.timer, e.slots.shaper.NextSlot())
	}
	clear(g.packet[:])
	g.packet[0] = byte(wire.SessionRouteReady)
	g.sendOrQueue(now, e, g.packet[:])
	if len(d.Packet) > 0 {
		// Not held for a slot: it came with the set-up, in no slot of the
		// client's, and carries nothing for a target that a slot could hide.
		g.handleHello(now, e, d.Packet)
	}
}

// intakeMax bounds the packets that wait at an end for its next slot. A client
// in the highest class brings 50 in a slot of the interactive floor; ten times
// as many leave room for what a mix lets go at once after it was held up.
const intakeMax = 512

// playingMax bounds the cells that wait for their places at all ends together (170
// MB): a route's share is what its client's class brings, but a client may have many.
const playingMax = 1 << 17

// handlePacket takes a session packet that came out of a route. On a shaped
// route a session's waits for a slot of the way back, or for the tick of its place
// where the level has places: see takeIn.
func (g *Gateway) handlePacket(now machine.Time, e *end, d mix.Delivery) {
	packet, even := d.Packet, e.even()
	e.heard = now
	if even != nil && d.Place != 0 {
		even.Arrived(now, d.Place)
	}
	switch kind := wire.SessionPacketKind(packet); {
	case kind == wire.SessionDummy:
		g.Counts[trace.DummyIn]++
	case kind.Meeting():
		g.handleMeeting(now, e, packet)
	case even != nil:
		f := g.Pool.Get()
		copy(f.B[:], packet)
		if g.playing >= playingMax || !even.Push(now, d.Place, d.Counter, f) {
			g.Pool.Put(f)
			g.Counts[trace.DropCellQueue]++
			return
		}
		g.playing++
	case e.peer != nil:
		g.handJoined(now, e, packet)
	case e.slots == nil:
		g.handleOwn(now, e, packet)
	case e.slots.intake.Len < intakeMax:
		f := g.Pool.Get()
		copy(f.B[:], packet)
		e.slots.intake.Push(f)
	default:
		g.Counts[trace.DropCellQueue]++
	}
}

// even is what plays out the cells of a route, or nil.
func (e *end) even() *obfs.Playout {
	if e.slots == nil {
		return nil
	}
	return e.slots.even
}

// takeIn hands over what has come on a shaped route since its last slot, or what
// has its place at this one. A target, and whoever watches it, sees bytes arrive at
// ticks of this node's own clock, which tell nothing of the clock on the client's
// link: only whether the application had something to send.
func (g *Gateway) takeIn(now, slot machine.Time, e *end) {
	s := e.slots
	if s.even != nil {
		s.even.Tick(slot)
		for f := s.even.Pop(); f != nil; f = s.even.Pop() {
			g.playing--
			if packet := f.B[:wire.SessionPacketSize]; e.peer != nil {
				g.handJoined(now, e, packet)
			} else {
				g.handleOwn(now, e, packet)
			}
			g.Pool.Put(f)
		}
		return
	}
	for range s.intake.Len {
		f := s.intake.Pop()
		if s.shaper.Stays() {
			s.intake.Push(f)
			continue
		}
		g.handleOwn(now, e, f.B[:wire.SessionPacketSize])
		g.Pool.Put(f)
	}
}

// handJoined passes a packet on to the route that this one is joined to.
func (g *Gateway) handJoined(now machine.Time, e *end, packet []byte) {
	if !g.sendOrQueue(now, e.peer, packet) {
		g.Counts[trace.DropCellQueue]++
	}
}

// handleOwn takes a packet for a session that ends here.
func (g *Gateway) handleOwn(now machine.Time, e *end, packet []byte) {
	if wire.SessionPacketKind(packet) != wire.SessionHello {
		g.handleSessionPacket(now, e, packet)
		return
	}
	if e.hello == nil {
		e.hello = &stream.Assembly{}
	}
	if hello, whole := e.hello.Add(packet); whole {
		e.hello = nil
		g.handleHello(now, e, hello)
	}
}

func (g *Gateway) handleHello(now machine.Time, e *end, hello []byte) {
	if g.Len() >= g.cfg.SessionsMax || e.hellos >= hellosMax {
		g.Counts[trace.DropSessionUnknown]++
		return
	}
	e.hellos++
	core, err := g.acceptor.Accept(now, e.level, g.cfg.Hop.Static, hello, &g.Counts)
	if refusal := (*stream.Refusal)(nil); errors.As(err, &refusal) {
		g.sendOrQueue(now, e, refusal.Packet[:])
		return
	}
	if err != nil {
		g.Counts[trace.DropSessionMalformed]++
		return
	}
	m := g.Get(core.LocalID())
	fresh := m == nil
	if fresh {
		m = g.Add(core, ending{seen: now})
	}
	if slot := free(m, e); e.member != m && slot >= 0 {
		core.AddPath(now, uint8(slot))
		bind(m, e, slot)
	}
	if fresh && e.member != m { // a second session on a route that has one
		g.Remove(m)
		g.acceptor.Forget(core)
		g.Counts[trace.DropSessionUnknown]++
		return
	}
	g.Touch(m)
}

func (g *Gateway) handleSessionPacket(now machine.Time, e *end, packet []byte) {
	m := g.Get(wire.SessionPacketID(packet))
	if m == nil {
		g.Counts[trace.DropSessionUnknown]++
		return
	}
	if e.member == m {
		m.Core.HandlePacket(now, e.path, packet)
	} else {
		place := slot(m, e)
		if place < 0 {
			g.Counts[trace.DropSessionUnknown]++
			return
		}
		if !m.Core.HandleNewPath(now, uint8(place), packet) {
			return // whoever guesses a connection id gets no place in its session
		}
		bind(m, e, place)
	}
	m.Owner.seen = now
	g.Touch(m)
	g.pass(now, m)
}

// free is a place for a route among the paths of a session that no other has, or
// -1: a route serves one session, and a session has a bounded number of paths.
func free(m *session.Member[ending], e *end) int {
	if e.member != nil || e.peer != nil {
		return -1
	}
	return slices.Index(m.Owner.ends[:], nil)
}

// slot is the place that an authentic packet gives its route: a free one, or that of
// the route which was heard longest ago, or -1. A client holds no more routes than a
// session has paths, so where all are taken one is dead: the end of a route is not
// told when a link before it breaks, and would stand in the way of those that replace
// it for ten minutes. Should the route that gives way be alive, its next packet gives
// it a place again.
func slot(m *session.Member[ending], e *end) int {
	if e.member != nil || e.peer != nil {
		return -1
	}
	oldest := 0
	for i, other := range m.Owner.ends {
		switch {
		case other == nil:
			return i
		case other.heard < m.Owner.ends[oldest].heard:
			oldest = i
		}
	}
	return oldest
}

// bind makes a route the path of a session whose packet it has brought.
func bind(m *session.Member[ending], e *end, slot int) {
	if old := m.Owner.ends[slot]; old != nil {
		old.member = nil
	}
	m.Owner.ends[slot], e.member, e.path = e, m, uint8(slot)
}

// dropEnd forgets a route that ended. One that its client closes lingers in the
// table for longer than its last packets wait here; one whose link broke loses
// them, as it loses what was under way.
func (g *Gateway) dropEnd(now machine.Time, e *end) {
	if s := e.slots; s != nil {
		for f := s.intake.Pop(); f != nil; f = s.intake.Pop() {
			g.Counts[trace.DropCellRoute]++
			g.Pool.Put(f)
		}
		if s.even != nil {
			for f := s.even.Drain(); f != nil; f = s.even.Drain() {
				g.playing--
				g.Counts[trace.DropCellRoute]++
				g.Pool.Put(f)
			}
		}
		g.slots.Stop(&s.timer)
	}
	delete(g.ends, e.id)
	if m := e.member; m != nil {
		m.Owner.ends[e.path] = nil
		m.Core.RemovePath(now, e.path)
		g.Touch(m)
	}
	if peer := e.peer; peer != nil {
		e.peer, peer.peer = nil, nil
		g.Table.CloseEnd(now, peer.id)
		g.dropEnd(now, peer)
	}
	g.leaveMeeting(now, e)
}
