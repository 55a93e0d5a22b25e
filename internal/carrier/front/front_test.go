package front

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/wire"
)

func testFace(t *testing.T, name string) *Face {
	t.Helper()
	cert, err := SelfSigned(name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &Face{Certificate: cert, Name: name, Path: Path(wire.NodeID{1})}
}

// doorOf is the face as a client learns it from the directory.
func doorOf(t *testing.T, f *Face) *Door {
	t.Helper()
	c, err := f.Carrier(directory.CarrierWebSocket, 443)
	if err != nil {
		t.Fatal(err)
	}
	doors := Doors(&directory.Node{ID: wire.NodeID{1}, Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:9")}, Carriers: []directory.Carrier{c}})
	if len(doors) != 1 || doors[0].Addr.String() != "192.0.2.1:443" || doors[0].Path != f.Path {
		t.Fatalf("doors %+v", doors)
	}
	return &doors[0]
}

// handshake returns the client's view of a TLS connection of two configurations.
func handshake(t *testing.T, server, client *tls.Config) (s tls.ConnectionState, err error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		b, err := ln.Accept()
		if err != nil {
			return
		}
		defer b.Close()
		if c := tls.Server(b, server); c.Handshake() == nil {
			c.Write([]byte("x"))
		}
	}()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	c := tls.Client(a, client)
	if err := c.Handshake(); err != nil {
		return s, err
	}
	c.Read(make([]byte, 1)) // the ticket comes before it
	return c.ConnectionState(), nil
}

func TestPinDecides(t *testing.T) {
	face, other := testFace(t, "www.example.com"), testFace(t, "www.example.com")
	door := doorOf(t, face)
	server := face.TLS("http/1.1")
	s, err := handshake(t, server, door.TLS("http/1.1"))
	if err != nil || s.DidResume || s.Version != tls.VersionTLS13 {
		t.Fatalf("first: resumed %v, version %x, %v", s.DidResume, s.Version, err)
	}
	if s, err = handshake(t, server, door.TLS("http/1.1")); err != nil || !s.DidResume {
		t.Errorf("second: resumed %v, %v", s.DidResume, err)
	}
	if _, err := handshake(t, other.TLS("http/1.1"), doorOf(t, face).TLS("http/1.1")); !errors.Is(err, ErrPin) {
		t.Errorf("another key of the same name: %v", err)
	}
	// A ticket does not get around the pin.
	door.Pin[0] ^= 1
	if _, err := handshake(t, server, door.TLS("http/1.1")); !errors.Is(err, ErrPin) {
		t.Errorf("resumed with another pin: %v", err)
	}
}

func TestNameOnTheWire(t *testing.T) {
	for _, name := range []string{"", "www.example.com"} {
		face := testFace(t, name)
		server := face.TLS("http/1.1")
		got := "?"
		server.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			got = h.ServerName
			return nil, nil
		}
		if _, err := handshake(t, server, doorOf(t, face).TLS("http/1.1")); err != nil || got != name {
			t.Errorf("asked for %q, want %q: %v", got, name, err)
		}
	}
}

// What a client says in the clear is what any Go program says to a server of
// that name, and nothing below TLS 1.3 comes of it.
func TestHelloIsAnyGoProgram(t *testing.T) {
	face := testFace(t, "www.example.com")
	var hellos []tls.ClientHelloInfo
	server := face.TLS("http/1.1")
	server.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		hellos = append(hellos, *h)
		return nil, nil
	}
	plain := &tls.Config{ServerName: face.Name, NextProtos: []string{"http/1.1"}, InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for _, client := range []*tls.Config{doorOf(t, face).TLS("http/1.1"), plain} {
		if _, err := handshake(t, server, client); err != nil {
			t.Fatal(err)
		}
	}
	a, b := hellos[0], hellos[1]
	if !slices.Equal(a.CipherSuites, b.CipherSuites) || !slices.Equal(a.Extensions, b.Extensions) || !slices.Equal(a.SupportedVersions, b.SupportedVersions) ||
		!slices.Equal(a.SupportedCurves, b.SupportedCurves) || !slices.Equal(a.SignatureSchemes, b.SignatureSchemes) {
		t.Errorf("a client says\n%+v\nand any program\n%+v", a, b)
	}
	old := face.TLS("http/1.1")
	old.MaxVersion = tls.VersionTLS12
	if _, err := handshake(t, old, doorOf(t, face).TLS("http/1.1")); !errors.Is(err, errVersion) {
		t.Errorf("a server of TLS 1.2: %v", err)
	}
}

func TestOnlyThePathLeadsToTheCarrier(t *testing.T) {
	face := testFace(t, "")
	taken := 0
	h := face.Handler(func(r *http.Request) bool { return r.Header.Get("Upgrade") != "" }, func(http.ResponseWriter, *http.Request) { taken++ })
	for _, tt := range []struct {
		method, path, upgrade string
		status, taken         int
	}{
		{"GET", "/", "", 200, 0},
		{"HEAD", "/", "", 200, 0},
		{"POST", "/", "", 405, 0},
		{"GET", "/admin", "", 404, 0},
		{"GET", "/admin", "websocket", 404, 0},
		{"GET", Path(wire.NodeID{2}), "websocket", 404, 0},
		{"GET", face.Path, "", 404, 0},
		{"GET", face.Path + "/", "websocket", 404, 0},
		{"GET", face.Path, "websocket", 200, 1},
	} {
		taken = 0
		r := httptest.NewRequest(tt.method, tt.path, nil)
		if tt.upgrade != "" {
			r.Header.Set("Upgrade", tt.upgrade)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.status || taken != tt.taken {
			t.Errorf("%s %s %q: %d, taken %d; want %d, %d", tt.method, tt.path, tt.upgrade, w.Code, taken, tt.status, tt.taken)
		}
	}
}

func TestLimits(t *testing.T) {
	l := (&Face{Unbounded: true}).Limits()
	one := netip.MustParseAddr("2001:db8::1")
	var last *Visit
	for i := range PerAddressMax {
		if last = l.Take(one); last == nil {
			t.Fatalf("refused connection %d", i)
		}
	}
	if l.Take(netip.MustParseAddr("2001:db8::2")) != nil {
		t.Error("an address of the same /64 has room of its own")
	}
	if l.Take(netip.MustParseAddr("192.0.2.1")) == nil || l.Take(netip.MustParseAddr("2001:db8:0:1::1")) == nil {
		t.Error("others are refused")
	}
	last.End()
	last.End()
	if l.Take(one) == nil || l.Take(one) != nil {
		t.Error("one End frees one place")
	}
	l = new(Face).Limits()
	for i := range ConnectionsMax {
		if l.Busy() != (i >= busyAt) {
			t.Fatalf("busy at %d", i)
		}
		l.Take(address(i))
	}
	if l.Take(netip.MustParseAddr("192.0.2.1")) != nil {
		t.Error("the server has no bound")
	}
}

func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// One address has so many handshakes in a time; another's are its own.
func TestHandshakesOfOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Face
		l := f.Limits()
		one := netip.MustParseAddr("192.0.2.1")
		take := func() (n int) {
			for v := l.Take(one); v != nil; v = l.Take(one) {
				n++
				v.Shaken()
				v.Shaken()
				v.End()
			}
			return n
		}
		if n := take(); n != int(HandshakeBurst/HandshakeGap) {
			t.Errorf("%d at once", n)
		}
		if v := l.Take(netip.MustParseAddr("192.0.2.2")); v == nil {
			t.Error("another address is refused")
		} else {
			v.End()
		}
		time.Sleep(5 * HandshakeGap)
		if n := take(); n != 5 {
			t.Errorf("%d after five gaps", n)
		}
		if c := f.Handshakes.Counts(); c.Refused != 2 || c.Classes[0] != 105 {
			t.Errorf("counted %+v", c)
		}
		// Control: without the bound nobody is refused.
		l = (&Face{Unbounded: true}).Limits()
		for range 1000 {
			v := l.Take(one)
			if v == nil {
				t.Fatal("refused")
			}
			v.End()
		}
	})
}

// Addresses that come once do not fill the memory, nor lock others out.
func TestAddressesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(Face).Limits()
		for i := range 2 * addressesMax {
			if v := l.Take(address(i)); v != nil {
				v.End()
			}
		}
		if len(l.of) != addressesMax {
			t.Errorf("%d addresses are remembered, want %d", len(l.of), addressesMax)
		}
		time.Sleep(HandshakeBurst)
		if l.Take(netip.MustParseAddr("192.0.2.1")) == nil || len(l.of) != 1 {
			t.Errorf("%d addresses are remembered after a pause", len(l.of))
		}
	})
}
