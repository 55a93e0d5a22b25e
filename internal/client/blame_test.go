package client

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// trial has many routes of three mixes of twelve drawn, the first mix of which
// does wrong on a share of its routes, and returns how often each was found out.
func trial(share float64, clear bool) (found [12]int) {
	draw := prng.FromUint64(1).Stream("routes")
	var l ledger
	for i := range 4000 {
		now := machine.Time(i) * machine.Time(10*time.Second)
		var on []wire.NodeID
		for len(on) < 3 {
			id := wire.NodeID{byte(draw.Uint64N(12))}
			if len(on) == 0 || on[0] != id && (len(on) == 1 || on[1] != id) {
				on = append(on, id)
			}
		}
		guilty := on[0] == wire.NodeID{} || on[1] == wire.NodeID{} || on[2] == wire.NodeID{}
		fault := guilty && float64(draw.Uint64N(1000)) < 1000*share
		for _, id := range on {
			if fault && l.charge(now, id, againstOut, blameMost/2) {
				found[id[0]]++
			} else if !fault && clear {
				l.clear(id, againstOut, blameMost/4)
			}
		}
	}
	return found
}

// Who does wrong is found out again and again, on every route or on half of them;
// who is merely beside him a tenth as often, because other routes clear him.
// (Control: without these more than twice as often.)
func TestHonestNeighboursAreCleared(t *testing.T) {
	for _, share := range []float64{1, 0.5} {
		worst := func(clear bool) (guilty, honest int) {
			found := trial(share, clear)
			for _, n := range found[1:] {
				honest = max(honest, n)
			}
			return found[0], honest
		}
		guilty, honest := worst(true)
		_, control := worst(false)
		t.Logf("wrong on %.0f %% of routes: found out %d times, an honest mix at most %d, %d if nothing clears", 100*share, guilty, honest, control)
		if guilty < 50 || honest*10 > guilty || control < 2*honest {
			t.Errorf("wrong on %.0f %% of routes: found out %d times, an honest mix %d, and %d if nothing clears", 100*share, guilty, honest, control)
		}
	}
}

// What speaks against nodes is bounded, forgotten in time, and of one kind only.
func TestALedgerIsBoundedAndForgets(t *testing.T) {
	var l ledger
	for i := range 3 * blamesMax {
		if l.charge(0, wire.NodeID{byte(i)}, againstBack, blameMost/2) {
			t.Fatal("one fault is enough")
		}
	}
	if len(l) != blamesMax {
		t.Errorf("%d nodes are remembered", len(l))
	}
	last := wire.NodeID{3*blamesMax - 1}
	if l.charge(0, last, againstOut, blameMost/2) || !l.charge(1, last, againstBack, blameMost/2) {
		t.Error("faults of two kinds count as two of one, or two of one do not")
	}
	late := machine.Time(suspicion) + 2
	if l.charge(late, last, againstOut, blameMost/2) || len(l) != 1 {
		t.Errorf("old faults count, %d are remembered", len(l))
	}
}

// Who fails set-ups over several mixes that answer elsewhere is found; not who has
// dead mixes for neighbours, nor who fails as others do, nor who failed over few.
func TestWhoSteersIsTold(t *testing.T) {
	gate := func(i int) wire.NodeID { return wire.NodeID{0, byte(i)} }
	mix := func(i int) wire.NodeID { return wire.NodeID{1, byte(i)} }
	for _, c := range []struct {
		name   string
		stood  func(gate, mix int) bool
		at     machine.Time
		steers bool
	}{
		{"likes three of twelve", func(g, m int) bool { return g != 0 || m < 3 }, 0, true},
		{"refuses three of twelve", func(g, m int) bool { return g != 0 || m >= 3 }, 0, true},
		{"refuses two", func(g, m int) bool { return g != 0 || m >= 2 }, 0, false},
		{"is honest, and three mixes are dead", func(g, m int) bool { return m >= 3 }, 0, false},
		{"fails as others do", func(g, m int) bool { return (g+m)%2 == 0 }, 0, false},
		{"did so long ago", func(g, m int) bool { return g != 0 || m < 3 }, machine.Time(triedKeep) + 20, false},
	} {
		for _, known := range []bool{false, true} {
			k := &Client{}
			for m := range 12 {
				for g := range 4 {
					k.try(tried{gate(g), mix(m), []wire.NodeID{gate(g), mix(m)}, c.stood(g, m), known, machine.Time(g)})
				}
			}
			for m := range 12 { // who answers at all does so again
				if c.stood(3, m) || c.stood(2, m) {
					k.try(tried{gate(3), mix(m), []wire.NodeID{gate(3), mix(m)}, true, known, 10})
				}
			}
			if steers := k.steers(c.at, gate(0)); steers != c.steers {
				t.Errorf("who %s steers: %v", c.name, steers)
			}
			if steers := k.steers(c.at, gate(1)); steers {
				t.Errorf("who %s: an honest gateway is taken for one that steers", c.name)
			}
		}
	}
}
