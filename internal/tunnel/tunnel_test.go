package tunnel_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/lab/duo"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit ends a test that hangs, also on a machine that is busy with something else.
const limit = 2 * time.Minute

// pair starts a session; accepted yields the streams that the server's side was
// given.
func pair(t *testing.T) (p *duo.Pair, accepted chan *tunnel.Conn) {
	t.Helper()
	accepted = make(chan *tunnel.Conn, 100)
	p, err := duo.New(stream.Config{}, func(c *tunnel.Conn) { accepted <- c })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, accepted
}

// conns opens a stream and returns both ends, the first byte read.
func conns(t *testing.T, p *duo.Pair, accepted chan *tunnel.Conn) (near, far *tunnel.Conn) {
	t.Helper()
	near, err := p.Open([]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	far = <-accepted
	near.SetDeadline(time.Now().Add(limit))
	far.SetDeadline(time.Now().Add(limit))
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func TestBytesAndHalfClose(t *testing.T) {
	p, accepted := pair(t)
	near, far := conns(t, p, accepted)
	payload := bytes.Repeat([]byte("nyx"), 1<<20)
	var writing sync.WaitGroup
	writing.Go(func() {
		if n, err := near.Write(payload); n != len(payload) || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
		near.CloseWrite()
	})
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(payload), err)
	}
	writing.Wait()
	if _, err := far.Write([]byte("the other way goes on")); err != nil {
		t.Fatal(err)
	}
	far.CloseWrite()
	if got, err = io.ReadAll(near); err != nil || string(got) != "the other way goes on" {
		t.Errorf("%q, %v", got, err)
	}
	for range 3 { // the stream is forgotten, its end is not
		if _, err := near.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
	}
	if _, err := near.Write([]byte{1}); err == nil {
		t.Error("a write after the end succeeded")
	}
	near.Close()
	far.Close()
	if near.Close() != nil || p.Client.Side.Len() != 0 || p.Server.Side.Len() != 0 {
		t.Error("closed connections are kept")
	}
}

func TestDeadlines(t *testing.T) {
	p, accepted := pair(t)
	near, _ := conns(t, p, accepted)
	var b [1]byte
	near.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := near.Read(b[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline that has passed: %v", err)
	}
	var timeout net.Error
	if _, err := near.Read(b[:]); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v is no timeout", err)
	}
	near.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := near.Read(b[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline that passes: %v", err)
	}
	near.SetReadDeadline(time.Time{})
	read := make(chan error)
	go func() { _, err := near.Read(b[:]); read <- err }()
	near.SetReadDeadline(time.Now().Add(time.Hour))
	near.SetReadDeadline(time.Unix(1, 0)) // wakes who waits
	if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline set while reading: %v", err)
	}
	many := make([]byte, 64<<20)
	near.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := near.Write(many); !errors.Is(err, os.ErrDeadlineExceeded) || n == len(many) {
		t.Errorf("a write that nobody reads: %d, %v", n, err)
	}
	near.SetDeadline(time.Now().Add(time.Millisecond))
	near.SetDeadline(time.Time{})
}

func TestResetAndStop(t *testing.T) {
	p, accepted := pair(t)
	near, far := conns(t, p, accepted)
	near.Reset()
	var reset *stream.ResetError
	if _, err := far.Read(make([]byte, 1)); !errors.As(err, &reset) {
		t.Errorf("read of a reset stream: %v", err)
	}
	near, far = conns(t, p, accepted)
	blocked := make(chan error)
	go func() { _, err := near.Write(make([]byte, 64<<20)); blocked <- err }()
	if _, err := io.ReadFull(far, make([]byte, 1<<16)); err != nil {
		t.Fatal(err)
	}
	far.Close()
	if err := <-blocked; !errors.As(err, &reset) {
		t.Errorf("write to who reads no more: %v", err)
	}
	near, _ = conns(t, p, accepted)
	go func() { _, err := near.Read(make([]byte, 1)); blocked <- err }()
	near.Close()
	if err := <-blocked; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read while closing: %v", err)
	}
	if near.LocalAddr().String() != "nyx" || near.RemoteAddr().Network() != "nyx" || near.Ref().Session == 0 {
		t.Error("addresses say something")
	}
}

// Writers of one connection follow one another, each whole, and none is
// forgotten.
func TestManyWriters(t *testing.T) {
	p, accepted := pair(t)
	near, far := conns(t, p, accepted)
	const writers, size = 8, 1 << 20
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			if _, err := near.Write(bytes.Repeat([]byte{byte(i)}, size)); err != nil {
				t.Error(err)
			}
		})
	}
	b := make([]byte, size)
	for range writers {
		if _, err := io.ReadFull(far, b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, bytes.Repeat(b[:1], size)) {
			t.Error("two writes are mixed")
		}
	}
	writing.Wait()
}

func TestSessionEnd(t *testing.T) {
	p, accepted := pair(t)
	near, far := conns(t, p, accepted)
	p.End()
	for _, c := range []*tunnel.Conn{near, far} {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read after the session's end: %v", err)
		}
	}
}

func TestHostEnd(t *testing.T) {
	p, accepted := pair(t)
	near, _ := conns(t, p, accepted)
	blocked := make(chan error)
	go func() { _, err := near.Read(make([]byte, 1)); blocked <- err }()
	p.Close()
	if err := <-blocked; !errors.Is(err, tunnel.ErrStopped) {
		t.Errorf("read while the host stops: %v", err)
	}
	if _, err := near.Write([]byte{1}); !errors.Is(err, tunnel.ErrStopped) {
		t.Errorf("write: %v", err)
	}
	if err := near.CloseWrite(); !errors.Is(err, tunnel.ErrStopped) {
		t.Errorf("close: %v", err)
	}
	if err := near.SendDatagram(nil); !errors.Is(err, tunnel.ErrStopped) {
		t.Errorf("datagram: %v", err)
	}
	if _, err := p.Open(nil); !errors.Is(err, tunnel.ErrStopped) {
		t.Errorf("open: %v", err)
	}
}

func TestDatagrams(t *testing.T) {
	p, accepted := pair(t)
	near, far := conns(t, p, accepted)
	out, in := tunnel.NewDatagrams(near), tunnel.NewDatagrams(far)
	for _, size := range []int{0, 1, 900, 1030, 1031, 5000, 9000, 16_000, 65_507} {
		data := bytes.Repeat([]byte{byte(size)}, size)
		if err := out.Send("192.0.2.7", 53, data); err != nil {
			t.Fatal(err)
		}
		host, port, got, err := in.Receive()
		if err != nil || host != "192.0.2.7" || port != 53 || !bytes.Equal(got, data) {
			t.Errorf("message of %d bytes: %s:%d, %d bytes, %v", size, host, port, len(got), err)
		}
	}
	if err := out.Send("a", 1, make([]byte, wire.MaxMessageSize)); !errors.Is(err, tunnel.ErrTooLarge) {
		t.Errorf("a message too large: %v", err)
	}
	near.SendDatagram([]byte{1}) // nonsense holds nothing up
	if err := out.Send("whole", 1, []byte("last")); err != nil {
		t.Fatal(err)
	}
	if host, _, got, err := in.Receive(); err != nil || host != "whole" || string(got) != "last" {
		t.Errorf("%s, %q, %v", host, got, err)
	}
	out.Close()
	if _, _, _, err := in.Receive(); err == nil {
		t.Error("a flow that was closed goes on")
	}
}

// A connection's lane holds at both ends, whichever of them sets it.
func TestLaneHoldsAtBothEnds(t *testing.T) {
	p, accepted := pair(t)
	near, far := conns(t, p, accepted)
	b := []byte{2}
	for _, step := range []struct {
		by, to *tunnel.Conn
		at     *duo.End
		lane   stream.Lane
	}{{near, far, p.Server, stream.PriorityHigh}, {far, near, p.Client, stream.PriorityLow}} {
		if err := step.by.SetLane(step.lane); err != nil {
			t.Fatal(err)
		}
		step.by.Write(b) // travels with what the peer is told, or behind it
		if _, err := io.ReadFull(step.to, b); err != nil {
			t.Fatal(err)
		}
		if l, err := step.at.Lane(step.to); err != nil || l != step.lane {
			t.Errorf("the other end knows lane %d, %v; want %d", l, err, step.lane)
		}
	}
	near.Close()
	if err := near.SetLane(stream.MaxLanes); err == nil {
		t.Error("a lane that cannot be is set")
	}
}
