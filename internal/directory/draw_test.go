package directory

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// violation says which rule a path breaks, or nothing. It reads the nodes
// themselves, not the index, and shares no code with Draw.
func violation(nodes []*Node, req Request) string {
	if len(nodes) != req.Level.Mixes()+2 {
		return fmt.Sprintf("%d nodes", len(nodes))
	}
	last := req.Last
	if last == 0 {
		last = RoleExit
	}
	borders, regions := 0, map[string]bool{}
	for i, n := range nodes {
		role := RoleMix
		switch i {
		case 0:
			role = RoleEntry
		case len(nodes) - 1:
			role = last
		}
		fixed := i == 0 && req.Entry != nil || i == len(nodes)-1 && req.Exit != nil
		switch {
		case n.Roles&role == 0:
			return fmt.Sprintf("hop %d is no %v", i, role)
		case n.Capacity == 0 && !fixed:
			return fmt.Sprintf("hop %d has no capacity", i)
		case slices.Contains(req.AvoidNodes, n.ID), i == 0 && slices.Contains(req.AvoidEntry, n.ID):
			return fmt.Sprintf("hop %d was to be avoided", i)
		case role == RoleExit && !fixed && !n.Exit.Allows(req.Port):
			return "the exit does not open the port"
		case i == 0 && req.Entry != nil && n.ID != *req.Entry, i == len(nodes)-1 && req.Exit != nil && n.ID != *req.Exit:
			return "not the node that was asked for"
		}
		for _, m := range nodes[:i] {
			if m.Operator == n.Operator {
				return "operator twice"
			}
			for _, network := range m.Networks() {
				if slices.Contains(n.Networks(), network) {
					return "network twice"
				}
			}
		}
		if i > 0 && n.Region != nodes[i-1].Region {
			borders++
		}
		regions[n.Region] = true
	}
	switch req.Level {
	case wire.Fast, wire.Standard:
		if borders > 1 {
			return fmt.Sprintf("%d borders", borders)
		}
	case wire.High:
		if len(regions) < 2 {
			return "one region"
		}
	case wire.Extreme:
		if len(regions) < 3 {
			return "less than three regions"
		}
	}
	return ""
}

// allPaths lists every path that satisfies the request, by brute force.
func allPaths(nodes []*Node, req Request, yield func([]*Node) bool) {
	hops := req.Level.Mixes() + 2
	path := make([]*Node, 0, hops)
	var extend func() bool
	extend = func() bool {
		if len(path) == hops {
			return violation(path, req) != "" || yield(path)
		}
		for _, n := range nodes {
			if slices.ContainsFunc(path, func(m *Node) bool { return m.Operator == n.Operator }) {
				continue
			}
			if middle := len(path) > 0 && len(path) < hops-1; middle && n.Roles&RoleMix == 0 || len(path) == 0 && n.Roles&RoleEntry == 0 {
				continue
			}
			path = append(path, n)
			ok := extend()
			path = path[:len(path)-1]
			if !ok {
				return false
			}
		}
		return true
	}
	extend()
}

// drawNetwork draws a small network in which most pairs of nodes go together
// and some do not, and its view.
func drawNetwork(t *rapid.T) ([]*Node, *View) {
	pick := func(name string, from ...int) int { return rapid.SampledFrom(from).Draw(t, name) }
	count := pick("nodes", 11, 10, 9, 8, 7, 5, 2, 0)
	operators, networks := pick("operators", 20, 9, 7, 6, 5, 3), pick("networks", 20, 9, 7, 6, 5, 3)
	regions := pick("regions", 3, 4, 2, 1)
	var nodes []*Node
	for i := range count {
		roles := []Roles{RoleMix, RoleMix, RoleMix, RoleMix | RoleEntry, allRoles}
		if i < 3 {
			roles = []Roles{RoleEntry | RoleExit | RoleMeeting, RoleExit | RoleEntry, RoleExit | RoleMix, allRoles}
		}
		n := testNode(i, rapid.SampledFrom(roles).Draw(t, "roles"))
		n.Operator = fmt.Sprintf("operator-%d", (i+pick("operator", 0, 0, 0, 1, 2))%operators)
		n.Region = fmt.Sprintf("region-%d", pick("region", 0, 1, 2, 3)%regions)
		n.Capacity = uint32(pick("capacity", 10, 1, 1000, math.MaxUint32, 1, 10, 1000, 0))
		n.Label, n.Addrs = "", nil
		for j := range pick("addresses", 1, 1, 1, 2) {
			network := (i + pick("network", 0, 0, 0, 0, 1, 2)) % networks
			n.Addrs = append(n.Addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(network), byte(i), 1}), uint16(1+j)))
		}
		if n.Roles.Has(RoleExit) {
			n.Exit.Ports = []PortRange{{1, uint16(pick("ports", 443, 443, 80))}}
		}
		nodes = append(nodes, n)
	}
	d, err := newDocument(testHeader(), nodes)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewView(d)
	if err != nil {
		t.Fatal(err)
	}
	return nodes, v
}

func drawRequest(t *rapid.T, nodes []*Node) Request {
	req := Request{
		Level: rapid.SampledFrom([]wire.Level{wire.Standard, wire.High, wire.Extreme, wire.Fast}).Draw(t, "level"),
		Last:  rapid.SampledFrom([]Roles{0, RoleExit, RoleMeeting}).Draw(t, "last"),
		Port:  uint16(rapid.SampledFrom([]int{0, 80, 443}).Draw(t, "port")),
	}
	some := func(name string, roles Roles) *wire.NodeID {
		able := slices.DeleteFunc(slices.Clone(nodes), func(n *Node) bool { return n.Roles&roles == 0 })
		if len(able) == 0 || rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 6, 7}).Draw(t, name) != 7 {
			return nil
		}
		return &able[rapid.IntRange(0, len(able)-1).Draw(t, name+" node")].ID
	}
	req.Entry, req.Exit = some("entry", RoleEntry), some("exit", max(req.Last, RoleExit))
	if n := some("avoid", allRoles); n != nil {
		req.AvoidNodes = append(req.AvoidNodes, *n)
	}
	if n := some("avoid entry", allRoles); n != nil {
		req.AvoidEntry = append(req.AvoidEntry, *n)
	}
	return req
}

// Every path satisfies every rule; and where Draw says there is none, brute
// force finds none either.
func TestDrawHoldsEveryRule(t *testing.T) {
	drawn, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		nodes, v := drawNetwork(t)
		req := drawRequest(t, nodes)
		rng := prng.FromUint64(rapid.Uint64().Draw(t, "seed")).Stream("draw")
		for range 5 {
			p, err := v.Draw(rng, req)
			if err != nil {
				if !errors.Is(err, ErrNoPath) {
					t.Fatalf("error of another kind: %v", err)
				}
				refused++
				allPaths(nodes, req, func(p []*Node) bool {
					t.Fatalf("Draw says %q, but there is %v", err, describe(p))
					return false
				})
				return
			}
			drawn++
			if broken := violation(p.Nodes(), req); broken != "" {
				t.Fatalf("%s: %v", broken, describe(p.Nodes()))
			}
			if p.Level != req.Level || p.Entry() != p.Nodes()[0] || p.Exit() != p.Nodes()[len(p.Nodes())-1] {
				t.Fatal("the path's ends are not its nodes")
			}
		}
	})
	t.Logf("%d paths drawn, %d networks without one", drawn, refused)
	if drawn == 0 || refused == 0 {
		t.Error("the networks are all of one kind: the test says nothing")
	}
}

// searchOnly skips the draws and searches at once.
func searchOnly(v *View, seed uint64, req Request) (Path, error) {
	s := drawing{index: v.index, rng: prng.FromUint64(seed).Stream("search"), req: req, hops: req.Level.Hops(), last: max(req.Last, RoleExit)}
	if err := s.begin(); err != nil {
		return Path{}, err
	}
	if err := s.search(); err != nil {
		return Path{}, err
	}
	return s.path(), nil
}

// Search alone obeys the same rules and finds what there is.
func TestSearchHoldsEveryRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, v := drawNetwork(t)
		req := drawRequest(t, nodes)
		p, err := searchOnly(v, rapid.Uint64().Draw(t, "seed"), req)
		if err == nil {
			if broken := violation(p.Nodes(), req); broken != "" {
				t.Fatalf("%s: %v", broken, describe(p.Nodes()))
			}
			return
		}
		allPaths(nodes, req, func(p []*Node) bool {
			t.Fatalf("search says %q, but there is %v", err, describe(p))
			return false
		})
	})
}

// Where nearly all capacity stands in one region, search still leaves it as
// often as the level demands.
func TestSearchSpansRegions(t *testing.T) {
	nodes := testNodes(2, 12)
	for i, n := range nodes {
		n.Capacity = 1_000_000
		if i >= 12 {
			n.Region, n.Capacity = []string{"us", "ap"}[i-12], 1
		}
	}
	v := testView(t, nodes)
	for seed := range uint64(50) {
		for _, level := range []wire.Level{wire.High, wire.Extreme} {
			p, err := searchOnly(v, seed, Request{Level: level})
			if err != nil {
				t.Fatal(err)
			}
			if broken := violation(p.Nodes(), Request{Level: level}); broken != "" {
				t.Fatalf("seed %d, %v: %s", seed, level, broken)
			}
		}
	}
}

func describe(nodes []*Node) string {
	s := ""
	for _, n := range nodes {
		s += fmt.Sprintf("[%x %v %s %v %s %d]", n.ID[7], n.Roles, n.Operator, n.Networks(), n.Region, n.Capacity)
	}
	return s
}

// lawNetwork: 3 Stream and 6 Mix nodes of several operators, networks, regions
// and capacities, so that every rule bites.
func lawNetwork() []*Node {
	nodes := testNodes(3, 7)
	for i, n := range nodes {
		n.Region = []string{"eu", "us", "ap", "us"}[i%4]
		n.Capacity = uint32(2 + i%2)
	}
	nodes[4].Operator = nodes[0].Operator
	nodes[6].Label = nodes[7].Label
	return nodes
}

// chiSquare draws many paths and returns how far the counts are from the law
// that a path's probability is proportional to its weight, in standard
// deviations of the statistic.
func chiSquare(t *testing.T, req Request, draws int, weight func([]*Node) float64) float64 {
	t.Helper()
	nodes := lawNetwork()
	v := testView(t, nodes)
	name := func(p []*Node) string {
		s := ""
		for _, n := range p {
			s += string(rune('a' + n.ID[7]))
		}
		return s
	}
	weights, total := map[string]float64{}, 0.0
	allPaths(nodes, req, func(p []*Node) bool {
		weights[name(p)] = weight(p)
		total += weight(p)
		return true
	})
	counts := map[string]int{}
	rng := prng.FromUint64(2024).Stream("law")
	for range draws {
		p, err := v.Draw(rng, req)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := weights[name(p.Nodes())]; !ok {
			t.Fatalf("drew %s", describe(p.Nodes()))
		}
		counts[name(p.Nodes())]++
	}
	statistic := 0.0
	for p, w := range weights {
		expected := float64(draws) * w / total
		if expected < 5 {
			t.Fatalf("%d draws are too few: %v expected of %s", draws, expected, p)
		}
		statistic += (float64(counts[p]) - expected) * (float64(counts[p]) - expected) / expected
	}
	freedom := float64(len(weights) - 1)
	t.Logf("%v: %d paths, chi-square %.0f at %.0f degrees of freedom", req.Level, len(weights), statistic, freedom)
	return (statistic - freedom) / math.Sqrt(2*freedom)
}

// A path's probability is the product of its nodes' capacities among all that
// satisfy the request: at every level, with fixed ends, with nodes to avoid.
func TestDrawFollowsTheLaw(t *testing.T) {
	product := func(req Request) func(p []*Node) float64 {
		return func(p []*Node) float64 {
			w := 1.0
			for i, n := range p {
				if i == 0 && req.Entry != nil || i == len(p)-1 && req.Exit != nil {
					continue
				}
				w *= float64(n.Capacity)
			}
			return w
		}
	}
	first, second, third, mix := id(0), id(1), id(2), id(5)
	requests := []Request{
		{Level: wire.Fast},
		{Level: wire.Standard},
		{Level: wire.Standard, Entry: &first},
		{Level: wire.Standard, Exit: &third},
		{Level: wire.Standard, Entry: &first, Exit: &second},
		{Level: wire.Standard, Last: RoleMeeting, AvoidNodes: []wire.NodeID{mix}},
		{Level: wire.High},
		{Level: wire.High, Exit: &third, AvoidEntry: []wire.NodeID{first}},
		{Level: wire.Extreme, Entry: &second},
	}
	for i, req := range requests {
		if sigma := chiSquare(t, req, 100_000, product(req)); sigma > 4 {
			t.Errorf("request %d, %v: %.1f standard deviations from the law", i, req.Level, sigma)
		}
	}
	// Control: the test sees a law that is a little wrong.
	skewed := func(p []*Node) float64 {
		w := product(Request{})(p)
		if p[1].ID == mix {
			w *= 1.2
		}
		return w
	}
	if sigma := chiSquare(t, Request{Level: wire.Standard}, 100_000, skewed); sigma < 4 {
		t.Errorf("control: a fifth more for one node is only %.1f standard deviations", sigma)
	}
}

// With equal capacities and no borders every node is as likely as another.
func TestDrawIsUniform(t *testing.T) {
	v := testView(t, testNodes(20, 50))
	rng := prng.FromUint64(7).Stream("uniform")
	var entry, mix, exit [70]int
	const draws = 50_000
	for range draws {
		p, err := v.Draw(rng, Request{Level: wire.Standard})
		if err != nil {
			t.Fatal(err)
		}
		entry[p.Entry().ID[7]-1]++
		exit[p.Exit().ID[7]-1]++
		for _, n := range p.Nodes()[1:4] {
			mix[n.ID[7]-1]++
		}
	}
	within := func(what string, counts []int, expected float64) {
		t.Helper()
		for i, c := range counts {
			if math.Abs(float64(c)-expected) > 5*math.Sqrt(expected) {
				t.Errorf("%s %d: %d times, expected %.0f", what, i, c, expected)
			}
		}
	}
	within("entry", entry[:20], draws/20)
	within("exit", exit[:20], draws/20)
	within("mix", mix[20:], 3*draws/50)
}

func TestDrawIsRepeatable(t *testing.T) {
	v := testView(t, thousandNodes())
	a, b := prng.FromUint64(3).Stream("draw"), prng.FromUint64(3).Stream("draw")
	for i := range 200 {
		req := Request{Level: wire.Level(i % 4)}
		p, err1 := v.Draw(a, req)
		q, err2 := v.Draw(b, req)
		if err1 != nil || err2 != nil || p != q {
			t.Fatalf("draw %d differs: %v, %v", i, err1, err2)
		}
	}
}

func TestDrawAllocatesNothing(t *testing.T) {
	v := testView(t, thousandNodes())
	rng := prng.FromUint64(1).Stream("draw")
	fixed := id(3)
	for _, req := range []Request{
		{Level: wire.Fast}, {Level: wire.Standard, Port: 443}, {Level: wire.High}, {Level: wire.Extreme},
		{Level: wire.Standard, Entry: &fixed}, {Level: wire.Standard, Exit: &fixed},
	} {
		a := testing.AllocsPerRun(200, func() {
			if _, err := v.Draw(rng, req); err != nil {
				t.Fatal(err)
			}
		})
		if a != 0 {
			t.Errorf("%v: %v allocations", req.Level, a)
		}
	}
}

// An error says what is missing.
func TestDrawErrors(t *testing.T) {
	operators := func(names ...string) func([]*Node) {
		return func(nodes []*Node) {
			for i, n := range nodes {
				n.Operator = names[i%len(names)]
			}
		}
	}
	mix, stream, absent := id(3), id(0), id(99)
	second := id(1)
	tests := []struct {
		stream, mix int
		change      func([]*Node)
		req         Request
		want        string
	}{
		{0, 0, nil, Request{}, "no entry node to use"},
		{2, 3, nil, Request{Level: 9}, "unknown level 9"},
		{2, 3, nil, Request{Last: RoleMix}, "ends at an exit or a meeting point, not mix"},
		{2, 3, nil, Request{Level: wire.Extreme}, "only 3 mixes; EXTREME needs 5"},
		{2, 1, nil, Request{Level: wire.Standard}, "only 1 mix; STANDARD needs 3"},
		{2, 3, nil, Request{AvoidNodes: []wire.NodeID{mix}}, "only 2 mixes; FAST needs 3 (1 node is avoided)"},
		{2, 6, func(nodes []*Node) { operators("a", "b")(nodes[2:]) }, Request{Level: wire.Standard}, "only 2 distinct operators among 6 mixes; STANDARD needs 3"},
		{2, 6, func(nodes []*Node) {
			for _, n := range nodes[2:] {
				n.Label = "lan"
			}
		}, Request{Level: wire.High}, "only 1 distinct network among 6 mixes; HIGH needs 3"},
		{2, 6, func(nodes []*Node) { operators("a", "b", "c", "d")(nodes) }, Request{Level: wire.Standard}, "only 4 distinct operators among 8 nodes; STANDARD needs 5"},
		{2, 6, nil, Request{Level: wire.High}, "all nodes stand in 1 region; HIGH needs 2"},
		{2, 6, func(nodes []*Node) { nodes[0].Region = "us" }, Request{Level: wire.Extreme}, "all nodes stand in 2 regions; EXTREME needs 3"},
		{2, 3, func(nodes []*Node) {
			nodes[0].Exit.Ports, nodes[1].Exit.Ports = []PortRange{{80, 80}}, []PortRange{{80, 80}}
		}, Request{Port: 25}, "no exit opens port 25"},
		{2, 3, func(nodes []*Node) { nodes[0].Roles, nodes[1].Roles = RoleEntry, RoleEntry }, Request{Last: RoleMeeting}, "no meeting node to use"},
		{2, 3, nil, Request{Entry: &absent}, "the requested entry 00000000 is not in the directory"},
		{2, 3, nil, Request{Entry: &mix}, "is mix, not entry"},
		{2, 3, nil, Request{Exit: &stream, AvoidNodes: []wire.NodeID{stream}}, "is also to be avoided"},
		{2, 3, nil, Request{Entry: &stream, AvoidEntry: []wire.NodeID{stream}}, "is also to be avoided"},
		{2, 3, nil, Request{Entry: &stream, Exit: &stream}, "the requested entry and exit share"},
		{1, 5, nil, Request{}, "there is none with operators and networks all different that crosses at most one border"},
		{2, 3, func(nodes []*Node) {
			for i, n := range nodes {
				n.Region = []string{"eu", "eu", "us", "ap", "sa"}[i]
			}
		}, Request{Level: wire.Standard}, "crosses at most one border"},
		{2, 6, func(nodes []*Node) { // the second region only at an entry that cannot be used
			nodes[0].Region, nodes[0].Operator = "us", "operator-1"
		}, Request{Level: wire.High, Exit: &second}, "in 2 regions or more"},
	}
	for i, tt := range tests {
		nodes := testNodes(tt.stream, tt.mix)
		if tt.change != nil {
			tt.change(nodes)
		}
		_, err := testView(t, nodes).Draw(prng.FromUint64(1).Stream("draw"), tt.req)
		if !errors.Is(err, ErrNoPath) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d: got %v, want %q", i, err, tt.want)
		}
	}
}

// One operator with nearly all capacity, or one exit in a thousand for the
// port: there is a path still, and it is found.
func TestDrawFindsTheRare(t *testing.T) {
	nodes := thousandNodes()
	for i, n := range nodes {
		if i%2 == 0 {
			n.Operator, n.Capacity = "giant", math.MaxUint32
		}
		if n.Roles.Has(RoleExit) {
			n.Exit.Ports = []PortRange{{443, 443}}
		}
	}
	nodes[399].Exit.Ports = []PortRange{{25, 25}}
	v := testView(t, nodes)
	rng := prng.FromUint64(5).Stream("draw")
	for level := wire.Fast; level <= wire.Extreme; level++ {
		req := Request{Level: level, Port: 25}
		for range 20 {
			p, err := v.Draw(rng, req)
			if err != nil {
				t.Fatal(err)
			}
			if broken := violation(p.Nodes(), req); broken != "" {
				t.Fatal(broken)
			}
		}
	}
}

// A directory made to be hard to search costs a bounded time.
func TestSearchIsBounded(t *testing.T) {
	const arms = 1500
	nodes := testNodes(2, 2*arms)
	for i, n := range nodes[2:] { // all mixes of one operator or in one network: never three apart
		if i%2 == 0 {
			n.Operator = "hub"
		} else {
			n.Label = "hub"
		}
	}
	_, err := testView(t, nodes).Draw(prng.FromUint64(1).Stream("draw"), Request{Level: wire.Standard})
	if !errors.Is(err, ErrNoPath) || !strings.Contains(err.Error(), "none was found") {
		t.Errorf("got %v", err)
	}
}
