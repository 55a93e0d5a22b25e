// Package link is the encrypted association of two neighbours: a hybrid
// handshake, data datagrams under a replay window, fresh keys, changes of
// address, and keep-alive (docs/protocol.md, section 4).
//
// An Endpoint holds all links of one node. It is a sans-I/O core: Handle…
// methods take input, Poll… methods yield output, NextTimer says when to call
// HandleTimer, getters change nothing. It belongs to one goroutine at a time.
package link

import (
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// ID is the local handle of a link. It is never used again while the endpoint
// lives; 0 is none.
type ID uint32

// Config is what an endpoint is told once.
type Config struct {
	// Self is the node's own id; zero for a client.
	Self wire.NodeID
	// Static is the node's link key. With it the endpoint identifies itself to
	// whom it dials. Nil: a client, which only dials, and anonymously.
	Static *seal.KEMPrivate
	// Suite seals the data of links that this endpoint dials. 0: the faster
	// one on this processor.
	Suite seal.Suite
	// Peer returns the link key of a node that may open a link and identify
	// itself, or nil. A nil function refuses all of them.
	Peer func(wire.NodeID) *seal.KEMPublic
	// At returns the node that has an address, by which a node that has restarted
	// finds its neighbours (greet.go). Nil: it waits for them.
	At func(netip.AddrPort) (wire.NodeID, bool)
	// AcceptAnonymous admits links of clients.
	AcceptAnonymous bool
	// MaxClients bounds the links of clients, which are anonymous. 0: 65536.
	// Links of nodes need no bound: who may have one is in the directory, and
	// has one.
	MaxClients int
	// MaxStrangers bounds those of clients that were not admitted (Admit). When
	// as many clients have come after one, its link is closed. 0: 8192.
	MaxStrangers int
	// MaxHandshakes bounds the handshakes a second that others begin here, each
	// of which costs key work. 0: 2000, half a core.
	MaxHandshakes int
	// QueueMax bounds the frames that wait on one link. 0: 4096.
	QueueMax int
	// Keep is for how long a client keeps the cells that it has sent, to send those
	// again which the peer says are missing (PollMissing). 0: it does not ask.
	Keep time.Duration
}

// Defaults of Config.
const (
	defaultMaxClients = 65536 // about 25 MB of idle links
	defaultQueueMax   = 4096  // 5 MB, 50 ms at 1 Gbit/s
	// defaultMaxHandshakes is above the 1,500 sessions a second asked of a node.
	defaultMaxHandshakes = 2000
	// defaultMaxStrangers gives a client 4 s to be admitted when handshakes
	// come at the greatest rate: a few round trips.
	defaultMaxStrangers = 8192
)

// queuedMax bounds the frames that wait on all links together (170 MB): many
// slow neighbours must not add up to more memory than a node has.
const queuedMax = 1 << 17

// Endpoint holds the links of one node.
type Endpoint struct {
	cfg    Config
	pool   *wire.Pool
	counts *trace.Counts
	draw   draws
	// capabilities are the bits of wire.LinkInitBlock that a dial announces.
	capabilities uint32

	links   map[ID]*link
	byIndex map[uint32]*keyset
	byPeer  map[wire.NodeID]*link
	lastID  ID
	// measured is the link that Measure chose last.
	measured ID
	// strangers are the links of the last clients that came, oldest first. Who
	// is in it may have been admitted or be gone.
	strangers fifo[ID]
	recent    *keyset // the last one found in byIndex; runs come from one peer

	timers timerHeap
	ready  readyList
	queued int // frames in all queues
	outbox fifo[parcel]
	events fifo[Event]
	again  fifo[missed]

	once    seal.Once // for links at rest
	shape   seal.AEAD // opens handshake datagrams for this node
	cookies cookies
	answers answers
	greeting
}

// draws are the endpoint's randomness, one stream for each purpose.
type draws struct {
	index  *prng.Stream // receiver indices, of links and of handshake datagrams
	keys   *prng.Stream // key seeds and nonces
	cookie *prng.Stream // cookie keys
	path   *prng.Stream // challenge tokens
}

// New returns an endpoint without links. Frames that it drops or has sent go
// back to pool; what it drops is counted in counts.
func New(cfg Config, rng prng.Source, pool *wire.Pool, counts *trace.Counts) *Endpoint {
	if cfg.Suite == 0 {
		cfg.Suite = seal.Preferred()
	}
	if !cfg.Suite.Valid() {
		panic("link: Config.Suite is no suite of this version")
	}
	if cfg.MaxClients <= 0 {
		cfg.MaxClients = defaultMaxClients
	}
	if cfg.MaxStrangers <= 0 {
		cfg.MaxStrangers = defaultMaxStrangers
	}
	if cfg.MaxHandshakes <= 0 {
		cfg.MaxHandshakes = defaultMaxHandshakes
	}
	if cfg.QueueMax <= 0 {
		cfg.QueueMax = defaultQueueMax
	}
	e := &Endpoint{
		cfg: cfg, pool: pool, counts: counts,
		draw: draws{
			index: rng.Stream("link/index"), keys: rng.Stream("link/keys"),
			cookie: rng.Stream("link/cookie"), path: rng.Stream("link/path"),
		},
		links:   make(map[ID]*link),
		byIndex: make(map[uint32]*keyset),
		byPeer:  make(map[wire.NodeID]*link),
		outbox:  fifo[parcel]{max: outboxMax},
		events:  fifo[Event]{max: eventsUnbounded},
		again:   fifo[missed]{max: againMax},

		strangers: fifo[ID]{max: cfg.MaxStrangers},
	}
	if cfg.Keep > 0 {
		e.capabilities = wire.LinkWantsMissing
	}
	if cfg.Static != nil {
		key := shapeKey(cfg.Self)
		e.shape.Init(shapeSuite, &key)
		e.cookies.init()
		e.answers.init(cfg.MaxHandshakes)
	}
	return e
}

// link is one association. Fields that few links need at a time hang off
// pointers: a million idle links fit in memory.
type link struct {
	id       ID
	slot     int32 // in the timer heap; -1: none
	flags    flags
	ready    bool  // in the ready list
	down     bool  // ended; may still stand in the ready list
	admitted bool  // by the owner
	failures uint8 // rekeys that failed in a row

	addr   netip.AddrPort
	remote *remote // nil: anonymous
	cur    *keyset // nil while the first handshake runs
	prev   *keyset // accepted until prevUntil
	dial   *dial   // handshake that we run, or its confirmation
	path   *path

	since     machine.Time // cur was established
	lastSent  machine.Time
	lastRecv  machine.Time
	lastUse   machine.Time // last frame that was not the link's own
	prevUntil machine.Time
	rekeyAt   machine.Time
	probeAt   machine.Time // next probe of a link that is in doubt

	queue wire.Queue
	kept  *kept // of a client that asks what is missing
	next  *link // in the ready list
}

// remote is who a link leads to.
type remote struct {
	node wire.NodeID
	key  *seal.KEMPublic // nil if the peer opened the link and we never dialled
	trip *trip           // nil: never measured
}

func (l *link) peer() (wire.NodeID, bool) {
	if l.remote == nil {
		return wire.NodeID{}, false
	}
	return l.remote.node, true
}

// Clients is the number of links of clients.
func (e *Endpoint) Clients() int { return len(e.links) - len(e.byPeer) }

// full reports whether there is no room for the link of one more client.
func (e *Endpoint) full() bool { return e.Clients() >= e.cfg.MaxClients }

// newLink returns a registered link.
func (e *Endpoint) newLink(now machine.Time, addr netip.AddrPort, r *remote) *link {
	e.lastID++
	l := &link{id: e.lastID, addr: addr, remote: r, slot: -1, lastSent: now, lastRecv: now, lastUse: now,
		prevUntil: machine.Never, rekeyAt: machine.Never}
	e.links[l.id] = l
	if r != nil {
		e.byPeer[r.node] = l
	}
	return l
}

// newStranger registers the link of a client that has just proven its keys, or
// returns nil when there are as many as there may be. The
// oldest of those that came last and were not admitted makes room for it: a
// flood of handshakes holds a bounded number of links, and does not keep out
// whoever goes on to be admitted.
func (e *Endpoint) newStranger(now machine.Time, addr netip.AddrPort) *link {
	if e.full() {
		return nil
	}
	l := e.newLink(now, addr, nil)
	if e.strangers.n == e.strangers.max {
		id, _ := e.strangers.pop()
		if old := e.links[id]; old != nil && !old.admitted {
			e.counts[trace.DropHandshakeLimit]++
			e.close(old, Displaced)
		}
	}
	e.strangers.push(l.id)
	return l
}

// Admit says that the client of a link is welcome: its link no longer counts
// as a stranger's.
func (e *Endpoint) Admit(id ID) {
	if l := e.links[id]; l != nil {
		l.admitted = true
	}
}

// drop ends a link: its keys are overwritten, its frames go back to the pool.
func (e *Endpoint) drop(l *link, why Reason) {
	if l.down {
		return
	}
	l.down = true
	delete(e.links, l.id)
	if l.remote != nil && e.byPeer[l.remote.node] == l {
		delete(e.byPeer, l.remote.node)
	}
	e.endDial(l)
	e.forget(l.cur)
	e.forget(l.prev)
	l.cur, l.prev, l.path, l.flags = nil, nil, nil, 0
	e.timers.remove(l)
	e.release(l)
	for f := l.queue.Pop(); f != nil; f = l.queue.Pop() {
		e.queued--
		e.counts[trace.DropLinkQueue]++
		e.pool.Put(f)
	}
	peer, known := l.peer()
	e.events.push(Event{Kind: Down, Link: l.id, Peer: peer, Identified: known, Reason: why})
}

// Push gives f to the link's queue; the endpoint then owns it. False: the
// queue is full or the link is gone, f went back to the pool and is counted.
// Frames pushed before the link is up wait for it.
func (e *Endpoint) Push(id ID, f *wire.Frame) bool {
	l := e.links[id]
	if l == nil || l.queue.Len >= e.cfg.QueueMax || e.queued >= queuedMax {
		e.counts[trace.DropLinkQueue]++
		e.pool.Put(f)
		return false
	}
	l.queue.Push(f)
	e.queued++
	if !l.ready && l.cur != nil {
		e.ready.push(l)
	}
	return true
}

// QueueLen is the number of frames that wait on a link.
func (e *Endpoint) QueueLen(id ID) int {
	if l := e.links[id]; l != nil {
		return l.queue.Len
	}
	return 0
}

// Peer says who a link leads to, and whether it is up. identified is false for
// an anonymous client and for a link that is gone.
func (e *Endpoint) Peer(id ID) (peer wire.NodeID, identified, up bool) {
	l := e.links[id]
	if l == nil {
		return wire.NodeID{}, false, false
	}
	peer, identified = l.peer()
	return peer, identified, l.cur != nil
}

// Links is the number of links, those that are being dialled included.
func (e *Endpoint) Links() int { return len(e.links) }

// Close ends a link. The peer is told once, by a datagram that PollTransmit
// yields; frames that still wait are dropped.
func (e *Endpoint) Close(now machine.Time, id ID) {
	if l := e.links[id]; l != nil {
		e.close(l, Closed)
	}
}

func (e *Endpoint) close(l *link, why Reason) {
	if k := l.cur; k != nil {
		l.cur = nil
		e.unregister(k)
		if !e.outbox.push(parcel{kind: parcelClose, to: l.addr, keys: k}) {
			k.wipe()
		}
	}
	e.drop(l, why)
}
