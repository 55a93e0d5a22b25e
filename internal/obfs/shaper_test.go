package obfs

import (
	"math"
	"math/cmplx"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// emissions runs a shaper for a time and returns when it emitted. offered says
// whether there is a real cell for the slot at a time.
func emissions(p Policy, seed uint64, d time.Duration, offered func(machine.Time) bool) (times []machine.Time, classes []Class) {
	s := NewShaper(p, prng.FromUint64(seed), 0)
	for s.NextSlot() < machine.Time(d) {
		now := s.NextSlot()
		if due, _ := s.Take(now); !due {
			panic("slot not due at its own time")
		}
		times = append(times, now)
		classes = append(classes, s.Class())
		s.Emitted(offered(now))
	}
	return times, classes
}

func idle(machine.Time) bool { return false }
func busy(machine.Time) bool { return true }

// Property 6: within a class, what an observer sees of a route is the same
// times to the nanosecond, whether the user is idle or saturates the class.
func TestEmissionsAreEqualWhateverTheUserDoes(t *testing.T) {
	p := PolicyOf(wire.Standard).Pinned(100)
	a, _ := emissions(p, 1, time.Minute, idle)
	b, _ := emissions(p, 1, time.Minute, busy)
	if !slices.Equal(a, b) {
		t.Fatal("the times of emission depend on the load")
	}
	// Control: let the class follow the load, and the two must differ.
	c, _ := emissions(PolicyOf(wire.Standard), 1, time.Minute, busy)
	if slices.Equal(a, c) {
		t.Fatal("the control does not tell a class that moves from one that stays")
	}
}

// Until the first review even an unpinned route gives nothing away.
func TestClassMovesOnlyAtReviews(t *testing.T) {
	p := PolicyOf(wire.Standard)
	a, _ := emissions(p, 4, p.Review*3/4, idle)
	b, _ := emissions(p, 4, p.Review*3/4, busy)
	if !slices.Equal(a, b) {
		t.Fatal("load was seen before the first review")
	}
}

// At HIGH and EXTREME no use moves a class, in any profile; at STANDARD it does.
func TestUpperLevelsDoNotMove(t *testing.T) {
	for _, profile := range []wire.Profile{wire.ProfileFull, wire.ProfileMobile} {
		for level, moves := range map[wire.Level]bool{wire.Standard: true, wire.High: false, wire.Extreme: false} {
			_, classes := emissions(PolicyOf(level).For(profile), 1, 10*time.Minute, busy)
			if moved := slices.Max(classes) != slices.Min(classes); moved != moves {
				t.Errorf("%v: moved by use: %v", level, moved)
			}
		}
	}
}

// Between two changes of class the slots are a clock: what a route emits has no
// pattern by which its user could be known.
func TestSlotsAreRegular(t *testing.T) {
	for _, c := range Classes {
		times, _ := emissions(PolicyOf(wire.Standard).Pinned(c), 2, time.Minute, idle)
		if len(times) != 60*int(c) {
			t.Errorf("%d slots in a minute of class %d", len(times), c)
		}
		for i := 1; i < len(times); i++ {
			if gap := times[i].Sub(times[i-1]); gap != c.Period() {
				t.Fatalf("class %d: a gap of %v", c, gap)
			}
		}
	}
}

// poissonTimes are the slots of a Poisson process, which a class does not have.
func poissonTimes(c Class, n int, rng *prng.Stream) []machine.Time {
	out := make([]machine.Time, n)
	for i := range out {
		out[i] = out[max(i, 1)-1].Add(rng.Exp(c.Period()))
	}
	return out
}

// spreadTimes are when a client sends the cells of n slots, and when the mix
// lets them go, but for the way to it and its own delay.
func spreadTimes(p Policy, rng prng.Source, n int) (sent, free []machine.Time) {
	s := NewShaper(p, rng, 0)
	for range n {
		slot := s.NextSlot()
		s.Take(slot)
		wait, hold := s.Spread()
		sent = append(sent, slot.Add(wait))
		free = append(free, slot.Add(wait+hold))
	}
	return sent, free
}

// One cell is sent in each period, anywhere in it, and what comes of it behind
// the mix is a clock again.
func TestSpreadSendsOncePerPeriod(t *testing.T) {
	const eighths, n = 8, 6000
	// judge reports whether times has one in each period of a clock, and
	// whether all of what may be used of the period is used alike.
	judge := func(times []machine.Time, clock machine.Time, c Class) (once, even bool) {
		period, width := machine.Time(c.Period()), machine.Time(min(c.Period(), spreadMax))
		var seen [eighths]int
		once, even = true, true
		for i, at := range times {
			in := at - clock - machine.Time(i)*period
			if in < 0 || in >= width {
				once = false
				in = (in%width + width) % width
			}
			seen[in*eighths/width]++
		}
		for _, got := range seen {
			want := float64(len(times)) / eighths
			even = even && math.Abs(float64(got)-want) < 5*math.Sqrt(want)
		}
		return once, even
	}
	for _, c := range Classes {
		p := PolicyOf(wire.Standard).Pinned(c)
		sent, free := spreadTimes(p, prng.FromUint64(9), n)
		slots, _ := emissions(p, 9, n*c.Period(), idle)
		if once, even := judge(sent, slots[0], c); !once || !even {
			t.Errorf("class %d: one in each period %v, anywhere in it %v", c, once, even)
		}
		whole, before := min(c.Period(), spreadMax), free[0].Sub(slots[0])
		for i, at := range free {
			late := at.Sub(slots[i])
			if turned := late - whole; turned < 0 || turned >= c.Period() {
				t.Fatalf("class %d: the clock of cell %d is turned by %v", c, i, turned)
			}
			if step := (late - before).Abs(); step > c.Period()/5 {
				t.Fatalf("class %d: the clock turns by %v at once", c, step)
			}
			before = late
		}
		if once, _ := judge(poissonTimes(c, n, prng.FromUint64(9).Stream("poisson")), 0, c); once {
			t.Error("control: a Poisson process passes")
		}
		if _, even := judge(slots, slots[0], c); even {
			t.Error("control: regular slots pass")
		}
	}
}

// Behind the first mix each route has a clock of its own: which part of a period it
// lies behind that of the wire differs from route to route, and from class to class.
func TestTheFirstMixTurnsTheClock(t *testing.T) {
	const routes = 2000
	for _, c := range []Class{5, 100, 5000} {
		var sum complex128
		for seed := range uint64(routes) {
			s := NewShaper(PolicyOf(wire.Standard).Pinned(c), prng.FromUint64(seed), 0)
			s.Take(s.NextSlot())
			wait, hold := s.Spread()
			sum += cmplx.Rect(1, 2*math.Pi*float64(wait+hold)/float64(c.Period()))
		}
		if r := cmplx.Abs(sum) / routes; r > 0.08 { // 1/√2000 = 0.022 by chance
			t.Errorf("class %d: clocks are turned by much the same: %.2f", c, r)
		}
	}
}

// How fast a client's clock goes, in millionths, as the far end of a route reads it in
// the ten minutes that a route lives, even if it knew every mix's delay: it is wrong
// by more than clocks differ that are set by the network. A shift that stays tells it
// exactly.
func TestTheShiftHidesHowFastAClockGoes(t *testing.T) {
	const minutes, n = 10, 10 * 60 * 100
	// rate is the slope of the least squares through what cells are late.
	rate := func(late func(i int) time.Duration) float64 {
		var sum float64
		for i := range n {
			sum += (float64(i) - (n-1)/2.0) * float64(late(i))
		}
		return 1e6 * sum / (n * (n*n - 1.0) / 12) / float64(10*time.Millisecond)
	}
	var wander, still float64
	const routes = 20
	for seed := range uint64(routes) {
		p := PolicyOf(wire.Standard).Pinned(100)
		_, free := spreadTimes(p, prng.FromUint64(seed), n)
		first := free[0]
		wander += math.Pow(rate(func(i int) time.Duration { return free[i].Sub(first) - time.Duration(i)*10*time.Millisecond }), 2)
		still += math.Pow(rate(func(int) time.Duration { return 0 }), 2)
	}
	wander, still = math.Sqrt(wander/routes), math.Sqrt(still/routes)
	t.Logf("the rate of a clock is read with an error of %.1f millionths, of one whose shift stays %.1f", wander, still)
	if wander < 5 || still > 0.1 {
		t.Errorf("errors of %.1f and %.1f millionths", wander, still)
	}
}

// What is seen of a process that is late more often while its user transfers:
// the distance between the gaps of an idle link and of a busy one, for four
// routes of class 200 over 20 s, against what two idle samples may have.
func TestSpreadHidesLateness(t *testing.T) {
	const class, routes, length, runs = Class(200), 4, 20 * time.Second, 5
	sample := func(seed uint64, from machine.Time, late time.Duration, slots func(rng prng.Source) []machine.Time) []time.Duration {
		lateness := prng.FromUint64(seed).Stream("lateness")
		var all []machine.Time
		for i := range routes {
			for _, at := range slots(prng.FromUint64(seed).Child(strconv.Itoa(i))) {
				if at >= from && at < from.Add(length) {
					all = append(all, at.Add(lateness.Exp(late)))
				}
			}
		}
		slices.Sort(all)
		gaps := make([]time.Duration, len(all)-1)
		for i := range gaps {
			gaps[i] = all[i+1].Sub(all[i])
		}
		return gaps
	}
	n := int(class) * routes * int(length/time.Second)
	median := func(slots func(prng.Source) []machine.Time) float64 {
		var d []float64
		for run := range uint64(runs) {
			idle := sample(run, 0, 50*time.Microsecond, slots)
			busy := sample(run, machine.Time(length), 150*time.Microsecond, slots)
			d = append(d, distance(idle, busy))
		}
		slices.Sort(d)
		return d[runs/2]
	}
	critical := math.Sqrt(-math.Log(0.001/2)/2) * math.Sqrt(2/float64(n))
	p := PolicyOf(wire.Standard).Pinned(class)
	spread := median(func(rng prng.Source) []machine.Time {
		sent, _ := spreadTimes(p, rng, 2*n/routes)
		return sent
	})
	ticks := median(func(rng prng.Source) []machine.Time {
		_, free := spreadTimes(p, rng, 2*n/routes)
		return free
	})
	poisson := median(func(rng prng.Source) []machine.Time {
		return poissonTimes(class, 5*n/2/routes, rng.Stream("poisson"))
	})
	t.Logf("KS distance %.4f, regular %.4f, Poisson %.4f; critical %.4f", spread, ticks, poisson, critical)
	if spread > critical || spread > 1.5*poisson {
		t.Errorf("lateness shows as a distance of %.4f, of %.4f in Poisson slots", spread, poisson)
	}
	if ticks < critical {
		t.Errorf("control: in regular slots lateness shows as %.4f only", ticks)
	}
}

// distance is Kolmogorov and Smirnov's, of two samples.
func distance(a, b []time.Duration) (d float64) {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	for i, j := 0, 0; i < len(a) && j < len(b); {
		if a[i] <= b[j] {
			i++
		} else {
			j++
		}
		d = max(d, math.Abs(float64(i)/float64(len(a))-float64(j)/float64(len(b))))
	}
	return d
}

// Where in the period the slots lie is uniform, and another for every direction
// and every class that it comes to: two clocks with one phase would be linked.
func TestPhasesAreDrawn(t *testing.T) {
	const eighths, n = 8, 4000
	period := machine.Time(Class(100).Period())
	var first, next [eighths]int
	for seed := range uint64(n) {
		s := NewShaper(PolicyOf(wire.Standard), prng.FromUint64(seed), 0)
		if s.NextSlot() <= 0 || s.NextSlot() > period {
			t.Fatalf("the first slot of class 100 comes at %v", time.Duration(s.NextSlot()))
		}
		begun := s.NextSlot()
		first[begun%period*eighths/period]++
		for at, changed := begun, false; !changed; at = s.NextSlot() {
			_, changed = s.Take(at)
			s.Emitted(true)
			begun = at
		}
		p := machine.Time(s.Class().Period())
		if gap := machine.Time(s.NextSlot().Sub(begun)); gap <= 0 || gap > p {
			t.Fatalf("the first slot of class %d comes %v after the last of 100", s.Class(), time.Duration(gap))
		} else {
			next[gap%p*eighths/p]++
		}
	}
	for i := range eighths {
		for _, got := range [2]int{first[i], next[i]} {
			if want := float64(n / eighths); math.Abs(float64(got)-want) > 5*math.Sqrt(want) {
				t.Errorf("eighth %d of the period: %d of %d phases", i, got, n)
			}
		}
	}
}

// A class above the floor takes in at every so many slots, on a clock of the
// floor's rate; whatever class the other side sends in, each tick of it may
// expect as many cells.
func TestIntakeKeepsToTheFloor(t *testing.T) {
	floor := PolicyOf(wire.Standard).Floor
	s := NewShaper(PolicyOf(wire.Standard), prng.FromUint64(1), 0)
	var last machine.Time
	for s.NextSlot() < machine.Time(time.Minute) {
		at := s.NextSlot()
		if s.Intake() {
			if gap := at.Sub(last); last != 0 && (gap < floor.Period() || gap > 2*floor.Period()) {
				t.Fatalf("class %d takes in %v after the last time", s.Class(), gap)
			}
			last = at
		}
		s.Take(at)
		s.Emitted(true)
	}
	if s.Class() <= floor || machine.Time(time.Minute).Sub(last) > floor.Period() {
		t.Errorf("class %d took in at %v last", s.Class(), time.Duration(last))
	}
	for _, c := range Classes {
		if c >= floor && floor.Period()%c.Period() != 0 {
			t.Errorf("a period of the floor holds no whole number of slots of class %d", c)
		}
	}
	if s := NewShaper(PolicyOf(wire.Standard).Pinned(100), prng.FromUint64(1), 0); !s.Intake() {
		t.Error("the first slot takes nothing in")
	}
}

func TestOnlyLowClassesHaveAPool(t *testing.T) {
	for _, c := range Classes {
		s := NewShaper(PolicyOf(wire.Standard).Pinned(c), prng.FromUint64(1), 0)
		stayed := 0
		for range 1000 {
			if s.Stays() {
				stayed++
			}
		}
		if c >= poolBelow && stayed != 0 || c < poolBelow && (stayed < 400 || stayed > 600) {
			t.Errorf("class %d: %d of 1000 packets stay", c, stayed)
		}
	}
}

func TestClassFollowsUseWithAMinimumStay(t *testing.T) {
	p := PolicyOf(wire.Standard)
	end := machine.Time(20 * time.Second)
	times, classes := emissions(p, 3, 10*time.Minute, func(now machine.Time) bool { return now < end })
	peak := slices.Max(classes)
	if peak != p.Ceiling {
		t.Errorf("20 s of full use reached class %d, want %d", peak, p.Ceiling)
	}
	lowered := machine.Time(0)
	for i := 1; i < len(classes); i++ {
		if classes[i] < classes[i-1] {
			lowered = times[i]
			break
		}
	}
	if lowered < machine.Time(p.MinStay) {
		t.Errorf("class was lowered after %v, before its minimum stay", time.Duration(lowered))
	}
	if last := classes[len(classes)-1]; last != p.Floor {
		t.Errorf("an idle route ends in class %d, want %d", last, p.Floor)
	}
	// Use within the target keeps the class.
	n := 0
	_, steady := emissions(p, 5, time.Minute, func(machine.Time) bool { n++; return n%2 == 0 })
	if slices.Max(steady) != p.Floor {
		t.Errorf("half use moved the class to %d", slices.Max(steady))
	}
}

func TestAHeldUpProcessDoesNotBurst(t *testing.T) {
	s := NewShaper(PolicyOf(wire.Standard).Pinned(1000), prng.FromUint64(1), 0)
	now, n := machine.Time(time.Hour), 0
	for {
		due, _ := s.Take(now)
		if !due {
			break
		}
		if s.Emitted(false); n > 10 {
			t.Fatal("an hour's slots were made up for")
		}
		n++
	}
	if n == 0 {
		t.Error("the schedule did not go on")
	}
	fresh := NewShaper(PolicyOf(wire.Standard).Pinned(1000), prng.FromUint64(1), 0)
	if period := machine.Time(Class(1000).Period()); s.NextSlot()%period != fresh.NextSlot()%period {
		t.Error("the stall has moved the phase: when it ended is seen from then on")
	}
}

func TestFastIsNotShaped(t *testing.T) {
	s := NewShaper(PolicyOf(wire.Fast), prng.FromUint64(1), 0)
	due, _ := s.Take(machine.Time(time.Hour))
	if s.Shaped() || due || s.NextSlot() != machine.Never {
		t.Error("FAST has slots")
	}
}

func TestPoliciesStayWithinTheirBounds(t *testing.T) {
	for _, l := range []wire.Level{wire.Standard, wire.High, wire.Extreme} {
		p := PolicyOf(l)
		for _, c := range Classes {
			if c < p.Floor || c > p.Ceiling {
				continue
			}
			if up, down := p.above(c), p.below(c); up > p.Ceiling || down < p.Floor || up < c || down > c {
				t.Errorf("%v: from %d to %d and %d", l, c, up, down)
			}
		}
	}
	mobile := Policy{Floor: 5, Ceiling: 50, Review: time.Second, MinStay: time.Second}
	_, classes := emissions(mobile, 1, time.Minute, busy)
	if slices.Max(classes) != 50 || slices.Min(classes) != 5 {
		t.Errorf("mobile classes went from %d to %d, want 5 to 50", slices.Min(classes), slices.Max(classes))
	}
}

func TestTakeDoesNotAllocate(t *testing.T) {
	s := NewShaper(PolicyOf(wire.Standard), prng.FromUint64(1), 0)
	if n := testing.AllocsPerRun(1000, func() { s.Take(s.NextSlot()); s.Emitted(true); s.Spread() }); n != 0 {
		t.Errorf("%.1f allocations per slot", n)
	}
}

// Nothing that a user does moves a class at HIGH and EXTREME; with classes that move,
// the control of internal/anonymity, a full one does.
func TestUseMovesNothingAboveStandard(t *testing.T) {
	for _, l := range []wire.Level{wire.High, wire.Extreme} {
		for _, p := range []Policy{PolicyOf(l), PolicyOf(l).Moving()} {
			s, changes := NewShaper(p, prng.FromUint64(4), 0), 0
			for now := s.NextSlot(); now < machine.Time(time.Minute); now = s.NextSlot() {
				if _, changed := s.Take(now); changed {
					changes++
				}
				s.Emitted(true)
			}
			if moves := p.Ceiling != p.Floor; moves != (changes > 0) || (p.Review != 0) != moves {
				t.Errorf("%v, ceiling %d: %d changes of class", l, p.Ceiling, changes)
			}
			if p == PolicyOf(l) && (changes > 0 || s.Class() != fullFloor) {
				t.Errorf("%v: %d changes of class, at the end %d", l, changes, s.Class())
			}
		}
	}
}
