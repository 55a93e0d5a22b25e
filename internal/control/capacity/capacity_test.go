package capacity

import (
	"math"
	"testing"
)

var cost = Cost{Hop: 2000, Setup: 200_000, SessionBytes: 4000, StreamIn: 4, MixIn: 6}

// What a node needs follows from sessions, nodes and head-room.
func TestNeed(t *testing.T) {
	n := cost.Of(Phase{"test", 1000, 10, 15})
	for _, one := range [][2]float64{{n.Sessions, 150}, {n.StreamBytes, 6e5}, {n.StreamCores, 150 * (4*2e-6 + 4./480*2e-4)}, {n.Routes, 600}, {n.MixBytes, 172_200}, {n.MixCores, 100 * (6*2e-6 + 6./480*2e-4)}} {
		if math.Abs(one[0]-one[1]) > one[1]/1000 {
			t.Errorf("%v, want %v", one[0], one[1])
		}
	}
}

// The plan's own sessions get the plan's nodes; where these have too few processors,
// more, so that each does.
func TestFor(t *testing.T) {
	for _, p := range Phases {
		if got := cost.For(p.Sessions, 64); got != p {
			t.Errorf("%v, want %v", got, p)
		}
	}
	if got := cost.For(1, 64); got.Streams != 2 || got.Mixes != Mixes {
		t.Errorf("one session: %v", got)
	}
	busy := cost.At(100)
	got := busy.For(500_000, 0.5)
	if n := busy.Of(got); got.Streams <= 200 || n.StreamCores > 0.5 || n.MixCores > 0.5 {
		t.Errorf("%v: %v", got, n)
	}
}
