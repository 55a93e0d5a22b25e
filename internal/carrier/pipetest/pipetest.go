// Package pipetest tests a carrier of pipes: it runs a server that sends back
// what it gets, and looks at it from the inside and from the outside.
package pipetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/pipe"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/wire"
)

// Carrier is the carrier under test.
type Carrier struct {
	Kind   directory.CarrierKind
	Listen func(at netip.AddrPort, face *front.Face, serve func(pipe.Pipe)) (pipe.Listener, error)
	Dial   func(context.Context, *front.Door) (pipe.Pipe, error)
	// Browser returns an ordinary client of the web that takes any certificate,
	// as a scanner does, and what ends it.
	Browser func(*tls.Config) (http.RoundTripper, func())
}

// Start runs a server for as long as the test, and returns its door.
func (c Carrier) Start(t testing.TB) (pipe.Listener, *front.Door) {
	t.Helper()
	cert, err := front.SelfSigned("", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	node := &directory.Node{ID: wire.NodeID{1}}
	face := &front.Face{Certificate: cert, Path: front.Path(node.ID)}
	s, err := c.Listen(netip.MustParseAddrPort("127.0.0.1:0"), face, func(p pipe.Pipe) {
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
	carrier, err := face.Carrier(c.Kind, s.Addr().Port())
	if err != nil {
		t.Fatal(err)
	}
	node.Addrs, node.Carriers = []netip.AddrPort{s.Addr()}, []directory.Carrier{carrier}
	return s, &front.Doors(node)[0]
}

// Open dials a door that must open.
func (c Carrier) Open(t testing.TB, d *front.Door) pipe.Pipe {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p, err := c.Dial(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Get fetches a page of the server as a browser does, and returns its body.
func (c Carrier) Get(t testing.TB, d *front.Door, path string) (*http.Response, []byte) {
	t.Helper()
	tr, end := c.Browser(&tls.Config{InsecureSkipVerify: true})
	defer end()
	client := &http.Client{Transport: tr}
	rsp, err := client.Get("https://" + d.Addr.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	body, err := io.ReadAll(rsp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rsp, body
}

// Echo sends a datagram, which must come back.
func Echo(t testing.TB, p pipe.Pipe, b []byte) {
	t.Helper()
	if err := p.Send(b); err != nil {
		t.Fatal(err)
	}
	got, err := p.Receive()
	if err != nil || !bytes.Equal(got, b) {
		t.Fatalf("came back: %d bytes, %v", len(got), err)
	}
}

// Run runs what holds for every carrier of pipes.
func (c Carrier) Run(t *testing.T) {
	t.Run("datagrams both ways", c.bothWays)
	t.Run("the server closes", c.serverCloses)
	t.Run("wrong door", c.wrongDoor)
	t.Run("probing", c.probing)
}

func (c Carrier) bothWays(t *testing.T) {
	_, door := c.Start(t)
	p := c.Open(t, door)
	for i := range 50 {
		Echo(t, p, bytes.Repeat([]byte{byte(i)}, wire.DatagramSize))
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.Receive(); err == nil {
		t.Error("a closed pipe yields a datagram")
	}
}

// The server ends, and with it the client's end.
func (c Carrier) serverCloses(t *testing.T) {
	s, door := c.Start(t)
	p := c.Open(t, door)
	Echo(t, p, make([]byte, wire.DatagramSize))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Receive(); err == nil {
		t.Error("the server's end was not noticed")
	}
	p.Close()
}

// A wrong key is noticed before the path is told, a wrong path looks like any.
func (c Carrier) wrongDoor(t *testing.T) {
	_, door := c.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	pinned, lost := *door, *door
	pinned.Pin[0] ^= 1
	if p, err := c.Dial(ctx, &pinned); !errors.Is(err, front.ErrPin) {
		t.Errorf("another key: %v, %v", p, err)
	}
	lost.Path = "/elsewhere"
	if p, err := c.Dial(ctx, &lost); err == nil {
		t.Errorf("another path: %v", p)
	}
}

// Who does not know the path sees a web server.
func (c Carrier) probing(t *testing.T) {
	_, door := c.Start(t)
	for path, want := range map[string]struct {
		status int
		page   string
	}{
		"/":                        {http.StatusOK, "It works"},
		"/secret":                  {http.StatusNotFound, "404 page"},
		front.Path(wire.NodeID{2}): {http.StatusNotFound, "404 page"},
	} {
		if rsp, body := c.Get(t, door, path); rsp.StatusCode != want.status || !bytes.Contains(body, []byte(want.page)) {
			t.Errorf("%s: %s, %q", path, rsp.Status, body)
		}
	}
}

// BenchmarkHandshake opens connections one after another, each to the first
// datagram that comes back: whole ones, and those that a session ticket
// shortens.
func (c Carrier) BenchmarkHandshake(b *testing.B) {
	_, door := c.Start(b)
	for _, resumed := range []bool{false, true} {
		b.Run(fmt.Sprintf("resumed=%v", resumed), func(b *testing.B) {
			for b.Loop() {
				d := *door
				if !resumed {
					d.Forget()
				}
				p := c.Open(b, &d)
				Echo(b, p, make([]byte, wire.DatagramSize))
				p.Close()
			}
		})
	}
}

// BenchmarkEcho sends datagrams one after another, each when the one before has
// come back.
func (c Carrier) BenchmarkEcho(b *testing.B) {
	_, door := c.Start(b)
	p := c.Open(b, door)
	defer p.Close()
	datagram := make([]byte, wire.DatagramSize)
	b.ReportAllocs()
	for b.Loop() {
		Echo(b, p, datagram)
	}
}
