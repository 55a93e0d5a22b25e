package link

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// A cookie must come back from the address it was sent to: the key work of the
// responder starts only after that.
func TestCookieIsRequired(t *testing.T) {
	w := newWorld(t)
	c, n := w.client(1), w.node(2)
	w.tap = func(from, to netip.AddrPort, b []byte) bool { return from != n.addr } // the cookie is lost
	c.dial(n)
	w.run(9 * time.Second)
	if n.counts[trace.LinkCookiesSent] == 0 || n.counts[trace.DropHandshakeCookie] == 0 {
		t.Fatalf("no cookie was sent: %s", n.drops())
	}
	if len(n.answers.table) != 0 || n.answers.waiting.n != 0 || n.answers.collecting.n != 0 {
		t.Error("an address that is not proven left state behind")
	}
}

// A cookie is of one address and port, and of its time.
func TestCookieOfAnotherAddressOrTime(t *testing.T) {
	n := newWorld(t).node(2)
	c, rng := &n.cookies, n.draw.cookie
	at := netip.MustParseAddrPort("192.0.2.1:7000")
	c.rotate(0, rng)
	cookie := c.of(at)
	if !c.valid(at, &cookie) {
		t.Fatal("the address's own cookie was refused")
	}
	for _, other := range []string{"192.0.2.1:7001", "192.0.2.2:7000", "[2001:db8::1]:7000"} {
		if c.valid(netip.MustParseAddrPort(other), &cookie) {
			t.Errorf("cookie accepted from %s", other)
		}
	}
	c.rotate(machine.Time(cookieLife), rng)
	if !c.valid(at, &cookie) {
		t.Error("the cookie of the previous key was refused")
	}
	c.rotate(machine.Time(2*cookieLife), rng)
	if c.valid(at, &cookie) {
		t.Error("a cookie outlived two keys")
	}
	cookie = c.of(at)
	c.rotate(machine.Time(5*cookieLife), rng)
	if c.valid(at, &cookie) {
		t.Error("a cookie survived a long silence")
	}
}

// flood sends n datagrams made by fill, each from another address, and returns
// the allocations per datagram.
func flood(h *host, n int, step time.Duration, fill func(i int, b []byte)) float64 {
	var before, after runtime.MemStats
	b := make([]byte, wire.DatagramSize)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		fill(i, b)
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 5000)
		h.w.now = h.w.now.Add(step)
		if _, _, ok := h.HandleDatagram(h.w.now, from, b); ok {
			h.w.t.Fatal("a flood datagram was taken for a frame")
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}

func TestGarbageFloodCostsNothing(t *testing.T) {
	w := newWorld(t)
	n := w.node(2)
	rng := prng.FromUint64(5).Stream("garbage")
	if per := flood(n, 20000, time.Microsecond, func(_ int, b []byte) { rng.Read(b) }); per > 0.01 {
		t.Errorf("%.3f allocations per garbage datagram", per)
	}
	if len(n.links) != 0 || len(n.byIndex) != 0 || len(n.answers.table) != 0 || n.outbox.n != 0 {
		t.Error("garbage left state behind")
	}
	if n.counts[trace.DropLinkUnknown] != 20000 {
		t.Errorf("counted %s", n.drops())
	}
}

// Without a cookie an INIT costs no memory either, and a flood of them is
// answered with at most half of its datagrams, even when it sends only parts
// that are answered.
func TestInitFloodIsAnsweredWithLess(t *testing.T) {
	for _, c := range []struct {
		name string
		step time.Duration
		most uint64
	}{
		{"slow", time.Millisecond, 10000/2 + cookieCredit},
		{"fast", time.Microsecond, cookieBurst + 10000/100 + 1},
	} {
		w := newWorld(t)
		n := w.node(2)
		key := shapeKey(n.node)
		var shape seal.AEAD
		shape.Init(shapeSuite, &key)
		chunk := make([]byte, wire.LinkInitChunkSize)
		body := make([]byte, 0, wire.DatagramSize)
		out := make([]byte, wire.DatagramSize)
		sent := uint64(0)
		per := flood(n, 10000, c.step, func(i int, b []byte) {
			m := wire.LinkInit{Part: 0, Index: uint32(i), Chunk: chunk, Cookie: [16]byte{1}}
			wire.PutLinkHeader(b, uint32(i)+1, uint64(i))
			body = m.Append(body[:0])
			shape.Seal(b[12:12], body, b[:12], uint64(i))
			if i%100 == 0 {
				for {
					if _, _, ok := n.PollTransmit(n.w.now, out); !ok {
						break
					}
					sent++
				}
			}
		})
		if per > 1 { // sealing an answer makes a cipher, once per cookie sent
			if per > 8 {
				t.Errorf("%s: %.2f allocations per INIT", c.name, per)
			}
		}
		if len(n.links) != 0 || len(n.byIndex) != 0 || len(n.answers.table) != 0 {
			t.Errorf("%s: INIT without a cookie left state behind", c.name)
		}
		if sent > c.most || sent == 0 {
			t.Errorf("%s: %d answers to 10000 datagrams, want at most %d", c.name, sent, c.most)
		}
	}
}

// The state of handshakes under way is bounded and ends with its time.
func TestHalfOpenHandshakesAreBounded(t *testing.T) {
	w := newWorld(t)
	n := w.node(2)
	n.cookies.rotate(w.now, n.draw.cookie)
	chunk := make([]byte, wire.LinkInitChunkSize)
	for i := range 2 * answersMax {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 5000)
		n.collect(w.now, from, &wire.LinkInit{Part: 0, Index: uint32(i), Chunk: chunk})
	}
	if len(n.answers.table) != answersMax {
		t.Errorf("%d half-open handshakes, want %d", len(n.answers.table), answersMax)
	}
	w.run(collectTime + time.Second)
	if len(n.answers.table) != 0 || n.NextTimer() != machine.Never {
		t.Errorf("%d half-open handshakes remain", len(n.answers.table))
	}
	limited := n.counts[trace.DropHandshakeLimit]
	for i := range 2 * kemBurst {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 52, byte(i >> 8), byte(i)}), 5000)
		for part := range uint8(2) {
			n.collect(w.now, from, &wire.LinkInit{Part: part, Index: uint32(i), Chunk: chunk})
		}
	}
	if got := n.counts[trace.DropHandshakeLimit] - limited; got != kemBurst {
		t.Errorf("%d of %d handshakes at one moment were refused", got, 2*kemBurst)
	}
}
