package directory

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// conditionsOf makes conditions of v with states by node and a delay by pair of
// regions.
func conditionsOf(v *View, states map[int]State, delay func(from, to int) int) *Conditions {
	c := newConditions(v.index)
	for i, s := range states {
		c.states[i] = s
	}
	if delay != nil {
		r := len(v.regions)
		c.delay = make([]uint16, r*r)
		for i := range r {
			for j := range r {
				c.delay[i*r+j] = uint16(delay(min(i, j), max(i, j)))
			}
		}
		c.findBest()
	}
	return c
}

// lawConditions are those of lawNetwork in the tests of the law: three regions
// at very different distances, nodes with queues and loads.
func lawConditions(v *View) *Conditions {
	return conditionsOf(v, map[int]State{
		3: {Score: ScoreMax, Load: 10, Queue: 10}, 5: {Score: ScoreMax, Load: 4, Queue: 35}, 8: {Score: ScoreMax, Load: 7},
	}, func(from, to int) int { return 8 + 30*(to-from) + 3*from })
}

// documentedShare is the share of docs/protocol.md, section 7.6.
var documentedShare = map[wire.Level]float64{wire.Fast: 3, wire.Standard: 3, wire.High: 2, wire.Extreme: 1}

// bruteLaw is the probability of each path that satisfies a request, by the
// definition in docs/protocol.md: by capacity alone, and with conditions.
func bruteLaw(nodes []*Node, v *View, req Request) (plain, law map[string]float64) {
	plain, law = map[string]float64{}, map[string]float64{}
	c := req.Conditions
	type path struct {
		name     string
		capacity float64
		h        float64
	}
	var all []path
	fixed := func(i, n int) bool { return i == 0 && req.Entry != nil || i == n-1 && req.Exit != nil }
	best := bruteBest(v, req)
	allPaths(nodes, req, func(p []*Node) bool {
		o, trip, load := path{name: pathName(p), capacity: 1}, 0, 0
		for i, n := range p {
			at, _ := v.find(n.ID)
			if i > 0 {
				trip += int(c.delay[int(v.traits[at].region)*len(v.regions)+slices.Index(v.regions, p[i-1].Region)])
			}
			if fixed(i, len(p)) {
				continue
			}
			if s := c.states[at]; s.Flags != 0 || s.Score < c.scoreMin {
				return true
			}
			o.capacity *= float64(n.Capacity)
			trip, load = trip+int(c.states[at].Queue), max(load, int(c.states[at].Load))
		}
		o.h = float64(LoadMax-load) / LoadMax
		if req.QoS == Interactive {
			excess := trip - best
			o.h = math.Pow(0.5, float64(excess/halving)) * (1 - 0.5*float64(excess%halving)/halving)
		}
		all = append(all, o)
		return true
	})
	floor := math.Pow(0.5, documentedShare[req.Level])
	sumPlain, sumLaw := 0.0, 0.0
	for _, o := range all {
		plain[o.name] = o.capacity
		law[o.name] = o.capacity * (floor + (1-floor)*o.h)
		sumPlain, sumLaw = sumPlain+plain[o.name], sumLaw+law[o.name]
	}
	for name := range plain {
		plain[name] /= sumPlain
		law[name] /= sumLaw
	}
	return plain, law
}

// bruteBest is the least round trip between hops of any sequence of regions
// that a level allows. Test networks have every role in every region that they
// need.
func bruteBest(v *View, req Request) int {
	d := drawing{index: v.index, req: req, hops: req.Level.Hops(), last: RoleExit, entry: -1, exit: -1}
	if req.Exit != nil {
		i, _ := v.find(*req.Exit)
		d.exit = int32(i)
	}
	return int(d.bestTrip(req.Conditions))
}

func pathName(p []*Node) string {
	s := ""
	for _, n := range p {
		s += string(rune('a' + n.ID[7]))
	}
	return s
}

// Paths are drawn by the law with conditions, at every level and for both
// purposes.
func TestDrawFollowsTheLawOfConditions(t *testing.T) {
	nodes := lawNetwork()
	v := testView(t, nodes)
	c := lawConditions(v)
	exit := id(2)
	control := 0.0
	for i, req := range []Request{
		{Level: wire.Fast}, {Level: wire.Standard, Exit: &exit}, {Level: wire.High}, {Level: wire.Extreme},
		{Level: wire.Standard, QoS: Bulk}, {Level: wire.High, QoS: Bulk, Exit: &exit},
	} {
		req.Conditions = c
		plain, law := bruteLaw(nodes, v, req)
		counts := map[string]int{}
		rng := prng.FromUint64(uint64(i)).Stream("law")
		const draws = 20_000
		for range draws {
			p, err := v.Plan(rng, req)
			if err != nil {
				t.Fatal(err)
			}
			counts[pathName(p.Nodes())]++
		}
		sigma := distance(t, counts, law, draws)
		if sigma > 4 {
			t.Errorf("request %d, %v %v: %.1f standard deviations from the law", i, req.Level, req.QoS, sigma)
		}
		control = max(control, distance(t, counts, plain, draws))
	}
	if control < 4 {
		t.Errorf("control: the law without conditions is only %.1f standard deviations away", control)
	}
}

func distance(t *testing.T, counts map[string]int, law map[string]float64, draws int) float64 {
	t.Helper()
	statistic := 0.0
	for p, w := range law {
		expected := float64(draws) * w
		statistic += (float64(counts[p]) - expected) * (float64(counts[p]) - expected) / expected
	}
	for p := range counts {
		if law[p] == 0 {
			t.Fatalf("drew %s, which the law forbids", p)
		}
	}
	freedom := float64(len(law) - 1)
	return (statistic - freedom) / math.Sqrt(2*freedom)
}

// Whatever is said of delays and loads, no path becomes more than 2^share times
// as likely as by capacity alone; so the min-entropy falls by share bits at
// most, and Shannon's entropy stays above the min-entropy of capacities less
// share.
func TestConditionsNeverCollapseTheChoice(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard, wire.High, wire.Extreme} {
		t.Run(level.String(), func(t *testing.T) { neverCollapses(t, level) })
	}
}

func neverCollapses(t *testing.T, level wire.Level) {
	worst := 0.0
	rapid.Check(t, func(t *rapid.T) {
		nodes := testNodes(3, 6)
		regions := rapid.IntRange(3, 4).Draw(t, "regions")
		for i, n := range nodes {
			n.Region = fmt.Sprintf("region-%d", i%regions)
			n.Capacity = uint32(rapid.SampledFrom([]int{10, 1, 100}).Draw(t, "capacity"))
		}
		d, err := newDocument(testHeader(), nodes)
		if err != nil {
			t.Fatal(err)
		}
		v, err := NewView(d)
		if err != nil {
			t.Fatal(err)
		}
		states := map[int]State{}
		for i := range nodes {
			states[i] = State{Score: ScoreMax, Load: uint8(rapid.IntRange(0, LoadMax).Draw(t, "load")), Queue: uint16(QueueStep * rapid.IntRange(0, 400).Draw(t, "queue"))}
		}
		delays := map[[2]int]int{}
		req := Request{
			Level: level,
			QoS:   rapid.SampledFrom([]QoS{Interactive, Bulk}).Draw(t, "qos"),
			Conditions: conditionsOf(v, states, func(from, to int) int {
				if _, ok := delays[[2]int{from, to}]; !ok {
					delays[[2]int{from, to}] = rapid.SampledFrom([]int{1, 0, 20, 100, DelayMax}).Draw(t, "delay")
				}
				return delays[[2]int{from, to}]
			}),
		}
		if rapid.Bool().Draw(t, "fixed exit") {
			req.Exit = &nodes[0].ID
		}
		plain, law := bruteLaw(nodes, v, req)
		bits, entropy, least := 0.0, 0.0, math.Inf(1)
		for p := range law {
			bits = max(bits, math.Log2(law[p]/plain[p]))
			entropy -= law[p] * math.Log2(law[p])
			least = min(least, -math.Log2(plain[p]))
		}
		if most := documentedShare[level]; bits > most+1e-9 || entropy < least-most-1e-9 {
			t.Fatalf("%v: a path is %.2f bits likelier, of %.0f; entropy %.2f bits, by capacity at least %.2f", level, bits, most, entropy, least)
		}
		worst = max(worst, bits)
	})
	if worst < documentedShare[level]/4 {
		t.Errorf("conditions move the choice by %.2f bits only: the test says nothing", worst)
	}
}

// A slower node is never the likelier for it, nor a fuller one.
func TestConditionsNeverPreferTheWorse(t *testing.T) {
	nodes := lawNetwork()
	v := testView(t, nodes)
	for _, q := range []QoS{Interactive, Bulk} {
		last := 1.0
		for step := range 11 {
			c := lawConditions(v)
			c.states[4] = State{Score: ScoreMax, Load: uint8(step), Queue: uint16(step * QueueStep)}
			_, law := bruteLaw(nodes, v, Request{Level: wire.Standard, QoS: q, Conditions: c})
			chance := 0.0
			for p, w := range law {
				if slices.Contains([]byte(p[1:4]), 'a'+nodes[4].ID[7]) {
					chance += w
				}
			}
			if chance > last+1e-9 {
				t.Errorf("%v: at step %d the node is on %.4f of the paths, before on %.4f", q, step, chance, last)
			}
			last = chance
		}
	}
}

// Nodes that are overloaded, drain or are not trusted get no new routes, by draw
// and by search; where there is no path without them, the crowded do and the
// distrusted do not.
func TestShutNodesGetNoRoutes(t *testing.T) {
	nodes := testNodes(4, 8)
	v := testView(t, nodes)
	shut := map[int]State{
		4: {Flags: Overloaded, Score: ScoreMax}, 5: {Flags: Draining, Score: ScoreMax},
		6: {Flags: Distrusted, Score: ScoreMax}, 7: {Score: DefaultScoreMin - 1}, 0: {Flags: Draining, Score: ScoreMax},
	}
	rng := prng.FromUint64(1).Stream("shut")
	req := Request{Level: wire.Standard, Conditions: conditionsOf(v, shut, nil)}
	hits := func(req Request) (n int) {
		for i := range 300 {
			p, err := v.Draw(rng, req)
			if i%2 == 1 {
				p, err = searchOnly(v, uint64(i), req)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, node := range p.Nodes() {
				if i, _ := v.find(node.ID); shut[i] != (State{}) {
					n++
				}
			}
		}
		return n
	}
	if n := hits(req); n != 0 {
		t.Errorf("%d hops of 300 paths are shut", n)
	}
	if hits(Request{Level: wire.Standard}) == 0 {
		t.Error("control: without conditions none is met either")
	}
	for i := 8; i < 11; i++ {
		shut[i] = State{Flags: Overloaded, Score: ScoreMax}
	}
	req.Conditions = conditionsOf(v, shut, nil)
	if _, err := v.Draw(rng, req); !errors.Is(err, ErrNoPath) {
		t.Errorf("a path over the one open mix: %v", err)
	} else {
		t.Log(err)
	}
	req.Crowded = true
	for range 300 {
		p, err := v.Draw(rng, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range p.Nodes() {
			if i, _ := v.find(n.ID); i == 6 || i == 7 {
				t.Fatal("a distrusted node is on a path")
			}
		}
	}
}

// A node that is asked for by name is taken whatever is said of it: the further
// routes of a session go to its exit.
func TestNamedExitIsTaken(t *testing.T) {
	v := testView(t, testNodes(4, 8))
	exit := id(1)
	c := conditionsOf(v, map[int]State{1: {Flags: Draining, Score: ScoreMax}}, nil)
	if _, err := v.Plan(prng.FromUint64(1).Stream("named"), Request{Level: wire.Standard, Exit: &exit, Conditions: c}); err != nil {
		t.Error(err)
	}
}

// Without conditions a draw takes the same randomness as ever.
func TestNoConditionsChangeNothing(t *testing.T) {
	v := testView(t, thousandNodes())
	a, b := prng.FromUint64(3).Stream("draw"), prng.FromUint64(3).Stream("draw")
	other := conditionsOf(testView(t, testNodes(3, 6)), nil, nil)
	for range 100 {
		p, err := v.Draw(a, Request{Level: wire.High})
		q, err2 := v.Plan(b, Request{Level: wire.High, QoS: Bulk, Conditions: other})
		if err != nil || err2 != nil || p != q.Path || q.TTL != RouteTTL || q.RoundTrip != 0 {
			t.Fatal("conditions of another document change the draw")
		}
	}
}

// With conditions a plan still allocates nothing.
func TestPlanAllocatesNothing(t *testing.T) {
	v := testView(t, thousandNodes())
	c := conditionsOf(v, map[int]State{5: {Flags: Overloaded, Score: ScoreMax}}, func(from, to int) int { return 10 + 5*(to-from) })
	rng := prng.FromUint64(1).Stream("draw")
	for level := wire.Fast; level <= wire.Extreme; level++ {
		if n := testing.AllocsPerRun(200, func() { v.Plan(rng, Request{Level: level, Conditions: c}) }); n != 0 {
			t.Errorf("%v: %v allocations", level, n)
		}
	}
}
