package mix

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const delaySamples = 20_000

// misfit is the Kolmogorov–Smirnov distance between samples and the
// exponential distribution of a mean, times √n: above 2.5 with probability
// 7e-6 if they follow it.
func misfit(samples []time.Duration, mean time.Duration) float64 {
	s := slices.Clone(samples)
	slices.Sort(s)
	worst, n := 0.0, float64(len(s))
	for i, v := range s {
		p := 1 - math.Exp(-float64(v)/float64(mean))
		worst = max(worst, math.Abs(p-float64(i)/n), math.Abs(p-float64(i+1)/n))
	}
	return worst * math.Sqrt(n)
}

// hopDelays are the delays that hop at gives to cells, in their order.
func (n *testNet) hopDelays(at int, samples int, send func()) (delays []time.Duration) {
	node := n.nodes[at]
	for range samples {
		send()
		if node.Queued() != 1 {
			n.t.Fatalf("hop %d holds %d cells", at, node.Queued())
		}
		due := max(n.now, min(node.delayed.next(), n.now.Add(time.Hour)))
		if node.ready.len > 0 { // less than a microsecond
			due = n.now
		}
		delays = append(delays, due.Sub(n.now))
		_, f, _ := node.PollSend(due)
		node.pool.Put(f)
		n.now = n.now.Add(time.Millisecond)
	}
	return delays
}

// Property 7: exponential, independent, the right mean, and no truncation.
func TestDelaysAreExponentialBothWays(t *testing.T) {
	n := newNet(t, 5, Limits{})
	r := n.open(wire.High, nil, 51)
	const mean = 20 * time.Millisecond
	back := n.caught(3, false, func() { n.end().SendBack(n.now, n.lastEnd(), packetOf(1)) })
	ways := map[string][]time.Duration{
		"out": n.hopDelays(1, delaySamples, func() {
			var f wire.Frame
			r.Seal(&f, packetOf(0), 0)
			n.nodes[0].HandleFrame(n.now, toward(0), f.B[:])
			_, p, ok := n.nodes[0].PollSend(n.now)
			if !ok {
				t.Fatal("the entry delayed a cell")
			}
			n.nodes[1].HandleFrame(n.now, toward(1), p.B[:])
			n.nodes[0].pool.Put(p)
		}),
		"back": n.hopDelays(2, delaySamples, func() {
			f := append([]byte(nil), back...)
			n.nodes[2].back[keyOf(toward(3), wire.FrameRouteID(f))].forgetBack()
			n.nodes[2].HandleFrame(n.now, toward(3), f)
		}),
	}
	shift := n.shift(2)
	for i := range ways["back"] {
		ways["back"][i] -= shift
	}
	for way, delays := range ways {
		sum, tail := time.Duration(0), 0
		for _, d := range delays {
			sum += d
			if d > 6*mean {
				tail++
			}
		}
		if d := misfit(delays, mean); d > 2.5 {
			t.Errorf("%s: delays are not exponential: distance %.2f", way, d)
		}
		if got := sum / delaySamples; got < mean*95/100 || got > mean*105/100 {
			t.Errorf("%s: mean delay is %v", way, got)
		}
		// e^-6 of all: 50 of 20,000.
		if tail < 15 || tail > 100 || slices.Max(delays) < 7*mean {
			t.Errorf("%s: %d delays above six means, the longest %v", way, tail, slices.Max(delays))
		}
		if c := correlation(delays[1:], delays[:delaySamples-1]); math.Abs(c) > 0.04 {
			t.Errorf("%s: delays depend on the one before: %.3f", way, c)
		}
		// The controls: another mean, a cut tail and a uniform delay are found.
		cut, uniform := slices.Clone(delays), slices.Clone(delays)
		for i, d := range cut {
			cut[i] = min(d, 3*mean)
			uniform[i] = time.Duration(2 * float64(mean) * (1 - math.Exp(-float64(d)/float64(mean))))
		}
		if misfit(delays, mean*11/10) < 2.5 || misfit(cut, mean) < 2.5 || misfit(uniform, mean) < 2.5 {
			t.Errorf("%s: a wrong distribution passes", way)
		}
	}
	if c := correlation(ways["out"], ways["back"]); math.Abs(c) > 0.04 {
		t.Errorf("the two directions depend on each other: %.3f", c)
	}
}

// shift is what hop at adds to all cells that come back on the one route.
func (n *testNet) shift(at int) time.Duration {
	for _, r := range n.nodes[at].back {
		return r.hot.shift
	}
	return 0
}

// The clock of a route's end is turned by each mix, by as much for all cells of a
// route, after a pause too, and by another time on another route: the mean of the
// times at which cells come back does not say at which phase they were sent.
func TestMixesTurnTheClockOfTheWayBack(t *testing.T) {
	const routes = 64
	var slots [8]int
	for seed := range routes {
		n := newNet(t, 5, Limits{})
		n.open(wire.High, nil, uint64(seed))
		end := n.lastEnd()
		back := func() { n.end().SendBack(n.now, end, packetOf(1)) }
		n.caught(1, false, back)
		first := n.shift(2)
		slots[first*8/shiftMax]++
		n.advance(2 * time.Minute)
		n.caught(1, false, back)
		if again := n.shift(2); again != first || again == n.shift(1) {
			t.Fatalf("route %d: turned by %v, after a pause by %v, at the mix before by %v", seed, first, again, n.shift(1))
		}
	}
	for i, k := range slots {
		if k < 1 || k > 24 {
			t.Errorf("%d of %d routes are turned by %d eighths of a period", k, routes, i)
		}
	}
}

// What a client spreads on its link, the first mix takes out: its delay is the
// one drawn and the hold, that of the next mix the one drawn alone.
func TestTheFirstMixHolds(t *testing.T) {
	out := func(hop int, hold time.Duration) []time.Duration {
		n := newNet(t, 5, Limits{})
		r := n.open(wire.High, nil, 51)
		return n.hopDelays(hop, 50, func() {
			var f wire.Frame
			r.Seal(&f, packetOf(0), hold)
			for i := range hop {
				n.nodes[i].HandleFrame(n.now, toward(i), f.B[:])
				_, p, ok := n.nodes[i].PollSend(n.now)
				for ; !ok; _, p, ok = n.nodes[i].PollSend(n.now) {
					n.now = n.nodes[i].delayed.next()
				}
				f = *p
				n.nodes[i].pool.Put(p)
			}
			n.nodes[hop].HandleFrame(n.now, toward(hop), f.B[:])
		})
	}
	const hold = 7 * time.Millisecond
	drawn, held := out(1, 0), out(1, hold)
	for i := range drawn {
		if held[i] != drawn[i]+hold {
			t.Fatalf("cell %d: the first mix delays it %v, drawn are %v", i, held[i], drawn[i])
		}
	}
	if !slices.Equal(out(2, 0), out(2, hold)) {
		t.Error("the second mix holds too")
	}
	if d := out(1, time.Hour); slices.Max(d) != wire.LayerDelayMax {
		t.Errorf("a hold that no layer can name becomes %v", slices.Max(d))
	}
}

// Noise is added segment by segment: each mix keeps a cell for its own part beyond
// the delay that is drawn for it, and the last hop is told the profile, no other.
func TestNoiseIsAddedBySegment(t *testing.T) {
	noise := [wire.CoverSegments]time.Duration{3 * time.Millisecond, 5 * time.Millisecond, 7 * time.Millisecond}
	out := func(hop int, noise [wire.CoverSegments]time.Duration) []time.Duration {
		n := newNet(t, 5, Limits{})
		r := n.open(wire.Standard, nil, 52)
		r.Noise = noise
		return n.hopDelays(hop, 20, func() {
			var f wire.Frame
			r.Seal(&f, packetOf(0), 0)
			for i := range hop {
				n.nodes[i].HandleFrame(n.now, toward(i), f.B[:])
				_, p, ok := n.nodes[i].PollSend(n.now)
				for ; !ok; _, p, ok = n.nodes[i].PollSend(n.now) {
					n.now = n.nodes[i].delayed.next()
				}
				f = *p
				n.nodes[i].pool.Put(p)
			}
			n.nodes[hop].HandleFrame(n.now, toward(hop), f.B[:])
		})
	}
	for hop := 1; hop <= 3; hop++ {
		drawn, noisy := out(hop, [wire.CoverSegments]time.Duration{}), out(hop, noise)
		for i := range drawn {
			if noisy[i] != drawn[i]+noise[hop-1] {
				t.Fatalf("mix %d, cell %d: kept %v, drawn are %v", hop, i, noisy[i], drawn[i])
			}
		}
	}
}

func correlation(a, b []time.Duration) float64 {
	var ma, mb, ab, aa, bb float64
	for i := range a {
		ma += float64(a[i]) / float64(len(a))
		mb += float64(b[i]) / float64(len(a))
	}
	for i := range a {
		x, y := float64(a[i])-ma, float64(b[i])-mb
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}

// A route that was idle gave its cipher state back; its next delays are fresh
// ones, not the first of the stream again, and its counters go on.
func TestAnIdleRouteGoesOnWithFreshDelays(t *testing.T) {
	n := newNet(t, 5, Limits{})
	n.open(wire.High, nil, 52)
	end := n.lastEnd()
	delays := func() []time.Duration {
		back := n.caught(3, false, func() { n.end().SendBack(n.now, end, packetOf(1)) })
		return n.hopDelays(2, 20, func() {
			f := append([]byte(nil), back...)
			n.nodes[2].back[keyOf(toward(3), wire.FrameRouteID(f))].forgetBack()
			n.nodes[2].HandleFrame(n.now, toward(3), f)
		})
	}
	first := delays()
	for i, node := range n.nodes {
		for _, r := range node.forward {
			if (i == 2) != (r.hot != nil) && i != 3 && i != 4 {
				t.Errorf("hop %d: cipher state is there: %v", i, r.hot != nil)
			}
		}
	}
	n.advance(2 * time.Minute)
	for i, node := range n.nodes {
		for _, r := range node.forward {
			if r.hot != nil {
				t.Errorf("hop %d keeps cipher state or windows after two minutes", i)
			}
		}
	}
	if second := delays(); slices.Equal(first, second) {
		t.Error("after a pause the same delays came again")
	}
}

// Whole way at each level: three or five mixes in each direction. Erlang(n).
func TestRouteDelayByLevel(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard, wire.High, wire.Extreme} {
		n := newNet(t, level.Hops(), Limits{})
		r := n.open(level, nil, 53)
		const cells = 2000
		sent := n.now
		var sum time.Duration
		for i := range uint64(cells) {
			n.send(r, packetOf(i))
		}
		before := n.end().counts[trace.CellDelivered]
		for before < cells {
			for n.step() {
			}
			got := n.end().counts[trace.CellDelivered]
			sum += time.Duration(got-before) * n.now.Sub(sent)
			before = got
			next := n.nodes[0].delayed.next()
			for _, node := range n.nodes {
				next = min(next, node.delayed.next())
			}
			if got < cells {
				if next == machine.Never {
					t.Fatalf("%v: only %d of %d cells arrived", level, got, cells)
				}
				n.now = next
			}
		}
		want := time.Duration(level.Mixes()) * level.MixDelay()
		if got := sum / cells; got < want*93/100 || got > want*107/100 {
			t.Errorf("%v: a cell takes %v on average, want %v", level, got, want)
		}
	}
}
