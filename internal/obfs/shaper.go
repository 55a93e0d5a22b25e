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
// The owner asks NextSlot, and for each slot that Take yields makes exactly one
// cell, real or dummy, and says which by Emitted. A client sends it when Spread
// says, the end of a route at once. Whether the cells were real reaches nothing
// but the next review's choice of class.
type Shaper struct {
	policy  Policy
	class   Class
	phases  *prng.Stream
	spread  *prng.Stream
	pool    *prng.Stream // nil where nothing stays
	reviews *prng.Stream

	next   machine.Time // next slot
	taken  machine.Time // the last slot that took in
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
	s.spread = rng.Stream("spread")
	s.next = now.Add(s.phase())
	if p.Floor < poolBelow {
		s.pool = rng.Stream("pool")
	}
	s.taken = now.Add(-p.Floor.Period())
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

// Intake reports whether the far end of a route takes in what has come on it
// at the slot that Take will yield next. A class above the floor does not take
// in more often than the floor: a period of any class in which the near end may
// send fits into one of the floor a whole number of times, so that however the
// two clocks lie to each other, as many cells are to be expected in each.
func (s *Shaper) Intake() bool {
	if s.next.Sub(s.taken) < s.policy.Floor.Period() {
		return false
	}
	s.taken = s.next
	return true
}

// poolBelow is the class below which what a far end takes in goes through a
// pool. A period of 20 ms or 50 ms is longer than the mixes of STANDARD scatter
// cells: how often two of them meet in one tick of the far end would tell where
// the two clocks lie to each other, after a minute of use.
const poolBelow Class = 100

// Stays reports whether a packet that could be taken in now waits for another
// intake: in a pool every second one does, whenever it came.
func (s *Shaper) Stays() bool { return s.pool != nil && s.pool.Uint32()&1 == 0 }

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

// spreadMax bounds what Spread draws: it is paid by every cell, and some tens of
// times what the lateness of a process varies by.
const spreadMax = 10 * time.Millisecond

// Spread draws how long the cell of the slot just taken waits before it is
// sent, and how long a mix is to hold it then: together a period, or spreadMax
// if that is shorter. The slots so stay a clock for all that comes after the
// mix. On the wire before it they are moments without order, among which it
// does not show that a busy process is late more often than an idle one.
func (s *Shaper) Spread() (wait, hold time.Duration) {
	whole := min(s.class.Period(), spreadMax)
	wait = time.Duration(s.spread.Uint64N(uint64(whole)))
	return wait, whole - wait
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
