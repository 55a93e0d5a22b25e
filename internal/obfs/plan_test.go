package obfs

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// planOf is a plan for one region, with the rate of one class changed.
func planOf(epoch uint32, c Class, rate uint16) *wire.CoverPlan {
	r := wire.CoverRegion{Name: "eu", Weight: wire.CoverWeightOne, Rates: Nominal()}
	r.Rates[slices.Index(Classes[:], c)] = rate
	return &wire.CoverPlan{Epoch: epoch, Regions: []wire.CoverRegion{r}}
}

// history has plans offered as time goes on.
type history struct {
	at   machine.Time
	plan *wire.CoverPlan
}

// planned runs a shaper of class 200, which stays, through a history of plans,
// asking as a machine does.
func planned(h []history, end machine.Time, unchecked bool, offered func(machine.Time) bool) (times []machine.Time, plans *Plans) {
	plans = &Plans{Unchecked: unchecked}
	s := NewShaper(Policy{Floor: 200, Ceiling: 200, Region: plans.Region("eu")}, prng.FromUint64(1), 0)
	for s.NextSlot() < end {
		now := s.NextSlot()
		for len(h) > 0 && h[0].at <= now {
			plans.Offer(h[0].at, h[0].plan)
			h = h[1:]
		}
		plans.Turn(now)
		s.Take(now)
		times = append(times, now)
		s.Emitted(offered(now))
	}
	return times, plans
}

const epoch1 = machine.Time(CoverEpoch)

// Property 6 under plans: one history of plans, one set of emissions, whatever the
// user does.
func TestPlansMoveEmissionsAndUsersDoNot(t *testing.T) {
	h := []history{{epoch1 / 2, planOf(1, 200, 300)}, {epoch1 + 1, planOf(2, 200, 400)}}
	a, _ := planned(h, 3*epoch1, false, idle)
	b, _ := planned(h, 3*epoch1, false, busy)
	if !slices.Equal(a, b) {
		t.Fatal("the times of emission depend on the load")
	}
	var per [3]int
	for _, at := range a {
		per[at/epoch1]++
	}
	const quarter = int(CoverEpoch / time.Second)
	for i, rate := range []int{200, 300, 400} {
		if n := per[i]; n < rate*quarter-1 || n > rate*quarter+1 {
			t.Errorf("epoch %d: %d slots, want %d a second", i, n, rate)
		}
	}
	if c, _ := planned(h[:1], 3*epoch1, false, idle); slices.Equal(a, c) {
		t.Error("control: another history is not told from this")
	}
}

// A plan that comes early waits for its epoch, one that comes late for the next
// full minute; one that none follows ends after an hour.
func TestPlansComeByTheClock(t *testing.T) {
	p := Plans{UnixStart: 1_800_000_000} // a whole number of epochs
	r, base := p.Region("eu"), p.Epoch(0)
	rate := func() uint16 { return r.rates[5] }
	second := machine.Time(time.Second)
	if p.Offer(90*second, planOf(base, 200, 300)) != 0 || rate() != 200 {
		t.Fatalf("a plan for the present epoch at %d a second", rate())
	}
	if p.Turn(119 * second); rate() != 200 {
		t.Error("it came into force between minutes")
	}
	if p.Turn(120 * second); rate() != 300 || r.since != 120*second {
		t.Errorf("at the full minute: %d since %v", rate(), r.since)
	}
	if p.Offer(200*second, planOf(base+1, 200, 400)) != 0 || rate() != 300 {
		t.Errorf("an early plan: %d", rate())
	}
	if p.Turn(epoch1 - 1); rate() != 300 {
		t.Error("a plan came before its epoch")
	}
	if p.Turn(epoch1); rate() != 400 {
		t.Error("a plan did not come with its epoch")
	}
	if p.Turn(5*epoch1 - 1); rate() != 400 {
		t.Error("a plan ended early")
	}
	if p.Turn(5 * epoch1); rate() != 200 {
		t.Error("a plan outlived its hour")
	}
}

func TestPlansAreRefusedForAReason(t *testing.T) {
	spoil := func(f func(*wire.CoverPlan)) *wire.CoverPlan {
		p := planOf(2, 200, 300)
		f(p)
		return p
	}
	rates := func(f func(r *[wire.CoverClasses]uint16)) *wire.CoverPlan {
		return spoil(func(p *wire.CoverPlan) { f(&p.Regions[0].Rates) })
	}
	for name, c := range map[string]struct {
		plan *wire.CoverPlan
		why  Refusal
	}{
		"good":                   {planOf(2, 200, 300), 0},
		"of the past":            {planOf(0, 200, 300), RefusedEpoch},
		"of the same epoch":      {planOf(1, 200, 300), RefusedEpoch},
		"of a far epoch":         {planOf(3, 200, 300), RefusedEpoch},
		"five times as much":     {planOf(2, 200, 1000), RefusedGrowth},
		"twice as much":          {planOf(2, 200, 400), RefusedGrowth},
		"all five times as much": {rates(func(r *[wire.CoverClasses]uint16) { *r = times(*r, 5) }), RefusedGrowth},
		"2.5 times as much":      {planOf(2, 20, 50), RefusedGrowth},
		"no whole multiple":      {planOf(2, 200, 250), RefusedRate},
		"another floor":          {planOf(2, 100, 200), RefusedRate},
		"above 50 on mobile":     {planOf(2, 50, 60), RefusedRate},
		"silence":                {planOf(2, 200, 0), RefusedRate},
		"a class below the last": {planOf(2, 500, 100), RefusedRate},
		"noise of 120 ms":        {spoil(func(p *wire.CoverPlan) { p.Noise = [3]uint8{40, 40, 40} }), 0},
		"noise beyond the bound": {spoil(func(p *wire.CoverPlan) { p.Noise = [3]uint8{120, 1, 0} }), RefusedNoise},
		"weights that decide":    {spoil(func(p *wire.CoverPlan) { p.Regions[0].Weight = 2000 }), RefusedWeight},
		"weights that exclude":   {spoil(func(p *wire.CoverPlan) { p.Regions[0].Weight = 0 }), RefusedWeight},
	} {
		p := Plans{}
		if p.Offer(epoch1, planOf(1, 200, 200)) != 0 {
			t.Fatal("the plan before was refused")
		}
		p.Turn(epoch1 + machine.Time(time.Minute))
		if why := p.Offer(epoch1+epoch1/2, c.plan); why != c.why || why != 0 && p.Refused[why] != 1 {
			t.Errorf("a plan %s: %v, want %v", name, why, c.why)
		}
		p.Turn(2 * epoch1)
		if got := p.Region("eu").rates[5]; c.why != 0 && got != 200 {
			t.Errorf("a plan %s was refused and followed: %d", name, got)
		}
	}
}

func times(r [wire.CoverClasses]uint16, n uint16) [wire.CoverClasses]uint16 {
	for i := range r {
		r[i] *= n
	}
	return r
}

// The last stop: a plan that got past every check makes a shaper emit no more than
// twice what its class is named for. Control: without the stop it emits what the
// plan says.
func TestShapersStopRunawayCover(t *testing.T) {
	end := epoch1 + machine.Time(10*time.Second)
	run := func(unguarded bool) (most int, stopped uint64) {
		plans := &Plans{Unchecked: true}
		r := plans.Region("eu")
		s := NewShaper(Policy{Floor: 200, Ceiling: 200, Region: r}, prng.FromUint64(1), 0)
		plans.Offer(0, planOf(1, 200, 1000))
		var seconds [1000]int
		for s.NextSlot() < end {
			now := s.NextSlot()
			plans.Turn(now)
			r.unguarded = unguarded
			s.Take(now)
			seconds[now/machine.Time(time.Second)]++
		}
		return slices.Max(seconds[:]), plans.Stopped()
	}
	if most, stopped := run(false); most > 402 || stopped < 9 {
		t.Errorf("%d slots in a second, %d stops", most, stopped)
	}
	if most, stopped := run(true); most < 1000 || stopped != 0 {
		t.Errorf("control: %d slots in a second, %d stops", most, stopped)
	}
}

// Rates that divide no second keep their count: what is asked for is emitted, to
// one slot, for as long as the route lives; and each period of the floor holds a
// whole number of theirs.
func TestRatesDoNotDrift(t *testing.T) {
	for _, rate := range []uint16{300, 700, 900} {
		c := Class(500)
		plans := &Plans{}
		s := NewShaper(Policy{Floor: 500, Ceiling: 500, Region: plans.Region("eu")}, prng.FromUint64(2), 0)
		plans.Region("eu").rates[6], plans.Region("eu").plan = rate, 1
		s.Take(s.NextSlot())
		first, n := s.NextSlot(), 0
		for end := first.Add(time.Hour); s.NextSlot() < end; n++ {
			s.Take(s.NextSlot())
		}
		if want := int(rate) * 3600; n != want {
			t.Errorf("λ %d of class %d: %d slots in an hour, want %d", rate, c, n, want)
		}
		floor := NewShaper(Policy{Floor: 100, Ceiling: 5000, Region: plans.Region("eu")}, prng.FromUint64(2), 0)
		floor.class = c
		floor.follow(true)
		floor.begin(0)
		taken := 0
		for floor.NextSlot() < machine.Time(time.Minute) {
			if floor.Intake() {
				taken++
			}
			floor.n++
			floor.next = floor.at(floor.n)
		}
		if taken != 6000 {
			t.Errorf("λ %d: the floor took in %d times in a minute, want 6000", rate, taken)
		}
	}
}

func TestBoundsKeepTheirOrder(t *testing.T) {
	for i, c := range Classes {
		least, most, step := Bounds(c)
		if least > uint16(c) || most < uint16(c) || least%step != 0 || uint16(c)%step != 0 || i > 0 && uint16(Classes[i-1]) > uint16(c) {
			t.Errorf("class %d: %d to %d by %d", c, least, most, step)
		}
		if c <= 50 && (least < 5 || most > 50) {
			t.Errorf("class %d leaves the bounds of mobile profiles: %d to %d", c, least, most)
		}
	}
	nominal := Nominal()
	if !inBounds(&nominal) {
		t.Error("the nominal rates are out of bounds")
	}
}

func TestProfiles(t *testing.T) {
	for _, l := range []wire.Level{wire.Fast, wire.Standard, wire.High, wire.Extreme} {
		p := PolicyOf(l)
		mobile, low := p.For(wire.ProfileMobile), p.For(wire.ProfileLow)
		if l == wire.Fast {
			if mobile != p || low != p {
				t.Error("FAST is shaped on mobile")
			}
			continue
		}
		if p.For(wire.ProfileFull) != p || mobile.Floor != 10 || mobile.Ceiling != 50 || low.Floor != 5 || low.Ceiling != 5 || mobile.Review != p.Review {
			t.Errorf("%v: %+v and %+v", l, mobile, low)
		}
		_, classes := emissions(mobile, 1, 10*time.Minute, busy)
		if most := slices.Max(classes); slices.Min(classes) != 10 || (most == 50) != (l == wire.Standard) {
			t.Errorf("%v: mobile classes from %d to %d", l, slices.Min(classes), slices.Max(classes))
		}
	}
}

// Noise stays within its widths, uses them, and takes as many draws whatever they
// are.
func TestNoise(t *testing.T) {
	plans := &Plans{}
	plan := planOf(0, 200, 200)
	plan.Noise = [3]uint8{10, 0, 50}
	s := NewShaper(PolicyOf(wire.Standard).In(plans.Region("eu")), prng.FromUint64(3), 0)
	if n := s.Noise(); n != [3]time.Duration{} {
		t.Errorf("noise without a plan: %v", n)
	}
	plans.Offer(0, plan)
	plans.Turn(machine.Time(time.Minute))
	var most [3]time.Duration
	for range 1000 {
		for i, d := range s.Noise() {
			most[i] = max(most[i], d)
		}
	}
	if most[0] < 9*time.Millisecond || most[0] > 10*time.Millisecond || most[1] != 0 || most[2] < 49*time.Millisecond || most[2] > 50*time.Millisecond {
		t.Errorf("greatest noise %v", most)
	}
	for _, l := range []wire.Level{wire.High, wire.Extreme} {
		s := NewShaper(PolicyOf(l).In(plans.Region("eu")), prng.FromUint64(3), 0)
		if n := s.Noise(); n != [3]time.Duration{} {
			t.Errorf("%v has noise %v beside its mixing", l, n)
		}
	}
}

func TestReports(t *testing.T) {
	plans := &Plans{}
	r := plans.Region("eu")
	at := func(m float64) machine.Time { return machine.Time(m * float64(time.Minute)) }
	for i := range 700 {
		r.count(at(float64(i)/100), 200, true, i%7 < 5)
	}
	r.count(at(6), 100, false, false)
	got := plans.Reports(at(6.99))[0]
	if got.Region != "eu" || got.Floor != (Tally{All: 1}) || got.Above[5].All != 500 {
		t.Errorf("%+v", got)
	}
	if ratio, ok := got.Ratio(); !ok || ratio < 0.39 || ratio > 0.41 {
		t.Errorf("ratio %.3f", ratio)
	}
	if c := got.Crowd(); c.Above[5] != (Tally{}) {
		t.Error("the sum over less than one route left the node")
	}
	got.Above[5].All = 32 * 200 * 300
	if c := got.Crowd(); c.Above[5].All != 32*200*300 {
		t.Error("the sum over 32 routes is held back")
	}
	if got = plans.Reports(at(20))[0]; got.Above[5].All != 0 {
		t.Error("the window does not end")
	}
}

func TestPlannedSlotsDoNotAllocate(t *testing.T) {
	plans := &Plans{}
	s := NewShaper(PolicyOf(wire.Standard).In(plans.Region("eu")), prng.FromUint64(1), 0)
	if n := testing.AllocsPerRun(1000, func() {
		plans.Turn(s.NextSlot())
		s.Take(s.NextSlot())
		s.Emitted(true)
		s.Noise()
	}); n != 0 {
		t.Errorf("%.1f allocations per slot", n)
	}
}
