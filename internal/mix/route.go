package mix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// ErrBuild means that a route cannot be built from what was given; the error
// that wraps it says why.
var ErrBuild = errors.New("mix: cannot build route")

// HopSpec is one hop of a route to be built.
type HopSpec struct {
	ID    wire.NodeID
	Onion *seal.KEMPublic
	Delay time.Duration // mean delay of a cell, each way; 0 at Stream nodes. Ignored at level Fast
	// Profile is for what kind of machine the last hop shapes the way back. Other
	// hops are told of none.
	Profile wire.Profile
}

// Route is the client's end of a route. It holds the keys of all hops. It is
// owned by one goroutine.
type Route struct {
	// Counts takes the drops and NACKs of Open. Build sets one of its own; the
	// owner may set its machine's.
	Counts *trace.Counts
	// Noise is what the first mix, those between and the last keep the cells of
	// Seal for beyond their delays. The owner sets it before each.
	Noise [wire.CoverSegments]time.Duration
	// Reserve is what the entry keeps every cell for: one that is lost before it
	// can be sent again within that time, and nothing behind the entry tells (Again).
	// The owner sets it once, before the first cell.
	Reserve time.Duration
	// Place is that of the cells of Seal, which their end is told; 0: none. The
	// owner sets it before each.
	Place uint32

	id     uint32
	level  wire.Level
	ttl    time.Duration
	hops   []clientHop
	most   time.Duration // what delays of a cell add up to; 0: no bound
	mix    int           // position of the first hop that delays; -1 if none does
	sent   *sentLog
	closed bool
}

// clientHop is what the client keeps of a hop.
type clientHop struct {
	keys    hopKeys
	forward seal.AEAD
	back    seal.AEAD
	suite   seal.Suite
	mean    time.Duration
	steps   *prng.Stream // increments of the forward counter
	delays  *prng.Stream // delays on the way out
	counter uint32       // of the next cell
	home    window       // counters seen on the way back
	cells   uint32       // that came back with its layer
}

// Train is a set-up, ready to be sent over the entry's link.
type Train struct {
	id     uint32
	onion  onion
	parity parity
}

// Frame fills f with frame i of the train, 0 ≤ i < wire.TrainFrames. All are
// sent, in any order.
func (t *Train) Frame(i int, f *wire.Frame) {
	writeShard(f, t.id, i, t.onion.packet(), &t.parity)
}

// Build makes a route over hops, entry first, with a set-up that carries first
// to the last hop. ttl is in whole seconds, rounded down. rng must be used for
// this one route only: it is where the ephemeral keys come from.
func Build(hops []HopSpec, level wire.Level, ttl time.Duration, first []byte, rng prng.Source) (*Route, *Train, error) {
	if err := checkBuild(hops, level, ttl, first); err != nil {
		return nil, nil, err
	}
	ids := rng.Stream("mix/ids")
	r := &Route{
		Counts: new(trace.Counts),
		id:     ids.Uint32(),
		level:  level,
		ttl:    ttl.Truncate(time.Second),
		hops:   make([]clientHop, len(hops)),
	}
	steps := make([]wrapStep, len(hops))
	for i := range hops {
		if err := r.prepare(i, &hops[i], &steps[i], rng.Child(fmt.Sprintf("mix/hop/%d", i))); err != nil {
			return nil, nil, err
		}
		if last := i == len(hops)-1; last {
			steps[i].routing.Last, steps[i].routing.Profile = true, hops[i].Profile
			steps[i].routing.SetupDelay = 0
		} else {
			steps[i].routing.Next = hops[i+1].ID
			steps[i].routing.NextRoute = ids.Uint32()
		}
	}
	r.bound()
	r.mix = slices.IndexFunc(r.hops, func(h clientHop) bool { return h.mean > 0 })
	t := &Train{id: r.id}
	pad := make([]byte, wire.SetupHeaderSize)
	rng.Stream("mix/pad").Read(pad)
	wrap(&t.onion, steps, first, pad)
	for i := range steps {
		steps[i].secret.Clear()
	}
	encodeTrain(t.onion.packet(), &t.parity)
	return r, t, nil
}

func checkBuild(hops []HopSpec, level wire.Level, ttl time.Duration, first []byte) error {
	switch {
	case len(hops) < wire.MinHops || len(hops) > wire.MaxHops:
		return fmt.Errorf("%w: %d hops, not %d to %d", ErrBuild, len(hops), wire.MinHops, wire.MaxHops)
	case !level.Valid():
		return fmt.Errorf("%w: unknown level %d", ErrBuild, level)
	case ttl < time.Second || ttl > 65535*time.Second:
		return fmt.Errorf("%w: time to live %v is not 1 to 65535 seconds", ErrBuild, ttl)
	case len(first) > wire.MaxFirstFlight:
		return fmt.Errorf("%w: first flight of %d bytes, %d fit", ErrBuild, len(first), wire.MaxFirstFlight)
	}
	for i, h := range hops {
		if h.Onion == nil {
			return fmt.Errorf("%w: hop %d has no onion key", ErrBuild, i)
		}
		if h.Delay < 0 || h.Delay > wire.MixDelayMax {
			return fmt.Errorf("%w: mean delay %v of hop %d is not 0 to %v", ErrBuild, h.Delay, i, wire.MixDelayMax)
		}
	}
	return nil
}

// prepare makes the keys of hop i and its step of the onion.
func (r *Route) prepare(i int, spec *HopSpec, step *wrapStep, rng prng.Source) error {
	var seed [32]byte
	rng.Stream("ephemeral").Read(seed[:])
	var err error
	step.secret, step.alpha, err = seal.Encapsulate(spec.Onion, &seed)
	clear(seed[:])
	if err != nil {
		return fmt.Errorf("%w: onion key of hop %d: %w", ErrBuild, i, err)
	}
	h := &r.hops[i]
	h.keys = deriveHop(&step.secret)
	h.suite = seal.Preferred()
	if r.level != wire.Fast {
		h.mean = spec.Delay.Truncate(time.Microsecond)
	}
	h.steps, h.delays = rng.Stream("steps"), rng.Stream("delays")
	h.counter = 1 + uint32(h.steps.Uint64N(wire.CounterStartMax-1))
	step.routing = wire.Routing{
		Position:     uint8(i),
		Suite:        uint8(h.suite),
		Level:        r.level,
		TTL:          r.ttl,
		BackMean:     h.mean,
		SetupDelay:   h.delay(),
		ForwardStart: h.counter,
	}
	rng.Stream("delays back").Read(step.routing.DelaySeed[:])
	h.keys.delay = delayKey(&step.routing)
	return nil
}

// delay draws the delay of one cell. What a layer cannot name is drawn again;
// at the longest mean that happens once in 10^36.
func (h *clientHop) delay() time.Duration {
	for {
		if d := h.delays.Exp(h.mean); d <= wire.LayerDelayMax {
			return d.Truncate(time.Microsecond)
		}
	}
}

// bound takes the level's bound on what all delays of a cell add up to, for which
// the means must be no longer than the level's own.
func (r *Route) bound() {
	var mean time.Duration
	for i := range r.hops {
		mean += r.hops[i].mean
	}
	if mean <= time.Duration(r.level.Mixes())*r.level.MixDelay() {
		r.most = r.level.PathDelayMax()
	}
}

// delays draws those of one cell at the hops before a position, all of them again
// where their sum is beyond the bound.
func (r *Route) delays(position int) (d [wire.MaxHops]time.Duration) {
	for {
		var sum time.Duration
		for i := range position {
			d[i] = r.hops[i].delay()
			sum += d[i]
		}
		if r.most == 0 || sum <= r.most {
			return d
		}
	}
}

// ID is the route id on the entry's link.
func (r *Route) ID() uint32 { return r.id }

// Level is the route's level.
func (r *Route) Level() wire.Level { return r.level }

// TTL is how long the hops keep the route after its set-up.
func (r *Route) TTL() time.Duration { return r.ttl }

// Hops is the number of hops.
func (r *Route) Hops() int { return len(r.hops) }

// Close overwrites the keys. The route must not be used afterwards.
func (r *Route) Close() {
	r.closed, r.sent = true, nil
	for i := range r.hops {
		h := &r.hops[i]
		h.keys.clear()
		h.forward.Forget()
		h.back.Forget()
		h.home = window{}
	}
}

// Seal fills f with a cell that carries a session packet of
// wire.SessionPacketSize bytes to the end of the route. The first mix keeps it
// for hold beyond the delay that is drawn for it; a route without mixes does
// not hold. Like the other Seal methods it reports false, with f untouched, if
// the route is closed or one of its counters is spent, which takes 2^30 cells or
// more: build another.
func (r *Route) Seal(f *wire.Frame, packet []byte, hold time.Duration) bool {
	if len(packet) != wire.SessionPacketSize {
		panic("mix: Seal of a packet that is not of the one size")
	}
	return r.seal(f, len(r.hops)-1, wire.CommandDeliver, 0, packet, hold)
}

// SealDrop fills f with cover that ends at the hop of a position.
func (r *Route) SealDrop(f *wire.Frame, position int) bool {
	return r.seal(f, position, wire.CommandDrop, 0, nil, 0)
}

// SealLoop fills f with a cell that the hop of a position answers with echo.
func (r *Route) SealLoop(f *wire.Frame, position int, echo uint64) bool {
	var content [wire.EchoSize]byte
	binary.BigEndian.PutUint64(content[:], echo)
	return r.seal(f, position, wire.CommandLoop, 0, content[:], 0)
}

// SealClose fills f with a cell that ends the route at every hop.
func (r *Route) SealClose(f *wire.Frame) bool {
	return r.seal(f, len(r.hops)-1, wire.CommandDrop, wire.CommandClose, nil, 0)
}

// layerAt is where the sealed layer of a position begins while all layers
// around it are still on.
func layerAt(position int) int {
	return wire.CellOffset + position*(wire.LayerHeaderSize+wire.CounterSize)
}

// seal builds a cell in place, from the layer of the hop where it ends
// outwards.
func (r *Route) seal(f *wire.Frame, position int, command, flag wire.Command, content []byte, hold time.Duration) bool {
	if position < 0 || position >= len(r.hops) {
		panic("mix: cell for a position that the route does not have")
	}
	if r.closed || !r.countersLeft(position) {
		return false
	}
	if command == wire.CommandDeliver {
		r.remember(content)
	}
	at := layerAt(position)
	body := f.B[at : at+wire.LayerSize(position)-wire.TagSize]
	wire.PutLayerHeader(body, byte(command|flag), 0)
	if command == wire.CommandDeliver {
		wire.PutPlace(body, r.Place)
	}
	clear(body[wire.LayerHeaderSize+copy(body[wire.LayerHeaderSize:], content):])
	delays := r.delays(position)
	for i := position; ; i-- {
		h := &r.hops[i]
		counter := h.takeCounter()
		if !h.forward.Ready() {
			h.forward.Init(h.suite, &h.keys.forward)
		}
		at = layerAt(i)
		plain := f.B[at : at+wire.LayerSize(i)-wire.TagSize]
		h.forward.Seal(plain[:0], plain, nil, uint64(counter))
		if i == 0 {
			wire.PutCellHeader(f.B[:], wire.FrameForward, r.id, counter)
			clear(f.B[at+wire.LayerSize(0):])
			return true
		}
		outer := f.B[layerAt(i-1):]
		delay := delays[i-1]
		if i == 1 {
			delay += r.Reserve
		}
		if i-1 == r.mix {
			delay = min(delay+hold, wire.LayerDelayMax)
		}
		if command == wire.CommandDeliver && r.hops[i-1].mean > 0 {
			delay = min(delay+r.Noise[r.segment(i-1)], wire.LayerDelayMax)
		}
		wire.PutLayerHeader(outer, byte(wire.CommandRelay|flag), delay)
		binary.BigEndian.PutUint32(outer[wire.LayerHeaderSize:], counter)
	}
}

// Again makes of a cell that did not come to the entry, as it was sealed, one that
// does in its place, late after it: the entry's layer is sealed anew, and says that
// the cell is to be kept for so much less. All else is as it was, so that of the
// two, should both come, the next hop refuses the second. It reports false, with f
// of no more use, where it is too late, the route is closed or a counter spent.
func (r *Route) Again(f *wire.Frame, late time.Duration) bool {
	if r.closed || !r.countersLeft(0) {
		return false
	}
	h, layer := &r.hops[0], wire.CellLayer(f.B[:], 0)
	plain, ok := h.forward.Open(layer[:0], layer, nil, uint64(wire.CellCounter(f.B[:])))
	if !ok {
		return false
	}
	command, delay := wire.ParseLayerHeader(plain)
	if delay < late {
		return false
	}
	wire.PutLayerHeader(plain, command, delay-late)
	counter := h.takeCounter()
	h.forward.Seal(plain[:0], plain, nil, uint64(counter))
	wire.PutCellHeader(f.B[:], wire.FrameForward, r.id, counter)
	return true
}

// segment is the part of the way out to which a mix belongs.
func (r *Route) segment(position int) int {
	switch position {
	case r.mix:
		return 0
	case len(r.hops) - 2:
		return wire.CoverSegments - 1
	}
	return 1
}

// counterStepMax is the largest increment of a counter.
const counterStepMax = 3

func (r *Route) countersLeft(position int) bool {
	for i := range r.hops[:position+1] {
		if r.hops[i].counter > ^uint32(0)-counterStepMax {
			return false
		}
	}
	return true
}

func (h *clientHop) takeCounter() uint32 {
	c := h.counter
	h.counter += 1 + uint32(h.steps.Uint64N(counterStepMax))
	return c
}

// BackKind says what a cell from the route holds.
type BackKind uint8

// Kinds of back cells. With false come BackFault, and zero for what is no cell
// of this route at all.
const (
	BackPacket BackKind = iota + 1
	BackNack
	BackLoop
	// BackFault: the layers of the hops before Position are authentic. With Drop
	// trace.DropCellMalformed that of Position is too, and holds what no hop may
	// write: only that hop has its key, so it did. Else that of Position is not:
	// it was changed, replayed or made up between the hop before and this one,
	// or by one of the two. Position 0 is the entry.
	BackFault
)

// Back is what came back along a route.
type Back struct {
	Kind     BackKind
	Position int             // hop that made the cell, or of the fault
	Packet   []byte          // session packet, aliases the frame
	Reason   wire.NackReason // of a NACK
	Counter  uint32          // of the dropped cell as its hop saw it; 0: of none yet
	Echo     uint64          // of a loop
	Drop     trace.Counter   // of a fault: what the cell was counted as
	Twice    bool            // of a fault: the counter was seen before, and is not merely too old
}

// Open opens a frame of type FrameBack in place. If it reports false, the cell
// was dropped and counted, and the result holds the position of the fault.
func (r *Route) Open(now machine.Time, frame []byte) (Back, bool) {
	return r.OpenPeeled(now, frame, nil)
}

// OpenPeeled is Open with what Peel found of the frame, if p is not nil.
func (r *Route) OpenPeeled(now machine.Time, frame []byte, p *PeeledBack) (Back, bool) {
	r.Counts[trace.CellIn]++
	if r.closed || len(frame) != wire.LinkPayloadSize || wire.FrameType(frame[0]) != wire.FrameBack || wire.FrameRouteID(frame) != r.id {
		r.Counts[trace.DropCellRoute]++
		return Back{}, false
	}
	cell := frame[wire.FrameHeaderSize:]
	for i := range r.hops {
		counter := binary.BigEndian.Uint32(cell)
		if !r.hops[i].home.fresh(counter) {
			back, ok := r.fault(i, trace.DropCellReplay)
			back.Twice = r.hops[i].home.seen(counter)
			return back, ok
		}
		sealed := cell[wire.CounterSize : wire.CounterSize+wire.LayerSize(i)]
		plain, ok := p.layer(r, i, sealed, counter)
		if !ok {
			return r.fault(i, trace.DropCellAuth)
		}
		r.hops[i].home.mark(now, counter)
		r.hops[i].cells++
		command, delay := wire.ParseLayerHeader(plain)
		if delay != 0 {
			return r.fault(i, trace.DropCellMalformed)
		}
		cell = plain[wire.LayerHeaderSize:]
		if wire.BackCommand(command) != wire.BackRelay {
			return r.content(i, wire.BackCommand(command), cell)
		}
	}
	return r.fault(len(r.hops)-1, trace.DropCellMalformed)
}

// content reads the innermost layer, which the hop of position i made.
func (r *Route) content(i int, command wire.BackCommand, content []byte) (Back, bool) {
	switch command {
	case wire.BackPacket:
		if i == len(r.hops)-1 && wire.IsZero(content[wire.SessionPacketSize:]) {
			return Back{Kind: BackPacket, Position: i, Packet: content[:wire.SessionPacketSize]}, true
		}
	case wire.BackNack:
		if reason, counter, ok := wire.ParseNack(content); ok {
			r.Counts[trace.NackReceived]++
			return Back{Kind: BackNack, Position: i, Reason: reason, Counter: counter}, true
		}
	case wire.BackLoop:
		if echo, ok := wire.ParseEcho(content); ok {
			return Back{Kind: BackLoop, Position: i, Echo: echo}, true
		}
	}
	return r.fault(i, trace.DropCellMalformed)
}

func (r *Route) fault(position int, drop trace.Counter) (Back, bool) {
	r.Counts[drop]++
	return Back{Kind: BackFault, Position: position, Drop: drop}, false
}
