// Package sim runs protocol machines on virtual time, over a network that it
// models: latency, jitter, loss, duplication, reordering, bandwidth, partition,
// crash, restart, change of address and wrong clocks. The machines are the ones
// that package drive runs on sockets; they cannot tell.
//
// Everything happens in one goroutine and follows from one seed: the same seed
// gives the same trace hash. A Network is not safe for concurrent use.
//
// The way of a datagram:
//
//  1. PollTransmit of the sender writes it (settle, node.go)
//  2. it is hashed, shown to observers and to the interceptor (send, link.go)
//  3. the link decides its fate: cut, lost, queued, delayed, doubled (carry)
//  4. it arrives at the host: access link and processor time (arrive)
//  5. HandleDatagram of the receiver, then its jobs, transmits and timer; or,
//     where a node takes batches, HandleOpened of each (takeBatch, batch.go)
package sim

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// Limits of the implementation. Reaching one is a fault of a machine under
// test, and panics with the line that repeats the run.
const (
	// instantMax bounds the events of one instant: two machines that answer
	// each other over a link without latency would never let time pass.
	instantMax = 2_000_000
	// burstMax bounds the datagrams that one machine yields in one poll.
	burstMax = 1 << 20
)

// Config describes a network. The zero value is a perfect network whose every
// link takes 1 ms.
type Config struct {
	// Seed repeats the run.
	Seed uint64
	// Link is the model between nodes for which no other is set. A zero
	// Latency is 1 ms.
	Link Link
}

// Network is the world: nodes, the links between them, and the time.
type Network struct {
	cfg    Config
	source prng.Source
	now    machine.Time

	queue   queue
	instant int // events popped at now

	nodes   []*Node
	names   map[string]*Node
	addrs   map[netip.AddrPort]uint32
	book    []place // by address id; 0 is no address
	hosts   map[netip.Addr]*host
	regions map[string]int32

	// pairs holds the state of each directed link in use. topology counts the
	// changes of models and addresses, after which cached lookups are void.
	pairs       map[uint64]*pair
	topology    uint32
	nodeLinks   map[uint64]*Link
	regionLinks map[uint64]*Link
	cutRegions  map[uint64]bool
	cuts        bool

	packets packetPool
	calls   slab[func(machine.Time)]
	jobs    slab[runningJob]

	current    *Node // the node whose machine is being run
	last       *Node // the node whose machine was run last
	observers  []func(Sight)
	departures map[uint64][]*View
	arrivals   map[uint64][]*View
	intercept  func(Datagram) bool
	trace      traceHash
	stats      Stats
	stopped    bool
}

// place is what an address leads to.
type place struct {
	addr netip.AddrPort
	node *Node // nil when nobody is there
}

// New returns an empty network at time zero.
func New(cfg Config) *Network {
	if cfg.Link.Latency == 0 {
		cfg.Link.Latency = time.Millisecond
	}
	n := &Network{
		cfg:         cfg,
		source:      prng.FromUint64(cfg.Seed).Child("sim"),
		names:       map[string]*Node{},
		addrs:       map[netip.AddrPort]uint32{},
		book:        make([]place, 1),
		hosts:       map[netip.Addr]*host{},
		regions:     map[string]int32{},
		pairs:       map[uint64]*pair{},
		nodeLinks:   map[uint64]*Link{},
		regionLinks: map[uint64]*Link{},
		cutRegions:  map[uint64]bool{},
		departures:  map[uint64][]*View{},
		arrivals:    map[uint64][]*View{},
	}
	n.trace.start()
	return n
}

// Now returns the virtual time.
func (n *Network) Now() machine.Time { return n.now }

// Seed returns the seed that repeats the run.
func (n *Network) Seed() uint64 { return n.cfg.Seed }

// Source returns the randomness of a part of the run, as "node/7".
func (n *Network) Source(label string) prng.Source { return n.source.Child(label) }

// Rand returns a stream for a load generator.
func (n *Network) Rand(label string) *prng.Stream { return n.source.Stream("load/" + label) }

// At calls f when the time is t, or at once, after the current event, if t has
// passed. Calls for one instant run in the order in which they were asked for.
func (n *Network) At(t machine.Time, f func(now machine.Time)) {
	n.push(t, eventCall, 0, n.calls.put(f))
}

// After calls f when d has passed.
func (n *Network) After(d time.Duration, f func(now machine.Time)) { n.At(n.now.Add(d), f) }

// Every calls f at first, and then each interval, as long as it returns true.
func (n *Network) Every(first machine.Time, interval time.Duration, f func(now machine.Time) bool) {
	if interval <= 0 {
		panic("sim: Every needs an interval above zero")
	}
	var tick func(machine.Time)
	tick = func(now machine.Time) {
		if f(now) {
			n.At(now.Add(interval), tick)
		}
	}
	n.At(first, tick)
}

// Stop makes the current Run return after the event that is being handled.
func (n *Network) Stop() { n.stopped = true }

// RunUntil handles every event due at t or before, and leaves the time at t.
// It returns early, with the time at the last event, after Stop.
func (n *Network) RunUntil(t machine.Time) {
	defer n.explain()
	n.stopped = false
	for !n.stopped {
		e, ok := n.queue.pop(t)
		if !ok {
			break
		}
		n.handle(e)
	}
	if !n.stopped && t != machine.Never && t > n.now {
		n.now = t
	}
}

// RunFor runs for d of virtual time.
func (n *Network) RunFor(d time.Duration) { n.RunUntil(n.now.Add(d)) }

// RunWhile runs as long as cond holds, asked after each event, and until limit
// at most. It reports whether cond ended the run.
func (n *Network) RunWhile(limit machine.Time, cond func() bool) bool {
	defer n.explain()
	n.stopped = false
	for cond() {
		e, ok := n.queue.pop(limit)
		if !ok {
			if limit != machine.Never && limit > n.now {
				n.now = limit
			}
			return false
		}
		n.handle(e)
		if n.stopped {
			return !cond()
		}
	}
	return true
}

// Idle reports whether nothing is left to happen.
func (n *Network) Idle() bool { return n.queue.len == 0 }

func (n *Network) push(t machine.Time, kind, node, ref uint32) {
	if t < n.now {
		t = n.now
	}
	n.queue.push(event{at: t, what: kind<<kindShift | node, ref: ref})
}

func (n *Network) handle(e event) {
	if e.at != n.now {
		n.now, n.instant = e.at, 0
	}
	if n.instant++; n.instant > instantMax {
		panic("time does not pass: machines answer each other, or set a timer that is due, without end")
	}
	n.stats.Events++
	switch e.what >> kindShift {
	case eventArrive:
		n.arrive(e.ref)
	case eventDeliver:
		n.deliver(e.ref)
	case eventTimer:
		n.nodes[e.what&nodeMask].fire(e.at)
	case eventCall:
		n.calls.take(e.ref)(n.now)
	case eventBatch:
		n.nodes[e.what&nodeMask].takeBatch()
	case eventJob:
		j := n.jobs.take(e.ref)
		n.nodes[e.what&nodeMask].finish(j)
	}
}

// explain adds to a panic what repeats it. The stack of the panic stays.
func (n *Network) explain() {
	r := recover()
	if r == nil {
		return
	}
	who := "network"
	if n.current != nil {
		who = n.current.Name
	} else if n.last != nil {
		who = "after " + n.last.Name
	}
	panic(fmt.Sprintf("sim: seed %d, virtual time %v, %s: %v", n.cfg.Seed, time.Duration(n.now), who, r))
}

// slab keeps values that events refer to by index.
type slab[T any] struct {
	items []T
	free  []uint32
}

func (s *slab[T]) put(v T) uint32 {
	if k := len(s.free); k > 0 {
		i := s.free[k-1]
		s.free = s.free[:k-1]
		s.items[i] = v
		return i
	}
	s.items = append(s.items, v)
	return uint32(len(s.items) - 1)
}

func (s *slab[T]) take(i uint32) T {
	var none T
	v := s.items[i]
	s.items[i] = none
	s.free = append(s.free, i)
	return v
}
