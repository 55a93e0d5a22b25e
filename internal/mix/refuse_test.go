package mix

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// What a neighbour changes or sends twice is told to the client by the hop that
// refuses it, with the reason: when it is enough, and with the next authentic cell, so
// that what is refused is never answered.
func TestWhatIsRefusedIsToldToTheClient(t *testing.T) {
	for _, c := range []struct {
		why   wire.NackReason
		at    int // the link over which it comes
		hop   int // that refuses it
		drop  trace.Counter
		spoil int // byte that is changed; 0: none
	}{
		{wire.NackRepeated, 2, 2, trace.DropCellReplay, 0},
		{wire.NackRepeatedBack, 2, 1, trace.DropCellReplay, 0},
		{wire.NackChanged, 2, 2, trace.DropCellAuth, 300},
		{wire.NackChanged, 2, 2, trace.DropCellMalformed, wire.LinkPayloadSize - 1},
		{wire.NackRepeated, 4, 4, trace.DropCellReplay, 0}, // the end of the route
	} {
		for cells := wire.NackRefusals - 1; cells <= wire.NackRefusals; cells++ {
			n := newNet(t, 5, Limits{})
			r := n.open(wire.Standard, nil, 91)
			var frame []byte
			n.tap = func(at int, out bool, f []byte) bool {
				if at == c.at && out == (c.why != wire.NackRepeatedBack) {
					frame = append([]byte(nil), f...)
				}
				return true
			}
			for range beatCells + 1 { // no hop is at rest then
				n.send(r, packetOf(1))
			}
			n.end().SendBack(n.now, n.lastEnd(), packetOf(2))
			n.run()
			n.tap, n.home = nil, nil
			for i := range cells {
				again := append([]byte(nil), frame...)
				if c.spoil > 0 {
					again[c.spoil] ^= 1
					again[wire.FrameHeaderSize] |= 1 << 6 // a counter that did not come
					again[wire.FrameHeaderSize+3] = byte(i)
				}
				n.carry(c.at, c.why != wire.NackRepeatedBack, again)
			}
			n.run()
			n.wantCount(c.hop, c.drop, uint64(cells))
			if len(n.home) > 0 {
				t.Fatalf("%v: what was refused is answered", c.why)
			}
			for range 2 {
				n.send(r, packetOf(3))
			}
			n.run()
			if cells < wire.NackRefusals {
				if len(n.home) > 0 {
					t.Errorf("%v: %d cells are told", c.why, cells)
				}
				continue
			}
			b, ok := n.opened(r)
			if !ok || b.Kind != BackNack || b.Reason != c.why || b.Position != c.hop || b.Counter != 0 {
				t.Errorf("%v: the client heard %+v, %v", c.why, b, ok)
			}
			n.wantCount(c.hop, trace.NackSent, 1)
			n.settled()
		}
	}
}

// A cell that is merely too old speaks against nobody.
func TestLateCellsAreNotTold(t *testing.T) {
	n := newNet(t, 5, Limits{})
	r := n.open(wire.Standard, nil, 92)
	var late [][]byte
	n.tap = func(at int, out bool, f []byte) bool {
		if at == 2 && out && len(late) < 2*wire.NackRefusals {
			late = append(late, append([]byte(nil), f...))
			return false
		}
		return true
	}
	for i := range uint64(2 * wire.NackRefusals) {
		n.send(r, packetOf(i))
	}
	n.run()
	n.send(r, packetOf(99))
	n.run()
	n.advance(2 * idleAfter) // the window is given back, and made anew
	n.send(r, packetOf(98))
	n.run()
	for _, f := range late {
		n.carry(2, true, f)
	}
	n.wantCount(2, trace.DropCellReplay, uint64(len(late)))
	n.send(r, packetOf(100))
	n.send(r, packetOf(101))
	n.advance(time.Second)
	n.wantCount(2, trace.NackSent, 0)
}

// Refusing, and telling of it, costs no allocation.
func TestRefusingAllocatesNothing(t *testing.T) {
	n := newNet(t, 5, Limits{})
	r := n.open(wire.Fast, nil, 93)
	frame := n.caught(2, true, func() {
		for range beatCells + 1 {
			n.send(r, packetOf(1))
		}
	})
	hop := n.nodes[2]
	hop.HandleFrame(n.now, toward(2), append([]byte(nil), frame...))
	rt := hop.forward[keyOf(toward(2), wire.FrameRouteID(frame))]
	heat := hop.heat(n.now, rt)
	if heat.out.ring == nil {
		t.Fatal("the hop has seen no cell")
	}
	again := make([]byte, len(frame))
	told := hop.counts[trace.NackSent]
	got := testing.AllocsPerRun(100, func() {
		for range wire.NackRefusals {
			copy(again, frame)
			hop.HandleFrame(n.now, toward(2), again)
		}
		if heat.refused.due != wire.NackRepeated {
			t.Fatal("nothing is to be told")
		}
		hop.tellRefused(n.now, rt)
		_, f, _ := hop.PollSend(n.now)
		hop.pool.Put(f)
	})
	if got > 0 || hop.counts[trace.NackSent] == told {
		t.Errorf("%v allocations, %d NACKs", got, hop.counts[trace.NackSent]-told)
	}
}
