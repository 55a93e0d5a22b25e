package directory

import (
	"math/bits"
	"slices"

	"github.com/nyxnet/nyx/internal/prng"
)

// A client of a big network knows the table and the nodes of some buckets only.
// Which ones it draws itself, by capacity and for each role: the law of a draw
// from what it knows is then, over all that it could have drawn, that of a draw
// from the whole. A point is drawn in each of so many equal parts of a role's
// capacity; the bucket that holds it is taken, and weighs as much as the points
// in it. So a node is drawn with probability
//
//	points of the bucket / all points · node's capacity / bucket's capacity
//
// and points fall into a bucket by its capacity. The points are the same parts
// for all roles, so that nodes with several are not fetched several times, and
// the same for every document, so that a series of fetches tells no more than
// the first.

// WholeMax is the number of nodes up to which a client fetches the whole
// document: some 2.5 MB.
const WholeMax = 1024

const (
	// pointsMin is the least number of points, for 1,500 nodes or so; a table of
	// more than pointsMin·pointsShare buckets has a point for each pointsShare of
	// them, so that no node is known to less than a sixteenth of all clients.
	pointsMin   = 32
	pointsShare = 16
	pointsMax   = (MaxBuckets + pointsShare - 1) / pointsShare
)

// Sample is a client's own choice of buckets, for every table: drawn once, and
// kept to itself.
type Sample struct{ at [pointsMax]uint64 }

// NewSample draws a sample.
func NewSample(rng *prng.Stream) *Sample {
	s := &Sample{}
	for i := range s.at {
		s.at[i] = rng.Uint64()
	}
	return s
}

// Picks are the points that fall into each bucket of a table, by role and place.
type Picks [roleCount]map[int]int

// Points is the number of points for a table of so many buckets.
func Points(buckets int) int { return max(pointsMin, (buckets+pointsShare-1)/pointsShare) }

// Picks applies the sample to the table of a document.
func (s *Sample) Picks(d *Document) (p Picks) {
	points := uint64(Points(len(d.rows)))
	for role := range p {
		p[role] = map[int]int{}
		total := uint64(0)
		for i := range d.rows {
			total += d.rows[i].Capacity[role]
		}
		if total == 0 {
			continue
		}
		place, below := 0, uint64(0) // the capacity of the rows before place
		for i := range points {
			from, to := total*i/points, total*(i+1)/points
			off, _ := bits.Mul64(s.at[i], to-from)
			for below+d.rows[place].Capacity[role] <= from+off {
				below += d.rows[place].Capacity[role]
				place++
			}
			p[role][place]++
		}
	}
	return p
}

// Places lists the buckets with a point in them, in order.
func (p *Picks) Places() (out []int) {
	for role := range p {
		for place := range p[role] {
			out = append(out, place)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// part is what a partial view adds to an index.
type part struct {
	table   *Document
	weights [roleCount][]uint64 // of nodes
	stale   []bool              // of nodes: they stand in an older bucket
	some    bool                // one is
}

// NewPartial makes a View of a table and those of its buckets that could be
// had, by place: nil for one that could not. A bucket of an older table stands
// in for the present one. Paths are drawn by the picks. Document of the View is
// the table with the nodes that are known.
func NewPartial(d *Document, picks Picks, bucket func(place int) *Bucket) (*View, error) {
	known := *d
	known.Nodes = nil
	type origin struct{ b, n int32 }
	var buckets []*Bucket
	var places []int
	for _, place := range picks.Places() {
		if b := bucket(place); b != nil {
			buckets, places = append(buckets, b), append(places, place)
		}
	}
	var from []origin
	for i, b := range buckets {
		for j := range b.Nodes {
			from = append(from, origin{int32(i), int32(j)})
		}
	}
	node := func(o origin) *Node { return buckets[o.b].Nodes[o.n] }
	slices.SortStableFunc(from, func(a, b origin) int { return compareID(node(a).ID, node(b).ID) })
	// A node that has moved stands in an old bucket and in a new one.
	from = slices.CompactFunc(from, func(a, b origin) bool { return node(a).ID == node(b).ID })
	p := &part{table: d}
	for _, o := range from {
		n := node(o)
		stale := buckets[o.b].Row != d.rows[places[o.b]]
		p.stale, p.some = append(p.stale, stale), p.some || stale
		known.Nodes = append(known.Nodes, n)
		for role := range p.weights {
			w := uint64(0)
			if whole := buckets[o.b].Capacity[role]; n.Roles.Has(1<<role) && whole > 0 {
				// points · capacity < 2^44, and capacity ≤ whole: nothing overflows.
				hi, lo := bits.Mul64(uint64(picks[role][places[o.b]])*uint64(n.Capacity), 1<<32)
				w, _ = bits.Div64(hi, lo, whole)
			}
			p.weights[role] = append(p.weights[role], w)
		}
	}
	return newView(&known, p)
}

// Partial reports whether the view knows only some of the nodes.
func (v *View) Partial() bool { return v.part != nil }

// Stale reports whether some nodes of the view stand in buckets of an earlier
// document: what has become of them since is not known.
func (v *View) Stale() bool { return v.part != nil && v.part.some }

// correct puts the regions' shares of a role right: those of the points are near
// the truth, those of the table are it. A region of which nothing is known has
// none.
func (p *part) correct(role int, regions []string, share []float64) {
	capacity, total := make([]uint64, len(regions)), uint64(0)
	for i := range p.table.rows {
		r := &p.table.rows[i]
		if at, ok := slices.BinarySearch(regions, r.Region); ok && share[at] > 0 {
			capacity[at] += r.Capacity[role]
			total += r.Capacity[role]
		}
	}
	for i := range share {
		if share[i] > 0 && total > 0 {
			share[i] = float64(capacity[i]) / float64(total)
		}
	}
}
