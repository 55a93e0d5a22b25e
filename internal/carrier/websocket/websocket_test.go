package websocket

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/pipe"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a server that sends back what it gets, and returns its door.
func start(t testing.TB) (pipe.Listener, *front.Door) {
	t.Helper()
	cert, err := front.SelfSigned("", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	node := &directory.Node{ID: wire.NodeID{1}}
	face := &front.Face{Certificate: cert, Path: front.Path(node.ID)}
	s, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), face, func(p pipe.Pipe) {
		var c *pipe.Conn
		set := make(chan struct{})
		c = pipe.Run(p, func(b []byte) {
			<-set
			c.Push(b)
		})
		close(set)
		<-c.Done()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	carrier, err := face.Carrier(directory.CarrierWebSocket, s.Addr().Port())
	if err != nil {
		t.Fatal(err)
	}
	node.Addrs, node.Carriers = []netip.AddrPort{s.Addr()}, []directory.Carrier{carrier}
	return s, &front.Doors(node)[0]
}

func dialTest(t testing.TB, d *front.Door) pipe.Pipe {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p, err := Dial(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// echo sends a datagram until it comes back, as a link would.
func echo(t testing.TB, p pipe.Pipe, b []byte) {
	t.Helper()
	if err := p.Send(b); err != nil {
		t.Fatal(err)
	}
	got, err := p.Receive()
	if err != nil || !bytes.Equal(got, b) {
		t.Fatalf("came back: %d bytes, %v", len(got), err)
	}
}

func TestDatagramsBothWays(t *testing.T) {
	_, door := start(t)
	p := dialTest(t, door)
	for i := range 50 {
		echo(t, p, bytes.Repeat([]byte{byte(i)}, wire.DatagramSize))
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.Receive(); err == nil {
		t.Error("a closed pipe yields a datagram")
	}
}

// The server ends, and with it the client's end.
func TestServerCloses(t *testing.T) {
	s, door := start(t)
	p := dialTest(t, door)
	echo(t, p, make([]byte, wire.DatagramSize))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Receive(); err == nil {
		t.Error("the server's end was not noticed")
	}
	p.Close()
}

// A wrong key is noticed before the path is told, a wrong path looks like any.
func TestWrongDoor(t *testing.T) {
	_, door := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	pinned, lost := *door, *door
	pinned.Pin[0] ^= 1
	if p, err := Dial(ctx, &pinned); !errors.Is(err, front.ErrPin) {
		t.Errorf("another key: %v, %v", p, err)
	}
	lost.Path = "/elsewhere"
	if p, err := Dial(ctx, &lost); err == nil {
		t.Errorf("another path: %v", p)
	}
}

// The hello names http/1.1, as a browser's for a WebSocket does.
func TestHelloNamesTheProtocol(t *testing.T) {
	_, door := start(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	listened := *door
	listened.Addr = ln.Addr().(*net.TCPAddr).AddrPort()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if p, err := Dial(t.Context(), &listened); err == nil {
			t.Error("there is no server: ", p)
		}
	}()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	hello := make([]byte, 1400)
	if _, err := io.ReadFull(c, hello); err != nil || !bytes.Contains(hello, []byte("\x08http/1.1")) {
		t.Errorf("hello %q, %v", hello, err)
	}
	c.Close()
	<-ended
}

// Who does not know the path sees a web server.
func TestProbing(t *testing.T) {
	_, door := start(t)
	client, end := browser(t)
	defer end()
	for path, want := range map[string]string{"/": "200 It works", "/secret": "404 404 page", front.Path(wire.NodeID{2}): "404 404 page"} {
		rsp, err := client.Get("https://" + door.Addr.String() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(rsp.Body)
		rsp.Body.Close()
		got := fmt.Sprint(rsp.StatusCode, " ", string(body))
		if err != nil || !bytes.Contains([]byte(got), []byte(want[4:])) || got[:3] != want[:3] {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

// anyCertificate is what a scanner uses.
func anyCertificate() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// BenchmarkHandshake opens connections one after another, each to the first
// datagram that comes back: whole ones, and those that a session ticket
// shortens.
func BenchmarkHandshake(b *testing.B) {
	_, door := start(b)
	for _, resumed := range []bool{false, true} {
		b.Run(fmt.Sprintf("resumed=%v", resumed), func(b *testing.B) {
			for b.Loop() {
				d := *door
				if !resumed {
					d.Forget()
				}
				p := dialTest(b, &d)
				echo(b, p, make([]byte, wire.DatagramSize))
				p.Close()
			}
		})
	}
}

func BenchmarkEcho(b *testing.B) {
	_, door := start(b)
	p := dialTest(b, door)
	defer p.Close()
	datagram := make([]byte, wire.DatagramSize)
	b.ReportAllocs()
	for b.Loop() {
		echo(b, p, datagram)
	}
}

// browser is an ordinary client of the web.
func browser(t *testing.T) (*http.Client, func()) {
	tr := &http.Transport{TLSClientConfig: anyCertificate(), ForceAttemptHTTP2: true}
	return &http.Client{Transport: tr}, tr.CloseIdleConnections
}

// The path opened as a page is a page like others that are not there.
func TestPathIsNoPage(t *testing.T) {
	_, door := start(t)
	client, end := browser(t)
	defer end()
	rsp, err := client.Get("https://" + door.Addr.String() + door.Path)
	if err != nil {
		t.Fatal(err)
	}
	rsp.Body.Close()
	if rsp.StatusCode != http.StatusNotFound || rsp.ProtoMajor != 2 {
		t.Errorf("%s over HTTP/%d", rsp.Status, rsp.ProtoMajor)
	}
}
