package obfs

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// Region is what the shapers of one region share on a machine: the rates in
// force, and counts of what was emitted. Plans owns it.
type Region struct {
	// Stopped is how often a shaper held back a slot that no plan may ask for.
	Stopped uint64

	rates     [wire.CoverClasses]uint16
	noise     [wire.CoverSegments]time.Duration
	plan      uint32       // changes with the plan
	since     machine.Time // when this one came into force
	unguarded bool

	minutes [windowMinutes]minute
}

// windowMinutes is the window of cover ratios, the seed's.
const windowMinutes = 5

// minute is what was emitted in one minute of a window.
type minute struct {
	number int64
	floor  Tally // of routes at their floors
	above  [wire.CoverClasses]Tally
}

// Tally counts cells: with content, and all; and reviews of routes, by the tenth
// of the class that the route had used.
type Tally struct {
	Real, All uint64
	Uses      [10]uint64
}

// add adds what another has counted.
func (t *Tally) add(o Tally) {
	t.Real, t.All = t.Real+o.Real, t.All+o.All
	for i, n := range o.Uses {
		t.Uses[i] += n
	}
}

// Most is the use that all but one in twenty reviews found at most, in percent.
func (t *Tally) Most() int {
	all, n := uint64(0), uint64(0)
	for _, in := range t.Uses {
		all += in
	}
	for i, in := range t.Uses {
		if n += in; n*20 >= all*19 {
			return 10 * (i + 1)
		}
	}
	return 100
}

// Cover is the number of cells without content.
func (t Tally) Cover() uint64 { return t.All - t.Real }

func (r *Region) count(at machine.Time, c Class, above, real bool) {
	t := r.tally(at, c, above)
	t.All++
	if real {
		t.Real++
	}
}

// reviewed notes what use a review found, in percent.
func (r *Region) reviewed(at machine.Time, c Class, above bool, use uint64) {
	r.tally(at, c, above).Uses[min(use/10, 9)]++
}

// tally is where what happens to routes of a class is counted.
func (r *Region) tally(at machine.Time, c Class, above bool) *Tally {
	number := int64(at / machine.Time(time.Minute))
	m := &r.minutes[number%windowMinutes]
	if m.number != number {
		*m = minute{number: number}
	}
	if i := slices.Index(Classes[:], c); above && i >= 0 {
		return &m.above[i]
	}
	return &m.floor
}

// Report is TELEMETRY_REPORT: what the routes of a region that end at one machine
// emitted in a window. It is made of sums over routes and names none.
type Report struct {
	Region string
	Floor  Tally // routes at their floors: the price of the level, apart from the ratio
	// Above are routes above their floors, by class.
	Above [wire.CoverClasses]Tally
}

// report sums up the window that ends with now.
func (r *Region) report(name string, now machine.Time) Report {
	out := Report{Region: name}
	last := int64(now / machine.Time(time.Minute))
	for i := range r.minutes {
		if m := &r.minutes[i]; m.number > last-windowMinutes && m.number <= last {
			out.Add(Report{Floor: m.floor, Above: m.above})
		}
	}
	return out
}

// routesMin is of how many routes a figure must be before it leaves a node: that
// of fewer would follow single users.
const routesMin = 32

// Crowd returns r without the classes that had too few routes for their sums to
// hide each. The mean number of routes is what was emitted by what one emits. Of
// routes at their floors the number of cells is left, which their links show.
func (r Report) Crowd() Report {
	few := func(t *Tally, c Class) bool {
		return t.All < routesMin*uint64(c)*uint64(windowMinutes*time.Minute/time.Second)
	}
	for i, c := range Classes {
		if few(&r.Above[i], c) {
			r.Above[i] = Tally{}
		}
	}
	if few(&r.Floor, fullFloor) { // the highest floor: of lower ones there are more routes
		r.Floor = Tally{All: r.Floor.All}
	}
	return r
}

// Wire is a report of a window as it travels.
func (r *Report) Wire(window uint32) *wire.CoverReport {
	w := &wire.CoverReport{Window: window, Floor: wire.CoverTally(r.Floor)}
	for i, t := range r.Above {
		w.Above[i] = wire.CoverTally(t)
	}
	return w
}

// ReportOf is the report that came from a node of a region.
func ReportOf(region string, w *wire.CoverReport) Report {
	r := Report{Region: region, Floor: Tally(w.Floor)}
	for i, t := range w.Above {
		r.Above[i] = Tally(t)
	}
	return r
}

// ReportWindow is how long what a report speaks of lasts. Windows are numbered by
// the clock, from 1970.
const ReportWindow = windowMinutes * time.Minute

// WindowAt is the window of a second since 1970.
func WindowAt(unix int64) uint32 { return uint32(max(unix, 0) / int64(ReportWindow/time.Second)) }

// Add adds what another report of the region has counted.
func (r *Report) Add(o Report) {
	r.Floor.add(o.Floor)
	for i := range o.Above {
		r.Above[i].add(o.Above[i])
	}
}

// Cover is the number of cells without content, at floors and above.
func (r *Report) Cover() uint64 {
	n := r.Floor.Cover()
	for _, t := range r.Above {
		n += t.Cover()
	}
	return n
}

// Ratio is the cover ratio, dummies to real cells over routes above their floors;
// ok is false where there are none.
func (r *Report) Ratio() (ratio float64, ok bool) {
	var sum Tally
	for _, t := range r.Above {
		sum.add(t)
	}
	if sum.Real == 0 {
		return 0, false
	}
	return float64(sum.Cover()) / float64(sum.Real), true
}
