package sim

import (
	"math/bits"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// Link models one direction between two nodes. Chances are parts in a million.
// The draws of a directed link come from its own stream and depend on nothing
// but its model and its own datagrams: traffic elsewhere moves no fate here.
type Link struct {
	// Latency is the propagation time, one way.
	Latency time.Duration
	// Jitter is the bound of a uniform addition to each datagram's time.
	Jitter time.Duration
	// JitterMean is the mean of an exponential addition to it.
	JitterMean time.Duration
	// InOrder keeps jitter from letting one datagram overtake another.
	InOrder bool
	// Loss is the chance that a datagram vanishes.
	Loss uint64
	// Duplicate is the chance that it arrives twice, each copy with a jitter
	// of its own.
	Duplicate uint64
	// Reorder is the chance that it is held for ReorderBy more, so that later
	// ones overtake it even on a link that is InOrder.
	Reorder   uint64
	ReorderBy time.Duration
	// Rate is the bandwidth in bytes per second; 0 is no limit.
	Rate int64
	// Queue is how many bytes may wait for the bandwidth before datagrams are
	// dropped at the tail; 0 is 50 ms of Rate, and 64 datagrams at least.
	Queue int64
}

// queueDefault and queueDatagramsMin are the default of a queue before a
// bandwidth: what a well-kept router has.
const (
	queueDefault      = 50 * time.Millisecond
	queueDatagramsMin = 64
)

// random reports whether the link draws at all.
func (l *Link) random() bool {
	return l.Loss|l.Duplicate|l.Reorder != 0 || l.Jitter > 0 || l.JitterMean > 0
}

// pair is the state of one directed link between two nodes.
type pair struct {
	from, to *Node
	toID     uint32 // the address id by which the receiver was last looked up
	model    *Link
	draws    *prng.Stream // nil until the model needs it
	pipe     pipe
	lastAt   machine.Time // latest arrival so far, for InOrder
	topology uint32
}

// SetLink sets the model from one node to another, in this direction only.
func (n *Network) SetLink(from, to *Node, l Link) {
	n.nodeLinks[pairKey(from.index, to.index)] = &l
	n.topology++
}

// SetRegionLink sets the model from one region to another, in this direction
// only. A region's link to itself is the model inside it.
func (n *Network) SetRegionLink(from, to string, l Link) {
	n.regionLinks[pairKey(uint32(n.region(from)), uint32(n.region(to)))] = &l
	n.topology++
}

// SetDefaultLink replaces the model of Config.Link.
func (n *Network) SetDefaultLink(l Link) {
	n.cfg.Link = l
	n.topology++
}

func (n *Network) region(name string) int32 {
	id, ok := n.regions[name]
	if !ok {
		id = int32(len(n.regions))
		n.regions[name] = id
	}
	return id
}

func pairKey(from, to uint32) uint64 { return uint64(from)<<32 | uint64(to) }

// pairTo returns the directed link from nd to whoever is at an address, or nil
// and the address id when nobody is.
func (n *Network) pairTo(nd *Node, to netip.AddrPort) (*pair, uint32) {
	if p := nd.lastPair; p != nil && nd.lastTo == to && p.topology == n.topology {
		return p, p.toID
	}
	if p := nd.out[to]; p != nil && p.topology == n.topology {
		nd.lastTo, nd.lastPair = to, p
		return p, p.toID
	}
	id := n.addrID(to)
	peer := n.book[id].node
	if peer == nil {
		return nil, id
	}
	key := pairKey(nd.index, peer.index)
	p := n.pairs[key]
	if p == nil {
		p = &pair{from: nd, to: peer, topology: n.topology - 1}
		n.pairs[key] = p
	}
	p.toID = id
	if p.topology != n.topology {
		p.topology = n.topology
		p.model = n.modelOf(nd, peer)
		p.pipe.set(p.model.Rate, p.model.Queue, 0)
		if p.draws == nil && p.model.random() {
			p.draws = n.source.Stream("link/" + nd.Name + "→" + peer.Name)
		}
	}
	nd.lastTo, nd.lastPair, nd.out[to] = to, p, p
	return p, id
}

func (n *Network) modelOf(from, to *Node) *Link {
	if l := n.nodeLinks[pairKey(from.index, to.index)]; l != nil {
		return l
	}
	if l := n.regionLinks[pairKey(uint32(from.region), uint32(to.region))]; l != nil {
		return l
	}
	return &n.cfg.Link
}

// send takes a datagram that a node's machine has written.
func (n *Network) send(nd *Node, to netip.AddrPort, k *packet) {
	p, id := n.pairTo(nd, to)
	k.from, k.to, k.origin = nd.addrID, id, nd.index
	n.stats.Sent++
	n.stats.SentBytes += uint64(k.size)
	nd.stats.Sent++
	n.trace.datagram(traceSend, n.now, k)
	n.show(k)
	if n.intercept != nil && !n.intercept(n.datagram(k)) {
		n.drop(k, &n.stats.Intercepted)
		return
	}
	switch {
	case p == nil:
		n.drop(k, &n.stats.Unreachable)
	case n.cuts && n.cut(nd, p.to):
		n.drop(k, &n.stats.Cut)
	default:
		n.carry(p, k)
	}
}

// carry decides the fate of a datagram on a link.
func (n *Network) carry(p *pair, k *packet) {
	leaves, ok := p.from.host.up.pass(n.now, int64(k.size))
	if ok {
		leaves, ok = p.pipe.pass(leaves, int64(k.size))
	}
	if !ok {
		n.drop(k, &n.stats.QueueFull)
		return
	}
	m := p.model
	if m.Loss > 0 && p.draws.Chance(m.Loss) {
		n.drop(k, &n.stats.Lost)
		return
	}
	if m.Duplicate > 0 && p.draws.Chance(m.Duplicate) {
		twin := n.packets.get()
		twin.from, twin.to, twin.origin, twin.size = k.from, k.to, k.origin, k.size
		copy(twin.b[:k.size], k.b[:k.size])
		n.stats.Duplicated++
		n.push(p.arrival(leaves), eventArrive, 0, twin.index)
	}
	n.push(p.arrival(leaves), eventArrive, 0, k.index)
}

// arrival draws when a datagram that left at a time arrives.
func (p *pair) arrival(leaves machine.Time) machine.Time {
	m := p.model
	at := leaves.Add(m.Latency)
	if m.Jitter > 0 {
		at = at.Add(time.Duration(p.draws.Uint64N(uint64(m.Jitter) + 1)))
	}
	if m.JitterMean > 0 {
		at = at.Add(p.draws.Exp(m.JitterMean))
	}
	if m.InOrder {
		at = max(at, p.lastAt)
		p.lastAt = at
	}
	if m.Reorder > 0 && p.draws.Chance(m.Reorder) {
		at = at.Add(m.ReorderBy)
	}
	return at
}

// arrive takes a datagram off the wire into the host of its destination.
func (n *Network) arrive(ref uint32) {
	k := n.packets.at(ref)
	n.showArrival(k)
	nd := n.book[k.to].node
	switch {
	case nd == nil || nd.machine == nil:
		n.drop(k, &n.stats.Unreachable)
		return
	case n.cuts && k.origin != injected && n.cut(n.nodes[k.origin], nd):
		n.drop(k, &n.stats.Cut)
		return
	}
	ready, ok := nd.host.down.pass(n.now, int64(k.size))
	if ok {
		ready, ok = nd.processor.pass(ready, int64(k.size))
	}
	switch {
	case !ok:
		n.drop(k, &n.stats.QueueFull)
	case ready > n.now:
		n.push(ready, eventDeliver, 0, ref)
	default:
		n.deliver(ref)
	}
}

// deliver hands a datagram to the machine at its destination.
func (n *Network) deliver(ref uint32) {
	k := n.packets.at(ref)
	nd := n.book[k.to].node
	if nd == nil || nd.machine == nil {
		n.drop(k, &n.stats.Unreachable)
		return
	}
	if nd.cfg.Batches.Every > 0 {
		nd.wait(ref)
		return
	}
	n.stats.Delivered++
	nd.stats.Received++
	n.trace.datagram(traceDeliver, n.now, k)
	n.current = nd
	nd.machine.HandleDatagram(nd.Local(n.now), n.book[k.from].addr, k.b[:k.size:k.size])
	n.packets.put(k)
	nd.settle()
}

func (n *Network) drop(k *packet, why *uint64) {
	*why++
	n.trace.datagram(traceDrop, n.now, k)
	n.packets.put(k)
}

// pipe is a server with a rate and a bounded queue: a bandwidth or a
// processor. The zero pipe lets everything through at once.
type pipe struct {
	rate  int64         // bytes per second; 0: no limit
	per   time.Duration // time per datagram besides
	limit time.Duration // longest wait that is accepted
	busy  machine.Time
}

// set keeps what waits in the pipe.
func (p *pipe) set(rate, queueBytes int64, per time.Duration) {
	p.rate, p.per, p.limit = rate, per, queueDefault
	if rate > 0 {
		if queueBytes > 0 {
			p.limit = bytesTime(queueBytes, rate)
		} else {
			p.limit = max(queueDefault, bytesTime(queueDatagramsMin*packetMax, rate))
		}
	}
}

// pass returns when a datagram that enters at now has left.
func (p *pipe) pass(now machine.Time, size int64) (machine.Time, bool) {
	if p.rate == 0 && p.per == 0 {
		return now, true
	}
	start := max(now, p.busy)
	if start.Sub(now) > p.limit {
		return 0, false
	}
	p.busy = start.Add(p.per)
	if p.rate > 0 {
		p.busy = p.busy.Add(bytesTime(size, p.rate))
	}
	return p.busy, true
}

// bytesTime is how long size bytes take at rate bytes per second, exactly.
func bytesTime(size, rate int64) time.Duration {
	hi, lo := bits.Mul64(uint64(size), uint64(time.Second))
	if hi >= uint64(rate) {
		return 1<<63 - 1
	}
	q, _ := bits.Div64(hi, lo, uint64(rate))
	return time.Duration(min(q, 1<<63-1))
}
