package directory

import (
	"bytes"
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
	hash   digest
	raw    []byte
	signed *signedBulletinWire // until it is verified
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
	p, by, err := o.open(b)
	if err != nil {
		return false, err
	}
	if held := o.held[by]; held != nil && p.Round <= held.Round {
		switch {
		case p.Round < held.Round:
			return false, fmt.Errorf("%w: round %d of an authority after round %d", ErrRollback, p.Round, held.Round)
		case p.hash != held.hash:
			return false, fmt.Errorf("%w: two bulletins of one authority for round %d", ErrConflict, p.Round)
		}
		return false, nil
	}
	if err := o.verify(by, p); err != nil {
		return false, err
	}
	o.held[by] = p
	return true, nil
}

// AcceptBundle takes over the bulletins that a server hands out, which are kept;
// it reports whether there is news among them. A bundle is refused whole, and the
// board stays as it is,
//
//   - if a bulletin in it is no authority's: ErrMalformed, ErrSignature and so on;
//   - if fewer authorities than the threshold speak in it: ErrThreshold;
//   - if it was replaced long ago: the last round that a threshold has reached in
//     it is more than BulletinAge before that of the board: ErrRollback.
//
// That an authority says two things in one round, or takes a step back, is no
// fault of who hands it out: its bulletin of before stays.
func (o *Board) AcceptBundle(b []byte) (news bool, err error) {
	all, err := ParseBundle(b)
	if err != nil {
		return false, err
	}
	said := make([]*posted, len(o.held))
	for _, raw := range all {
		p, by, err := o.open(raw)
		if err != nil {
			return false, err
		}
		if held := o.held[by]; held == nil || !bytes.Equal(raw, held.raw) {
			if err := o.verify(by, p); err != nil {
				return false, err
			}
		}
		said[by] = p
	}
	reached, enough := lastRound(said, o.trust.Threshold)
	if !enough {
		return false, fmt.Errorf("%w: %d bulletins, and fewer than %d authorities", ErrThreshold, len(all), o.trust.Threshold)
	}
	if held, known := lastRound(o.held, o.trust.Threshold); known && held > reached+uint64(BulletinAge/RoundLength) {
		return false, fmt.Errorf("%w: bulletins of round %d after round %d", ErrRollback, reached, held)
	}
	for by, p := range said {
		if held := o.held[by]; p != nil && (held == nil || p.Round > held.Round) {
			o.held[by], news = p, true
		}
	}
	return news, nil
}

// open parses a bulletin of this network and says whose it claims to be.
func (o *Board) open(b []byte) (p *posted, by int, err error) {
	m, w, err := parseBulletin(b)
	if err != nil {
		return nil, 0, err
	}
	if m.Network != o.trust.Network {
		return nil, 0, fmt.Errorf("%w: the bulletin is of %q, this network is %q", ErrNetwork, m.Network, o.trust.Network)
	}
	by = slices.IndexFunc(o.trust.Authorities, func(key []byte) bool { return AuthorityID(key) == digest(w.Authority) })
	if by < 0 {
		return nil, 0, fmt.Errorf("%w: bulletin of an unknown authority", ErrThreshold)
	}
	return &posted{*m, seal.Hash("directory bulletin", w.Body), b, w}, by, nil
}

// verify checks the signature of an authority, and lets go of what only that needs.
func (o *Board) verify(by int, p *posted) error {
	w := p.signed
	p.signed = nil
	if seal.Verify(o.trust.Authorities[by], bulletinContext, w.Body, w.Signature) != nil {
		return fmt.Errorf("%w: bulletin of round %d", ErrSignature, p.Round)
	}
	return nil
}

// lastRound is the last round that need of the bulletins have reached.
func lastRound(all []*posted, need int) (round uint64, ok bool) {
	var rounds []uint64
	for _, p := range all {
		if p != nil {
			rounds = append(rounds, p.Round)
		}
	}
	if len(rounds) < need {
		return 0, false
	}
	slices.Sort(rounds)
	return rounds[len(rounds)-need], true
}

// Late reports whether a threshold of authorities has not spoken within
// BulletinAge of now, in seconds since 1970: there is news, and who asks for it is
// not given it, or no authority is heard by anybody.
func (o *Board) Late(now int64) bool {
	round, enough := lastRound(o.held, o.trust.Threshold)
	return !enough || now-int64(round*roundSeconds) >= int64(BulletinAge/time.Second)
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
	last, enough := lastRound(o.held, need)
	if !enough {
		return nil, 0
	}
	now = max(now, int64(last*roundSeconds))
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
