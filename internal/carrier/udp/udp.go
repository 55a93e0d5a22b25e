// Package udp is the carrier on UDP sockets: it moves batches of datagrams
// with as few system calls and copies as the system allows.
//
// On Linux a batch is read by recvmmsg and written by sendmmsg; consecutive
// datagrams to one address become one message that the kernel or the network
// card splits (UDP_SEGMENT), and what arrives in one run is taken as one
// message (UDP_GRO). Where these are missing, and on other systems, the same
// Conn moves single datagrams.
//
// A packet's way in: Read (read_linux.go, or the pump in plain.go) → At.
// A packet's way out: Next → Commit (write.go) → Flush (write_linux.go, or
// plain.go).
package udp

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Mode is how much of the system's batching a Conn uses.
type Mode uint8

// Modes, from the best to the plainest. What the system lacks is replaced by
// the next, so that Offload is always a valid wish.
const (
	// Offload batches messages and lets the kernel split and join runs.
	Offload Mode = iota
	// Batch moves many datagrams by one system call, each its own message.
	Batch
	// Plain moves one datagram by one system call.
	Plain
)

var modeNames = [...]string{"offload", "batch", "plain"}

// String returns the mode's name.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return "unknown"
}

// Options of a Conn. The zero value is what a node wants.
type Options struct {
	// Mode is the best mode to use; zero is Offload.
	Mode Mode
	// SocketBuffer is the size asked for each kernel buffer, in bytes; zero is
	// 8 MiB. The system may give less.
	SocketBuffer int
}

// socketBuffer holds what arrives in about 50 ms at 150 MB/s: as long as the
// owner of a busy socket may be kept from its processor.
const socketBuffer = 8 << 20

// Stats are counts since the Conn was opened.
type Stats struct {
	Received, Sent uint64 // datagrams
	Reads, Writes  uint64 // system calls, or batches of them in mode plain
	SendDropped    uint64 // datagrams that the system refused
	Truncated      uint64 // arrivals larger than a slot, dropped
	ReadErrors     uint64 // errors of the socket that were passed over
}

type counters struct {
	received, sent, reads, writes, sendDropped, truncated, readErrors atomic.Uint64
}

// Conn is one UDP socket. Read, At, Next, Commit and Flush belong to one
// goroutine at a time; Wake, Stats, Mode, Addr and Close may be called from
// any.
type Conn struct {
	writer
	addr  netip.AddrPort
	mode  atomic.Uint32
	count counters
	io    backend
}

// backend is one way to move batches: batch_linux.go or plain.go.
type backend interface {
	read(wait time.Duration) (int, error)
	at(i int) ([]byte, netip.AddrPort)
	wake()
	flush(w *writer) error
	// close closes the socket and waits for the backend's goroutines.
	close() error
}

// Listen opens a socket at addr. The zero AddrPort listens on every address,
// IPv4 and IPv6, at a free port.
func Listen(addr netip.AddrPort, opt Options) (*Conn, error) {
	var local *net.UDPAddr
	if addr.IsValid() {
		local = net.UDPAddrFromAddrPort(addr)
	}
	sock, err := net.ListenUDP("udp", local)
	if err != nil {
		return nil, fmt.Errorf("open the UDP socket: %w", err)
	}
	c := &Conn{addr: unmap(sock.LocalAddr().(*net.UDPAddr).AddrPort())}
	if opt.SocketBuffer == 0 {
		opt.SocketBuffer = socketBuffer
	}
	growBuffers(sock, opt.SocketBuffer)
	c.mode.Store(uint32(opt.Mode))
	if opt.Mode != Plain {
		if io, err := newBatch(c, sock, opt.Mode); err == nil {
			c.io = io
			return c, nil
		}
		c.mode.Store(uint32(Plain))
	}
	c.io = newPlain(c, sock)
	return c, nil
}

// Addr is the socket's own address.
func (c *Conn) Addr() netip.AddrPort { return c.addr }

// Mode is the mode in use now. It becomes plainer if the network turns out to
// refuse what the socket had promised.
func (c *Conn) Mode() Mode { return Mode(c.mode.Load()) }

// Stats returns the counts so far.
func (c *Conn) Stats() Stats {
	return Stats{
		Received:    c.count.received.Load(),
		Sent:        c.count.sent.Load(),
		Reads:       c.count.reads.Load(),
		Writes:      c.count.writes.Load(),
		SendDropped: c.count.sendDropped.Load(),
		Truncated:   c.count.truncated.Load(),
		ReadErrors:  c.count.readErrors.Load(),
	}
}

// Read takes the datagrams that have arrived and returns their number. If
// there are none it waits for the first: up to wait, without end if wait is
// negative, not at all if it is zero. It returns 0 and no error when the time
// is over or Wake was called, and may do so before, for no reason of the
// caller's. An error means that the socket is of no more use; after Close it is
// net.ErrClosed.
func (c *Conn) Read(wait time.Duration) (int, error) { return c.io.read(wait) }

// At returns datagram i of the last Read and its sender, an IPv4 address never
// in its IPv6 form. The bytes may be overwritten and are valid until the next
// Read.
func (c *Conn) At(i int) ([]byte, netip.AddrPort) { return c.io.at(i) }

// Wake makes a waiting Read, or else the next one that would wait, return. It
// costs a few nanoseconds while the reader is not waiting.
func (c *Conn) Wake() { c.io.wake() }

// Flush sends the batch. Datagrams that the system refuses (no route, too
// large, no buffer) are dropped and counted: an error means that the socket is
// of no more use.
func (c *Conn) Flush() error {
	if len(c.runs) == 0 {
		return nil
	}
	err := c.io.flush(&c.writer)
	c.writer.reset()
	return err
}

// Close closes the socket, ends Read with net.ErrClosed and waits for the
// Conn's goroutines.
func (c *Conn) Close() error { return c.io.close() }

// growBuffers asks for large kernel buffers. A refusal is no error: the system
// then has its own limit, which the operator may raise.
func growBuffers(sock *net.UDPConn, size int) {
	_ = sock.SetReadBuffer(size)
	_ = sock.SetWriteBuffer(size)
	forceBuffers(sock, size)
}

func unmap(a netip.AddrPort) netip.AddrPort {
	if a.Addr().Is4In6() {
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return a
}
