package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// packet is a datagram of the fake flow.
type packet struct {
	host string
	port uint16
	data string
}

// fakeFlow records what is sent and delivers what is put into in.
type fakeFlow struct {
	sent   chan packet
	in     chan packet
	closed chan struct{}
	once   sync.Once
}

func newFakeFlow() *fakeFlow {
	return &fakeFlow{make(chan packet, 16), make(chan packet, 16), make(chan struct{}), sync.Once{}}
}

func (f *fakeFlow) Send(host string, port uint16, b []byte) error {
	if string(b) == "too large" {
		return errors.New("datagram too large")
	}
	f.sent <- packet{host, port, string(b)}
	return nil
}

func (f *fakeFlow) Receive() (string, uint16, []byte, error) {
	select {
	case p := <-f.in:
		return p.host, p.port, []byte(p.data), nil
	case <-f.closed:
		return "", 0, nil, net.ErrClosed
	}
}

func (f *fakeFlow) Close() { f.once.Do(func() { close(f.closed) }) }

// serveTCP runs a proxy on a loopback port.
func serveTCP(t *testing.T, d Dialer, counts *Counts) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, ln, d, Options{Counts: counts}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// limit ends a test that hangs, also on a machine that is busy with something
// else.
const limit = 2 * time.Minute

// associate opens an association and returns its control connection and the
// address to send to.
func associate(t *testing.T, addr string, announced string) (net.Conn, netip.AddrPort) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(limit))
	send(t, c, "\x05\x01\x00")
	want(t, c, "\x05\x00")
	send(t, c, "\x05\x03\x00"+announced)
	want(t, c, "\x05\x00\x00\x01\x7f\x00\x00\x01")
	var port [2]byte
	if _, err := io.ReadFull(c, port[:]); err != nil {
		t.Fatal(err)
	}
	return c, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port[0])<<8|uint16(port[1]))
}

func udpSocket(t *testing.T) *net.UDPConn {
	t.Helper()
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	u.SetDeadline(time.Now().Add(limit))
	return u
}

const anyAddress = "\x01\x00\x00\x00\x00\x00\x00"

func TestAssociate(t *testing.T) {
	flow := newFakeFlow()
	var counts Counts
	addr := serveTCP(t, &fakeDialer{flow: func() (Datagrams, error) { return flow, nil }}, &counts)
	control, relay := associate(t, addr, anyAddress)
	u := udpSocket(t)
	put := func(s *net.UDPConn, b string) {
		if _, err := s.WriteToUDPAddrPort([]byte(b), relay); err != nil {
			t.Fatal(err)
		}
	}
	put(u, "\x00\x00\x00\x03\x04name\x00\x35query")
	if got := <-flow.sent; got != (packet{"name", 53, "query"}) {
		t.Fatalf("sent %+v", got)
	}
	stranger := udpSocket(t)
	put(stranger, "\x00\x00\x00\x01\x01\x02\x03\x04\x00\x35from a stranger")
	put(u, "\x00\x00\x01\x01\x01\x02\x03\x04\x00\x35fragment")
	put(u, "\x00\x00\x00\x05\x01\x02\x03\x04\x00\x35type")
	put(u, "\x00\x00\x00\x01\x01\x02\x03\x04\x00\x00port 0")
	put(u, "\x00\x00\x00\x03\x09short")
	put(u, "\x00\x00")
	put(u, "\x00\x00\x00\x01\x01\x02\x03\x04\x00\x35too large")
	put(u, "\x00\x00\x00\x01\x01\x02\x03\x04\x00\x35last")
	if got := <-flow.sent; got != (packet{"1.2.3.4", 53, "last"}) {
		t.Fatalf("sent %+v; want only the last to pass", got)
	}

	for _, tc := range []struct {
		in   packet
		want string
	}{
		{packet{"1.2.3.4", 53, "one"}, "\x00\x00\x00\x01\x01\x02\x03\x04\x00\x35one"},
		{packet{"::1", 256, "two"}, "\x00\x00\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x01\x00two"},
		{packet{"name", 1, ""}, "\x00\x00\x00\x03\x04name\x00\x01"},
	} {
		flow.in <- tc.in
		b := make([]byte, 2000)
		n, from, err := u.ReadFromUDPAddrPort(b)
		if err != nil || from != relay || string(b[:n]) != tc.want {
			t.Fatalf("read %q from %v, %v; want %q", b[:n], from, err, tc.want)
		}
	}
	flow.in <- packet{strings.Repeat("n", 256), 1, "unnameable"}
	flow.in <- packet{"a", 1, "end"}
	b := make([]byte, 2000)
	if n, _, err := u.ReadFromUDPAddrPort(b); err != nil || !strings.HasSuffix(string(b[:n]), "end") {
		t.Fatalf("read %q, %v", b[:n], err)
	}
	if n := counts.DropDatagrams.Load(); n != 8 {
		t.Errorf("%d dropped, want 8", n)
	}
	control.Close() // ends the association
	<-flow.closed
}

// The address that the client announced is the only one served.
func TestAssociateAnnounced(t *testing.T) {
	flow := newFakeFlow()
	var counts Counts
	addr := serveTCP(t, &fakeDialer{flow: func() (Datagrams, error) { return flow, nil }}, &counts)
	u, stranger := udpSocket(t), udpSocket(t)
	port := u.LocalAddr().(*net.UDPAddr).Port
	_, relay := associate(t, addr, "\x01\x7f\x00\x00\x01"+string([]byte{byte(port >> 8), byte(port)}))
	const head = "\x00\x00\x00\x01\x01\x02\x03\x04\x00\x35"
	stranger.WriteToUDPAddrPort([]byte(head+"first, from a stranger"), relay)
	u.WriteToUDPAddrPort([]byte(head+"ours"), relay)
	if got := <-flow.sent; got.data != "ours" {
		t.Fatalf("sent %+v", got)
	}
}

// The end of the flow ends the control connection.
func TestAssociateFlowEnds(t *testing.T) {
	flow := newFakeFlow()
	addr := serveTCP(t, &fakeDialer{flow: func() (Datagrams, error) { return flow, nil }}, new(Counts))
	control, _ := associate(t, addr, anyAddress)
	flow.Close()
	if _, err := control.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("control connection: %v, want its end", err)
	}
}

func TestAssociateWithoutNetwork(t *testing.T) {
	addr := serveTCP(t, &fakeDialer{}, new(Counts))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send(t, c, "\x05\x01\x00")
	want(t, c, "\x05\x00")
	send(t, c, "\x05\x03\x00"+anyAddress)
	want(t, c, "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00")
	wantEnd(t, c)
}

func TestDatagramHeaderAllocates(t *testing.T) {
	var d destination
	in := []byte("\x00\x00\x00\x03\x0bexample.com\x00\x35query")
	out := make([]byte, 0, 300)
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := d.parse(in); !ok {
			t.Fatal("not parsed")
		}
		out, _ = appendDatagramHeader(out[:0], "1.2.3.4", 53)
	}); n != 0 {
		t.Errorf("%v allocations per datagram, want 0", n)
	}
}
