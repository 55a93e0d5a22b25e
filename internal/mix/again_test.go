package mix

import (
	"bytes"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const testReserve = 50 * time.Millisecond

// beyondTheEntry sends a cell each 10 ms and returns what moves between the hops
// from then on. The third is lost, if again is not nil, which makes of it what is
// sent 33 ms later.
func beyondTheEntry(t *testing.T, again func(r *Route, f *wire.Frame) bool) (n *testNet, seen []capture) {
	t.Helper()
	n = newNet(t, 5, Limits{})
	r := n.open(wire.Standard, nil, 53)
	r.Reserve = testReserve
	n.record = true
	var lost wire.Frame
	var due machine.Time
	for i := range uint64(12) {
		var f wire.Frame
		if !r.Seal(&f, packetOf(i), 0) {
			t.Fatal("the route does not seal")
		}
		if again != nil && i == 3 {
			lost, due = f, n.now.Add(33*time.Millisecond)
		} else {
			n.carry(0, true, f.B[:])
		}
		next := n.now.Add(10 * time.Millisecond)
		if due > n.now && due <= next {
			if n.advance(due.Sub(n.now)); again(r, &lost) {
				n.carry(0, true, lost.B[:])
			}
		}
		n.advance(next.Sub(n.now))
	}
	n.advance(time.Second)
	for _, c := range n.seen {
		if c.at > 0 {
			seen = append(seen, c)
		}
	}
	return n, seen
}

// same reports whether the same cells move at the same moments: by their counters,
// since keys are no run's twice.
func same(a, b []capture) bool {
	for i := range a {
		if len(a) != len(b) || a[i].at != b[i].at || a[i].when != b[i].when || !bytes.Equal(a[i].frame[:wire.CellOffset], b[i].frame[:wire.CellOffset]) {
			return false
		}
	}
	return len(a) > 0
}

// Behind the entry a cell that was sent again is the one that was lost, to its
// counters and the moment; without, it is missing, and with a delay that is not shortened it
// comes late.
func TestNothingTellsACellThatWasSentAgain(t *testing.T) {
	_, whole := beyondTheEntry(t, nil)
	n, again := beyondTheEntry(t, func(r *Route, f *wire.Frame) bool { return r.Again(f, 33*time.Millisecond) })
	if len(whole) != 12*4 || !same(whole, again) {
		t.Errorf("%d cells moved without a loss, %d with one; they differ", len(whole), len(again))
	}
	for i := range n.nodes {
		if n.drops(i) > 0 {
			t.Errorf("hop %d dropped %d", i, n.drops(i))
		}
	}
	if _, without := beyondTheEntry(t, func(*Route, *wire.Frame) bool { return false }); len(without) != 11*4 {
		t.Errorf("%d cells moved of 11", len(without)/4)
	}
	_, late := beyondTheEntry(t, func(r *Route, f *wire.Frame) bool { return r.Again(f, 0) })
	if len(late) != len(whole) || same(whole, late) {
		t.Error("a cell that is kept as long as others does not come late")
	}
}

// Of a cell that comes twice, because it was only thought to be lost, the first mix
// refuses the second: nothing of it goes on, and nobody is told.
func TestACellThatComesTwiceEndsAtTheFirstMix(t *testing.T) {
	n := newNet(t, 5, Limits{})
	r := n.open(wire.Standard, nil, 54)
	r.Reserve = testReserve
	var f wire.Frame
	r.Seal(&f, packetOf(1), 0)
	copied := f
	n.carry(0, true, f.B[:])
	n.advance(30 * time.Millisecond)
	if !r.Again(&copied, 30*time.Millisecond) {
		t.Fatal("it was not too late")
	}
	n.carry(0, true, copied.B[:])
	n.advance(time.Second)
	n.wantCount(0, trace.CellForwarded, 2)
	n.wantCount(1, trace.DropCellReplay, 1)
	n.wantCount(1, trace.NackSent, 0)
	n.wantCount(2, trace.CellIn, 1)
	if len(n.home) > 0 {
		t.Errorf("%d cells came back", len(n.home))
	}
	n.settled()
}

// What comes too late for its moment is not sent, and neither is what is no cell of
// the route.
func TestWhatIsTooLateIsNotSentAgain(t *testing.T) {
	n := newNet(t, 5, Limits{})
	r := n.open(wire.Standard, nil, 55)
	r.Reserve = testReserve
	var f wire.Frame
	for late, want := range map[time.Duration]bool{0: true, testReserve: true, testReserve + time.Millisecond: false} {
		if r.Seal(&f, packetOf(1), 0); r.Again(&f, late) != want {
			t.Errorf("%v after: %v", late, !want)
		}
	}
	if r.SealDrop(&f, 0); r.Again(&f, time.Millisecond) {
		t.Error("what ends at the entry was to be kept there")
	}
	r.Seal(&f, packetOf(1), 0)
	if f.B[20] ^= 1; r.Again(&f, 0) {
		t.Error("a changed cell was sealed anew")
	}
	r.Seal(&f, packetOf(1), 0)
	if r.Close(); r.Again(&f, 0) {
		t.Error("a closed route seals")
	}
}

func TestAgainAllocatesNothing(t *testing.T) {
	n := newNet(t, 5, Limits{})
	r := n.open(wire.Standard, nil, 56)
	r.Reserve = testReserve
	var f wire.Frame
	packet := packetOf(1)
	if per := testing.AllocsPerRun(100, func() { r.Seal(&f, packet, 0); r.Again(&f, time.Millisecond) }); per > 0 {
		t.Errorf("%v allocations a cell", per)
	}
}

// An entry keeps a cell for a reserve at most: it is no store.
func TestAnEntryKeepsNothingLonger(t *testing.T) {
	n := newNet(t, 5, Limits{})
	r := n.open(wire.Standard, nil, 54)
	for _, reserve := range []time.Duration{wire.ReserveMax, wire.ReserveMax + time.Millisecond} {
		var f wire.Frame
		r.Reserve = reserve
		r.Seal(&f, packetOf(1), 0)
		n.carry(0, true, f.B[:])
	}
	n.wantCount(0, trace.DropCellMalformed, 1)
	n.wantCount(0, trace.CellForwarded, 1)
}
