// Package mem is a carrier in memory: datagrams between the connections of one
// Network, without sockets. It behaves as UDP does: what finds no room or no
// receiver is lost. It works inside a testing/synctest bubble.
package mem

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/inbox"
	"github.com/nyxnet/nyx/internal/wire"
)

// inboxMax bounds the datagrams that wait at one connection: what a real
// socket buffer of about 1 MiB holds.
const inboxMax = 1024

// writeMax is how many datagrams one batch holds. It is small, so that tests
// meet a full batch.
const writeMax = 32

// Network joins connections by address. The zero Network is ready.
type Network struct {
	// Lose, if set before the first Listen, decides for each datagram whether
	// it is lost. It is called from the senders' goroutines.
	Lose func(from, to netip.AddrPort, b []byte) bool

	mu    sync.Mutex
	conns map[netip.AddrPort]*Conn
}

// Listen opens a connection at addr, which must be free.
func (nw *Network) Listen(addr netip.AddrPort) (*Conn, error) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if nw.conns[addr] != nil {
		return nil, fmt.Errorf("mem: %v is in use by another connection of this network", addr)
	}
	if nw.conns == nil {
		nw.conns = make(map[netip.AddrPort]*Conn)
	}
	c := &Conn{network: nw, addr: addr, in: inbox.New(inboxMax)}
	nw.conns[addr] = c
	return c, nil
}

func (nw *Network) deliver(from, to netip.AddrPort, b []byte) {
	if nw.Lose != nil && nw.Lose(from, to, b) {
		return
	}
	nw.mu.Lock()
	c := nw.conns[to]
	nw.mu.Unlock()
	if c != nil {
		c.in.Put(b, from)
	}
}

type out struct {
	to       netip.AddrPort
	off, end int
}

// Conn is one connection. Read, At, Next, Commit and Flush belong to one
// goroutine; Wake and Close may be called from any.
type Conn struct {
	network *Network
	addr    netip.AddrPort
	in      *inbox.Inbox

	buf  []byte
	outs []out
}

// Addr is the connection's own address.
func (c *Conn) Addr() netip.AddrPort { return c.addr }

// Read waits for datagrams; see inbox.Inbox.Read.
func (c *Conn) Read(wait time.Duration) (int, error) { return c.in.Read(wait) }

// At returns datagram i of the last Read, valid until the next.
func (c *Conn) At(i int) ([]byte, netip.AddrPort) { return c.in.At(i) }

// Wake makes Read return.
func (c *Conn) Wake() { c.in.Wake() }

// Next returns room for one datagram, or nil when the batch is full.
func (c *Conn) Next() []byte {
	if c.buf == nil {
		c.buf = make([]byte, writeMax*wire.DatagramSize)
		c.outs = make([]out, 0, writeMax)
	}
	used := c.used()
	if len(c.outs) == writeMax {
		return nil
	}
	return c.buf[used : used+wire.DatagramSize]
}

func (c *Conn) used() int {
	if len(c.outs) == 0 {
		return 0
	}
	return c.outs[len(c.outs)-1].end
}

// Commit queues the first n bytes of what Next returned for to.
func (c *Conn) Commit(n int, to netip.AddrPort) {
	used := c.used()
	c.outs = append(c.outs, out{to: to, off: used, end: used + n})
}

// Flush delivers the batch.
func (c *Conn) Flush() error {
	for _, o := range c.outs {
		c.network.deliver(c.addr, o.to, c.buf[o.off:o.end])
	}
	c.outs = c.outs[:0]
	return nil
}

// Close frees the address and ends Read with net.ErrClosed.
func (c *Conn) Close() error {
	c.network.mu.Lock()
	if c.network.conns[c.addr] == c {
		delete(c.network.conns, c.addr)
	}
	c.network.mu.Unlock()
	c.in.Close(net.ErrClosed)
	return nil
}
