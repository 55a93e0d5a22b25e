package exit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/nyxnet/nyx/internal/exit"
	"github.com/nyxnet/nyx/internal/lab/duo"
	"github.com/nyxnet/nyx/internal/pack"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit ends a test that hangs, also on a machine that is busy with something else.
const limit = 2 * time.Minute

// start runs an exit behind a session.
func start(t *testing.T, cfg exit.Config) (*duo.Pair, *exit.Exit) {
	t.Helper()
	x := exit.New(cfg)
	p, err := duo.New(stream.Config{}, x.Serve)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close(); p.Close() })
	return p, x
}

// request opens a stream to a target and returns the exit's status.
func request(t *testing.T, p *duo.Pair, n wire.Network, host string, port uint16) (*tunnel.Conn, wire.Status) {
	t.Helper()
	c, err := p.Open(wire.AppendTarget(nil, wire.Target{Network: n, Host: host, Port: port}))
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(limit))
	var status [1]byte
	if _, err := io.ReadFull(c, status[:]); err != nil {
		t.Fatalf("no status for %s: %v", host, err)
	}
	return c, wire.Status(status[0])
}

// listen serves one TCP connection after another until the test ends.
func listen(t *testing.T, network, addr string, serve func(net.Conn)) uint16 {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); running.Wait() })
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

// names is a resolver that knows these names, and asks nobody else.
func names(t *testing.T, known map[string][]string) (r *net.Resolver, asked func() int) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	queries := 0
	var running sync.WaitGroup
	running.Go(func() {
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			mu.Lock()
			queries++
			mu.Unlock()
			conn.WriteTo(answer(b[:n], known), from)
		}
	})
	t.Cleanup(func() { conn.Close(); running.Wait() })
	r = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "udp", conn.LocalAddr().String())
		if err == nil {
			// Package net reads on for 5 s after a look-up was given up.
			context.AfterFunc(ctx, func() { c.Close() })
		}
		return c, err
	}}
	return r, func() int { mu.Lock(); defer mu.Unlock(); return queries }
}

func answer(query []byte, known map[string][]string) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.RCode, m.Additionals = true, dnsmessage.RCodeNameError, nil
	for _, s := range known[q.Name.String()] {
		m.RCode = dnsmessage.RCodeSuccess
		a := netip.MustParseAddr(s)
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	b, _ := m.Pack()
	return b
}

func TestStreamsReachTheirTargets(t *testing.T) {
	p, x := start(t, exit.Config{Policy: exit.Policy{AllowPrivate: true}})
	for _, at := range []struct{ network, addr, host string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"}, {"tcp6", "[::1]:0", "::1"}, {"tcp4", "127.0.0.1:0", "localhost"},
	} {
		t.Run(at.host, func(t *testing.T) {
			port := listen(t, at.network, at.addr, func(c net.Conn) {
				b, _ := io.ReadAll(c) // to the half-close
				c.Write(b)
			})
			c, status := request(t, p, wire.TCP, at.host, port)
			defer c.Close()
			if status != wire.StatusOK {
				t.Fatalf("status %v", status)
			}
			payload := bytes.Repeat([]byte("exit"), 1<<18)
			if _, err := c.Write(payload); err != nil {
				t.Fatal(err)
			}
			c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("%d bytes of %d, %v", len(got), len(payload), err)
			}
		})
	}
	if x.Counts.Opened.Load() == 0 {
		t.Error("nothing was counted")
	}
}

// What comes behind the request in one piece belongs to the target.
func TestBytesBehindTheRequest(t *testing.T) {
	p, _ := start(t, exit.Config{Policy: exit.Policy{AllowPrivate: true}})
	port := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.Copy(c, c) })
	c, err := p.Open(append(wire.AppendTarget(nil, wire.Target{Network: wire.TCP, Host: "127.0.0.1", Port: port}), "early"...))
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(limit))
	b := make([]byte, 6)
	if _, err := io.ReadFull(c, b); err != nil || string(b[1:]) != "early" {
		t.Errorf("%q, %v", b, err)
	}
	c.Reset()
}

// A target that resets, and a client that does, end the other side.
func TestResets(t *testing.T) {
	p, _ := start(t, exit.Config{Policy: exit.Policy{AllowPrivate: true}})
	ended := make(chan error, 1)
	port := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		_, err := io.ReadFull(c, make([]byte, 2))
		ended <- err
	})
	c, _ := request(t, p, wire.TCP, "127.0.0.1", port)
	c.Write([]byte{1})
	c.Reset()
	if err := <-ended; err == nil {
		t.Error("the target was not told of the reset")
	}
	port = listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		io.ReadFull(c, make([]byte, 1))
		c.(*net.TCPConn).SetLinger(0)
	})
	c, _ = request(t, p, wire.TCP, "127.0.0.1", port)
	c.Write([]byte{1})
	var reset *stream.ResetError
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &reset) {
		t.Errorf("the client reads %v after the target's reset", err)
	}
	c.Close()
}

// Private ranges are refused, by address and by name, and what leads to them in
// another notation; so are ports outside the policy.
func TestPolicy(t *testing.T) {
	resolver, asked := names(t, map[string][]string{
		"inside.example.": {"10.0.0.1", "192.168.1.1", "fd00::1", "::1"},
		"mapped.example.": {"::ffff:127.0.0.1"},
	})
	p, x := start(t, exit.Config{Resolver: resolver, Policy: exit.Policy{Ports: func(port uint16) bool { return port != 25 }}})
	for _, c := range []struct {
		host string
		port uint16
		want wire.Status
	}{
		{"127.0.0.1", 80, wire.StatusNotAllowed}, {"10.1.2.3", 80, wire.StatusNotAllowed}, {"172.16.0.1", 80, wire.StatusNotAllowed},
		{"192.168.0.1", 80, wire.StatusNotAllowed}, {"169.254.169.254", 80, wire.StatusNotAllowed}, {"100.64.0.1", 80, wire.StatusNotAllowed},
		{"0.0.0.0", 80, wire.StatusNotAllowed}, {"224.0.0.1", 80, wire.StatusNotAllowed}, {"255.255.255.255", 80, wire.StatusNotAllowed},
		{"::1", 80, wire.StatusNotAllowed}, {"::", 80, wire.StatusNotAllowed}, {"fe80::1", 80, wire.StatusNotAllowed},
		{"fd00::1", 80, wire.StatusNotAllowed}, {"::ffff:10.0.0.1", 80, wire.StatusNotAllowed}, {"64:ff9b::7f00:1", 80, wire.StatusNotAllowed},
		{"2002:7f00:1::", 80, wire.StatusNotAllowed}, {"ff02::1", 80, wire.StatusNotAllowed},
		{"inside.example", 80, wire.StatusNotAllowed}, {"mapped.example", 80, wire.StatusNotAllowed},
		{"8.8.8.8", 25, wire.StatusNotAllowed}, {"8.8.8.8", 0, wire.StatusNotAllowed},
		{"nowhere.example", 80, wire.StatusNoHost},
	} {
		s, status := request(t, p, wire.TCP, c.host, c.port)
		if status != c.want {
			t.Errorf("%s:%d gives %v, want %v", c.host, c.port, status, c.want)
		}
		s.Close()
	}
	before := asked()
	for _, host := range []string{"abc.nyx", "ABC.Nyx.", "descriptors.nyx.."} {
		s, status := request(t, p, wire.TCP, host, 80)
		if status != wire.StatusNoHost || asked() != before {
			t.Errorf("%s gives %v after %d queries", host, status, asked()-before)
		}
		s.Close()
	}
	if x.Counts.Opened.Load() != 0 || x.Counts.Refused.Load() == 0 {
		t.Error("something was connected")
	}
}

func TestStatuses(t *testing.T) {
	p, _ := start(t, exit.Config{Policy: exit.Policy{AllowPrivate: true}, DialTimeout: time.Second,
		Services: map[string]func(*tunnel.Conn){"here.test": func(c *tunnel.Conn) { c.Write([]byte{byte(wire.StatusOK), 42}); c.Close() }}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := uint16(ln.Addr().(*net.TCPAddr).Port)
	ln.Close()
	c, status := request(t, p, wire.TCP, "127.0.0.1", closed)
	if status != wire.StatusRefused {
		t.Errorf("nobody listens: %v", status)
	}
	c.Close()
	c, _ = request(t, p, wire.TCP, "here.test", 1)
	if b, err := io.ReadAll(c); err != nil || !bytes.Equal(b, []byte{42}) {
		t.Errorf("a service of the node's own: %v, %v", b, err)
	}
	c.Close()
	for _, junk := range [][]byte{{9}, {1, 0}, {1, 3, 'a', '/', 'b', 0, 1}} {
		c, err := p.Open(junk)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(limit))
		var reset *stream.ResetError
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &reset) {
			t.Errorf("request %x: %v", junk, err)
		}
		c.Close()
	}
}

func TestStreamsAreBounded(t *testing.T) {
	p, _ := start(t, exit.Config{Policy: exit.Policy{AllowPrivate: true}, StreamsMax: 2})
	hold := make(chan struct{})
	port := listen(t, "tcp", "127.0.0.1:0", func(net.Conn) { <-hold })
	defer close(hold)
	one, _ := request(t, p, wire.TCP, "127.0.0.1", port)
	two, _ := request(t, p, wire.TCP, "127.0.0.1", port)
	c, status := request(t, p, wire.TCP, "127.0.0.1", port)
	if status != wire.StatusBusy {
		t.Errorf("the third of two streams: %v", status)
	}
	for _, c := range []*tunnel.Conn{one, two, c} {
		c.Reset()
	}
}

// Close ends what is open, in no time.
func TestCloseEndsStreams(t *testing.T) {
	p, x := start(t, exit.Config{Policy: exit.Policy{AllowPrivate: true}})
	hold := make(chan struct{})
	port := listen(t, "tcp", "127.0.0.1:0", func(net.Conn) { <-hold })
	defer close(hold)
	c, _ := request(t, p, wire.TCP, "127.0.0.1", port)
	flow, _ := request(t, p, wire.UDP, "0.0.0.0", 0)
	silent, err := p.Open([]byte{1}) // a request that does not come
	if err != nil {
		t.Fatal(err)
	}
	silent.SetDeadline(time.Now().Add(limit))
	x.Close()
	for _, c := range []*tunnel.Conn{c, silent, flow} {
		var reset *stream.ResetError
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &reset) {
			t.Errorf("a stream of a closed exit: %v", err)
		}
	}
	late, err := p.Open([]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	late.SetDeadline(time.Now().Add(limit))
	var reset *stream.ResetError
	if _, err := late.Read(make([]byte, 1)); !errors.As(err, &reset) {
		t.Errorf("a stream to a closed exit: %v", err)
	}
}

// A target that is asked for with compression gets the plain bytes; protocols
// that are encrypted, and openers in a hurry, are served as they are.
func TestCompressedStreams(t *testing.T) {
	text := bytes.Repeat([]byte("content "), 20_000)
	codec := &pack.Codec{}
	p, x := start(t, exit.Config{Policy: exit.Policy{AllowPrivate: true}, Compress: codec.Content})
	port := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.Copy(c, c); c.Close() })
	c, status := request(t, p, wire.TCPCompressed, "127.0.0.1", port)
	if status != wire.StatusCompressed || x.Counts.Compressed.Load() != 1 {
		t.Fatalf("%v, %d streams compressed", status, x.Counts.Compressed.Load())
	}
	z := codec.Conn(c)
	go func() { z.Write(text); z.CloseWrite() }()
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes of %d came back, %v", len(got), len(text), err)
	}
	early, err := p.Open(append(wire.AppendTarget(nil, wire.Target{Network: wire.TCPCompressed, Host: "127.0.0.1", Port: port}), "early"...))
	if err != nil {
		t.Fatal(err)
	}
	defer early.Reset()
	early.SetDeadline(time.Now().Add(limit))
	b := make([]byte, 6)
	if _, err := io.ReadFull(early, b); err != nil || string(b) != "\x01early" {
		t.Errorf("content before the answer: %q, %v", b, err)
	}
	if !wire.Sealed(443) || wire.Sealed(80) {
		t.Error("ports of encrypted protocols are not known")
	}
}
