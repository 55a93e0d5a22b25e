package gateway

import (
	"strconv"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// end is the last hop's state of a route: its sending schedule, and what is
// bound to it, a session or the end of another route.
type end struct {
	id     mix.End
	level  wire.Level
	shaper *obfs.Shaper
	slot   machine.Timer[*end]
	hello  stream.Assembly // a HELLO that comes in parts
	member *session.Member[*ending]
	path   uint8
	queue  packetQueue // packets that wait for a slot: answers, joined traffic

	meeting wire.MeetingID // set while a service waits here
	calls   []call         // callers that wait for the service's answer
	peer    *end           // set while joined
}

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
	policy := obfs.PolicyOf(d.Level)
	if g.cfg.Class != 0 && policy.Floor != 0 {
		policy = policy.Pinned(g.cfg.Class)
	}
	rng := g.rng.Child("end/" + strconv.FormatUint(g.serial, 10))
	e := &end{id: d.Route, level: d.Level, shaper: obfs.NewShaper(policy, rng, now)}
	e.slot.Value = e
	g.ends[d.Route] = e
	g.slots.Set(&e.slot, e.shaper.NextSlot())
	clear(g.packet[:])
	g.packet[0] = byte(wire.SessionRouteReady)
	g.sendOrQueue(now, e, g.packet[:])
	if len(d.Packet) > 0 {
		g.handleHello(now, e, d.Packet)
	}
}

// handlePacket takes a session packet that came out of a route.
func (g *Gateway) handlePacket(now machine.Time, e *end, packet []byte) {
	switch kind := wire.SessionPacketKind(packet); {
	case kind == wire.SessionDummy:
		g.Counts[trace.DummyIn]++
	case kind.Meeting():
		g.handleMeeting(now, e, packet)
	case e.peer != nil:
		if !g.sendOrQueue(now, e.peer, packet) {
			g.Counts[trace.DropCellQueue]++
		}
	case kind == wire.SessionHello:
		if hello, whole := e.hello.Add(packet); whole {
			g.handleHello(now, e, hello)
		}
	default:
		g.handleSessionPacket(now, e, packet)
	}
}

func (g *Gateway) handleHello(now machine.Time, e *end, hello []byte) {
	if g.Len() >= g.cfg.SessionsMax {
		g.Counts[trace.DropSessionUnknown]++
		return
	}
	cfg := g.cfg.Stream
	cfg.Level = e.level
	core, err := g.acceptor.Accept(now, cfg, g.cfg.Hop.Static, hello, &g.Counts)
	if err != nil {
		g.Counts[trace.DropSessionMalformed]++
		return
	}
	m := g.Get(core.LocalID())
	if m == nil {
		m = g.Add(core, &ending{seen: now})
	}
	g.bind(now, m, e)
	g.Touch(m)
}

func (g *Gateway) handleSessionPacket(now machine.Time, e *end, packet []byte) {
	m := g.Get(wire.SessionPacketID(packet))
	if m == nil {
		g.Counts[trace.DropSessionUnknown]++
		return
	}
	if e.member != m && !g.bind(now, m, e) {
		g.Counts[trace.DropSessionUnknown]++
		return
	}
	m.Owner.seen = now
	m.Core.HandlePacket(now, e.path, packet)
	g.Touch(m)
	g.pass(now, m)
}

// bind makes the route a path of the session. A route serves one session.
func (g *Gateway) bind(now machine.Time, m *session.Member[*ending], e *end) bool {
	if e.member != nil || e.peer != nil {
		return e.member == m
	}
	for i, taken := range m.Owner.ends {
		if taken == nil {
			m.Owner.ends[i], e.member, e.path = e, m, uint8(i)
			m.Core.AddPath(now, e.path)
			return true
		}
	}
	return false
}

// dropEnd forgets a route that ended.
func (g *Gateway) dropEnd(now machine.Time, e *end) {
	g.slots.Stop(&e.slot)
	delete(g.ends, e.id)
	if m := e.member; m != nil {
		m.Owner.ends[e.path] = nil
		m.Core.RemovePath(now, e.path)
		g.Touch(m)
	}
	if e.peer != nil {
		e.peer.peer = nil
		g.Table.CloseEnd(now, e.peer.id)
		peer := e.peer
		e.peer = nil
		g.dropEnd(now, peer)
	}
	if g.meetings[e.meeting] == e {
		delete(g.meetings, e.meeting)
	}
}
