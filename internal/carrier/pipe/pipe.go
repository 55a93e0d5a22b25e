// Package pipe runs connections that carry datagrams: what the carriers over
// QUIC and WebSocket have in common. A datagram that finds no room is lost, as
// on a wire, so that a connection that is slow, or waits for one lost segment,
// never grows a queue of what is late.
package pipe

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/inbox"
)

// Pipe is a connection that carries datagrams both ways. Send belongs to one
// goroutine, Receive to another; Close may be called from any.
type Pipe interface {
	// Send sends one datagram, which it borrows. It may block. An error means
	// that the pipe is of no more use.
	Send(b []byte) error
	// Receive waits for a datagram, which is valid until the next call.
	Receive() ([]byte, error)
	// Close ends Send and Receive, here and at the other end.
	Close() error
}

// Listener is a running server of pipes.
type Listener interface {
	Addr() netip.AddrPort
	// Close ends the server and its pipes, and waits for who serves them. It
	// may be called again.
	Close() error
}

const (
	// queueMax bounds the datagrams that wait to be sent: 80 ms at 40 Mbit/s.
	// What waits longer is better lost: the session sends it again.
	queueMax = 256
	// drainMax bounds the time that a closing Conn spends on what still waits,
	// which is a link's farewell.
	drainMax = 200 * time.Millisecond
)

// Conn is a Pipe with a bounded queue and the two goroutines that serve it.
type Conn struct {
	pipe    Pipe
	out     *inbox.Inbox
	dropped atomic.Uint64
	closing atomic.Bool
	running sync.WaitGroup
	done    chan struct{}
}

// Run serves p until either end closes it, and gives each datagram to deliver,
// which borrows it and must not block.
func Run(p Pipe, deliver func(b []byte)) *Conn {
	c := &Conn{pipe: p, out: inbox.New(queueMax), done: make(chan struct{})}
	c.running.Go(c.write)
	c.running.Go(func() {
		for {
			b, err := p.Receive()
			if err != nil {
				break
			}
			deliver(b)
		}
		c.closing.Store(true)
		p.Close() // ends a Send that blocks
		c.out.Wake()
	})
	go func() {
		c.running.Wait()
		close(c.done)
	}()
	return c
}

// write sends what waits; at the end it sends what is there and closes.
func (c *Conn) write() {
	defer c.pipe.Close()
	for {
		n, err := c.out.Read(-1)
		if err != nil || n == 0 && c.closing.Load() {
			return
		}
		for i := range n {
			b, _ := c.out.At(i)
			if c.pipe.Send(b) != nil {
				return
			}
		}
	}
}

// Push queues a copy of b. False: there is no room, and b is lost. It does not
// block and may be called from any goroutine.
func (c *Conn) Push(b []byte) bool {
	if c.out.Put(b, netip.AddrPort{}) {
		return true
	}
	c.dropped.Add(1)
	return false
}

// Dropped is the number of datagrams that found no room.
func (c *Conn) Dropped() uint64 { return c.dropped.Load() }

// Done is closed when the pipe is closed and both goroutines have ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close sends what waits, for drainMax at the most, closes the pipe, and waits
// for the goroutines. It may be called again.
func (c *Conn) Close() {
	c.closing.Store(true)
	c.out.Wake()
	late := time.AfterFunc(drainMax, func() { c.pipe.Close() })
	<-c.done
	late.Stop()
	c.out.Close(errClosed)
}
