package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A stream through the proxy, in order:
//
//  1. the request is read (socks.go, http.go) and becomes a target;
//  2. carry starts the upload, which reads the client's first bytes while the
//     Dialer works: a client that leaves ends the dial;
//  3. the client is answered;
//  4. upload and download copy until both have ended. The end of one direction
//     is passed on as such (half-close); a broken direction breaks both, so
//     that nobody takes a torn transfer for a whole one.

// Buffer sizes: an idle direction holds a small one, a busy one the large.
const (
	smallBuffer = 4 << 10
	largeBuffer = 32 << 10
	// shrinkAfter is the number of reads in a row that a small buffer would
	// have held, after which a large one is given back.
	shrinkAfter = 16
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// buffer is a pooled buffer that follows the size of what is read.
type buffer struct {
	small *[smallBuffer]byte
	large *[largeBuffer]byte
	idle  int
}

func (b *buffer) bytes() []byte {
	if b.large != nil {
		return b.large[:]
	}
	if b.small == nil {
		b.small = smallBuffers.Get().(*[smallBuffer]byte)
	}
	return b.small[:]
}

// adapt chooses the next buffer after a read of n bytes has been used up.
func (b *buffer) adapt(n int) {
	switch {
	case b.large == nil && n == smallBuffer:
		b.release()
		b.large = largeBuffers.Get().(*[largeBuffer]byte)
	case b.large == nil:
	case n > smallBuffer:
		b.idle = 0
	default:
		if b.idle++; b.idle >= shrinkAfter {
			b.release()
		}
	}
}

func (b *buffer) release() {
	if b.small != nil {
		smallBuffers.Put(b.small)
	}
	if b.large != nil {
		largeBuffers.Put(b.large)
	}
	*b = buffer{}
}

// target is what a request asked for.
type target struct {
	isolation string
	host      string
	port      uint16
	// head goes to the target in front of what the client sends: the rewritten
	// header of a plain HTTP request. Usually nil.
	head []byte
	// body cuts what the client sends to one message; nil passes everything.
	body *body
}

// stream is one client joined to one target.
type stream struct {
	client net.Conn
	remote net.Conn // nil until dialled; handed to the upload by dialled
	// dialled is closed when the Dialer has returned.
	dialled chan struct{}
	// half tells the other direction that one has ended.
	half atomic.Bool
	// torn tells that the target stopped taking the upload.
	torn    atomic.Bool
	timeout time.Duration
}

// carry dials t, answers the client, and copies until both sides have ended.
// respond turns the outcome into the bytes of the client's protocol.
func (c *client) carry(ctx context.Context, t *target, respond func(error) []byte) {
	first, err := c.takeBuffered()
	if err != nil {
		return
	}
	dialCtx, cancel := context.WithTimeout(ctx, c.opts.DialTimeout)
	defer cancel()
	s := &stream{client: c.conn, dialled: make(chan struct{}), timeout: c.opts.HalfClosedTimeout}
	c.conn.SetDeadline(time.Time{})
	var upload sync.WaitGroup
	upload.Go(func() { s.upload(first, t, cancel) })

	remote, err := c.dialer.DialStream(dialCtx, t.isolation, t.host, t.port)
	if err != nil {
		c.counts.Failed.Add(1)
		close(s.dialled)
		c.conn.SetReadDeadline(time.Unix(1, 0)) // unblocks the upload
		upload.Wait()
		if ctx.Err() == nil {
			c.refuse(respond(err))
		}
		return
	}
	c.counts.Streams.Add(1)
	defer remote.Close()
	defer whenEnded(ctx, func() { abort(remote) })()
	s.remote = remote
	if !writeAll(c.conn, respond(nil)) || !writeAll(remote, t.head) {
		s.abort()
	}
	close(s.dialled)
	s.download()
	upload.Wait()
	if s.torn.Load() {
		// The client may have sent what nobody reads; see lingerBytes.
		c.conn.SetReadDeadline(time.Now().Add(lingerTimeout))
		discard(c.conn, lingerBytes)
	}
}

func writeAll(c net.Conn, b []byte) bool {
	if len(b) == 0 {
		return true
	}
	_, err := c.Write(b)
	return err == nil
}

// takeBuffered gives the header reader back, and returns what it had read
// beyond the request. Most clients wait for the answer, and it is nil.
func (c *client) takeBuffered() ([]byte, error) {
	var first []byte
	if n := c.in.Buffered(); n > 0 {
		first = make([]byte, n)
		if _, err := io.ReadFull(c.in, first); err != nil {
			return nil, err
		}
	}
	c.releaseReader()
	return first, nil
}

// upload copies from the client to the target. giveUp ends the dial; it is
// called if the client leaves before it has sent anything.
func (s *stream) upload(first []byte, t *target, giveUp func()) {
	var buf buffer
	defer func() { buf.release() }()
	var err error
	if len(first) == 0 {
		var n int
		n, err = s.client.Read(buf.bytes())
		first = buf.bytes()[:n]
		// With a head there is something to send even if nothing follows.
		if n == 0 && err != nil && (len(t.head) == 0 || err != io.EOF) {
			giveUp()
		}
	}
	<-s.dialled
	if s.remote == nil {
		return
	}
	s.finish(s.remote, s.client, s.copy(s.remote, s.client, first, err, &buf, t.body))
}

// download copies from the target to the client.
func (s *stream) download() {
	var buf buffer
	defer func() { buf.release() }()
	s.finish(s.client, s.remote, s.copy(s.client, s.remote, nil, nil, &buf, nil))
}

// errWrite marks an error of the writing side.
var errWrite = errors.New("write")

// copy passes bytes from src to dst until src ends (nil) or one side breaks.
// It begins with first and the error that came with it.
func (s *stream) copy(dst, src net.Conn, first []byte, err error, buf *buffer, limit *body) error {
	p := first
	for {
		if limit != nil && len(p) > 0 {
			n, lerr := limit.take(p)
			p = p[:n]
			if lerr != nil {
				return lerr
			}
		}
		if len(p) > 0 {
			if _, werr := dst.Write(p); werr != nil {
				return errWrite
			}
		}
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		buf.adapt(len(p))
		if s.half.Load() {
			src.SetReadDeadline(time.Now().Add(s.timeout))
		}
		b := buf.bytes()
		var n int
		n, err = src.Read(b)
		p = b[:n]
	}
}

// finish ends the direction from src to dst with the result of its copy.
func (s *stream) finish(dst, src net.Conn, err error) {
	if err == nil && closeWrite(dst) != nil {
		err = errWrite
	}
	switch {
	case err == nil:
	case err == errWrite && dst == s.remote:
		// The target takes no more, and may still have an answer on its way: the
		// download decides how this ends.
		s.torn.Store(true)
	default:
		s.abort()
	}
	s.half.Store(true)
	dst.SetReadDeadline(time.Now().Add(s.timeout)) // for a read that began before
}

// abort breaks both sides, so that each sees a reset and not an end.
func (s *stream) abort() {
	abort(s.client)
	abort(s.remote)
}

// abort closes a connection without an orderly end.
func abort(c net.Conn) {
	switch c := c.(type) {
	case interface{ Reset() error }:
		c.Reset()
	case *net.TCPConn:
		c.SetLinger(0)
	}
	c.Close()
}

// closeWrite ends the writing direction. A connection that cannot do so is left
// open: its reader sees the end when the other direction has ended too.
func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// discard reads and drops up to limit bytes, until an error or a deadline.
func discard(c net.Conn, limit int) {
	var buf buffer
	defer func() { buf.release() }()
	for limit > 0 {
		n, err := c.Read(buf.bytes())
		if err != nil {
			return
		}
		limit -= n
	}
}
