package obfs

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// lagMax is how far a shaper catches up with slots that it missed, because
// the process was held up. Beyond it they are left out: a burst of more than a
// second's slots would be seen by everybody and carry nothing.
const lagMax = time.Second

// Shaper is the sending schedule of one direction of one route.
//
// The owner asks NextSlot, and for each slot that Take yields emits exactly
// one cell, real or dummy, and says which by Emitted. Whether the cells were
// real reaches nothing but the next review's choice of class.
type Shaper struct {
	policy  Policy
	class   Class
	phases  *prng.Stream
	reviews *prng.Stream

	next   machine.Time // next slot
	review machine.Time // next review
	stay   machine.Time // the class is not lowered before
	real   uint64       // real cells since the last review
	all    uint64       // all cells since the last review
}

// NewShaper returns the shaper of a route's direction. rng is the direction's
// own source.
func NewShaper(p Policy, rng prng.Source, now machine.Time) *Shaper {
	s := &Shaper{policy: p, class: p.Floor, next: machine.Never, review: machine.Never}
	if p.Floor == 0 {
		return s
	}
	s.phases, s.reviews = rng.Stream("phases"), rng.Stream("reviews")
	s.next = now.Add(s.phase())
	if p.Ceiling > p.Floor {
		s.review = now.Add(s.reviewGap())
	}
	return s
}

// Shaped reports whether this shaper has slots; without, cells leave at once.
func (s *Shaper) Shaped() bool { return s.class != 0 }

// Class is the present class.
func (s *Shaper) Class() Class { return s.class }

// NextSlot is the time of the next slot, or Never without shaping.
func (s *Shaper) NextSlot() machine.Time { return s.next }

// Take consumes the next slot if its time has come. The caller then emits one
// cell. A change of class, if a review was due, is reported by changed.
func (s *Shaper) Take(now machine.Time) (due, changed bool) {
	if now < s.next {
		return false, false
	}
	if lag := now.Sub(s.next); lag > lagMax {
		s.next = now.Add(-(lag % s.class.Period())) // the phase stays
	}
	if s.next >= s.review {
		changed = s.look()
	}
	gap := s.class.Period()
	if changed {
		gap = s.phase()
	}
	s.next = s.next.Add(gap)
	return true, changed
}

// Emitted says what went into the slot just taken.
func (s *Shaper) Emitted(real bool) {
	s.all++
	if real {
		s.real++
	}
}

// look is a review: one step up when the class is used beyond its target, one
// step down when it is hardly used and has been kept long enough.
func (s *Shaper) look() bool {
	at, before := s.review, s.class
	switch use := s.use(); {
	case use > targetUse:
		s.class = s.policy.above(s.class)
		s.stay = at.Add(s.policy.MinStay)
	case use < lowUse && at >= s.stay:
		s.class = s.policy.below(s.class)
	}
	s.real, s.all = 0, 0
	s.review = max(s.review, s.next).Add(s.reviewGap())
	return s.class != before
}

// use is the share of real cells since the last review, in percent.
func (s *Shaper) use() uint64 {
	if s.all == 0 {
		return 0
	}
	return s.real * 100 / s.all
}

// phase draws where in a period the slots of the present class lie. Each class
// that a direction comes to has a phase of its own, so that nothing of the last
// one, nor of another route, is in it.
func (s *Shaper) phase() time.Duration {
	return 1 + time.Duration(s.phases.Uint64N(uint64(s.class.Period())))
}

func (s *Shaper) reviewGap() time.Duration {
	r := uint64(s.policy.Review)
	return time.Duration(r*3/4 + s.reviews.Uint64N(r/2+1))
}
