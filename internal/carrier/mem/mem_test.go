package mem

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
)

func listen(t *testing.T, nw *Network, addr string) *Conn {
	t.Helper()
	c, err := nw.Listen(netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(c *Conn, to netip.AddrPort, s string) bool {
	b := c.Next()
	if b == nil {
		return false
	}
	c.Commit(copy(b, s), to)
	return true
}

func TestDatagramsArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := &Network{Lose: func(_, _ netip.AddrPort, b []byte) bool { return string(b) == "lost" }}
		a, b, c := listen(t, nw, "10.0.0.1:1"), listen(t, nw, "10.0.0.2:1"), listen(t, nw, "[2001:db8::1]:1")
		send(a, b.Addr(), "one")
		send(a, c.Addr(), "two")
		send(a, b.Addr(), "lost")
		send(a, netip.MustParseAddrPort("10.9.9.9:1"), "nobody")
		send(a, b.Addr(), "three")
		a.Flush()
		if n, err := b.Read(-1); n != 2 || err != nil {
			t.Fatalf("Read = %d, %v; want 2", n, err)
		}
		for i, want := range []string{"one", "three"} {
			if got, from := b.At(i); string(got) != want || from != a.Addr() {
				t.Errorf("%q from %v, want %q", got, from, want)
			}
		}
		b.Wake()
		if n, err := b.Read(-1); n != 0 || err != nil {
			t.Errorf("Read after Wake = %d, %v", n, err)
		}
		if n, _ := c.Read(0); n != 1 {
			t.Errorf("%d at c, want 1", n)
		}
	})
}

func TestBatchIsBounded(t *testing.T) {
	nw := &Network{}
	a := listen(t, nw, "10.0.0.1:1")
	n := 0
	for send(a, a.Addr(), "x") {
		n++
	}
	if n != writeMax {
		t.Fatalf("batch of %d, want %d", n, writeMax)
	}
	a.Flush()
	if !send(a, a.Addr(), "x") {
		t.Error("no room after Flush")
	}
	if got, _ := a.Read(0); got != n {
		t.Errorf("read %d, want %d", got, n)
	}
}

func TestAddressIsFreedByClose(t *testing.T) {
	nw := &Network{}
	a := listen(t, nw, "10.0.0.1:1")
	if _, err := nw.Listen(a.Addr()); err == nil {
		t.Fatal("two connections at one address")
	}
	a.Close()
	if _, err := a.Read(-1); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	b := listen(t, nw, "10.0.0.1:1")
	a.Close() // must not free b's address
	if _, err := nw.Listen(b.Addr()); err == nil {
		t.Error("the second Close freed the address of another connection")
	}
}
