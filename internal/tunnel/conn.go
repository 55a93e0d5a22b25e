package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
)

// ErrStopped means that the host of the connection has stopped.
var ErrStopped = errors.New("tunnel: the node has stopped")

// Conn is a stream as a net.Conn with half-close. Its addresses say nothing:
// no end of a stream has an address that the other may know.
type Conn struct {
	// Compressed notes, for who opened the stream, that the other end answered
	// that it will compress (package pack).
	Compressed bool

	side *Side
	ref  session.Ref

	readable, writable, datagram chan struct{} // signals of one
	closed                       chan struct{}
	closeOnce                    sync.Once
	readBy, writeBy              deadline
	reading, writing             sync.Mutex // held by the call whose turn it is
	ended                        bool       // io.EOF was read; guarded by reading
}

func newConn(s *Side, ref session.Ref) *Conn {
	return &Conn{
		side: s, ref: ref,
		readable: make(chan struct{}, 1),
		writable: make(chan struct{}, 1),
		datagram: make(chan struct{}, 1),
		closed:   make(chan struct{}),
		readBy:   newDeadline(),
		writeBy:  newDeadline(),
	}
}

// Ref is the stream that the connection carries.
func (c *Conn) Ref() session.Ref { return c.ref }

func (c *Conn) notify(kind session.EventKind) {
	switch kind {
	case session.Readable:
		signal(c.readable)
		signal(c.datagram) // it may be the end
	case session.Writable:
		signal(c.writable)
	case session.Datagram:
		signal(c.datagram)
	case session.Closed:
		signal(c.readable)
		signal(c.writable)
		signal(c.datagram)
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Read reads what has arrived, and waits for it. It returns io.EOF after the
// peer's last byte.
func (c *Conn) Read(p []byte) (n int, err error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.ended { // the stream may be forgotten by now
		return 0, io.EOF
	}
	err = c.retry(c.readable, &c.readBy, func(now machine.Time) error {
		n, err = c.side.machine.Read(now, c.ref, p)
		return err
	})
	c.ended = errors.Is(err, io.EOF)
	return n, c.wrap("read", err)
}

// Write writes all of p, waiting for room in the stream's buffer: that is how
// a slow network or a slow peer holds its sender back. Calls of several
// goroutines follow one another.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for n < len(p) {
		var k int
		err = c.retry(c.writable, &c.writeBy, func(now machine.Time) error {
			k, err = c.side.machine.Write(now, c.ref, p[n:])
			return err
		})
		n += k
		if err != nil {
			return n, c.wrap("write", err)
		}
	}
	return n, nil
}

// retry calls f under the host's lock until it would not block.
func (c *Conn) retry(ready chan struct{}, by *deadline, f func(machine.Time) error) error {
	expired := by.wait()
	for {
		select {
		case <-c.closed:
			return net.ErrClosed
		case <-expired:
			return os.ErrDeadlineExceeded
		default:
		}
		var err error
		if !c.side.host.Do(func(now machine.Time) { err = f(now) }) {
			return ErrStopped
		}
		if !errors.Is(err, stream.ErrWouldBlock) {
			return err
		}
		select {
		case <-ready:
		case <-c.closed:
			return net.ErrClosed
		case <-expired:
			return os.ErrDeadlineExceeded
		case <-c.side.host.Done():
			return ErrStopped
		}
	}
}

// CloseWrite ends the direction of Write; Read goes on.
func (c *Conn) CloseWrite() (err error) {
	if !c.side.host.Do(func(now machine.Time) { err = c.side.machine.CloseWrite(now, c.ref) }) {
		return ErrStopped
	}
	return c.wrap("close", err)
}

// Close ends both directions: what was written still arrives, what has not
// been read is given up.
func (c *Conn) Close() error { return c.end(false) }

// Reset ends both directions at once, and tells the peer that it was no
// orderly end.
func (c *Conn) Reset() error { return c.end(true) }

func (c *Conn) end(abort bool) error {
	c.closeOnce.Do(func() {
		close(c.closed)
		c.readBy.set(time.Time{})
		c.writeBy.set(time.Time{})
		c.side.host.Do(func(now machine.Time) {
			delete(c.side.conns, c.ref)
			if abort {
				c.side.machine.Abort(now, c.ref, codeAborted)
				return
			}
			c.side.machine.CloseWrite(now, c.ref)
			c.side.machine.StopReading(now, c.ref, codeClosed)
		})
	})
	return nil
}

// Codes with which a stream is given up.
const (
	codeClosed  = 0
	codeAborted = 1
)

// SetLane moves the connection to a lane of its session, for both directions.
// While others have more to send than the session carries, lanes share it by
// their weights.
func (c *Conn) SetLane(l stream.Lane) (err error) {
	if !c.side.host.Do(func(now machine.Time) { err = c.side.machine.SetLane(now, c.ref, l, 0) }) {
		return ErrStopped
	}
	return c.wrap("set lane", err)
}

// SendDatagram sends an unreliable message that fits one packet.
func (c *Conn) SendDatagram(p []byte) (err error) {
	if !c.side.host.Do(func(now machine.Time) { err = c.side.machine.SendDatagram(now, c.ref, p) }) {
		return ErrStopped
	}
	return err
}

// SendMessage sends a message of which what is lost is sent again for a while.
func (c *Conn) SendMessage(p []byte) (err error) {
	if !c.side.host.Do(func(now machine.Time) { err = c.side.machine.SendMessage(now, c.ref, p) }) {
		return ErrStopped
	}
	return err
}

// ReadDatagram waits for the next datagram or message. If p is too small for it,
// it stays, and n is what it needs, with io.ErrShortBuffer. On a stream of which it is called
// no bytes follow the status: its end is the flow's.
func (c *Conn) ReadDatagram(p []byte) (n int, err error) {
	var stray [1]byte
	err = c.retry(c.datagram, &c.readBy, func(now machine.Time) error {
		if n, err = c.side.machine.ReadDatagram(now, c.ref, p); !errors.Is(err, stream.ErrWouldBlock) {
			return err
		}
		for {
			if _, err := c.side.machine.Read(now, c.ref, stray[:]); err != nil {
				return err
			}
		}
	})
	return n, c.wrap("read", err)
}

// wrap turns an error into what callers of a net.Conn expect.
func (c *Conn) wrap(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "nyx", Err: err}
}

// Addr is the address of a Conn's ends: it names the network and nothing else.
type Addr struct{}

// Network returns "nyx".
func (Addr) Network() string { return "nyx" }

// String returns "nyx".
func (Addr) String() string { return "nyx" }

// LocalAddr returns an Addr.
func (c *Conn) LocalAddr() net.Addr { return Addr{} }

// RemoteAddr returns an Addr.
func (c *Conn) RemoteAddr() net.Addr { return Addr{} }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.readBy.set(t)
	c.writeBy.set(t)
	return nil
}

// SetReadDeadline bounds Read and ReadDatagram.
func (c *Conn) SetReadDeadline(t time.Time) error { c.readBy.set(t); return nil }

// SetWriteDeadline bounds Write.
func (c *Conn) SetWriteDeadline(t time.Time) error { c.writeBy.set(t); return nil }

var _ net.Conn = (*Conn)(nil)
