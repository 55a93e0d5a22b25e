package gateway

// The path of a packet through the end of a route, in packet order:
//
//	in   1. HandleDatagram: the link opens the datagram (link.Endpoint).
//	     2. HandleDatagram: the table opens the cell's layer; a cell that ends
//	        here is a delivery (mix.Table.HandleFrame, deliver). HandleOpened does
//	        1 and 2 with what was opened before its turn (hop.Hop.OpenAhead).
//	     3. handlePacket: dummies are dropped, packets of a session go to it,
//	        on a shaped route at the route's next slot (takeIn).
//	     4. handleOwn: the session opens its packet
//	        (stream.Session.HandlePacket).
//	     5. pass: the application side is told what it can read.
//	out  6. HandleTimer, fillSlots: on a shaped route each sending slot takes in
//	        what has come (takeIn), and sends one packet, or a dummy
//	        (obfs.Shaper.Take).
//	     7. work, sendSession: on a route without shaping the session's
//	        packets leave as its congestion control permits.
//	     8. sendBack: the end seals the packet into a cell (mix.Table.SendBack).
//	     9. PollTransmit: the cell goes to its link, which seals it.

import (
	"net/netip"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// burstMax is how many packets one session sends before the next has its turn.
const burstMax = 64

// HandleDatagram takes a datagram from a client or a neighbour.
func (g *Gateway) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	g.HandleOpened(now, from, b, -1)
}

// HandleOpened takes datagram i of a batch (see machine.Opener).
func (g *Gateway) HandleOpened(now machine.Time, from netip.AddrPort, b []byte, i int) {
	id, frame, cell, ok := g.Receive(now, from, b, i)
	if g.Guard.Due(now) {
		g.look(now, 0)
	}
	if !ok {
		return
	}
	switch wire.FrameType(frame[0]) {
	case wire.FrameAdmission:
		g.handleAdmission(now, id, frame)
	case wire.FrameSetup:
		if !g.mayBuild(id) {
			g.Counts[trace.DropSetupPeer]++
			return
		}
		g.Table.HandleFrame(now, id, frame)
	default:
		g.Table.HandlePeeled(now, id, frame, cell)
	}
	g.deliver(now)
}

// deliver takes what ended here out of the table.
func (g *Gateway) deliver(now machine.Time) {
	for {
		d, ok := g.Table.PollDeliver()
		if !ok {
			return
		}
		if d.Kind == mix.Opened {
			g.handleOpened(now, d)
			continue
		}
		e := g.ends[d.Route]
		switch {
		case e == nil:
			g.Counts[trace.DropCellRoute]++
		case d.Kind == mix.Packet:
			g.handlePacket(now, e, d)
		case d.Kind == mix.Closed:
			g.dropEnd(now, e)
		}
	}
}

// PollTransmit yields the next datagram.
func (g *Gateway) PollTransmit(now machine.Time, b []byte) (to netip.AddrPort, n int, ok bool) {
	if to, n, ok = g.Links.PollTransmit(now, b); ok {
		return to, n, ok
	}
	g.work(now)
	return g.Links.PollTransmit(now, b)
}

// work runs every session that was touched and hands finished cells to their
// links.
func (g *Gateway) work(now machine.Time) {
	g.LinkEvents(now, func(ev link.Event) { g.handleLinkEvent(now, ev) })
	g.deliver(now)
	for range g.Waiting() {
		m, ok := g.Next()
		if !ok {
			break
		}
		g.sendSession(now, m)
		if g.pass(now, m) {
			g.Settle(m)
		}
	}
	g.Forward(now)
}

// sendSession sends on the session's routes that are not shaped.
func (g *Gateway) sendSession(now machine.Time, m *session.Member[ending]) {
	left := burstMax
	first := m.Core.ActivePath() // another one carries what it has no room for
	for i := range m.Owner.ends {
		path := (int(first) + i) % len(m.Owner.ends)
		e := m.Owner.ends[path]
		if e == nil || e.slots != nil {
			continue
		}
		for left > 0 && m.Core.PollPacket(now, uint8(path), g.packet[:]) {
			g.sendBack(now, e, g.packet[:], true)
			left--
		}
	}
	if left == 0 {
		g.Touch(m)
	}
}

// pass passes on what the session has to tell, and reports whether the session
// goes on.
func (g *Gateway) pass(now machine.Time, m *session.Member[ending]) bool {
	for {
		ev, ok := g.Pass(m)
		if !ok {
			return true
		}
		if ev.Kind == stream.Closed {
			g.endSession(now, m)
			return false
		}
	}
}

// endSession releases a session: its routes stay until the client closes them
// or they expire, and carry cover meanwhile.
func (g *Gateway) endSession(now machine.Time, m *session.Member[ending]) {
	for _, e := range m.Owner.ends {
		if e != nil {
			e.member = nil
		}
	}
	g.End(m)
	g.acceptor.Forget(m.Core)
	lag := now.Sub(m.Owner.seen)
	g.Distributions.ObserveTime(trace.SessionCloseLag, lag)
	g.cfg.Sink.Emit(now, trace.SessionClosed, uint64(lag), 0)
}

// fillSlots emits one cell for every sending slot that has come, and takes in
// before what has come on the route, as its shaper says.
func (g *Gateway) fillSlots(now machine.Time) {
	g.cover.Turn(now)
	for {
		t, due := g.slots.Pop(now)
		if !due {
			return
		}
		e := t.Value
		shaper := e.slots.shaper
		if shaper.Intake() {
			g.takeIn(now, shaper.NextSlot(), e)
		}
		before := shaper.Class()
		if took, changed := shaper.Take(now); took {
			real := g.nextPacket(now, e)
			shaper.Emitted(real)
			g.sendBack(now, e, g.packet[:], real)
			if changed {
				g.cfg.Sink.Emit(now, trace.ClassChanged, uint64(before), uint64(shaper.Class()))
			}
		}
		g.slots.Set(t, shaper.NextSlot())
	}
}

// nextPacket writes what waits for a slot of this route into g.packet, or a
// dummy, and reports whether it was real.
func (g *Gateway) nextPacket(now machine.Time, e *end) bool {
	if p, ok := e.slots.queue.pop(); ok {
		copy(g.packet[:], p)
		return true
	}
	if m := e.member; m != nil && m.Core.PollPacket(now, e.path, g.packet[:]) {
		g.Touch(m)
		return true
	}
	clear(g.packet[:])
	return false
}

// sendOrQueue sends a packet that is not a session's of ours: at once on a
// route without shaping, else in the route's next slot.
func (g *Gateway) sendOrQueue(now machine.Time, e *end, packet []byte) bool {
	if e.slots != nil {
		return e.slots.queue.push(packet)
	}
	g.sendBack(now, e, packet, true)
	return true
}

func (g *Gateway) sendBack(now machine.Time, e *end, packet []byte, real bool) {
	if real {
		g.Counts[trace.RealOut]++
	} else {
		g.Counts[trace.DummyOut]++
	}
	g.Table.SendBack(now, e.id, packet)
}

// HandleTimer runs what is due, the sending slots among it: what they take in
// is told to the application before anything else comes.
func (g *Gateway) HandleTimer(now machine.Time) {
	g.Hop.HandleTimer(now)
	g.Set.HandleTimer(now)
	g.fillSlots(now)
	g.admission.Expire(now)
	g.intake.HandleTimer(now)
	g.answerAll(now)
}

// NextTimer is when HandleTimer or a sending slot has work.
func (g *Gateway) NextTimer() machine.Time {
	return min(g.Hop.NextTimer(), g.Set.NextTimer(), g.slots.Next(), g.admission.NextExpiry(), g.intake.NextTimer())
}

// PollJob yields a key decapsulation.
func (g *Gateway) PollJob() (machine.Job, bool) { return g.Table.PollJob() }

// HandleJob takes it back.
func (g *Gateway) HandleJob(now machine.Time, j machine.Job) { g.Table.HandleJob(now, j) }
