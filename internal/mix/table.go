// Package mix is the onion layer: a route is set up by one pass of a hybrid
// KEM onion, and carries cells that cost each hop one AEAD operation.
//
// Route is the client's end: it builds the set-up, seals cells and opens what
// comes back. Table is a hop's: it peels set-ups and cells, delays them, and
// hands over what ends here. Both do no I/O (docs/protocol.md, sections 5 and 6).
//
// No value that one hop sees can be matched by a hop that is not its
// neighbour: route ids are per link, counters per hop and direction.
package mix

import (
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Limits bound what a table holds. Zero fields take the default named beside.
type Limits struct {
	Routes          int           // routes through this node (DefaultRoutes)
	RoutesPerLink   int           // of these, set up over one link that is no node's (DefaultRoutesPerLink)
	Queue           int           // frames waiting for their time or for PollSend (DefaultQueue)
	Setups          int           // set-ups per second in all, with bursts of two seconds (DefaultSetups)
	SetupsPerLink   int           // of these, over one link that is no node's (DefaultSetupsPerLink)
	TTL             time.Duration // longest life of a route, whatever it asks for (DefaultTTL)
	Quiet           time.Duration // a route that got no authentic cell from its client for this long ends (DefaultQuiet)
	ReplaysPerOnion int           // set-ups accepted under one onion key (DefaultReplaysPerOnion)
}

// Defaults of Limits, and why.
const (
	DefaultRoutes          = 1 << 21          // a million sessions that enter here, or end, or both
	DefaultRoutesPerLink   = 4096             // a busy client holds tens
	DefaultQueue           = 200_000          // 40 ms at 5,000,000 cells a second; 250 MB when full
	DefaultSetups          = 2000             // 0.1 ms each: a fifth of a core, and above the 1,500 per second asked
	DefaultSetupsPerLink   = 200              // one client in a hurry
	DefaultTTL             = time.Hour        // forward secrecy of a route needs no more
	DefaultQuiet           = 10 * time.Minute // longer than any route should wait unused
	DefaultReplaysPerOnion = 16 << 20         // 2 hours at 2,000 per second, so that a flood within the rate cannot fill it
)

func (l *Limits) setDefaults() {
	for _, d := range []struct {
		v *int
		d int
	}{
		{&l.Routes, DefaultRoutes}, {&l.RoutesPerLink, DefaultRoutesPerLink}, {&l.Queue, DefaultQueue},
		{&l.Setups, DefaultSetups}, {&l.SetupsPerLink, DefaultSetupsPerLink}, {&l.ReplaysPerOnion, DefaultReplaysPerOnion},
	} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if l.TTL == 0 {
		l.TTL = DefaultTTL
	}
	if l.Quiet == 0 {
		l.Quiet = DefaultQuiet
	}
}

// Config is a table's configuration, fixed when the table is made.
type Config struct {
	// Onion is the node's present onion key. After a restart, give the older
	// of the two keys here and the newer to RotateOnion, then LoadReplay.
	Onion  *seal.KEMPrivate
	Limits Limits
	// EndOfRoute: this node may be the last hop of a route (a Stream node).
	EndOfRoute bool
	// Next returns the link to a node, dialling it if need be; false refuses
	// the set-up.
	Next func(now machine.Time, node wire.NodeID) (link.ID, bool)
	// Node reports that a link is a node's, which is bound by the total rate
	// of set-ups only. Nil: no link is.
	Node func(link.ID) bool
	// Room reports that a link takes another frame; if not, a forward cell is
	// dropped and answered with a NACK. Nil: always.
	Room func(link.ID) bool
}

// nackReserve is how many frames a full queue still takes, for NACKs only.
const nackReserve = 1024

// Table is a hop's state: routes, set-ups in progress, delayed frames. It is
// owned by one goroutine. Handle methods take input; PollJob, PollSend,
// PollDeliver and PollReplay yield output until they report false.
type Table struct {
	cfg    Config
	pool   *wire.Pool
	counts *trace.Counts
	steps  *prng.Stream // increments of back counters

	once    seal.Once           // for routes at rest
	forward map[routeKey]*route // by link and id towards the client
	back    map[routeKey]*route // by link and id away from it
	links   map[link.ID]*neighbour
	wheel   wheel

	onions  [onionKeys]*onionKey
	unsaved ring[ReplayTag]
	setups  bucket
	trains  trainList
	jobs    ring[*setupJob]
	spare   []*setupJob

	delayed delayQueue
	ready   ring[held]

	deliveries ring[Delivery]
	lent       *wire.Frame // frame of the last delivery, taken back at the next
}

// routeKey is a link and a route id on it.
type routeKey uint64

func keyOf(l link.ID, id uint32) routeKey { return routeKey(l)<<32 | routeKey(id) }

// neighbour is a link that routes or trains have come over, or go to.
type neighbour struct {
	id      link.ID
	trains  int32 // unfinished trains from it
	routes  int32 // length of in
	gone    bool  // down; kept while routes still point to it
	setups  bucket
	in, out list // routes from it, routes to it
}

// NewTable returns an empty table. pool and counts stay the owner's.
func NewTable(cfg Config, rng prng.Source, pool *wire.Pool, counts *trace.Counts) *Table {
	cfg.Limits.setDefaults()
	return &Table{
		cfg:     cfg,
		pool:    pool,
		counts:  counts,
		steps:   rng.Stream("mix/back counters"),
		forward: make(map[routeKey]*route),
		back:    make(map[routeKey]*route),
		links:   make(map[link.ID]*neighbour),
		onions:  [onionKeys]*onionKey{newOnionKey(cfg.Onion)},
		setups:  newBucket(0, cfg.Limits.Setups),
	}
}

// HandleFrame takes a frame of type FrameSetup, FrameForward or FrameBack from
// a link. The frame is borrowed for the call, and overwritten by it.
func (t *Table) HandleFrame(now machine.Time, from link.ID, frame []byte) {
	t.HandlePeeled(now, from, frame, nil)
}

// HandlePeeled is HandleFrame with what Peel found of the frame, if p is not nil.
// What was found is used up.
func (t *Table) HandlePeeled(now machine.Time, from link.ID, frame []byte, p *Peeled) {
	if len(frame) != wire.LinkPayloadSize {
		t.counts[trace.DropCellMalformed]++
		return
	}
	switch wire.FrameType(frame[0]) {
	case wire.FrameForward:
		t.handleForward(now, from, frame, p)
	case wire.FrameBack:
		t.handleBack(now, from, frame)
	case wire.FrameSetup:
		t.handleShard(now, from, frame)
	default:
		t.counts[trace.DropCellMalformed]++
	}
}

// PollSend yields the next frame that is due, which the caller then owns, and
// the link it goes to.
func (t *Table) PollSend(now machine.Time) (to link.ID, f *wire.Frame, ok bool) {
	if h, ok := t.ready.pop(); ok {
		return h.to, h.frame, true
	}
	if len(t.delayed.heap) == 0 || t.delayed.next() > now {
		return 0, nil, false
	}
	h := t.delayed.pop()
	return h.to, h.frame, true
}

// Queued is the number of frames that wait for their time or for PollSend.
func (t *Table) Queued() int { return t.ready.len + len(t.delayed.heap) }

// Onward says where a route that came over a link under an id goes on: what who
// takes this node over learns of it. ok is false for a route that ends here or is
// not known.
func (t *Table) Onward(from link.ID, id uint32) (to link.ID, next uint32, ok bool) {
	r := t.forward[keyOf(from, id)]
	if r == nil || r.last {
		return 0, 0, false
	}
	return r.next, r.nextID, true
}

// Routes is the number of routes through or to this node.
func (t *Table) Routes() int { return len(t.forward) }

func (t *Table) room(n int) bool { return t.Queued()+n <= t.cfg.Limits.Queue }

// hold queues a frame that the table owns until it is due.
func (t *Table) hold(now machine.Time, delay time.Duration, to link.ID, f *wire.Frame) {
	if delay == 0 {
		t.ready.push(held{frame: f, to: to})
		return
	}
	t.delayed.push(now.Add(delay), to, f)
}

func (t *Table) neighbour(now machine.Time, id link.ID) *neighbour {
	n := t.links[id]
	if n == nil {
		n = &neighbour{id: id, setups: newBucket(now, t.cfg.Limits.SetupsPerLink)}
		t.links[id] = n
	}
	return n
}
