package directory

import (
	"math"
	"testing"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// partialView is what a client of a document knows by a sample.
func partialView(t testing.TB, d *Document, s *Sample, have func(place int) bool) *View {
	t.Helper()
	v, err := NewPartial(d, s.Picks(d), func(place int) *Bucket {
		if !have(place) {
			return nil
		}
		b, err := ParseBucket(d.Bucket(place), &d.Header)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func all(int) bool { return true }

func TestPicksCoverTheCapacity(t *testing.T) {
	d := testDocument(t, hashedNodes(6000, 4))
	p := NewSample(prng.FromUint64(1).Stream("sample")).Picks(d)
	for role := range p {
		points := 0
		for place, n := range p[role] {
			if points += n; d.rows[place].Capacity[role] == 0 {
				t.Errorf("role %d: a point in bucket %d, which has none", role, place)
			}
		}
		if points != Points(len(d.rows)) {
			t.Errorf("role %d: %d points, not %d", role, points, Points(len(d.rows)))
		}
	}
	if places := p.Places(); len(places) < 16 || len(places) > len(d.rows)/2 {
		t.Errorf("%d of %d buckets", len(places), len(d.rows))
	}
	if Points(1<<10) != 64 || Points(1) != pointsMin || Points(MaxBuckets) != pointsMax {
		t.Errorf("points %d, %d, %d", Points(1<<10), Points(1), Points(MaxBuckets))
	}
}

// Over all samples, a node is drawn by its capacity in the whole network, in
// every place of a path. (Control: weights by capacity alone, without that of
// the bucket, prefer nodes of buckets that are picked more often.)
func TestPartialViewsDrawByCapacity(t *testing.T) {
	nodes := hashedNodes(1600, 2)
	for _, n := range nodes { // one bucket outweighs the others
		if n.Region == "region-0" && n.ID[0] < 0x10 {
			n.Capacity *= 20
		}
	}
	d := testDocument(t, nodes)
	buckets := make([]*Bucket, len(d.rows))
	for i := range buckets {
		buckets[i] = mustBucket(t, d, i)
	}
	heavy := func(n *Node) bool { return n.Region == "region-0" && n.ID[0] < 0x10 }
	want := map[Roles]float64{}
	for _, role := range []Roles{RoleEntry, RoleMix, RoleExit} {
		part, total := 0.0, 0.0
		for _, n := range d.Nodes {
			if n.Roles.Has(role) {
				if total += float64(n.Capacity); heavy(n) {
					part += float64(n.Capacity)
				}
			}
		}
		want[role] = part / total
	}
	got, draws := map[Roles]float64{}, 0.0
	rng := prng.FromUint64(2).Stream("draw")
	for seed := range uint64(150) {
		picks := NewSample(prng.FromUint64(seed).Stream("sample")).Picks(d)
		v, err := NewPartial(d, picks, func(place int) *Bucket { return buckets[place] })
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			p, err := v.Draw(rng, Request{Level: wire.High})
			if err != nil {
				t.Fatal(err)
			}
			draws++
			for i, n := range p.Nodes() {
				role, share := RoleMix, 1.0/float64(len(p.Nodes())-2)
				if i == 0 {
					role, share = RoleEntry, 1
				} else if i == len(p.Nodes())-1 {
					role, share = RoleExit, 1
				}
				if heavy(n) {
					got[role] += share
				}
			}
		}
	}
	whole := drawnShare(t, testViewOf(t, d), heavy)
	for role, w := range want {
		if g := got[role] / draws; math.Abs(g-whole[role]) > 0.03 {
			t.Errorf("%v: heavy nodes in %.3f of the draws, from the whole document in %.3f, by capacity %.3f", role, g, whole[role], w)
		}
	}
}

// drawnShare is the share of draws of each role that a property holds of.
func drawnShare(t *testing.T, v *View, of func(*Node) bool) map[Roles]float64 {
	out := map[Roles]float64{}
	rng := prng.FromUint64(3).Stream("draw")
	const draws = 6000
	for range draws {
		p, err := v.Draw(rng, Request{Level: wire.High})
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range p.Nodes() {
			role, share := RoleMix, 1.0/float64(len(p.Nodes())-2)
			if i == 0 {
				role, share = RoleEntry, 1
			} else if i == len(p.Nodes())-1 {
				role, share = RoleExit, 1
			}
			if of(n) {
				out[role] += share / draws
			}
		}
	}
	return out
}

// Regions weigh what the table says, not what was drawn of them, and a region
// that cannot be had weighs nothing: paths come from the others.
func TestPartialViewWithoutHalfOfTheBuckets(t *testing.T) {
	d := testDocument(t, hashedNodes(6000, 4))
	s := NewSample(prng.FromUint64(1).Stream("sample"))
	v := partialView(t, d, s, all)
	for i, share := range v.pools[RoleMix.number()].share {
		capacity, total := uint64(0), uint64(0)
		for _, r := range d.rows {
			if total += r.Capacity[RoleMix.number()]; r.Region == v.regions[i] {
				capacity += r.Capacity[RoleMix.number()]
			}
		}
		if want := float64(capacity) / float64(total); math.Abs(share-want) > 1e-12 {
			t.Errorf("region %s has share %v, not %v", v.regions[i], share, want)
		}
	}
	if !v.Partial() || testViewOf(t, d).Partial() {
		t.Error("a view does not know what it is")
	}
	half := partialView(t, d, s, func(place int) bool { return d.rows[place].Region < "region-2" })
	rng := prng.FromUint64(1).Stream("draw")
	for _, level := range []wire.Level{wire.Fast, wire.Standard, wire.High} {
		for range 200 {
			if _, err := half.Draw(rng, Request{Level: level}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Nodes of old buckets are drawn, unless a request leaves them out.
func TestOldBucketsAreLeftOutWhereAsked(t *testing.T) {
	old := hashedNodes(6000, 4)
	before := testDocument(t, old)
	var changed []*Node
	for _, n := range old {
		c := *n
		c.Capacity++
		changed = append(changed, &c)
	}
	d := testDocument(t, changed)
	v, err := NewPartial(d, NewSample(prng.FromUint64(1).Stream("sample")).Picks(d), func(place int) *Bucket {
		if place%2 == 0 {
			return mustBucket(t, before, place)
		}
		return mustBucket(t, d, place)
	})
	if err != nil {
		t.Fatal(err)
	}
	if !v.Stale() || testViewOf(t, d).Stale() {
		t.Error("a view does not know that part of it is old")
	}
	fresh := map[wire.NodeID]bool{}
	for place := 1; place < len(d.rows); place += 2 {
		for _, n := range mustBucket(t, d, place).Nodes {
			fresh[n.ID] = true
		}
	}
	rng := prng.FromUint64(1).Stream("draw")
	for _, only := range []bool{false, true} {
		stale := 0
		for range 200 {
			p, err := v.Draw(rng, Request{Level: wire.Standard, Fresh: only})
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range p.Nodes() {
				if !fresh[n.ID] {
					stale++
				}
			}
		}
		if (stale == 0) != only {
			t.Errorf("fresh only %v: %d nodes of old buckets in 200 paths", only, stale)
		}
	}
}

// What a node was in an old bucket gives way to one entry in the view.
func TestPartialViewKnowsANodeOnce(t *testing.T) {
	d := testDocument(t, hashedNodes(130, 1))
	old := testDocument(t, hashedNodes(100, 1)) // of half as many buckets
	picks := NewSample(prng.FromUint64(1).Stream("sample")).Picks(d)
	v, err := NewPartial(d, picks, func(place int) *Bucket {
		if place == 1 {
			return mustBucket(t, old, 0)
		}
		return mustBucket(t, d, place)
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < v.Len(); i++ {
		if compareID(v.At(i-1).ID, v.At(i).ID) >= 0 {
			t.Fatalf("node %d twice or out of order", i)
		}
	}
	if _, err := NewPartial(d, picks, func(int) *Bucket { return nil }); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}

func TestPartialDrawAllocatesNothing(t *testing.T) {
	d := testDocument(t, hashedNodes(3000, 2))
	v := partialView(t, d, NewSample(prng.FromUint64(1).Stream("sample")), all)
	rng := prng.FromUint64(1).Stream("draw")
	if a := testing.AllocsPerRun(100, func() { v.Draw(rng, Request{Level: wire.Standard}) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

// A node whose bucket is withheld is not one that has left, which a node that the
// whole document does not list has.
func TestWithheldBucketsHaveNobodyLeave(t *testing.T) {
	d := testDocument(t, hashedNodes(3000, 4))
	v := partialView(t, d, NewSample(prng.FromUint64(1).Stream("sample")), func(place int) bool { return place%2 == 0 })
	whole, err := NewView(d)
	if err != nil {
		t.Fatal(err)
	}
	withheld := 0
	for _, n := range d.Nodes {
		if _, known := v.Node(n.ID); !known {
			withheld++
		}
		if v.Draws(n.ID) != whole.Draws(n.ID) {
			t.Fatalf("node %x: %v in a part of the document", n.ID[:4], v.Draws(n.ID))
		}
	}
	if withheld == 0 || whole.Draws(id(99)) {
		t.Errorf("%d nodes are withheld; a node that nobody lists is drawn: %v", withheld, whole.Draws(id(99)))
	}
}
