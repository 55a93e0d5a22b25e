package obfs

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Refusal is why a machine does not follow a plan; 0: it does.
type Refusal uint8

// Reason codes of plans that are refused. The one in force stays.
const (
	RefusedEpoch  Refusal = iota + 1 // for neither the present nor the next epoch, or not newer than what is there
	RefusedRate                      // a rate out of its class's bounds, or no whole multiple of the floor's
	RefusedGrowth                    // a rate that grows as only a mistake does
	RefusedNoise                     // noise for which the bound on delay has no room
	RefusedWeight                    // a weight that would decide where paths end
	NumRefusals
)

var refusalNames = [NumRefusals]string{"taken", "epoch", "rate", "growth", "noise", "weight"}

// String is the reason in a word, as exported.
func (r Refusal) String() string {
	if r < NumRefusals {
		return refusalNames[r]
	}
	return "unknown"
}

const (
	// CoverEpoch is how long a plan is for, the seed's adaptive loop.
	CoverEpoch = wire.CoverEpochSeconds * time.Second
	// planLife is how many epochs a plan is kept when none follows; then the
	// nominal rates hold again.
	planLife = 4
	// instant is the grid of the clock on which rates change otherwise.
	instant = time.Minute

	// rateMax bounds a rate by its class: at most so many times the nominal one.
	rateMax = 2
	// rateMin is the least part of it, in percent. All classes at their least make
	// steps as wide as the nominal ones; were it less, the lower classes could come
	// so close together that routes gather in the highest, where cover is most.
	rateMin = 60
	// weightMax bounds weights: how many times more, or less, a region's exits are
	// drawn than their capacity says.
	weightMax = 4
)

// Bounds are the least and the greatest rate that a plan may have for a class.
// It is a whole multiple of step, the floor of the profile to which the class
// belongs, so that the floor's period holds a whole number of the class's:
// see Shaper.Intake. The floors themselves do not move.
func Bounds(c Class) (least, most, step uint16) {
	if c == lowFloor || c == mobileFloor || c == fullFloor {
		return uint16(c), uint16(c), uint16(c)
	}
	step, most = uint16(fullFloor), rateMax*uint16(c)
	if c <= mobileMax {
		step, most = uint16(mobileFloor), min(most, uint16(mobileMax))
	}
	least = max(step, (uint16(c)*(rateMin/10)/10+step-1)/step*step)
	return least, most, step
}

// LatencyBound is the seed's bound on the delay from end to end. Noise may use
// what is left of it at STANDARD when the network, the mixes and the slots have
// had theirs; HIGH and EXTREME mix so long that nothing is left.
const (
	LatencyBound = 400 * time.Millisecond
	network      = 100 * time.Millisecond // round trip
	mixing       = 190 * time.Millisecond // P95 of six exponential delays of 10 ms and noise of NoiseMax, be it at one mix
	slotting     = 60 * time.Millisecond  // two slots, intake, the client's hold; shifts (20 ms there and back in the mean) come on top
	NoiseMax     = 120 * time.Millisecond // the seed's greatest width
)

// The shares fit into the bound.
const _ = uint(LatencyBound - network - mixing - slotting - reserveStandard)

// noiseFits reports whether delays stay within the bound.
func noiseFits(n [wire.CoverSegments]uint8) bool {
	sum := time.Duration(0)
	for _, w := range n {
		sum += time.Duration(w) * time.Millisecond
	}
	return sum <= NoiseMax
}

// Plans is a machine's cover plans: the one in force and the one that comes
// next. Offer takes input, Turn moves time on, all else are getters. Rates change
// at epochs and, where a machine joins in the middle of one, at full minutes of
// the clock: by no user's doing.
type Plans struct {
	// UnixStart is the unix time, in seconds, of machine time 0.
	UnixStart int64
	// Unchecked has every plan followed, whatever it says: the controls of
	// scenarios, which show what checks are for.
	Unchecked bool
	// RateMax, if not 0, is the greatest rate that a plan may give a class, in percent
	// of the class: an operator's bound within that of the specification.
	RateMax uint16
	// Refused counts plans by why they were not followed.
	Refused [NumRefusals]uint64

	current, next *wire.CoverPlan
	nextAt        machine.Time
	turns         uint32
	regions       map[string]*Region
}

// Epoch is the cover epoch at now.
func (p *Plans) Epoch(now machine.Time) uint32 {
	return EpochAt(p.UnixStart + int64(now/machine.Time(time.Second)))
}

// EpochAt is the cover epoch of a second since 1970.
func EpochAt(unix int64) uint32 { return uint32(unix / wire.CoverEpochSeconds) }

// Present is the plan in force; nil: the nominal rates. It does not change.
func (p *Plans) Present() *wire.CoverPlan { return p.current }

// begin is when a cover epoch begins.
func (p *Plans) begin(epoch uint32) machine.Time {
	return machine.Time(int64(epoch)*int64(CoverEpoch/time.Second)-p.UnixStart) * machine.Time(time.Second)
}

// Instant is the next full minute of the clock after now.
func (p *Plans) Instant(now machine.Time) machine.Time {
	const grid = int64(instant / time.Second)
	unix := p.UnixStart + int64(now/machine.Time(time.Second))
	return machine.Time((unix/grid+1)*grid-p.UnixStart) * machine.Time(time.Second)
}

// Offer judges a plan, and has it followed from its epoch on if nothing is wrong
// with it. The plan is kept and must not change.
func (p *Plans) Offer(now machine.Time, plan *wire.CoverPlan) Refusal {
	p.Turn(now)
	if why := p.judge(now, plan); why != 0 && !p.Unchecked {
		p.Refused[why]++
		return why
	}
	p.next, p.nextAt = plan, p.begin(plan.Epoch)
	if p.nextAt <= now {
		p.nextAt = p.Instant(now)
	}
	return 0
}

// Offered is Offer with a word to who counts and who listens.
func (p *Plans) Offered(now machine.Time, plan *wire.CoverPlan, n *trace.Counts, sink trace.Sink) Refusal {
	why := p.Offer(now, plan)
	if why == 0 {
		n[trace.PlanTaken]++
	} else {
		n[trace.PlanRefused]++
	}
	sink.Emit(now, trace.PlanJudged, uint64(plan.Epoch), uint64(why))
	return why
}

func (p *Plans) judge(now machine.Time, plan *wire.CoverPlan) Refusal {
	if e := p.Epoch(now); plan.Epoch != e && plan.Epoch != e+1 ||
		p.current != nil && plan.Epoch <= p.current.Epoch || p.next != nil && plan.Epoch <= p.next.Epoch {
		return RefusedEpoch
	}
	if !noiseFits(plan.Noise) {
		return RefusedNoise
	}
	for i := range plan.Regions {
		r := &plan.Regions[i]
		if r.Weight < wire.CoverWeightOne/weightMax || r.Weight > wire.CoverWeightOne*weightMax {
			return RefusedWeight
		}
		if !grows(rates(p.current, r.Name), &r.Rates, p.steps(plan)) {
			return RefusedGrowth
		}
		if !inBounds(&r.Rates) || !p.within(&r.Rates) {
			return RefusedRate
		}
	}
	return 0
}

// within reports whether rates keep the operator's bound.
func (p *Plans) within(rates *[wire.CoverClasses]uint16) bool {
	for i, c := range Classes {
		if p.RateMax != 0 && 100*uint32(rates[i]) > uint32(p.RateMax)*uint32(c) {
			return false
		}
	}
	return true
}

// Step is the greatest rate that may follow a rate of a class in one epoch: half
// as much again, or one step of the rate. A mistake grows faster.
func Step(c Class, rate uint16) uint16 {
	_, _, step := Bounds(c)
	return max(rate+rate/2, rate+step)
}

// steps is how many epochs lie between the plan in force and another, which may
// have been missed. Without one in force nothing is known to grow from but the
// nominal rates, which are a step or two from any in bounds.
func (p *Plans) steps(plan *wire.CoverPlan) uint32 {
	if p.current == nil {
		return 2
	}
	return plan.Epoch - p.current.Epoch
}

// grows reports whether rates grow as they may in a number of epochs.
func grows(before [wire.CoverClasses]uint16, after *[wire.CoverClasses]uint16, steps uint32) bool {
	for i, c := range Classes {
		most := before[i]
		for range min(steps, planLife-1) { // five-fold is beyond it, whatever was missed
			most = Step(c, most)
		}
		if after[i] > most {
			return false
		}
	}
	return true
}

func inBounds(rates *[wire.CoverClasses]uint16) bool {
	for i, c := range Classes {
		least, most, step := Bounds(c)
		if rates[i] < least || rates[i] > most || rates[i]%step != 0 || i > 0 && rates[i] < rates[i-1] {
			return false
		}
	}
	return true
}

// Nominal are the rates that classes are named for.
func Nominal() (out [wire.CoverClasses]uint16) {
	for i, c := range Classes {
		out[i] = uint16(c)
	}
	return out
}

// rates are those of a region under a plan; nil, or a region that it does not
// have: the nominal ones.
func rates(p *wire.CoverPlan, region string) [wire.CoverClasses]uint16 {
	if p != nil {
		if r := p.Region(region); r != nil {
			return r.Rates
		}
	}
	return Nominal()
}

// Turn has the plan come into force whose time has come.
func (p *Plans) Turn(now machine.Time) {
	if p.next != nil && now >= p.nextAt {
		p.current, p.next = p.next, nil
		p.apply(p.nextAt)
	}
	if p.current != nil {
		if end := p.begin(p.current.Epoch + planLife); now >= end {
			p.current = nil
			p.apply(end)
		}
	}
}

func (p *Plans) apply(since machine.Time) {
	p.turns++
	for name, r := range p.regions { // each by itself: the order reaches nothing
		p.set(r, name, since)
	}
}

func (p *Plans) set(r *Region, name string, since machine.Time) {
	r.rates, r.plan, r.since, r.unguarded = rates(p.current, name), p.turns, since, p.Unchecked
	for i := range r.noise {
		r.noise[i] = 0
		if p.current != nil {
			r.noise[i] = time.Duration(p.current.Noise[i]) * time.Millisecond
		}
	}
}

// Region returns what shapers of a region share.
func (p *Plans) Region(name string) *Region {
	r := p.regions[name]
	if r == nil {
		if p.regions == nil {
			p.regions = map[string]*Region{}
		}
		r = &Region{}
		p.set(r, name, 0)
		p.regions[name] = r
	}
	return r
}

// Weight is how many times as often as by its capacity a region's exits are drawn,
// and the greatest of all weights: by the newest plan, since a draw is seen at no
// moment of its own.
func (p *Plans) Weight(region string) (weight, most uint16) {
	weight, most = wire.CoverWeightOne, wire.CoverWeightOne
	plan := p.current
	if p.next != nil {
		plan = p.next
	}
	if plan == nil {
		return weight, most
	}
	if r := plan.Region(region); r != nil {
		weight = r.Weight
	}
	for i := range plan.Regions {
		most = max(most, plan.Regions[i].Weight)
	}
	return weight, most
}

// Reports are what was emitted in the window that ends with now, by region.
func (p *Plans) Reports(now machine.Time) []Report {
	var names []string
	for name := range p.regions {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]Report, len(names))
	for i, name := range names {
		out[i] = p.regions[name].report(name, now)
	}
	return out
}

// Stopped is how often shapers held back slots that no plan may ask for.
func (p *Plans) Stopped() (n uint64) {
	for _, r := range p.regions {
		n += r.Stopped
	}
	return n
}
