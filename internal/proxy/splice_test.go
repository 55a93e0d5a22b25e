package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
)

func TestHalfCloseOfClient(t *testing.T) {
	got := make(chan string, 1)
	d := &fakeDialer{target: func(c *memConn) {
		b, err := io.ReadAll(c) // returns when the client's end arrives
		if err != nil {
			b = []byte(err.Error())
		}
		got <- string(b)
		io.WriteString(c, "answer after the end")
	}}
	p := start(t, d, Options{})
	c := p.dial().(*memConn)
	defer c.Close()
	connect(t, c, "a", 1)
	send(t, c, "question")
	c.CloseWrite()
	if q := <-got; q != "question" {
		t.Fatalf("target read %q", q)
	}
	want(t, c, "answer after the end")
	wantEnd(t, c)
	d.done.Wait()
	if d.reset != 0 {
		t.Error("an orderly end became a reset")
	}
}

func TestHalfCloseOfTarget(t *testing.T) {
	got := make(chan string, 1)
	d := &fakeDialer{target: func(c *memConn) {
		io.WriteString(c, "banner")
		c.CloseWrite()
		b, _ := io.ReadAll(c)
		got <- string(b)
	}}
	p := start(t, d, Options{})
	c := p.dial().(*memConn)
	defer c.Close()
	connect(t, c, "a", 1)
	want(t, c, "banner")
	wantEnd(t, c)
	send(t, c, "still talking")
	c.CloseWrite()
	if b := <-got; b != "still talking" {
		t.Fatalf("target read %q", b)
	}
	d.done.Wait()
	if d.reset != 0 {
		t.Error("an orderly end became a reset")
	}
}

// failingConn fails its reads once told to.
type failingConn struct {
	net.Conn
	err error
}

func (c failingConn) Read([]byte) (int, error) { return 0, c.err }

// A target that breaks off must not look like one that has ended: the client's
// connection is reset. Over real TCP, since only that has a reset to see.
func TestBrokenTargetIsReset(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near, far := memPair()
	defer far.Close()
	s := &stream{client: accepted, remote: failingConn{near, errors.New("route lost")}, timeout: time.Minute}
	s.download()
	accepted.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("client read %v, want a reset", err)
	}
}

// A client that breaks off resets the target's side.
func TestBrokenClientResetsTarget(t *testing.T) {
	d := &fakeDialer{target: func(c *memConn) { io.ReadAll(c) }}
	near, err := d.DialStream(t.Context(), "", "a", 1)
	if err != nil {
		t.Fatal(err)
	}
	a, b := memPair()
	defer a.Close()
	s := &stream{client: failingConn{b, errors.New("connection reset by peer")}, remote: near, timeout: time.Minute, dialled: make(chan struct{})}
	close(s.dialled)
	s.upload(nil, &target{}, func() {})
	d.done.Wait()
	if d.reset != 1 {
		t.Errorf("%d resets, want 1", d.reset)
	}
}

// A target that stops reading may still answer, as a server that refuses an
// upload does.
func TestAnswerToRefusedUpload(t *testing.T) {
	answer := strings.Repeat("too large. ", 10000)
	d := &fakeDialer{target: func(c *memConn) {
		io.ReadFull(c, make([]byte, 5))
		c.Conn.Close() // reads no more
		io.WriteString(c, answer)
	}}
	p := start(t, d, Options{})
	c := p.dial().(*memConn)
	defer c.Close()
	connect(t, c, "a", 1)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for {
			if _, err := c.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	}()
	want(t, c, answer)
	wantEnd(t, c)
	c.Close()
	<-sent
}

func TestSilentHalfClosedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDialer{target: func(c *memConn) {
			c.CloseWrite()
			io.ReadAll(c)
		}}
		p := start(t, d, Options{HalfClosedTimeout: time.Minute})
		defer p.stop()
		c := p.dial().(*memConn)
		defer c.Close()
		connect(t, c, "a", 1)
		wantEnd(t, c)
		began := time.Now()
		for range 10 { // what talks stays
			time.Sleep(40 * time.Second)
			send(t, c, "x")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := p.counts.Active.Load(); n != 0 {
			t.Errorf("%d active %v after the target's end, want 0", n, time.Since(began))
		}
	})
}

// 8 MiB there and back, whatever the sizes of the writes.
func TestTransferIsExact(t *testing.T) {
	p := start(t, &fakeDialer{}, Options{})
	c := p.dial().(*memConn)
	defer c.Close()
	connect(t, c, "a", 1)
	rng := prng.FromUint64(1).Stream("transfer")
	data := make([]byte, 8<<20)
	rng.Read(data)
	go func() {
		for b := data; len(b) > 0; {
			n := min(len(b), 1+rng.IntN(100_000))
			c.Write(b[:n])
			b = b[n:]
		}
		c.CloseWrite()
	}()
	h := sha256.New()
	if n, err := io.Copy(h, struct{ io.Reader }{c}); err != nil || n != int64(len(data)) {
		t.Fatalf("%d bytes came back, %v", n, err)
	}
	if sum := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), sum[:]) {
		t.Fatal("other bytes came back")
	}
}

// Data that a client sends together with its request is not lost.
func TestDataWithRequest(t *testing.T) {
	p := start(t, &fakeDialer{}, Options{})
	c := p.dial()
	defer c.Close()
	send(t, c, "\x05\x01\x00")
	want(t, c, "\x05\x00")
	send(t, c, "\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50early data")
	want(t, c, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00early data")
}

func TestStopEndsEverything(t *testing.T) {
	p := start(t, &fakeDialer{}, Options{})
	var conns []net.Conn
	for range 20 {
		c := p.dial()
		defer c.Close()
		connect(t, c, "a", 1)
		conns = append(conns, c)
	}
	idle := p.dial()
	defer idle.Close()
	p.stop() // checks that none is active
	for _, c := range conns {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("connection open after the end")
		}
	}
}

// scriptConn yields reads of given sizes, then io.EOF; writes are dropped.
type scriptConn struct {
	net.Conn
	reads, size int
}

func (c *scriptConn) Read(b []byte) (int, error) {
	if c.reads == 0 {
		return 0, io.EOF
	}
	c.reads--
	return min(c.size, len(b)), nil
}
func (c *scriptConn) Write(b []byte) (int, error)     { return len(b), nil }
func (c *scriptConn) SetReadDeadline(time.Time) error { return nil }

func TestCopyAllocates(t *testing.T) {
	for _, size := range []int{100, largeBuffer} {
		conn := &scriptConn{}
		s := &stream{client: conn, remote: conn}
		var buf buffer
		buf.bytes()
		n := testing.AllocsPerRun(20, func() {
			conn.reads, conn.size = 1000, size
			s.copy(conn, conn, nil, nil, &buf, nil)
		})
		buf.release()
		// A few buffers, when the collector has emptied the pool or the race
		// detector drops what is put there; none for each read.
		if n > 10 {
			t.Errorf("1000 reads of %d bytes: %v allocations", size, n)
		}
	}
}

func TestBufferFollowsLoad(t *testing.T) {
	var b buffer
	if n := len(b.bytes()); n != smallBuffer {
		t.Fatalf("begins with %d bytes", n)
	}
	b.adapt(smallBuffer)
	if n := len(b.bytes()); n != largeBuffer {
		t.Fatalf("%d bytes after a full read", n)
	}
	for range shrinkAfter {
		b.adapt(10)
	}
	if n := len(b.bytes()); n != smallBuffer {
		t.Fatalf("%d bytes when idle", n)
	}
	b.release()
}

func BenchmarkSplice(b *testing.B) {
	conn := &scriptConn{reads: b.N, size: largeBuffer}
	s := &stream{client: conn, remote: conn}
	var buf buffer
	b.SetBytes(largeBuffer)
	b.ReportAllocs()
	s.copy(conn, conn, nil, nil, &buf, nil)
	buf.release()
}
