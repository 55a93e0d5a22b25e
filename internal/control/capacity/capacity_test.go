package capacity

import (
	"math"
	"testing"

	"pgregory.net/rapid"
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
		got := cost.For(p.Sessions, 64)
		if got.Phase != p || got.Beyond || got.Stream.Decides() != "ratio" {
			t.Errorf("%+v, want %v", got, p)
		}
	}
	if got := cost.For(1, 64); got.Streams != 2 || got.Mixes != Mixes || got.Stream.Decides() != "least" {
		t.Errorf("one session: %+v", got)
	}
	busy := cost.At(100)
	got := busy.For(500_000, 0.5)
	if n := busy.Of(got.Phase); got.Streams <= 200 || n.StreamCores > 0.5 || n.MixCores > 0.5 || got.Stream.Decides() != "measured" || got.Stream.Ratio != 200 || !got.Beyond {
		t.Errorf("%+v: %v", got, n)
	}
	if got := cost.For(2_000_000, 64); got.Streams != 800 || got.Mixes != 1200 || !got.Beyond {
		t.Errorf("twice the last phase: %+v", got)
	}
	if got := cost.For(100_001, 64); got.Streams != 51 || got.Mixes != 76 {
		t.Errorf("one session more than beta: %+v", got)
	}
}

// More sessions never get fewer nodes, at any cost, of nodes of any size.
func TestMoreSessionsNeverGetFewer(t *testing.T) {
	sessions := rapid.OneOf(rapid.IntRange(1, 3_000_000), rapid.Custom(func(t *rapid.T) int {
		return rapid.SampledFrom(Phases).Draw(t, "phase").Sessions + rapid.IntRange(-3, 3).Draw(t, "beside")
	}))
	rapid.Check(t, func(t *rapid.T) {
		c := cost
		if rapid.Bool().Draw(t, "covered") {
			c.Mixes = rapid.IntRange(3, 5).Draw(t, "mixes")
			c = c.At(rapid.Float64Range(1, 200).Draw(t, "floor"))
		}
		cores := rapid.Float64Range(0.01, 1024).Draw(t, "cores")
		less, more := sessions.Draw(t, "sessions"), sessions.Draw(t, "others")
		less, more = min(less, more), max(less, more)
		a, b := c.For(less, cores), c.For(more, cores)
		if a.Streams > b.Streams || a.Mixes > b.Mixes || a.Beyond && !b.Beyond {
			t.Fatalf("%d sessions: %+v; %d: %+v", less, a, more, b)
		}
	})
}

// A route over five Mix nodes costs them five thirds of what one over three does, and
// Stream nodes the same.
func TestRoutesOverMoreMixes(t *testing.T) {
	long := cost
	long.Mixes = 5
	three, five := cost.At(100).Of(Phases[0]), long.At(100).Of(Phases[0])
	for _, one := range [][2]float64{{five.MixCores, three.MixCores * 5 / 3}, {five.Routes, three.Routes * 5 / 3}, {five.MixBytes, three.MixBytes * 5 / 3}, {five.MixSetups, three.MixSetups * 5 / 3}, {five.StreamCores, three.StreamCores}} {
		if math.Abs(one[0]-one[1]) > one[1]*1e-9 {
			t.Errorf("%v, want %v", one[0], one[1])
		}
	}
	if got := long.For(1, 64); got.Mixes != 5 {
		t.Errorf("one session: %+v", got)
	}
}
