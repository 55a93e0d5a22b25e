package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memConn is one end of an in-memory connection with half-close.
type memConn struct {
	net.Conn // reads
	out      net.Conn
	reset    func() error
	closed   func()
}

// memPair returns the two ends of a connection.
func memPair() (a, b *memConn) {
	ar, bw := net.Pipe()
	br, aw := net.Pipe()
	return &memConn{Conn: ar, out: aw}, &memConn{Conn: br, out: bw}
}

func (c *memConn) Write(p []byte) (int, error) { return c.out.Write(p) }
func (c *memConn) CloseWrite() error           { return c.out.Close() }
func (c *memConn) Close() error {
	c.out.Close()
	err := c.Conn.Close()
	if c.closed != nil {
		c.closed()
	}
	return err
}
func (c *memConn) SetDeadline(t time.Time) error {
	c.out.SetWriteDeadline(t)
	return c.Conn.SetReadDeadline(t)
}
func (c *memConn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }
func (c *memConn) Reset() error {
	if c.reset != nil {
		return c.reset()
	}
	return nil
}

// memListener hands out connections made by dial.
type memListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemListener() *memListener {
	return &memListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *memListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *memListener) Addr() net.Addr { return &net.TCPAddr{} }
func (l *memListener) dial() net.Conn {
	a, b := memPair()
	l.conns <- b
	return a
}

// dialled is one call of the fake Dialer.
type dialled struct {
	isolation, host string
	port            uint16
}

// fakeDialer joins each stream to a handler that plays the target.
type fakeDialer struct {
	target func(remote *memConn) // runs in its own goroutine; nil: echo
	err    error
	block  bool // DialStream waits for its context
	flow   func() (Datagrams, error)

	mu    sync.Mutex
	calls []dialled
	reset int
	done  sync.WaitGroup // targets that run, and streams that the proxy has not closed
}

func (d *fakeDialer) DialStream(ctx context.Context, isolation, host string, port uint16) (net.Conn, error) {
	d.mu.Lock()
	d.calls = append(d.calls, dialled{isolation, host, port})
	d.mu.Unlock()
	if d.block {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if d.err != nil {
		return nil, d.err
	}
	near, far := memPair()
	d.done.Add(1)
	near.closed = sync.OnceFunc(d.done.Done)
	near.reset = func() error {
		d.mu.Lock()
		d.reset++
		d.mu.Unlock()
		return nil
	}
	target := d.target
	if target == nil {
		target = echo
	}
	d.done.Go(func() {
		defer far.Close()
		target(far)
	})
	return near, nil
}

func (d *fakeDialer) OpenDatagrams(context.Context, string) (Datagrams, error) {
	if d.flow == nil {
		return nil, ErrNetworkDown
	}
	return d.flow()
}

func (d *fakeDialer) lastCall(t *testing.T) dialled {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.calls) == 0 {
		t.Fatal("the Dialer was not asked")
	}
	return d.calls[len(d.calls)-1]
}

func echo(c *memConn) {
	io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	c.CloseWrite()
}

// proxyUnderTest is a running Serve.
type proxyUnderTest struct {
	*memListener
	counts Counts
	stop   func() // ends Serve and waits for it
}

func start(t *testing.T, d Dialer, opts Options) *proxyUnderTest {
	t.Helper()
	p := &proxyUnderTest{memListener: newMemListener()}
	opts.Counts = &p.counts
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, p.memListener, d, opts) }()
	var once sync.Once
	p.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
			if f, ok := d.(*fakeDialer); ok {
				f.done.Wait()
			}
			if n := p.counts.Active.Load(); n != 0 {
				t.Errorf("%d clients active after Serve returned", n)
			}
		})
	}
	t.Cleanup(p.stop)
	return p
}

// send writes all of b.
func send(t *testing.T, c net.Conn, b string) {
	t.Helper()
	if _, err := io.WriteString(c, b); err != nil {
		t.Fatalf("write %q: %v", b, err)
	}
}

// want reads exactly as many bytes as b has, and compares.
func want(t *testing.T, c net.Conn, b string) {
	t.Helper()
	got := make([]byte, len(b))
	n, err := io.ReadFull(c, got)
	if err != nil || string(got) != b {
		t.Fatalf("read %q, %v; want %q", got[:n], err, b)
	}
}

// wantEnd reads an orderly end.
func wantEnd(t *testing.T, c net.Conn) {
	t.Helper()
	var b [1]byte
	if n, err := c.Read(b[:]); n != 0 || err != io.EOF {
		t.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}

// rest reads until the end.
func rest(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("read: %v", err)
	}
	return string(b)
}

// connect does the SOCKS5 handshake for a name.
func connect(t *testing.T, c net.Conn, host string, port uint16) {
	t.Helper()
	send(t, c, "\x05\x01\x00")
	want(t, c, "\x05\x00")
	send(t, c, "\x05\x01\x00\x03"+string(rune(len(host)))+host+string([]byte{byte(port >> 8), byte(port)}))
	want(t, c, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
}
