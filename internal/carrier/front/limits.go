package front

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// ConnectionsMax bounds the connections of one server. With their buffers
	// they take about 40 kB each.
	ConnectionsMax = 8192
	// PerAddressMax bounds those of one address (/64 for IPv6): many clients
	// share one behind a provider's translator, but not all of a server.
	PerAddressMax = 512
	// HandshakeGap and HandshakeBurst bound the handshakes of one address: one
	// in this time, and as many at once as come in that time. A handshake is
	// work for the server before the visitor has shown anything; who comes
	// faster is refused, and delays nobody else.
	HandshakeGap   = 10 * time.Millisecond
	HandshakeBurst = time.Second
	// busyAt is where a server asks unproven addresses to prove themselves
	// before it does work for them.
	busyAt = ConnectionsMax / 4
)

// addressesMax bounds the addresses that a server remembers.
const addressesMax = 2 * ConnectionsMax

// Limits counts the connections of a server.
type Limits struct {
	most, each int // connections, in all and of one address
	gap        time.Duration
	free       bool // this machine's addresses have no bounds of their own
	seen       *Handshakes

	mu    sync.Mutex
	total int
	of    map[netip.Addr]account
	swept time.Time
}

// account is what is known of an address.
type account struct {
	connections int
	// paid is when its handshakes so far have been worked off, at one in a gap.
	paid time.Time
}

// Limits returns what bounds one server's connections.
func (f *Face) Limits() *Limits {
	l := newLimits(ConnectionsMax, PerAddressMax, &f.Handshakes)
	if f.Unbounded {
		l.gap = 0
	}
	return l
}

// NewLimits returns bounds of so many connections, in all and of one address. What comes
// from this machine is many programs behind one address, and has the first bound alone.
func NewLimits(most, each int) *Limits {
	l := newLimits(most, each, &Handshakes{})
	l.free = true
	return l
}

func newLimits(most, each int, seen *Handshakes) *Limits {
	return &Limits{most: most, each: each, gap: HandshakeGap, seen: seen, of: make(map[netip.Addr]account)}
}

// Visit is a connection for which there was room.
type Visit struct {
	limits *Limits
	from   netip.Addr
	begun  time.Time
	shaken bool
	ended  bool
}

// Take counts a connection from an address. Nil: there is no room for it.
func (l *Limits) Take(a netip.Addr) *Visit {
	v, _ := l.take(a)
	if v == nil {
		l.seen.refused.Add(1)
	}
	return v
}

// take is Take. full says that there was no room in all, and that its address has not used
// up its own.
func (l *Limits) take(a netip.Addr) (v *Visit, full bool) {
	a = Block(a)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	full = l.total >= l.most
	if l.free && (a.IsLoopback() || !a.IsValid()) {
		if full {
			return nil, true
		}
		l.total++
		return &Visit{limits: l, begun: now}, false
	}
	of := l.of[a]
	if of.paid.Before(now) {
		of.paid = now
	}
	of.paid = of.paid.Add(l.gap)
	if of.connections >= l.each || of.paid.Sub(now) > HandshakeBurst || !l.room(now) {
		return nil, false
	}
	if full {
		return nil, true
	}
	l.total++
	of.connections++
	l.of[a] = of
	return &Visit{limits: l, from: a, begun: now}, false
}

// room forgets addresses that owe nothing when there are too many, not more
// often than it can help. l.mu is held.
func (l *Limits) room(now time.Time) bool {
	if len(l.of) >= addressesMax && now.Sub(l.swept) >= HandshakeBurst {
		l.swept = now
		for a, of := range l.of {
			if of.connections == 0 && !of.paid.After(now) {
				delete(l.of, a)
			}
		}
	}
	return len(l.of) < addressesMax
}

// Shaken says that the handshake is done. It may be called again.
func (v *Visit) Shaken() {
	v.limits.mu.Lock()
	defer v.limits.mu.Unlock()
	if !v.shaken && !v.ended {
		v.shaken = true
		v.limits.seen.observe(time.Since(v.begun))
	}
}

// End says that the connection has ended. It may be called again.
func (v *Visit) End() {
	v.limits.mu.Lock()
	defer v.limits.mu.Unlock()
	if v.ended {
		return
	}
	v.ended = true
	v.limits.total--
	if of, bound := v.limits.of[v.from]; bound { // none, where its address is free
		of.connections--
		v.limits.of[v.from] = of
	}
}

// Busy reports that addresses should be proven first.
func (l *Limits) Busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total >= busyAt
}

// Block is what one owner has of addresses: one of IPv4, a /64 of IPv6.
func Block(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}
