package exit

import (
	"bytes"
	"context"
	"net/netip"
	"sync"

	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// namesMax bounds the names that a flow has resolved.
	namesMax = 64
	// lookupsPerFlow bounds the names that a flow has looked up at a time, and
	// messagesPerName the messages that wait for one: with 17 KB each, a flow
	// that asks a dead resolver holds half a megabyte.
	lookupsPerFlow  = 8
	messagesPerName = 4
)

// names brings the messages of a flow to their targets, and has names resolved
// aside: messages to one name wait for it, those to others do not.
type names struct {
	exit    *Exit
	session uint32 // of the flow
	// deliver sends to an address; false if it has no way out there.
	deliver func(netip.AddrPort, []byte) bool
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	known   map[string][]netip.Addr
	waiting map[string][]message // by the name that is being looked up
}

type message struct {
	port uint16
	data []byte
}

func newNames(x *Exit, session uint32, deliver func(netip.AddrPort, []byte) bool) *names {
	n := &names{exit: x, session: session, deliver: deliver, known: map[string][]netip.Addr{}, waiting: map[string][]message{}}
	n.ctx, n.cancel = context.WithCancel(x.ctx)
	return n
}

// close ends the look-ups; what waits for them is dropped.
func (n *names) close() {
	n.cancel()
	n.running.Wait()
}

// send takes one message; data is borrowed. It never waits for a resolver.
func (n *names) send(host string, port uint16, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known[host] == nil && !n.resolvesAtOnce(host) {
		n.wait(host, port, data)
		return
	}
	if n.known[host] == nil {
		n.learn(host)
	}
	n.pass(host, message{port, data})
}

// resolvesAtOnce reports whether no resolver has a say in a host.
func (n *names) resolvesAtOnce(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || service.Inside(host)
}

// learn resolves a host at once. The lock is held.
func (n *names) learn(host string) {
	if addrs, status := n.exit.resolve(n.ctx, host); status == wire.StatusOK {
		n.keep(host, addrs)
	}
}

func (n *names) keep(host string, addrs []netip.Addr) {
	if len(n.known) >= namesMax {
		clear(n.known)
	}
	n.known[host] = addrs
}

// wait keeps a copy of a message for a name, and has the name looked up if nobody
// does. What exceeds a bound is dropped and counted. The lock is held.
func (n *names) wait(host string, port uint16, data []byte) {
	queue, asked := n.waiting[host]
	if asked && len(queue) < messagesPerName {
		n.waiting[host] = append(queue, message{port, bytes.Clone(data)})
		return
	}
	if asked || len(n.waiting) >= lookupsPerFlow || n.ctx.Err() != nil || !n.exit.lookups.begin(n.session) {
		n.exit.Counts.Busy.Add(1)
		return
	}
	n.waiting[host] = []message{{port, bytes.Clone(data)}}
	n.running.Go(func() {
		defer n.exit.lookups.end(n.session)
		n.lookUp(host)
	})
}

func (n *names) lookUp(host string) {
	ctx, cancel := context.WithTimeout(n.ctx, n.exit.cfg.DialTimeout)
	defer cancel()
	addrs, status := n.exit.resolve(ctx, host)
	n.mu.Lock()
	defer n.mu.Unlock()
	if status == wire.StatusOK {
		n.keep(host, addrs)
	}
	for _, m := range n.waiting[host] {
		n.pass(host, m)
	}
	delete(n.waiting, host)
}

// pass sends a message to the first address of a host that takes it; a host
// without one is refused. The lock is held.
func (n *names) pass(host string, m message) {
	addrs := n.known[host]
	if addrs == nil {
		n.exit.Counts.Refused.Add(1)
		return
	}
	for i, a := range addrs {
		if n.deliver(netip.AddrPortFrom(a, m.port), m.data) {
			n.known[host] = addrs[i:] // those before are of a family that has no way out
			return
		}
	}
}
