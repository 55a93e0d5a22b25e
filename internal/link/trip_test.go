package link

import (
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// measured has a endpoint measure once a second for some seconds.
func (h *host) measured(seconds int) map[wire.NodeID]time.Duration {
	for range seconds {
		h.Measure()
		h.w.run(time.Second)
	}
	return h.RoundTrips()
}

// A node measures round trips to its neighbours one after the other: one
// challenge at a time and its answer, whoever opened the link and whether it
// carries anything or not. Clients are not measured.
func TestRoundTripsAreMeasured(t *testing.T) {
	w := newWorld(t)
	a, b, c, anon := w.node(1), w.node(2), w.node(3), w.client(4)
	a.dial(b)
	c.dial(a)
	anon.dial(a)
	w.run(3 * time.Second)
	if n := len(a.RoundTrips()); n != 0 {
		t.Fatalf("%d round trips before the first was measured", n)
	}
	sent := 0
	w.tap = func(from, to netip.AddrPort, _ []byte) bool {
		if from == a.addr {
			sent++
		}
		if to == anon.addr {
			t.Error("a client is challenged")
		}
		return true
	}
	got := a.measured(4)
	if len(got) != 2 || got[b.node] != 40*time.Millisecond || got[c.node] != 40*time.Millisecond {
		t.Errorf("round trips %v, want 40 ms to both neighbours", got)
	}
	if sent != 4 {
		t.Errorf("%d datagrams for four measurements", sent)
	}
	w.tap = nil
	w.jitter = 30 * time.Millisecond
	if got := a.measured(2 * tripsKept)[b.node]; got <= 40*time.Millisecond || got > 80*time.Millisecond {
		t.Errorf("with jitter of 30 ms on the mean each way: %v", got)
	}
	w.jitter, w.latency = 0, 5*time.Millisecond
	if got := a.measured(2 * tripsKept)[b.node]; got != 10*time.Millisecond {
		t.Errorf("after a change of the way: %v", got)
	}
}

// A neighbour cannot make the way shorter than it is: an answer that comes before
// the challenge, or to another, does not count.
func TestNobodyShortensARoundTrip(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	link := a.dial(b)
	w.run(3 * time.Second)
	a.measured(1)
	back := b.upLink()
	forge := func(token [wire.PathTokenSize]byte) {
		var f wire.Frame
		m := wire.LinkPath{Type: wire.FramePathResponse, Token: token}
		m.Append(f.B[:0])
		d := make([]byte, wire.DatagramSize)
		b.sealTo(b.links[back].cur, d, f.B[:])
		a.receive(b.addr, d)
	}
	old := a.links[link].remote.trip.token
	forge(old) // nothing is out
	a.Measure()
	a.drain()
	forge(old)
	forge([wire.PathTokenSize]byte{})
	w.run(time.Second)
	if got := a.RoundTrips()[b.node]; got != 2*w.latency || a.links[link].remote.trip.count != 2 {
		t.Errorf("%v after %d measurements, want %v after 2", got, a.links[link].remote.trip.count, 2*w.latency)
	}
	// Control: the right answer counts whenever it comes.
	a.Measure()
	a.drain()
	forge(a.links[link].remote.trip.token)
	if got := a.RoundTrips()[b.node]; got != 0 {
		t.Errorf("%v, of an answer that knows the token", got)
	}
}
