package directory

import (
	"math"
	"math/bits"
	"slices"

	"github.com/nyxnet/nyx/internal/wire"
)

// ParamScoreMin names the parameter below which score a node is left out.
const ParamScoreMin = "score-min"

// DefaultScoreMin is score-min where a document does not name it.
const DefaultScoreMin = 50

// Conditions are how the nodes of one document are now, as a threshold of
// authorities says (Board). They do not change. A nil *Conditions says nothing,
// and so do those of another document.
type Conditions struct {
	*index
	scoreMin uint8
	states   []State  // by node
	delay    []uint16 // ms, by pair of regions; nil: not known
	told     []Delay  // those of which it is made
	// best[level][r] is the least round trip over the hops of a path that ends
	// in region r, in ms; noPath if there is none.
	best [wire.Extreme + 1][]uint32
}

const noPath = math.MaxUint32

func newConditions(x *index) *Conditions {
	c := &Conditions{index: x, scoreMin: DefaultScoreMin, states: make([]State, len(x.doc.Nodes))}
	if v, ok := x.doc.Params.Value(ParamScoreMin); ok {
		c.scoreMin = uint8(min(max(v, 0), ScoreMax))
	}
	for i := range c.states {
		c.states[i] = quiet
	}
	return c
}

// State returns the combined state of a node; that of which nothing is said if
// it is unknown.
func (c *Conditions) State(id wire.NodeID) State {
	if c != nil {
		if i, ok := c.find(id); ok {
			return c.states[i]
		}
	}
	return quiet
}

// Leaves reports whether routes are to leave a node: it drains, is distrusted,
// or its score is below the least.
func (c *Conditions) Leaves(id wire.NodeID) bool {
	if c == nil {
		return false
	}
	i, ok := c.find(id)
	return ok && (c.states[i].Flags&Draining != 0 || c.distrusted(int32(i)))
}

func (c *Conditions) distrusted(n int32) bool {
	return c.states[n].Flags&Distrusted != 0 || c.states[n].Score < c.scoreMin
}

// open reports whether a node takes new routes. crowded lets those that are
// overloaded or drain.
func (c *Conditions) open(n int32, crowded bool) bool {
	return !c.distrusted(n) && (crowded || c.states[n].Flags == 0)
}

// shut counts the nodes that take no new routes.
func (c *Conditions) shut(crowded bool) (n int) {
	for i := range c.states {
		if !c.open(int32(i), crowded) {
			n++
		}
	}
	return n
}

// findBest fills best: hop by hop, the least delay to each region by the number
// of borders crossed, which stands in for the number of regions. For EXTREME it
// may lie below the real least, where the way there and back between two
// regions is shorter than that through three.
func (c *Conditions) findBest() {
	r := len(c.regions)
	entries, mixes := c.pool(RoleEntry).share, c.pool(RoleMix).share
	for level := wire.Fast; level <= wire.Extreme; level++ {
		need, most := minRegions(level)-1, maxBorders(level)
		count := max(need, most) + 1 // of borders, the last standing for more
		at := make([]uint32, r*count)
		for i := range at {
			at[i] = noPath
			if i%count == 0 && entries[i/count] > 0 {
				at[i] = 0
			}
		}
		hops := level.Hops()
		for hop := 1; hop < hops; hop++ {
			next := make([]uint32, r*count)
			for i := range next {
				next[i] = noPath
			}
			for i, d := range at {
				if d == noPath {
					continue
				}
				from, crossed := i/count, i%count
				for to := range r {
					if hop < hops-1 && mixes[to] == 0 {
						continue
					}
					borders := crossed
					if to != from {
						borders++
					}
					if borders == count {
						if most >= 0 {
							continue
						}
						borders--
					}
					p := &next[to*count+borders]
					*p = min(*p, d+uint32(c.delay[from*r+to]))
				}
			}
			at = next
		}
		best := make([]uint32, r)
		for region := range best {
			best[region] = noPath
			for borders := need; borders < count; borders++ {
				best[region] = min(best[region], at[region*count+borders])
			}
		}
		c.best[level] = best
	}
}

// The law with conditions (docs/protocol.md, section 7.6). A path that the law
// of capacities draws is taken with a chance between 2^−share and 1:
//
//	chance = floor + (1 − floor) · h,  floor = 2^−share
//
// where h falls from 1 to 0 as the path is worse for its purpose. So no path
// becomes more than 2^share times as likely as capacities alone make it,
// whatever anybody says of delays and loads, and the min-entropy of the choice
// falls by at most share bits.

// share is how many bits of the choice a level gives for better paths.
func share(l wire.Level) uint {
	switch l {
	case wire.High:
		return 2
	case wire.Extreme:
		return 1
	}
	return 3
}

const (
	one = 1 << 16 // chances count in this unit
	// halving is the round trip beyond the best, in ms, that halves h: what a
	// person begins to feel in an answer.
	halving = 20
)

// favoured decides whether a path that was drawn is taken.
func (d *drawing) favoured() bool {
	c := d.conditions()
	if c == nil {
		return true
	}
	chance := chanceOf(d.req.Level, d.fitness(c))
	return chance >= one || d.rng.Uint64N(one) < chance
}

// chanceOf is the chance of a path at a level, by h.
func chanceOf(l wire.Level, h uint64) uint64 {
	floor := uint64(one) >> share(l)
	return floor + (one-floor)*h/one
}

// Chance is that with which a path which stands would be taken now, by the delays between
// its hops alone: what single nodes say of themselves does not count, so that none of them
// has routes leave it. Its unit is of no matter; ok is false where delays are not known.
func (c *Conditions) Chance(l wire.Level, path *Path) (chance uint64, ok bool) {
	if c == nil || c.delay == nil {
		return 0, false
	}
	trip, last := uint32(0), -1
	for _, n := range path.Nodes() {
		region, known := slices.BinarySearch(c.regions, n.Region)
		if !known {
			return 0, false
		}
		if last >= 0 {
			trip += uint32(c.delay[last*len(c.regions)+region])
		}
		last = region
	}
	return chanceOf(l, nearness(trip-min(c.best[l][last], trip))), true
}

// conditions are those of the request, if they are of this document.
func (d *drawing) conditions() *Conditions {
	if c := d.req.Conditions; c != nil && c.index == d.index {
		return c
	}
	return nil
}

// fitness is h. Nodes that the request fixes say nothing of the choice.
func (d *drawing) fitness(c *Conditions) uint64 {
	if d.req.QoS == Bulk {
		load := uint8(0)
		for i := range d.hops {
			if !d.isFixed(i) {
				load = max(load, c.states[d.chosen[i]].Load)
			}
		}
		return one * uint64(LoadMax-load) / LoadMax
	}
	trip, best := c.roundTrip(d.chosen[:d.hops]), d.bestTrip(c)
	for i := range d.hops {
		if !d.isFixed(i) {
			trip += uint32(c.states[d.chosen[i]].Queue)
		}
	}
	return nearness(trip - min(best, trip))
}

// nearness is h of a path whose round trip exceeds the best by so many ms.
func nearness(excess uint32) uint64 {
	if excess/halving >= uint32(bits.Len64(one)) {
		return 0
	}
	h := uint64(one) >> (excess / halving)
	return h - h/2*uint64(excess%halving)/halving
}

func (d *drawing) isFixed(i int) bool {
	return i == 0 && d.entry >= 0 || i == d.hops-1 && d.exit >= 0
}

// roundTrip is the sum of the delays between the hops of a path, in ms.
func (c *Conditions) roundTrip(nodes []int32) (sum uint32) {
	if c.delay == nil {
		return 0
	}
	for i := 1; i < len(nodes); i++ {
		sum += uint32(c.delay[int(c.traits[nodes[i-1]].region)*len(c.regions)+int(c.traits[nodes[i]].region)])
	}
	return sum
}

// bestTrip is the least round trip that the request can have.
func (d *drawing) bestTrip(c *Conditions) uint32 {
	if c.delay == nil {
		return 0
	}
	best := c.best[d.req.Level]
	if d.exit >= 0 {
		return best[d.traits[d.exit].region]
	}
	p, least := d.pool(d.last), uint32(noPath)
	for r := range best {
		if p.start[r] < p.start[r+1] {
			least = min(least, best[r])
		}
	}
	return least
}
