// Package proxy is the door for ordinary programs: SOCKS5 (RFC 1928, RFC 1929)
// and HTTP proxying (CONNECT, and absolute-form requests) on one port, in front
// of a Dialer.
//
// It opens no connection of its own and resolves no name: whatever a client
// asks for goes to the Dialer as it was written, and when the Dialer cannot
// carry it, the client gets an error. There is no other way out, so a network
// that is down fails closed (internal/archtest forbids a dial or a lookup
// here).
//
// A user name and password are never checked. They are the isolation key:
// streams with different credentials must not share a session, so that the
// exit cannot link them. The same credentials give the same key over SOCKS5
// and over HTTP.
package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Dialer carries what the clients of the proxy ask for. Every method may be
// called from many goroutines, and returns soon after ctx ends.
//
// The host is a name or the text of an IP address without brackets; it has at
// most 255 bytes, all of them printable ASCII. The port is never 0. Isolation
// is "" for a client without credentials. The Dialer must not log any of them.
type Dialer interface {
	// DialStream opens a byte stream to the target. The connection should have
	// CloseWrite() error, for half-close, and may have Reset() error, which is
	// called before Close when the client's side broke off. Deadlines must work,
	// and the connection outlives ctx. Errors wrap the ErrX of this package where one fits.
	DialStream(ctx context.Context, isolation, host string, port uint16) (net.Conn, error)
	// OpenDatagrams opens a flow of datagrams. It outlives ctx; Close ends it.
	OpenDatagrams(ctx context.Context, isolation string) (Datagrams, error)
}

// Datagrams is one client's flow of datagrams to any targets. Send and Receive
// are each called from one goroutine; Close may come from another, and unblocks
// both.
type Datagrams interface {
	// Send passes one datagram on; b is borrowed for the call. An error means
	// that this datagram is lost, as UDP may lose any.
	Send(host string, port uint16, b []byte) error
	// Receive waits for the next datagram; b is valid until the next call. An
	// error ends the flow.
	Receive() (host string, port uint16, b []byte, err error)
	Close()
}

// Options are the limits of a proxy. Zero values mean the defaults.
type Options struct {
	// MaxConns is the number of clients served at once; one more is closed
	// without an answer. 0: 4096, which is at most 256 MiB of busy buffers and
	// 32 MiB of idle ones.
	MaxConns int
	// HeaderTimeout is the time a client has to say what it wants, from accept
	// to the end of its request. 0: 10 s.
	HeaderTimeout time.Duration
	// DialTimeout bounds one call of the Dialer. 0: 60 s.
	DialTimeout time.Duration
	// HalfClosedTimeout is how long a connection of which one direction has
	// ended may stay silent in the other. 0: 10 min.
	HalfClosedTimeout time.Duration
	// Counts, if not nil, receives the proxy's counters.
	Counts *Counts
}

// Counts are counters of a proxy, safe for concurrent use. None of them names
// a client or a target.
type Counts struct {
	Accepted  atomic.Uint64 // clients accepted
	Active    atomic.Int64  // clients being served now
	Refused   atomic.Uint64 // clients closed because MaxConns were active
	Malformed atomic.Uint64 // requests that are neither SOCKS5 nor HTTP proxying, or are broken
	TimedOut  atomic.Uint64 // requests not complete within HeaderTimeout
	Streams   atomic.Uint64 // streams opened
	Failed    atomic.Uint64 // streams that the Dialer could not open
	// ByAddress counts requests by IP address. A client that resolves names
	// itself asks its own resolver, outside of the network, about each.
	ByAddress     atomic.Uint64
	Datagrams     atomic.Uint64 // datagrams passed on, both ways
	DropDatagrams atomic.Uint64 // datagrams dropped: fragment, malformed, stranger, not sent
}

func (o *Options) setDefaults() {
	if o.MaxConns <= 0 {
		o.MaxConns = 4096
	}
	if o.HeaderTimeout <= 0 {
		o.HeaderTimeout = 10 * time.Second
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = time.Minute
	}
	if o.HalfClosedTimeout <= 0 {
		o.HalfClosedTimeout = 10 * time.Minute
	}
	if o.Counts == nil {
		o.Counts = new(Counts)
	}
}

// Limits of the implementation.
const (
	// headerBuffer is the longest line of an HTTP header, and more than the
	// longest SOCKS5 message (513 bytes). Browsers send cookies up to 4 KiB.
	headerBuffer = 8 << 10
	// acceptRetry is the pause after an accept that failed for want of file
	// descriptors: long enough to let some close.
	acceptRetry = 50 * time.Millisecond
	// lingerTimeout and lingerBytes bound what is read and thrown away after an
	// error was answered. Closing with unread input would reset the connection,
	// and the client might never see the answer.
	lingerTimeout = time.Second
	lingerBytes   = 64 << 10
)

// server is one running Serve.
type server struct {
	dialer Dialer
	opts   Options
	counts *Counts
}

// Serve accepts clients from ln until ctx ends or ln breaks, and returns when
// the last of its goroutines has. It closes ln. It returns nil when ctx ended.
func Serve(ctx context.Context, ln net.Listener, d Dialer, opts Options) error {
	opts.setDefaults()
	s := &server{dialer: d, opts: opts, counts: opts.Counts}
	ctx, cancel := context.WithCancel(ctx)
	defer whenEnded(ctx, func() { ln.Close() })()
	var handlers sync.WaitGroup
	err := s.accept(ctx, ln, &handlers)
	cancel()
	ln.Close()
	handlers.Wait()
	return err
}

// whenEnded calls f in a goroutine of its own when ctx ends. The function that
// it returns takes that back, or waits for f if it is too late: f never runs
// after it.
func whenEnded(ctx context.Context, f func()) (detach func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

func (s *server) accept(ctx context.Context, ln net.Listener, handlers *sync.WaitGroup) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if !transient(err) {
				return fmt.Errorf("proxy: accepting clients: %w", err)
			}
			pause(ctx, acceptRetry)
			continue
		}
		if s.counts.Active.Load() >= int64(s.opts.MaxConns) {
			s.counts.Refused.Add(1)
			conn.Close()
			continue
		}
		s.counts.Accepted.Add(1)
		s.counts.Active.Add(1)
		handlers.Go(func() {
			defer s.counts.Active.Add(-1)
			s.handle(ctx, conn)
		})
	}
}

// transient reports whether accepting may work again without a new listener.
func transient(err error) bool {
	var ne interface{ Temporary() bool }
	return errors.As(err, &ne) && ne.Temporary()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// client is one accepted connection while its request is read.
type client struct {
	*server
	conn net.Conn
	in   *bufio.Reader // reads conn; goes back to its pool once the request is read
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, headerBuffer) }}

// handle serves one client from its first byte to its last.
func (s *server) handle(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer whenEnded(ctx, func() { abort(conn) })()
	c := &client{server: s, conn: conn, in: readers.Get().(*bufio.Reader)}
	c.in.Reset(conn)
	defer c.releaseReader()

	conn.SetDeadline(time.Now().Add(s.opts.HeaderTimeout))
	first, err := c.in.Peek(1)
	if err != nil {
		s.countRead(err)
		return
	}
	switch b := first[0]; {
	case b == socksVersion:
		c.serveSOCKS(ctx)
	case 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z':
		c.serveHTTP(ctx)
	default:
		s.counts.Malformed.Add(1)
	}
}

func (c *client) releaseReader() {
	if c.in != nil {
		c.in.Reset(nil)
		readers.Put(c.in)
		c.in = nil
	}
}

// countRead counts a request that could not be read.
func (s *server) countRead(err error) {
	if isTimeout(err) {
		s.counts.TimedOut.Add(1)
		return
	}
	s.counts.Malformed.Add(1)
}

// refuse answers with b, and closes so that the answer arrives.
func (c *client) refuse(b []byte) {
	c.conn.SetDeadline(time.Now().Add(lingerTimeout))
	if _, err := c.conn.Write(b); err != nil || closeWrite(c.conn) != nil {
		return
	}
	discard(c.conn, lingerBytes)
}
