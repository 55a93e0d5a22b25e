package link

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// restart gives a node a new endpoint that knows the addresses of the others, or none.
func (w *world) restart(h *host, knows bool) {
	cfg := h.cfg
	if cfg.At = nil; knows {
		cfg.At = func(addr netip.AddrPort) (wire.NodeID, bool) {
			for _, o := range w.hosts {
				if o.addr == addr && o.static != nil && o != h {
					return o.node, true
				}
			}
			return wire.NodeID{}, false
		}
	}
	h.Endpoint = New(cfg, prng.FromUint64(98).Child(fmt.Sprint("restarted/", h.addr)), h.pool, h.counts)
	h.got = nil
}

// A node that has restarted is heard of by its neighbours as soon as they send.
// (Control: one that does not know their addresses; it takes them the 35 s of silence.)
func TestRestartedNodeGreets(t *testing.T) {
	for _, knows := range []bool{true, false} {
		w := newWorld(t)
		a, b := w.node(1), w.node(2)
		a.dial(b)
		w.run(crossTime + time.Second)
		w.restart(b, knows)
		for range greetAfter {
			a.push(a.dial(b), "lost")
		}
		w.run(time.Second)
		a.push(a.dial(b), "heard")
		w.run(time.Second)
		if heard := len(b.got) == 1 && b.got[0] == "heard"; heard != knows {
			t.Errorf("a node that knows addresses: %v; it got %q after its restart", knows, b.got)
		}
	}
}

// Noise has a node dial nobody whom it is not from, nobody twice, and nobody once the
// links of before its start are over.
func TestNoiseGreetsLittle(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.node(1), w.node(2), w.node(3)
	w.restart(b, true)
	noise := make([]byte, wire.DatagramSize)
	from := func(addr netip.AddrPort, times int) {
		for range times {
			b.HandleDatagram(w.now, addr, noise)
		}
	}
	from(netip.MustParseAddrPort("192.0.2.7:9000"), 100)
	from(c.addr, greetAfter-1)
	if b.Links() != 0 {
		t.Fatal("a stranger's noise made a link, or less than an old link brings")
	}
	if from(a.addr, 100); b.Links() != 1 {
		t.Fatalf("noise from a neighbour's address made %d links, want 1", b.Links())
	}
	w.run(greetFor)
	from(c.addr, 100)
	if b.byPeer[c.node] != nil {
		t.Error("noise made a link when no link of before the restart can be left")
	}
}
