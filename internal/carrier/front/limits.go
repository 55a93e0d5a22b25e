package front

import (
	"net/netip"
	"sync"
)

const (
	// ConnectionsMax bounds the connections of one server. With their buffers
	// they take about 40 kB each.
	ConnectionsMax = 8192
	// PerAddressMax bounds those of one address (/64 for IPv6): many clients
	// share one behind a provider's translator, but not all of a server.
	PerAddressMax = 512
	// busyAt is where a server asks unproven addresses to prove themselves
	// before it does work for them.
	busyAt = ConnectionsMax / 4
)

// Limits counts the connections of a server. The zero Limits is ready.
type Limits struct {
	mu    sync.Mutex
	total int
	of    map[netip.Addr]int
}

// Take counts a connection from an address. False: there is no room for it,
// and nothing was counted.
func (l *Limits) Take(a netip.Addr) bool {
	a = block(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= ConnectionsMax || l.of[a] >= PerAddressMax {
		return false
	}
	if l.of == nil {
		l.of = make(map[netip.Addr]int)
	}
	l.total++
	l.of[a]++
	return true
}

// Release undoes a Take.
func (l *Limits) Release(a netip.Addr) {
	a = block(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.of[a]--; l.of[a] == 0 {
		delete(l.of, a)
	}
}

// Busy reports that addresses should be proven first.
func (l *Limits) Busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total >= busyAt
}

// block is what one owner has of addresses.
func block(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}
