package client

// The path of a packet through the client, in packet order:
//
//	out  1. Write (session.Set): the application's bytes enter a stream.
//	     2. work, sendSession: on routes without shaping the session's packets
//	        leave as its congestion control permits (stream.Session.PollPacket).
//	     3. HandleTimer, fillSlot: on shaped routes each sending slot takes one
//	        packet, or a dummy (obfs.Shaper.Take).
//	     4. cell: the route seals the packet, one layer per hop
//	        (mix.Route.Seal), and the cell goes to the entry's link: at once
//	        (emit), or when the shaper says (obfs.Shaper.Spread, send).
//	     5. PollTransmit: the link seals the frame (link.Endpoint.PollTransmit).
//	in   6. HandleDatagram: the link opens the datagram.
//	     7. handleBack: the route opens the layers, entry first
//	        (mix.Route.Open); dummies are dropped, packets go to the session.
//	        HandleOpened does 6 and 7 with what was opened before its turn
//	        (OpenAhead).
//	     8. pass: the application side is told what it can read.

import (
	"net/netip"
	"time"

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

// HandleDatagram takes a datagram from an entry.
func (c *Client) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	if id, frame, ok := c.links.HandleDatagram(now, from, b); ok {
		c.handleFrame(now, id, frame, nil)
	}
}

// HandleOpened takes datagram i of a batch (see machine.Opener).
func (c *Client) HandleOpened(now machine.Time, from netip.AddrPort, b []byte, i int) {
	o := &c.batch[i]
	if id, frame, ok := c.links.HandleOpened(now, from, b, &o.link); ok {
		c.handleFrame(now, id, frame, &o.cell)
	}
}

// opened is what was found of one datagram of a batch before its turn.
type opened struct {
	link link.Opened
	cell mix.PeeledBack
}

// Batch is that of machine.Opener.
func (c *Client) Batch(n int) {
	if n == 0 {
		c.batch = nil
		return
	}
	c.batch = machine.Grow(c.batch, n)
	for i := range c.batch[:n] {
		c.batch[i].link.Reset()
		c.batch[i].cell = mix.PeeledBack{}
	}
}

// OpenAhead is that of machine.Opener: it opens the link's seal of datagram i,
// and the layers of the cell in it.
func (c *Client) OpenAhead(i int, b []byte) {
	o := &c.batch[i]
	id, frame, ok := c.links.Open(&o.link, b)
	if !ok || wire.FrameType(frame[0]) != wire.FrameBack {
		return
	}
	if r := c.routes[routeKey{id, wire.FrameRouteID(frame)}]; r != nil {
		r.core.Peel(&o.cell, frame)
	}
}

func (c *Client) handleFrame(now machine.Time, id link.ID, frame []byte, cell *mix.PeeledBack) {
	switch wire.FrameType(frame[0]) {
	case wire.FrameBack:
		c.handleBack(now, id, frame, cell)
	case wire.FrameAdmission:
		c.handleAdmission(now, id, frame)
	default:
		c.Counts[trace.DropLinkMalformed]++
	}
}

// handleBack opens a cell and hands its packet to the session of its route.
func (c *Client) handleBack(now machine.Time, from link.ID, frame []byte, cell *mix.PeeledBack) {
	r := c.routes[routeKey{from, wire.FrameRouteID(frame)}]
	if r == nil {
		c.Counts[trace.DropCellRoute]++
		return
	}
	back, ok := r.core.OpenPeeled(now, frame, cell)
	if !ok {
		c.faulted(now, r, back)
		return
	}
	c.heard, r.entry.heard = now, now
	if r.back.came(now) {
		if c.weigh(now, r); r.gone {
			return
		}
	}
	switch back.Kind {
	case mix.BackPacket:
		r.hear(now)
		if !r.ready {
			c.up(now, r)
		}
		c.handlePacket(now, r, back.Packet)
	case mix.BackNack:
		c.nacked(now, r, back)
	case mix.BackLoop:
		r.answered(now, back.Position)
		if !r.ready && r.reached == r.core.Hops() {
			r.hear(now)
			c.up(now, r)
		}
		c.looped(now, r, back)
	}
}

func (c *Client) handlePacket(now machine.Time, r *route, packet []byte) {
	switch kind := wire.SessionPacketKind(packet); {
	case kind == wire.SessionDummy:
		c.Counts[trace.DummyIn]++
	case kind == wire.SessionRouteReady:
	case kind.Meeting():
		c.handleMeeting(now, r, packet)
	case kind == wire.SessionHello && r.circuit.purpose == answering:
		c.handleHello(now, r, packet)
	default:
		m := r.circuit.member
		if m == nil && r.circuit.purpose == answering {
			c.adopt(now, r, packet)
			return
		}
		if m == nil {
			c.Counts[trace.DropSessionUnknown]++
			return
		}
		m.Core.HandlePacket(now, uint8(r.slot), packet)
		c.Touch(m)
		if c.pass(now, m) && now.Sub(m.Owner.compared) >= compareEvery {
			c.compare(now, m.Owner)
		}
	}
}

// PollTransmit yields the next datagram.
func (c *Client) PollTransmit(now machine.Time, b []byte) (to netip.AddrPort, n int, ok bool) {
	if to, n, ok = c.links.PollTransmit(now, b); ok {
		return to, n, ok
	}
	c.work(now)
	return c.links.PollTransmit(now, b)
}

// work runs every session that was touched and fills the sending slots that
// have come.
func (c *Client) work(now machine.Time) {
	for {
		ev, ok := c.links.PollEvent()
		if !ok {
			break
		}
		c.handleLinkEvent(now, ev)
	}
	c.sendAgain(now)
	for range c.Waiting() {
		m, ok := c.Next()
		if !ok {
			break
		}
		if m.Owner.launches {
			c.launch(now, m.Owner)
		}
		c.sendSession(now, m)
		if c.pass(now, m) {
			c.Settle(m)
		}
	}
	c.fillSlots(now)
}

// sendAgain sends once more, and at once, the cells that entries miss: real or dummy
// is not asked. A cell of a route that has ended stays lost.
func (c *Client) sendAgain(now machine.Time) {
	for {
		id, f, late, ok := c.links.PollMissing(now)
		if !ok {
			return
		}
		r := c.routes[routeKey{id, wire.FrameRouteID(f.B[:])}]
		switch {
		case r == nil || c.cfg.Unrepaired:
			c.Pool.Put(f)
		case !r.core.Again(f, late):
			c.Pool.Put(f)
			c.Counts[trace.CellsTooLate]++
		default:
			c.Counts[trace.CellsAgain]++
			r.again++
			c.links.Push(id, f)
		}
	}
}

// sendSession sends on the session's routes that are not shaped.
func (c *Client) sendSession(now machine.Time, m *session.Member[*circuit]) {
	left := burstMax
	first := m.Core.ActivePath() // another one carries what it has no room for
	for i := range m.Owner.routes {
		slot := (int(first) + i) % len(m.Owner.routes)
		r := m.Owner.routes[slot]
		if r == nil || !r.joined || r.shaper.Shaped() {
			continue
		}
		for left > 0 && m.Core.PollPacket(now, uint8(slot), c.packet[:]) {
			c.emit(now, r, true)
			left--
		}
	}
	if left == 0 {
		c.Touch(m)
	}
}

// pass passes on what the session has to tell, and reports whether the session
// goes on.
func (c *Client) pass(now machine.Time, m *session.Member[*circuit]) bool {
	for {
		ev, ok := c.Pass(m)
		switch {
		case !ok:
			return true
		case ev.Kind == stream.PathQuiet:
			c.doubtExit(now, m.Owner)
		case ev.Kind == stream.PathSuspect:
			c.suspect(now, m.Owner, ev.Path)
		case ev.Kind == stream.TicketGiven:
			m.Owner.ticket = m.Core.TakeTicket()
		case ev.Kind == stream.Closed:
			c.endCircuit(now, m, uint64(ev.Code))
			return false
		}
	}
}

// fillSlots makes one cell for every sending slot that has come, and sends it
// when its shaper says; the slot of a route which is gone is its last, and
// closes it.
func (c *Client) fillSlots(now machine.Time) {
	c.cover.Turn(now)
	for {
		t, due := c.slots.Pop(now)
		if !due {
			return
		}
		r := t.Value
		switch {
		case r.made != nil:
			c.send(r)
			c.slots.Set(&r.emit, r.shaper.NextSlot())
		case r.gone:
			c.leave(r)
		default:
			c.fillSlot(now, r)
		}
	}
}

// fillSlot takes the slot of a route that has come. What goes into it is
// decided here, by the clock: a packet that came while a cell waits to be sent
// goes into the next, else what a slot carries would tell when it was sent.
func (c *Client) fillSlot(now machine.Time, r *route) {
	slot, before := r.shaper.NextSlot(), r.shaper.Class()
	took, changed := r.shaper.Take(now)
	if !took {
		c.slots.Set(&r.emit, slot)
		return
	}
	real := c.nextPacket(now, r)
	r.shaper.Emitted(real)
	wait, hold := r.shaper.Spread()
	r.core.Noise = r.shaper.Noise()
	r.core.Place = r.shaper.Place()
	c.jitter(wait, &r.core.Noise)
	if changed {
		c.cfg.Sink.Emit(now, trace.ClassChanged, uint64(before), uint64(r.shaper.Class()))
	}
	if r.made = c.cell(now, r, real, hold); r.made != nil {
		c.slots.Set(&r.emit, slot.Add(wait))
	} else {
		c.slots.Set(&r.emit, r.shaper.NextSlot())
	}
}

// send hands the cell of a route's last slot to its link.
func (c *Client) send(r *route) {
	c.links.Push(r.entry.link, r.made)
	r.made = nil
}

// nextPacket writes what waits for a slot of this route into c.packet, or a
// dummy, and reports whether it was real.
func (c *Client) nextPacket(now machine.Time, r *route) bool {
	if len(r.outbox) > 0 {
		copy(c.packet[:], r.outbox[0])
		r.outbox = r.outbox[1:]
		return true
	}
	if m := r.circuit.member; m != nil && r.joined && m.Core.PollPacket(now, uint8(r.slot), c.packet[:]) {
		c.Touch(m)
		return true
	}
	clear(c.packet[:])
	return false
}

// emit sends c.packet outside of slots.
func (c *Client) emit(now machine.Time, r *route, real bool) {
	r.core.Place = 0
	if f := c.cell(now, r, real, 0); f != nil {
		c.links.Push(r.entry.link, f)
	}
}

// cell seals c.packet. Real and dummy take this one path. Without a cell the
// route has come to its end.
func (c *Client) cell(now machine.Time, r *route, real bool, hold time.Duration) *wire.Frame {
	if real {
		c.Counts[trace.RealOut]++
	} else {
		c.Counts[trace.DummyOut]++
	}
	f := c.Pool.Get()
	if !r.core.Seal(f, c.packet[:], hold) {
		c.Pool.Put(f)
		c.fail(now, r, errExpired)
		return nil
	}
	return f
}

// HandleTimer runs what is due.
func (c *Client) HandleTimer(now machine.Time) {
	c.links.HandleTimer(now)
	c.Set.HandleTimer(now)
	for {
		t, due := c.timers.Pop(now)
		if !due {
			return
		}
		t.Value(now)
	}
}

// NextTimer is when HandleTimer or a sending slot has work.
func (c *Client) NextTimer() machine.Time {
	return min(c.links.NextTimer(), c.Set.NextTimer(), c.timers.Next(), c.slots.Next())
}
