package mix

// The data path of a hop, in packet order:
//
//  1. handleForward finds the route by link and id, and checks the zeros after
//     the layer and the replay window.
//  2. The layer is opened straight into the frame that leaves, at offset 1, if
//     it was not ahead of its turn (ahead.go): where its command and delay land,
//     the next route id is written.
//  3. Relay: the frame waits its delay, or none, for PollSend. Deliver: it
//     waits for PollDeliver. Drop and loop end here.
//  4. handleBack seals what came from the next hop, from offset 1 of the
//     incoming frame, so that nothing is copied, into the frame that leaves.
//  5. What has to be dropped for lack of room is told by nack, and with the next
//     authentic cell what neighbours changed or sent twice.

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// route is one route at one hop. A route at rest holds its raw keys and small
// windows; what it needs to carry more than heartbeats is made on use and given
// back when idle.
type route struct {
	keys      cellKeys
	delay     *seal.Key // of the delays on the way back; nil: there are none
	hot       *hotRoute // nil at rest
	links     [numLists]chain
	expires   machine.Time
	heard     machine.Time // last authentic cell from the client
	used      machine.Time // last cell in either direction
	out, home rested       // while hot is nil

	prev, next     link.ID
	prevID, nextID uint32
	backCounter    uint32 // counter of the next back cell
	backMicros     uint32 // mean delay of back cells, µs
	slot           uint8  // of the wheel
	position       uint8
	suite          seal.Suite
	level          wire.Level
	beats          uint8 // cells since the last rest, up to beatCells
	last           bool  // the route ends here
	dead           bool  // keys are gone
	nextGone       bool  // the link to the next hop is down
}

// hotRoute is what a route needs while it carries cells.
type hotRoute struct {
	forward, back seal.AEAD
	out, home     window        // replay windows: away from the client, to it
	delays        *prng.Stream  // nil: no delay on the way back
	shift         time.Duration // of every cell on the way back: see backDelay
	refused       refusals
}

// beatCells is how many cells the heartbeats of a session make: one side's and
// its answer, and the other's. Up to them a route is at rest: of a million idle
// ones many are always in the seconds after their heartbeat.
const beatCells = 4

// warm returns what r needs to carry a cell whose counter is near the next one,
// or is none of another's making, or nil if r stays at rest. A route that
// delays cells does not: it carries cover.
func (t *Table) warm(now machine.Time, r *route, near bool) *hotRoute {
	if now.Sub(r.used) >= idleAfter {
		r.beats = 0
	}
	r.used = now
	if r.hot != nil {
		return r.hot
	}
	if near && r.delay == nil && r.beats < beatCells {
		r.beats++
		return nil
	}
	return t.heat(now, r)
}

// heat makes what a route needs to work, and has it looked at when it may be
// idle again.
func (t *Table) heat(now machine.Time, r *route) *hotRoute {
	if r.hot != nil {
		return r.hot
	}
	t.wheel.remove(r)
	t.wheel.add(r, min(r.expires, now.Add(idleAfter)))
	h := &hotRoute{out: r.out.widen(now), home: r.home.widen(now)}
	if r.delay != nil {
		// The label holds the counter, so that a route that was idle goes on
		// with fresh delays.
		drawn := prng.New(*r.delay)
		h.delays = drawn.Stream("back " + strconv.FormatUint(uint64(r.backCounter), 10))
		h.shift = time.Duration(drawn.Stream("shift").Uint64N(uint64(shiftMax)))
	}
	r.hot = h
	return h
}

// cool gives back what heat made. Every counter up to the highest is old then.
func (r *route) cool() {
	h := r.hot
	if h == nil {
		return
	}
	r.out, r.home = h.out.rest(), h.home.rest()
	h.forward.Forget()
	h.back.Forget()
	r.hot, r.beats = nil, 0
}

// open opens a layer from the client.
func (t *Table) open(r *route, h *hotRoute, dst, layer []byte, counter uint32) ([]byte, bool) {
	if h == nil {
		return t.once.Open(r.suite, &r.keys.forward, dst, layer, nil, uint64(counter))
	}
	if !h.forward.Ready() {
		h.forward.Init(r.suite, &r.keys.forward)
	}
	return h.forward.Open(dst, layer, nil, uint64(counter))
}

// seal seals a layer to the client.
func (t *Table) seal(r *route, h *hotRoute, dst, plain []byte, counter uint32) {
	if h == nil {
		t.once.Seal(r.suite, &r.keys.back, dst, plain, nil, uint64(counter))
		return
	}
	if !h.back.Ready() {
		h.back.Init(r.suite, &r.keys.back)
	}
	h.back.Seal(dst, plain, nil, uint64(counter))
}

func (t *Table) handleForward(now machine.Time, from link.ID, frame []byte, p *Peeled) {
	t.counts[trace.CellIn]++
	r := t.forward[keyOf(from, wire.FrameRouteID(frame))]
	if r == nil || now >= r.expires {
		t.counts[trace.DropCellRoute]++
		return
	}
	position, counter := int(r.position), wire.CellCounter(frame)
	if !wire.CellTailZero(frame, position) {
		t.counts[trace.DropCellMalformed]++
		r.hot.refuse(wire.NackChanged)
		return
	}
	if h := r.hot; h == nil && !r.out.fresh(counter) || h != nil && !h.out.fresh(counter) {
		t.counts[trace.DropCellReplay]++
		h.repeated(counter)
		return
	}
	h := t.warm(now, r, r.out.near(counter))
	f, plain := t.peel(r, h, wire.CellLayer(frame, position), counter, p)
	if f == nil {
		t.counts[trace.DropCellAuth]++
		h.refuse(wire.NackChanged)
		return
	}
	if h == nil {
		r.out.mark(counter)
	} else {
		h.out.mark(now, counter)
	}
	r.heard = now
	if h != nil && h.refused.due != 0 {
		t.tellRefused(now, r)
	}

	command, delay := wire.ParseLayerHeader(plain)
	closing := wire.Command(command)&wire.CommandClose != 0
	if wire.Command(command)&^wire.CommandClose == wire.CommandRelay && !r.last {
		t.relay(now, r, f, len(plain), delay, counter)
	} else {
		t.finish(now, r, f, plain, wire.Command(command)&^wire.CommandClose, counter)
	}
	if closing {
		t.closeSoon(now, r)
	}
}

// relay passes on an opened cell of n bytes from offset 1 of f, which it owns.
func (t *Table) relay(now machine.Time, r *route, f *wire.Frame, n int, delay time.Duration, counter uint32) {
	if r.position == 0 && delay > wire.ReserveMax {
		t.pool.Put(f)
		t.counts[trace.DropCellMalformed]++
		return
	}
	if r.nextGone {
		t.pool.Put(f)
		t.dropTold(now, r, wire.NackLinkGone, counter)
		return
	}
	if !t.room(1) || t.cfg.Room != nil && !t.cfg.Room(r.next) {
		t.pool.Put(f)
		t.dropTold(now, r, wire.NackQueueFull, counter)
		return
	}
	wire.PutFrameHeader(f.B[:], wire.FrameForward, r.nextID)
	clear(f.B[1+n:])
	t.counts[trace.CellForwarded]++
	t.hold(now, delay, r.next, f)
}

// finish takes a cell that ends at this hop; plain lies in f, which it owns.
func (t *Table) finish(now machine.Time, r *route, f *wire.Frame, plain []byte, command wire.Command, counter uint32) {
	place, content := wire.LayerPlace(plain), plain[wire.LayerHeaderSize:]
	echo, echoes := wire.ParseEcho(content)
	switch {
	case command == wire.CommandDeliver && r.last && wire.IsZero(content[wire.SessionPacketSize:]):
		t.counts[trace.CellDelivered]++
		t.deliver(Delivery{Route: End{r}, Kind: Packet, Level: r.level, Packet: content[:wire.SessionPacketSize],
			Place: place, Counter: counter, frame: f})
		return
	case place != 0:
		t.counts[trace.DropCellMalformed]++
	case command == wire.CommandDrop && wire.IsZero(content):
		t.counts[trace.CellDropped]++
	case command == wire.CommandLoop && echoes:
		t.counts[trace.CellDropped]++
		if b := t.backFrame(r, wire.BackLoop); b != nil {
			binary.BigEndian.PutUint64(b.B[contentAt:], echo)
			t.sendBack(now, r, b)
		}
	default:
		t.counts[trace.DropCellMalformed]++
	}
	t.pool.Put(f)
}

func (t *Table) handleBack(now machine.Time, from link.ID, frame []byte) {
	t.counts[trace.CellIn]++
	r := t.back[keyOf(from, wire.FrameRouteID(frame))]
	if r == nil || now >= r.expires {
		t.counts[trace.DropCellRoute]++
		return
	}
	// The counter is the next hop's claim: only the client can verify it. The
	// window stops an exact replay here already.
	counter := wire.CellCounter(frame)
	if !wire.CellTailZero(frame, int(r.position)+1) {
		t.counts[trace.DropCellMalformed]++
		return
	}
	if h := r.hot; h == nil && !r.home.fresh(counter) || h != nil && !h.home.fresh(counter) {
		t.counts[trace.DropCellReplay]++
		h.repeatedBack(counter)
		return
	}
	h := t.warm(now, r, r.home.near(counter))
	if h == nil {
		r.home.mark(counter)
	} else {
		h.home.mark(now, counter)
	}
	if !t.room(1) || t.cfg.Room != nil && !t.cfg.Room(r.prev) {
		t.counts[trace.DropCellQueue]++
		return
	}
	// [type][route id 4][counter 4][layer]: over the route id goes the header
	// of the layer that is sealed here.
	inner := frame[1 : wire.CellOffset+wire.LayerSize(int(r.position)+1)]
	wire.PutLayerHeader(inner, byte(wire.BackRelay), 0)
	own, ok := t.nextBack(r)
	if !ok {
		return
	}
	f := t.pool.Get()
	wire.PutCellHeader(f.B[:], wire.FrameBack, r.prevID, own)
	t.seal(r, h, f.B[wire.CellOffset:wire.CellOffset], inner, own)
	clear(f.B[wire.CellOffset+wire.LayerSize(int(r.position)):])
	t.counts[trace.CellForwarded]++
	t.hold(now, r.backDelay(), r.prev, f)
}

// contentAt is where the content of a back cell made here begins in its frame.
const contentAt = wire.CellOffset + wire.LayerHeaderSize

// nextBack returns the counter for a back cell. A route whose counters are
// spent, which takes 2^30 cells or more, sends no more.
func (t *Table) nextBack(r *route) (counter uint32, ok bool) {
	counter = r.backCounter
	step := 1 + uint32(t.steps.Uint64N(3))
	if counter > ^uint32(0)-step {
		t.counts[trace.DropCellRoute]++
		return 0, false
	}
	r.backCounter = counter + step
	return counter, true
}

// backFrame returns a frame for a back cell of this hop's own making, its
// content zero, or nil if the queue has no room even for a NACK.
func (t *Table) backFrame(r *route, command wire.BackCommand) *wire.Frame {
	if r.dead || !t.room(-nackReserve) {
		t.counts[trace.DropCellQueue]++
		return nil
	}
	f := t.pool.Get()
	clear(f.B[:])
	wire.PutLayerHeader(f.B[wire.CellOffset:], byte(command), 0)
	return f
}

// sendBack seals a frame from backFrame and queues it.
func (t *Table) sendBack(now machine.Time, r *route, f *wire.Frame) bool {
	counter, ok := t.nextBack(r)
	if !ok {
		t.pool.Put(f)
		return false
	}
	wire.PutCellHeader(f.B[:], wire.FrameBack, r.prevID, counter)
	plain := f.B[wire.CellOffset : wire.CellOffset+wire.LayerSize(int(r.position))-wire.TagSize]
	t.seal(r, t.warm(now, r, true), plain[:0], plain, counter)
	t.hold(now, r.backDelay(), r.prev, f)
	return true
}

// dropTold counts a forward cell dropped for want of room and tells the client.
func (t *Table) dropTold(now machine.Time, r *route, reason wire.NackReason, counter uint32) {
	t.counts[trace.DropCellQueue]++
	t.nack(now, r, reason, counter)
}

// nack tells the client.
func (t *Table) nack(now machine.Time, r *route, reason wire.NackReason, counter uint32) {
	f := t.backFrame(r, wire.BackNack)
	if f == nil {
		return
	}
	wire.PutNack(f.B[contentAt:], reason, counter)
	if t.sendBack(now, r, f) {
		t.counts[trace.NackSent]++
	}
}

// shiftMax is a period of the interactive default class, and a multiple of those of
// all classes above it.
const shiftMax = 10 * time.Millisecond

// backDelay draws the delay of the next back cell, which is sealed, never
// truncated, and adds the route's shift, which is the same for all its cells. The
// end of the route sends by a clock; however much mixes scatter its cells, their
// mean keeps the phase, which a target sees at one end and who watches the client at
// the other. Turned by what each mix drew, the two are not the same.
func (r *route) backDelay() time.Duration {
	if r.backMicros == 0 {
		return 0
	}
	return r.hot.shift + r.hot.delays.Exp(time.Duration(r.backMicros)*time.Microsecond)
}
