package directory

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Board holds the newest bulletin of each authority and combines them. Each
// client and node does so for itself: there is no agreement among authorities,
// and one of them alone moves nothing. It belongs to one goroutine.
type Board struct {
	trust Trust
	held  []*posted // by authority of trust; nil: none
}

type posted struct {
	Bulletin
	hash digest
	raw  []byte
}

// NewBoard returns a board without bulletins.
func NewBoard(trust Trust) (*Board, error) {
	if err := trust.validate(); err != nil {
		return nil, err
	}
	trust.Authorities = slices.Clone(trust.Authorities)
	return &Board{trust: trust, held: make([]*posted, len(trust.Authorities))}, nil
}

// Accept verifies a bulletin and keeps it in place of an older one of the same
// authority; it reports whether it is news. b is kept.
func (o *Board) Accept(b []byte) (news bool, err error) {
	m, w, err := parseBulletin(b)
	if err != nil {
		return false, err
	}
	if m.Network != o.trust.Network {
		return false, fmt.Errorf("%w: the bulletin is of %q, this network is %q", ErrNetwork, m.Network, o.trust.Network)
	}
	by := slices.IndexFunc(o.trust.Authorities, func(key []byte) bool { return AuthorityID(key) == digest(w.Authority) })
	if by < 0 {
		return false, fmt.Errorf("%w: bulletin of an unknown authority", ErrThreshold)
	}
	hash := seal.Hash("directory bulletin", w.Body)
	if held := o.held[by]; held != nil && m.Round <= held.Round {
		switch {
		case m.Round < held.Round:
			return false, fmt.Errorf("%w: round %d of an authority after round %d", ErrRollback, m.Round, held.Round)
		case hash != held.hash:
			return false, fmt.Errorf("%w: two bulletins of one authority for round %d", ErrConflict, m.Round)
		}
		return false, nil
	}
	if seal.Verify(o.trust.Authorities[by], bulletinContext, w.Body, w.Signature) != nil {
		return false, fmt.Errorf("%w: bulletin of round %d", ErrSignature, m.Round)
	}
	o.held[by] = &posted{*m, hash, b}
	return true, nil
}

// Bulletins returns the newest of each authority, in the order of the trust:
// who holds a board hands them out to others.
func (o *Board) Bulletins() (all [][]byte) {
	for _, p := range o.held {
		if p != nil {
			all = append(all, p.raw)
		}
	}
	return all
}

// Plans are the cover plans that authorities propose, of each the last: a plan has
// an epoch, which says how long it counts.
func (o *Board) Plans() (all []*wire.CoverPlan) {
	for _, p := range o.held {
		if p != nil && p.Plan != nil {
			all = append(all, p.Plan)
		}
	}
	return all
}

// Seats is how many authorities have a place on the board, and the threshold.
func (o *Board) Seats() (seats, threshold int) { return len(o.held), o.trust.Threshold }

// Conditions combines what counts at wall, in seconds since 1970, for the
// document of v, and says for how long. It returns nil if fewer authorities
// than the threshold have spoken within BulletinAge: then nothing is known, and
// paths are drawn as without conditions.
//
//   - A flag counts when as many authorities as the threshold say so.
//   - A figure of a node is the median over all authorities of the document;
//     who says nothing counts as saying nothing ill.
//   - A delay is the median of at least a threshold of authorities, the greater
//     of two.
//
// A clock that is late is put right by the bulletins as by documents: the time
// of the k-th latest has passed. One that is early by more than BulletinAge
// finds nothing that counts.
func (o *Board) Conditions(v *View, wall int64) (c *Conditions, left time.Duration) {
	need := max(o.trust.Threshold, v.doc.Threshold)
	now := v.doc.Now(wall)
	var times []int64
	for _, p := range o.held {
		if p != nil {
			times = append(times, int64(p.Round*roundSeconds))
		}
	}
	if len(times) < need {
		return nil, 0
	}
	slices.Sort(times)
	now = max(now, times[len(times)-need])
	const age = int64(BulletinAge / time.Second)
	var counting []*posted
	end := now + age
	for _, p := range o.held {
		if p == nil {
			continue
		}
		if at := int64(p.Round * roundSeconds); now-at < age && at-now <= age {
			counting, end = append(counting, p), min(end, at+age)
		}
	}
	if len(counting) < need {
		return nil, 0
	}
	c = newConditions(v.index)
	c.combineNodes(counting, need)
	c.combineDelays(counting, need)
	return c, time.Duration(end-now) * time.Second
}

func (x *index) findShort(n Short) (int, bool) {
	return slices.BinarySearchFunc(x.doc.Nodes, n, func(node *Node, n Short) int { return cmp.Compare(ShortOf(node.ID), n) })
}

// spoken is what one authority says of a node.
type spoken struct {
	node int32
	State
}

func (c *Conditions) combineNodes(counting []*posted, need int) {
	var all []spoken
	for _, p := range counting {
		for _, n := range p.Nodes {
			if i, ok := c.findShort(n.Node); ok {
				all = append(all, spoken{int32(i), n.State})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b spoken) int { return cmp.Compare(a.node, b.node) })
	seats := max(c.doc.Authorities, len(counting))
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].node == all[0].node {
			n++
		}
		c.states[all[0].node] = combine(all[:n], need, seats)
		all = all[n:]
	}
}

// combine makes one state of what some of the authorities say of a node.
func combine(said []spoken, need, seats int) State {
	out := quiet
	for bit := Overloaded; bit <= Distrusted; bit <<= 1 {
		n := 0
		for _, s := range said {
			if s.Flags&bit != 0 {
				n++
			}
		}
		if n >= need {
			out.Flags |= bit
		}
	}
	figure := func(of func(State) int) int {
		values := make([]int, seats)
		for i := range values {
			values[i] = of(quiet)
			if i < len(said) {
				values[i] = of(said[i].State)
			}
		}
		slices.Sort(values) // the worst last
		return values[(seats-1)/2]
	}
	out.Score = uint8(-figure(func(s State) int { return -int(s.Score) }))
	out.Load = uint8(figure(func(s State) int { return int(s.Load) }))
	out.Queue = uint16(figure(func(s State) int { return int(s.Queue) }))
	return out
}

func (c *Conditions) combineDelays(counting []*posted, need int) {
	said := map[[2]int][]uint16{}
	for _, p := range counting {
		for _, d := range p.Delays {
			from, found := slices.BinarySearch(c.regions, d.From)
			to, also := slices.BinarySearch(c.regions, d.To)
			if found && also {
				said[[2]int{from, to}] = append(said[[2]int{from, to}], d.Millis)
			}
		}
	}
	sum, known := 0, 0
	for pair, values := range said {
		if len(values) < need {
			delete(said, pair)
			continue
		}
		slices.Sort(values)
		sum += int(values[len(values)/2])
		known++
	}
	if known == 0 {
		return
	}
	r := len(c.regions)
	c.delay = make([]uint16, r*r)
	for i := range c.delay {
		c.delay[i] = uint16(sum / known) // of a pair that nobody knows: the mean of the others
	}
	for pair, values := range said {
		middle := values[len(values)/2]
		c.delay[pair[0]*r+pair[1]], c.delay[pair[1]*r+pair[0]] = middle, middle
		c.told = append(c.told, Delay{From: c.regions[pair[0]], To: c.regions[pair[1]], Millis: middle})
	}
	slices.SortFunc(c.told, Delay.compare)
	c.findBest()
}
