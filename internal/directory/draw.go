package directory

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// The law of a draw: among all paths that satisfy the request, a path has a
// probability proportional to the product of its nodes' capacities. It is
// reached by drawing each hop by capacity and throwing the whole path away
// when it breaks a rule; where at most one border may be crossed, the regions
// are drawn first, by the weight of all paths through them. If drawsMax hops
// were not enough, as in a network of few operators, search finds a path hop
// by hop: then each hop is drawn by capacity among what the hops before it
// leave, which is no longer exactly that law. Conditions leave nodes out and
// take some of the paths drawn more often than others (conditions.go).

// Request says what a path must be.
type Request struct {
	Level wire.Level
	// Entry and Exit fix the first and the last node. Nil means drawn.
	Entry, Exit *wire.NodeID
	// Last is the role of the last node: RoleExit or RoleMeeting. Zero means
	// RoleExit.
	Last Roles
	// Port must be open in a drawn exit's policy. Zero means any.
	Port uint16
	// AvoidNodes must not be on the path; AvoidEntry not at its entry. The
	// slices are borrowed for the call.
	AvoidNodes, AvoidEntry []wire.NodeID
	// QoS is what the route is for.
	QoS QoS
	// TTL is the life that the route is wanted for; zero means RouteTTL.
	TTL time.Duration
	// Conditions leave nodes out of the draw and favour paths that serve the
	// QoS. Nil, and those of another document: neither.
	Conditions *Conditions
	// Crowded lets nodes that are overloaded or drain be drawn: for where there
	// is no path without them. Those that are not trusted stay out.
	Crowded bool
	// Fresh leaves out, of drawn nodes, those of buckets of an earlier document.
	Fresh bool
}

// Path is the nodes of a route, the entry first. Operators and networks are
// all different.
type Path struct {
	Level wire.Level
	nodes [wire.MaxHops]*Node
	n     int
}

// Nodes returns the nodes, the entry first.
func (p *Path) Nodes() []*Node { return p.nodes[:p.n] }

// Entry returns the first node.
func (p *Path) Entry() *Node { return p.nodes[0] }

// Exit returns the last node.
func (p *Path) Exit() *Node { return p.nodes[p.n-1] }

// drawsMax is how many hops are drawn before search takes over: some 100 µs.
// A network of a thousand nodes takes a hundredth of it; the rest is for small
// ones, where most draws break a rule.
const drawsMax = 4096

// maxBorders is how many borders a level crosses at most; -1 means any number.
// FAST and STANDARD choose latency.
func maxBorders(l wire.Level) int {
	if l == wire.Fast || l == wire.Standard {
		return 1
	}
	return -1
}

// minRegions is how many regions a path of a level spans at least.
func minRegions(l wire.Level) int {
	switch l {
	case wire.High:
		return 2
	case wire.Extreme:
		return 3
	}
	return 1
}

// Draw draws a path. It allocates nothing unless it has to search. An error
// wraps ErrNoPath and says what is missing.
func (v *View) Draw(rng *prng.Stream, req Request) (Path, error) {
	d, err := v.draw(rng, req)
	if err != nil {
		return Path{}, err
	}
	return d.path(), nil
}

func (v *View) draw(rng *prng.Stream, req Request) (drawing, error) {
	d := drawing{index: v.index, rng: rng, req: req, hops: req.Level.Hops(), last: req.Last}
	if d.last == 0 {
		d.last = RoleExit
	}
	if err := d.begin(); err != nil {
		return d, err
	}
	var passed [wire.MaxHops]int32 // the last path that was not favoured
	found := false
	for d.draws < drawsMax {
		if !d.attempt() {
			continue
		}
		if d.favoured() {
			return d, nil
		}
		passed, found = d.chosen, true
	}
	if found {
		d.chosen = passed
		return d, nil
	}
	err := d.search()
	return d, err
}

// drawing is the state of one Draw. chosen[i] is the node at position i.
type drawing struct {
	*index
	rng         *prng.Stream
	req         Request
	last        Roles
	hops        int
	entry, exit int32 // fixed nodes, or -1
	chosen      [wire.MaxHops]int32
	regions     [wire.MaxHops]uint8 // where the region of each hop is given
	draws       int
}

func (d *drawing) path() Path {
	p := Path{Level: d.req.Level, n: d.hops}
	for i := range d.hops {
		p.nodes[i] = d.doc.Nodes[d.chosen[i]]
	}
	return p
}

// begin checks the request and finds the fixed nodes.
func (d *drawing) begin() (err error) {
	if !d.req.Level.Valid() {
		return fmt.Errorf("%w: unknown level %d", ErrNoPath, d.req.Level)
	}
	if d.last != RoleExit && d.last != RoleMeeting {
		return fmt.Errorf("%w: a path ends at an exit or a meeting point, not %v", ErrNoPath, d.last)
	}
	d.entry, d.exit = -1, -1
	if d.req.Entry != nil {
		if d.entry, err = d.fixed(d.req.Entry, RoleEntry); err != nil {
			return err
		}
	}
	if d.req.Exit != nil {
		if d.exit, err = d.fixed(d.req.Exit, d.last); err != nil {
			return err
		}
	}
	if d.entry >= 0 && d.exit >= 0 && d.traits[d.entry].conflict(&d.traits[d.exit]) {
		return fmt.Errorf("%w: the requested entry and exit share an operator or a network", ErrNoPath)
	}
	return nil
}

func (d *drawing) fixed(asked *wire.NodeID, role Roles) (int32, error) {
	i, ok := d.find(*asked)
	short := func() string { return hex.EncodeToString(asked[:4]) }
	switch {
	case !ok:
		return -1, fmt.Errorf("%w: the requested %v %s is not in the directory", ErrNoPath, role, short())
	case !d.doc.Nodes[i].Roles.Has(role):
		return -1, fmt.Errorf("%w: node %s is %v, not %v", ErrNoPath, short(), d.doc.Nodes[i].Roles, role)
	case slices.Contains(d.req.AvoidNodes, *asked) || role == RoleEntry && slices.Contains(d.req.AvoidEntry, *asked):
		return -1, fmt.Errorf("%w: the requested %v %s is also to be avoided", ErrNoPath, role, short())
	}
	return int32(i), nil
}

// attempt draws a whole path and reports whether it satisfies the request.
// The last hop comes first, because it is the one that fails most.
func (d *drawing) attempt() bool {
	bounded := maxBorders(d.req.Level) >= 0
	if bounded && !d.drawRegions() {
		d.draws = drawsMax // no weight anywhere: leave it to search to say why
		return false
	}
	if !d.place(d.hops-1, d.last, d.exit, bounded) || !d.place(0, RoleEntry, d.entry, bounded) {
		return false
	}
	for i := 1; i < d.hops-1; i++ {
		if !d.place(i, RoleMix, -1, bounded) {
			return false
		}
	}
	return bounded || d.countRegions() >= minRegions(d.req.Level)
}

// place puts a node at position i: the fixed one, or one drawn from the pool
// of role, in the position's region if bounded.
func (d *drawing) place(i int, role Roles, fixed int32, bounded bool) bool {
	d.draws++
	n := fixed
	if n < 0 {
		p := d.pool(role)
		lo, hi := int32(0), int32(len(p.nodes))
		if bounded {
			lo, hi = p.start[d.regions[i]], p.start[d.regions[i]+1]
		}
		if lo == hi {
			return false
		}
		n = p.draw(d.rng, lo, hi)
		if !d.usable(n, role) {
			return false
		}
	}
	d.chosen[i] = n
	return !d.conflicts(i, n)
}

// draw draws a node of nodes[lo:hi] by capacity. lo < hi.
func (p *pool) draw(rng *prng.Stream, lo, hi int32) int32 {
	at := p.sum[lo] + rng.Uint64N(p.sum[hi]-p.sum[lo])
	for hi-lo > 1 {
		mid := int32(uint32(lo+hi) >> 1)
		if p.sum[mid] <= at {
			lo = mid
		} else {
			hi = mid
		}
	}
	return p.nodes[lo]
}

// usable reports whether the request allows a drawn node in a role.
func (d *drawing) usable(n int32, role Roles) bool {
	node := d.doc.Nodes[n]
	if c := d.conditions(); c != nil && !c.open(n, d.req.Crowded) {
		return false
	}
	if role == RoleExit && !node.Exit.Allows(d.req.Port) {
		return false
	}
	if slices.Contains(d.req.AvoidNodes, node.ID) || d.req.Fresh && d.part != nil && d.part.stale[n] {
		return false
	}
	return role != RoleEntry || !slices.Contains(d.req.AvoidEntry, node.ID)
}

// conflicts reports whether node n conflicts with one placed before position
// i, in the order last, entry, mixes.
func (d *drawing) conflicts(i int, n int32) bool {
	if i == d.hops-1 {
		return false
	}
	t := &d.traits[n]
	if t.conflict(&d.traits[d.chosen[d.hops-1]]) {
		return true
	}
	for j := range i {
		if t.conflict(&d.traits[d.chosen[j]]) {
			return true
		}
	}
	return false
}

// countRegions counts the regions of a whole path.
func (d *drawing) countRegions() int {
	var seen uint64 // MaxRegions bits
	count := 0
	for i := range d.hops {
		bit := uint64(1) << d.traits[d.chosen[i]].region
		if seen&bit == 0 {
			count++
		}
		seen |= bit
	}
	return count
}
