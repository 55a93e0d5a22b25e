package lab

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// betweenContinents is the way between regions of TestMeasuredDelaysShortenRoutes,
// one way.
var betweenContinents = map[[2]string]time.Duration{
	{"eu", "us"}: 45 * time.Millisecond, {"ap", "eu"}: 80 * time.Millisecond, {"ap", "us"}: 60 * time.Millisecond,
}

// way is the one between two regions.
func way(from, to string) time.Duration {
	if from == to {
		return withinRegion
	}
	return betweenContinents[[2]string{min(from, to), max(from, to)}]
}

// spread is a network over three continents, whose nodes measure or do not, after
// a minute and more.
func spread(t *testing.T, measuring bool) (*Network, *Bulletins) {
	t.Helper()
	w, err := bareRun(1).NewNetwork(Plan{Streams: 12, Mixes: 24, Level: wire.Fast, Regions: continents, Ideal: true,
		Hop:    sim.Link{Latency: withinRegion},
		Client: func(c *client.Config) { c.Ahead, c.RoutesPerSession, c.RouteTTL = 2, 1, 20*time.Second }})
	if err != nil {
		t.Fatal(err)
	}
	for pair, d := range betweenContinents {
		w.Sim.SetRegionLink(pair[0], pair[1], sim.Link{Latency: d})
		w.Sim.SetRegionLink(pair[1], pair[0], sim.Link{Latency: d})
	}
	b, err := w.NewBulletins()
	if err != nil {
		t.Fatal(err)
	}
	if measuring {
		b.Measure()
	}
	for i := range 9 {
		u := w.AddUserIn(continents[i%len(continents)])
		w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, w.View) })
	}
	w.Sim.RunFor(75 * time.Second) // routes of before the first bulletins are over
	return w, b
}

// median of the times in which requests of sessions of their own are answered.
func (w *Network) medianAnswer(t *testing.T, requests int) time.Duration {
	t.Helper()
	var took []time.Duration
	for i := range requests {
		asked := w.Sim.Now()
		w.Users[i%len(w.Users)].Ask(fmt.Sprint("session ", i), make([]byte, 100), func(now machine.Time, _ []byte, err error) {
			if err != nil {
				t.Error(err)
			}
			took = append(took, now.Sub(asked))
		})
		w.Sim.RunFor(300 * time.Millisecond)
	}
	w.Sim.RunFor(5 * time.Second)
	if len(took) < requests {
		t.Fatalf("%d of %d requests were answered", len(took), requests)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// planned is what paths drawn with some conditions are: the median of the real way
// over their hops and back, how often each node is on them, and the Shannon entropy
// of the first mix in bits.
func planned(t *testing.T, w *Network, level wire.Level, c *directory.Conditions) (trip time.Duration, on map[wire.NodeID]int, entropy float64) {
	t.Helper()
	const draws = 3000
	rng := w.Sim.Rand("plans")
	on = map[wire.NodeID]int{}
	var trips []time.Duration
	first := map[wire.NodeID]int{}
	for range draws {
		p, err := w.View.Plan(rng, directory.Request{Level: level, Conditions: c})
		if err != nil {
			t.Fatal(err)
		}
		nodes, sum := p.Nodes(), time.Duration(0)
		for i, n := range nodes {
			on[n.ID]++
			if i > 0 {
				sum += 2 * way(nodes[i-1].Region, n.Region)
			}
		}
		first[nodes[1].ID]++
		trips = append(trips, sum)
	}
	for _, n := range first {
		share := float64(n) / draws
		entropy -= share * math.Log2(share)
	}
	slices.Sort(trips)
	return trips[draws/2], on, entropy
}

// Delays that nodes measure come back as those that the network has, and routes
// planned with them are faster in the median than without, and so are requests;
// no node is on more than 2^s times as many paths (docs/protocol.md, section 7.6).
// (Control: the same network whose nodes do not measure.)
func TestMeasuredDelaysShortenRoutes(t *testing.T) {
	blind, none := spread(t, false)
	unknown, _ := none.Known(blind.Sim.Now())
	if len(unknown.Delays()) != 0 {
		t.Fatalf("nodes that do not measure tell %v", unknown.Delays())
	}
	w, b := spread(t, true)
	known, _ := b.Known(w.Sim.Now())
	if len(known.Delays()) != 6 {
		t.Errorf("delays of %d pairs of regions are known: %v", len(known.Delays()), known.Delays())
	}
	for _, d := range known.Delays() {
		if real := 2 * way(d.From, d.To); (time.Duration(d.Millis)*time.Millisecond - real).Abs() > directory.DelayStep*time.Millisecond {
			t.Errorf("between %s and %s %d ms are told, and it is %v", d.From, d.To, d.Millis, real)
		}
	}
	const requests = 60
	slow, fast := blind.medianAnswer(t, requests), w.medianAnswer(t, requests)
	t.Logf("a request at FAST takes %v, with delays %v", slow, fast)
	if fast >= slow {
		t.Errorf("requests take %v instead of %v", fast, slow)
	}
	for level, factor := range map[wire.Level]float64{wire.Fast: 8, wire.Standard: 8, wire.High: 4, wire.Extreme: 2} {
		far, before, wide := planned(t, blind, level, unknown)
		near, after, narrow := planned(t, w, level, known)
		worst := 0.0
		for id, n := range after {
			worst = max(worst, float64(n)/float64(before[id]))
		}
		t.Logf("%v: round trip over the hops %v, with delays %v; a node is on %.2f times as many paths at most; entropy of the first mix %.2f bits, with delays %.2f", level, far, near, worst, wide, narrow)
		if near >= far && level != wire.Extreme { // which must cross three regions
			t.Errorf("%v: with delays routes take %v instead of %v", level, near, far)
		}
		if worst > factor {
			t.Errorf("%v: a node is on %.2f times as many paths as without, of %v", level, worst, factor)
		}
	}
}
