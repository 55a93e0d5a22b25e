package directory

import (
	"fmt"
	"slices"
	"strings"
)

// searchVisits bounds how many nodes a search looks at, each time anew, so that
// a directory made to be hard cannot hold up a client: some 20 ms. A path
// without a step back takes seven visits of each node.
const searchVisits = 1 << 21

// search finds a path by trying nodes hop by hop, each drawn by capacity among
// those that the hops before it leave, and going back where none is left.
func (d *drawing) search() error {
	if reason := d.reason(); reason != "" {
		return fmt.Errorf("%w: %s", ErrNoPath, reason)
	}
	s := searcher{drawing: d, operators: make([]uint32, d.operatorCount), networks: make([]uint32, d.networkCount)}
	if s.step(0) {
		return nil
	}
	rule := "with operators and networks all different"
	switch need := minRegions(d.req.Level); {
	case maxBorders(d.req.Level) >= 0:
		rule += " that crosses at most one border"
	case need > 1:
		rule += fmt.Sprintf(" in %d regions or more", need)
	}
	found := "there is none"
	if s.visits > searchVisits {
		found = "none was found"
	}
	return fmt.Errorf("%w: %s %s", ErrNoPath, found, rule)
}

type searcher struct {
	*drawing
	visits int
	// operators and networks mark what a count has seen, by its stamp.
	operators, networks []uint32
	stamp               uint32
}

// order is the position that a depth of the search fills: last, entry, mixes.
func (s *searcher) order(depth int) (position int, role Roles, fixed int32) {
	switch depth {
	case 0:
		return s.hops - 1, s.last, s.exit
	case 1:
		return 0, RoleEntry, s.entry
	}
	return depth - 1, RoleMix, -1
}

func (s *searcher) step(depth int) bool {
	if depth == s.hops {
		return true
	}
	position, role, fixed := s.order(depth)
	bounded, left := maxBorders(s.req.Level) >= 0, s.hops-depth
	candidates := s.free(position, role, fixed)
	if role == RoleMix && !s.enough(candidates, left) {
		return false
	}
	candidates = slices.DeleteFunc(candidates, func(n int32) bool { return !s.regionFits(position, n) })
	// Within a bound on borders, later mixes come from these candidates too.
	if role == RoleMix && bounded && !s.enough(candidates, left) {
		return false
	}
	for len(candidates) > 0 && s.visits <= searchVisits {
		s.visits += 3 * len(candidates) // counted, drawn from, thinned
		n := s.pick(candidates, role, fixed)
		s.chosen[position] = n
		if s.step(depth + 1) {
			return true
		}
		same := s.traits[n]
		candidates = slices.DeleteFunc(candidates, func(c int32) bool { return s.traits[c] == same })
	}
	return false
}

// free lists the nodes for a position that do not conflict with those placed.
func (s *searcher) free(position int, role Roles, fixed int32) []int32 {
	if fixed >= 0 {
		if s.conflicts(position, fixed) {
			return nil
		}
		return []int32{fixed}
	}
	nodes := s.pool(role).nodes
	s.visits += len(nodes)
	var out []int32
	for _, n := range nodes {
		if s.usable(n, role) && !s.conflicts(position, n) {
			out = append(out, n)
		}
	}
	return out
}

// regionFits applies the level's rule on regions to node n at a position.
func (s *searcher) regionFits(position int, n int32) bool {
	region := s.traits[n].region
	if position == s.hops-1 {
		return true
	}
	to := s.traits[s.chosen[s.hops-1]].region
	if maxBorders(s.req.Level) >= 0 {
		if position == 0 {
			return true
		}
		before := s.traits[s.chosen[position-1]].region
		return region == before || region == to
	}
	seen := uint64(1)<<to | uint64(1)<<region
	for i := range position {
		seen |= 1 << s.traits[s.chosen[i]].region
	}
	count := 0
	for ; seen != 0; seen &= seen - 1 {
		count++
	}
	left := s.hops - 2 - position
	return count+left >= minRegions(s.req.Level)
}

// enough reports whether nodes hold operators and networks for all mixes that
// are left.
func (s *searcher) enough(nodes []int32, left int) bool {
	s.stamp++
	operators, networks := s.count(nodes)
	return operators >= left && networks >= left
}

// count counts the distinct operators and networks of nodes.
func (s *searcher) count(nodes []int32) (operators, networks int) {
	for _, n := range nodes {
		t := &s.traits[n]
		if s.operators[t.operator] != s.stamp {
			s.operators[t.operator] = s.stamp
			operators++
		}
		if s.networks[t.networks[0]] != s.stamp {
			s.networks[t.networks[0]] = s.stamp
			networks++
		}
	}
	return operators, networks
}

// pick draws one of the candidates by weight; a fixed one needs none.
func (s *searcher) pick(candidates []int32, role Roles, fixed int32) int32 {
	if fixed >= 0 || len(candidates) == 1 {
		return candidates[0]
	}
	total := uint64(0)
	for _, n := range candidates {
		total += s.weight(role.number(), n)
	}
	at := s.rng.Uint64N(total)
	for _, n := range candidates {
		w := s.weight(role.number(), n)
		if at < w {
			return n
		}
		at -= w
	}
	panic("directory: pick past the last candidate")
}

// reason says in words what a request lacks, or nothing if each hop by itself
// can be had.
func (d *drawing) reason() string {
	level := strings.ToUpper(d.req.Level.String())
	entries, mixes, lasts := d.usableNodes(RoleEntry, d.entry), d.usableNodes(RoleMix, -1), d.usableNodes(d.last, d.exit)
	need := d.req.Level.Mixes()
	switch {
	case len(entries) == 0:
		return "no entry node to use" + d.avoided()
	case len(lasts) == 0 && d.last == RoleExit && d.req.Port != 0:
		return fmt.Sprintf("no exit opens port %d", d.req.Port) + d.avoided()
	case len(lasts) == 0:
		return fmt.Sprintf("no %v node to use", d.last) + d.avoided()
	case len(mixes) < need:
		return fmt.Sprintf("only %s; %s needs %d", plural(len(mixes), "mix", "mixes"), level, need) + d.avoided()
	}
	if s := d.distinct(mixes, "mixes", level, need); s != "" {
		return s
	}
	all := slices.Concat(entries, mixes, lasts)
	slices.Sort(all)
	all = slices.Compact(all)
	if s := d.distinct(all, "nodes", level, d.hops); s != "" {
		return s
	}
	var seen uint64
	regions := 0
	for _, n := range all {
		bit := uint64(1) << d.traits[n].region
		if seen&bit == 0 {
			regions++
		}
		seen |= bit
	}
	if want := minRegions(d.req.Level); regions < want {
		return fmt.Sprintf("all nodes stand in %s; %s needs %d", plural(regions, "region", "regions"), level, want)
	}
	return ""
}

func (d *drawing) usableNodes(role Roles, fixed int32) []int32 {
	if fixed >= 0 {
		return []int32{fixed}
	}
	var out []int32
	for _, n := range d.pool(role).nodes {
		if d.usable(n, role) {
			out = append(out, n)
		}
	}
	return out
}

// distinct says if nodes have fewer operators or networks than need.
func (d *drawing) distinct(nodes []int32, what, level string, need int) string {
	s := searcher{drawing: d, operators: make([]uint32, d.operatorCount), networks: make([]uint32, d.networkCount), stamp: 1}
	operators, networks := s.count(nodes)
	if operators < need {
		return fmt.Sprintf("only %s among %d %s; %s needs %d", plural(operators, "distinct operator", "distinct operators"), len(nodes), what, level, need)
	}
	if networks < need {
		return fmt.Sprintf("only %s among %d %s; %s needs %d", plural(networks, "distinct network", "distinct networks"), len(nodes), what, level, need)
	}
	return ""
}

func (d *drawing) avoided() string {
	out := ""
	if n := len(d.req.AvoidNodes) + len(d.req.AvoidEntry); n > 0 {
		out = fmt.Sprintf(" (%s avoided)", plural(n, "node is", "nodes are"))
	}
	if c := d.conditions(); c != nil {
		if n := c.shut(d.req.Crowded); n > 0 {
			out += fmt.Sprintf(" (%s overloaded, draining or not trusted)", plural(n, "node is", "nodes are"))
		}
	}
	return out
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
