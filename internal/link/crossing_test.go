package link

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Both dial at once: one link remains on each side, it is the same, and it
// carries both ways long after.
func TestSimultaneousDial(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := drawn(t, rt, 300, 80_000, 300_000)
		a, b := w.node(1), w.node(2)
		if rapid.Bool().Draw(rt, "the larger first") {
			a, b = b, a
		}
		ia := a.dial(b)
		w.run(time.Duration(rapid.IntRange(0, 3000).Draw(rt, "apart ms")) * time.Millisecond)
		ib := b.dial(a)
		w.run(45 * time.Second)
		if len(a.links) != 1 || len(b.links) != 1 {
			rt.Fatalf("%d and %d links", len(a.links), len(b.links))
		}
		if a.downs()+b.downs() != 0 {
			rt.Fatalf("a link went down: %v %v", a.events, b.events)
		}
		w.loss, w.dup = 0, 0
		a.push(ia, "from a")
		b.push(ib, "from b")
		w.run(5 * time.Second)
		if fmt.Sprint(a.got, b.got) != "[from b] [from a]" {
			rt.Fatalf("received %v %v: %s / %s", a.got, b.got, a.drops(), b.drops())
		}
	})
}

// On a good network only the preferred one of two crossing dials is computed.
func TestCrossingIsSettledByTheSmallerID(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	ia, ib := a.dial(b), b.dial(a)
	w.run(15 * time.Second)
	if !a.links[ia].cur.initiator || b.links[ib].cur.initiator || a.counts[trace.HandshakesDone] != 1 || b.counts[trace.HandshakesDone] != 1 {
		t.Errorf("%s / %s", a.drops(), b.drops())
	}
}

// When our preferred dial is not heard, the peer's is taken after crossYield.
func TestCrossingYieldsWhenOursIsNotHeard(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	w.tap = func(from, to netip.AddrPort, buf []byte) bool {
		// Nothing of a's own dial arrives: its answers do, by their index.
		index, _ := wire.LinkHeader(buf)
		_, dialled := b.byIndex[index]
		return from == b.addr || dialled
	}
	ia, ib := a.dial(b), b.dial(a)
	w.run(8 * time.Second)
	a.wantUp(ia)
	b.wantUp(ib)
	a.push(ia, "x")
	b.push(ib, "y")
	w.run(20 * time.Second)
	b.wantGot("x")
	a.wantGot("y")
	if a.downs()+b.downs() != 0 {
		t.Errorf("%v %v", a.events, b.events)
	}
}

// Both handshakes of a crossing end up complete: the one of the smaller id is
// used by both.
func TestBothCrossingHandshakesComplete(t *testing.T) {
	for _, smallFirst := range []bool{true, false} {
		w := newWorld(t)
		w.latency = time.Millisecond
		small, large := w.node(1), w.node(2)
		hold := large
		if !smallFirst {
			hold = small
		}
		// The RESP to hold's dial is kept back until the other side's is done.
		var kept []flight
		w.tap = func(from, to netip.AddrPort, b []byte) bool {
			index, _ := wire.LinkHeader(b)
			if k := hold.byIndex[index]; to == hold.addr && k != nil && k.stage == dialling && len(kept) < 2 &&
				hostAt(w, from).answers.waiting.n > 0 {
				kept = append(kept, flight{at: w.now.Add(3 * time.Second), from: from, to: to, b: append([]byte(nil), b...)})
				return false
			}
			return true
		}
		i1 := small.dial(large)
		small.links[i1].dial.started = -machine.Time(crossYield) // so that it yields
		i2 := large.dial(small)
		w.run(100 * time.Millisecond)
		w.wires = append(w.wires, kept...)
		w.run(30 * time.Second)
		small.wantUp(i1)
		large.wantUp(i2)
		small.push(i1, "s")
		large.push(i2, "l")
		w.run(time.Second)
		small.wantGot("l")
		large.wantGot("s")
	}
}

func hostAt(w *world, at netip.AddrPort) *host {
	for _, h := range w.hosts {
		if h.addr == at {
			return h
		}
	}
	return nil
}
