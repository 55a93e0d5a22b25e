package sim

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// Sight is what a wire shows of one datagram to who watches it.
type Sight struct {
	At       machine.Time
	From, To netip.AddrPort
	Size     int
}

// String writes a sight as golden traces have it.
func (s Sight) String() string {
	return fmt.Sprintf("%v %v→%v %d", time.Duration(s.At), s.From, s.To, s.Size)
}

// Point is the end of a link at which an observer stands.
type Point uint8

// Points of observation.
const (
	// Departure sees every datagram when its sender puts it on the wire,
	// those included that are then lost.
	Departure Point = iota
	// Arrival sees those that reach the other end, when they do.
	Arrival
)

// Observe calls f for every datagram at its departure. f must not change the
// network; it may ask for calls by At.
func (n *Network) Observe(f func(Sight)) { n.observers = append(n.observers, f) }

// View is what one observer has seen, in order.
type View struct {
	net    *Network
	sights []glimpse
}

type glimpse struct {
	at       machine.Time
	from, to uint32
	size     uint16
}

// Tap starts a view of the directed link between two addresses. The zero
// AddrPort stands for any address: Tap(zero, zero, Departure) is the global
// passive adversary.
func (n *Network) Tap(from, to netip.AddrPort, p Point) *View {
	v := &View{net: n}
	var key uint64
	if from.IsValid() {
		key = pairKey(n.addrID(from), 0)
	}
	if to.IsValid() {
		key |= uint64(n.addrID(to))
	}
	if p == Departure {
		n.departures[key] = append(n.departures[key], v)
	} else {
		n.arrivals[key] = append(n.arrivals[key], v)
	}
	return v
}

// Len returns the number of datagrams seen.
func (v *View) Len() int { return len(v.sights) }

// At returns the i-th datagram seen.
func (v *View) At(i int) Sight {
	g := v.sights[i]
	return Sight{g.at, v.net.book[g.from].addr, v.net.book[g.to].addr, int(g.size)}
}

// Equal reports whether two observers saw the same, be it in different runs.
func (v *View) Equal(o *View) bool { return v.Diff(o) == "" }

// Diff says where two views part, or nothing.
func (v *View) Diff(o *View) string {
	for i := range min(v.Len(), o.Len()) {
		if a, b := v.At(i), o.At(i); a != b {
			return fmt.Sprintf("datagram %d: %v against %v", i, a, b)
		}
	}
	if v.Len() != o.Len() {
		return fmt.Sprintf("%d datagrams against %d", v.Len(), o.Len())
	}
	return ""
}

// Reset forgets what was seen so far.
func (v *View) Reset() { v.sights = v.sights[:0] }

func (v *View) add(at machine.Time, k *packet) {
	v.sights = append(v.sights, glimpse{at, k.from, k.to, k.size})
}

func (n *Network) show(k *packet) {
	for _, f := range n.observers {
		f(Sight{n.now, n.book[k.from].addr, n.book[k.to].addr, int(k.size)})
	}
	if len(n.departures) > 0 {
		n.look(n.departures, k)
	}
}

func (n *Network) showArrival(k *packet) {
	if len(n.arrivals) > 0 {
		n.look(n.arrivals, k)
	}
}

// look adds to the views of exactly this link, of one of its ends, and of all.
func (n *Network) look(views map[uint64][]*View, k *packet) {
	for _, key := range [4]uint64{pairKey(k.from, k.to), pairKey(k.from, 0), pairKey(0, k.to), 0} {
		for _, v := range views[key] {
			v.add(n.now, k)
		}
	}
}

// Datagram is what an active adversary holds. B may be changed in place; it is
// the network's, and valid during the call only.
type Datagram struct {
	Sight
	B []byte
}

// Intercept puts an active adversary on all wires: f sees every datagram after
// the observers, may change its bytes, and drops it by returning false. nil
// removes it.
func (n *Network) Intercept(f func(d Datagram) (pass bool)) { n.intercept = f }

func (n *Network) datagram(k *packet) Datagram {
	return Datagram{Sight{n.now, n.book[k.from].addr, n.book[k.to].addr, int(k.size)}, k.b[:k.size:k.size]}
}

// Inject delivers bytes at once to whoever is at an address, as if they came
// from another: a replay, a forgery, a flood. Longer ones are cut to 1280.
func (n *Network) Inject(from, to netip.AddrPort, b []byte) {
	k := n.packets.get()
	k.size = uint16(copy(k.b[:], b))
	k.from, k.to, k.origin = n.addrID(from), n.addrID(to), injected
	n.stats.Injected++
	n.trace.datagram(traceInject, n.now, k)
	n.push(n.now, eventArrive, 0, k.index)
}
