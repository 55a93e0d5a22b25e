package obfs

import (
	"math"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
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
	shifts  *prng.Stream
	pool    *prng.Stream // nil where nothing stays
	noise   *prng.Stream // nil where plans add none
	reviews *prng.Stream

	start  machine.Time  // of place 1; see Place
	origin machine.Time  // slot 0 at the present rate
	n      uint64        // number of the next slot
	rate   uint64        // λ at present
	plan   uint32        // under which it is so; see Region
	shift  time.Duration // by which the first mix turns the present clock: see Spread
	step   time.Duration // by which the shift changes at most from slot to slot
	next   machine.Time  // next slot
	slot   machine.Time  // the last one
	second machine.Time  // in which in slots came: see guard
	in     uint64
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
	s.spread, s.shifts = rng.Stream("spread"), rng.Stream("shifts")
	if p.Noisy && p.Region != nil {
		s.noise = rng.Stream("noise")
	}
	s.follow(true)
	s.begin(now.Add(s.phase()))
	s.start = s.next
	if p.Floor < poolBelow && p.Depth == 0 {
		s.pool = rng.Stream("pool")
	}
	s.taken = now.Add(-p.Floor.Period())
	s.review = s.reviewAfter(now)
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
	if s.next.Sub(s.taken)+rounding < s.policy.Floor.Period() {
		return false
	}
	s.taken = s.next
	return true
}

// rounding is more than what slots lie beside the whole parts of a second that a
// rate has: no period of 1/300 s is a whole number of nanoseconds.
const rounding = time.Microsecond

// poolBelow is the class below which what a far end takes in goes through a
// pool. A period of 20 ms or 50 ms is longer than the mixes of STANDARD scatter
// cells: how often two of them meet in one tick of the far end would tell where
// the two clocks lie to each other, after a minute of use.
const poolBelow Class = 100

// Stays reports whether a packet that could be taken in now waits for another
// intake: in a pool every second one does, whenever it came.
func (s *Shaper) Stays() bool { return s.pool != nil && s.pool.Uint32()&1 == 0 }

// Place numbers the periods of the floor from 1 on, by this side's clock: that of
// the slot just taken, or 0 where the end of the route does not ask (Playout). A
// class of k times the floor has k slots in each, wherever its phase lies.
func (s *Shaper) Place() uint32 {
	if s.policy.Depth == 0 {
		return 0
	}
	return uint32(s.slot.Sub(s.start)/s.policy.Grid.Period())%wire.PlaceMax + 1
}

// Take consumes the next slot if its time has come. The caller then emits one
// cell. A change of class, if a review was due, is reported by changed.
func (s *Shaper) Take(now machine.Time) (due, changed bool) {
	if now < s.next {
		return false, false
	}
	if lag := now.Sub(s.next); lag > lagMax { // the phase stays
		s.n += uint64(lag) * s.rate / uint64(time.Second)
		s.next = s.at(s.n)
	}
	s.slot = s.next
	if s.next >= s.review {
		changed = s.look()
	}
	if s.follow(changed) || changed {
		s.begin(s.next.Add(s.phase()))
	} else {
		s.n++
		s.next = s.at(s.n)
	}
	s.guard()
	return true, changed
}

// begin has the slots of the present rate start.
func (s *Shaper) begin(at machine.Time) {
	s.origin, s.n, s.next = at, 0, at
	s.shift = time.Duration(s.shifts.Uint64N(uint64(s.period())))
	s.step = time.Duration(walkStep * math.Sqrt(float64(s.period())/float64(walkTime)) * float64(s.period()))
}

// at is the time of slot n: so many whole periods after the first, however long
// the route lives, whether or not a period is a whole number of nanoseconds.
func (s *Shaper) at(n uint64) machine.Time {
	seconds, part := n/s.rate, n%s.rate
	return s.origin.Add(time.Duration(seconds*uint64(time.Second) + part*uint64(time.Second)/s.rate))
}

// follow takes the rate of the present class, where that has moved or a new plan
// is in force at this slot, and reports whether it is another than before. Plans
// are looked at in slots alone, so that a change comes by the clock.
func (s *Shaper) follow(moved bool) (changed bool) {
	if r := s.policy.Region; !moved && (r == nil || s.plan == r.plan || s.next < r.since) {
		return false
	} else if r != nil {
		s.plan = r.plan
	}
	before := s.rate
	s.rate = s.policy.rate(s.class)
	return s.rate != before
}

// guard is the last stop of cover that runs away: whatever a plan says, a second
// has at most twice the slots that the class is named for, and the next is put
// off until that second is over.
func (s *Shaper) guard() {
	if second := s.next / machine.Time(time.Second); second != s.second || s.n == 0 {
		s.second, s.in = second, 0
	}
	s.in++
	r := s.policy.Region
	if s.in <= rateMax*uint64(s.class)+1 || r == nil || r.unguarded {
		return
	}
	r.Stopped++
	s.begin((s.second + 1) * machine.Time(time.Second))
	s.second, s.in = s.second+1, 1
}

// spreadMax bounds what Spread draws: it is paid by every cell, and some tens of
// times what the lateness of a process varies by.
const spreadMax = 10 * time.Millisecond

// walkTime is how long the shift takes to wander through a period: half of what a
// route lives, so that most of its wandering looks like another rate. A uniform step
// of ±√3 has the variance 1.
const (
	walkTime = 5 * time.Minute
	walkStep = 1.732
)

// Spread draws how long the cell of the slot just taken waits before it is
// sent, and how long a mix is to hold it then: together a period, or spreadMax
// if that is shorter, and a shift. The slots so stay a clock for all that comes
// after the mix. On the wire before it they are moments without order, among which
// it does not show that a busy process is late more often than an idle one.
//
// The shift is drawn from a whole period for each clock, and the first mix alone
// learns it. Without it the clock of the wire would be that of all hops: exponential
// delays hide in which period a cell was sent, but their mean over some hundred
// cells is known to a fraction of a period. It wanders, so that the far end does
// not see either how much too fast or too slow the client's clock goes.
func (s *Shaper) Spread() (wait, hold time.Duration) {
	whole := min(s.period(), spreadMax)
	wait = time.Duration(s.spread.Uint64N(uint64(whole)))
	s.shift += time.Duration(s.shifts.Uint64N(2*uint64(s.step)+1)) - s.step
	if s.shift = max(s.shift, -s.shift); s.shift >= s.period() { // the ends throw it back
		s.shift = 2*(s.period()-1) - s.shift
	}
	return wait, whole - wait + s.shift
}

// Noise draws how long the mixes of each segment of the way out keep the cell of
// the slot just taken beyond their delays: within the widths of the plan, and as
// many draws whatever these are.
func (s *Shaper) Noise() (n [wire.CoverSegments]time.Duration) {
	if s.noise == nil {
		return n
	}
	for i, width := range s.policy.Region.noise {
		n[i] = time.Duration(s.noise.Uint64N(uint64(width) + 1)).Truncate(time.Microsecond)
	}
	return n
}

// Emitted says what went into the slot just taken.
func (s *Shaper) Emitted(real bool) {
	s.all++
	if real {
		s.real++
	}
	if r := s.policy.Region; r != nil {
		r.count(s.slot, s.class, s.class > s.policy.Floor, real)
	}
}

// look is a review: one step up when the class is filled, one step down when the
// one before would do and the class has been kept long enough.
func (s *Shaper) look() bool {
	at, before := s.review, s.class
	down, use := s.policy.below(s.class), s.use()
	if r := s.policy.Region; r != nil && s.all > 0 {
		r.reviewed(s.slot, s.class, s.class > s.policy.Floor, use)
	}
	switch {
	case use > HighUse:
		s.class = s.policy.above(s.class)
		s.stay = at.Add(s.policy.MinStay)
	case use*s.rate < targetUse*s.policy.rate(down) && at >= s.stay:
		s.class = down
	}
	s.real, s.all = 0, 0
	s.review = s.reviewAfter(max(s.review, s.next))
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
	return 1 + time.Duration(s.phases.Uint64N(uint64(s.period())))
}

func (s *Shaper) period() time.Duration { return time.Second / time.Duration(s.rate) }

// reviewAfter is when the next review comes after one, or after the start.
func (s *Shaper) reviewAfter(at machine.Time) machine.Time {
	mean := s.policy.Review
	if mean == 0 || s.policy.Ceiling == s.policy.Floor {
		return machine.Never
	}
	return at.Add(time.Duration(uint64(mean)*3/4 + s.reviews.Uint64N(uint64(mean)/2+1)))
}
