package lab

import (
	"fmt"
	"math"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// crowd is many routes of one region without a network below them: the real
// shapers under the real plans, each with a load of its own, and the control loop
// that makes the plans. It is what lets days pass in seconds.
type crowd struct {
	plans  obfs.Plans
	loop   *control.Cover
	routes []*shaped
	now    machine.Time
	// late is how much later than its slot a process comes to it on average, and
	// drifts makes lateness add up: the control of what slots by the clock are for.
	late   time.Duration
	drifts bool
	// steered says that the loop's plans are followed.
	steered bool
	// want is what the loop has planned for now.
	want [wire.CoverClasses]uint16
	// waited is how long content waited for its slot, µs.
	waited trace.Values
}

// shaped is one route: its shaper, and the content that waits for a slot.
type shaped struct {
	shaper   *obfs.Shaper
	load     func(machine.Time) float64 // cells per second
	arrivals *prng.Stream
	lateness *prng.Stream
	next     machine.Time   // arrival
	queue    []machine.Time // what waits, by when it came
	behind   time.Duration
	emitted  uint64
	asked    float64 // by the plans that the loop made
	last     machine.Time
}

// crowdRegion is where they all are.
const crowdRegion = "eu"

// queueMax bounds what waits on one route: a second of the highest class.
const queueMax = 5000

// newCrowd returns routes under a policy, with loads.
func (r *Run) newCrowd(p obfs.Policy, loads []func(machine.Time) float64) *crowd {
	c := &crowd{loop: control.NewCover([]string{crowdRegion}), steered: true, want: obfs.Nominal()}
	for i, load := range loads {
		src := r.Source(fmt.Sprint("crowd ", i))
		s := &shaped{load: load, arrivals: src.Stream("arrivals"), lateness: src.Stream("lateness")}
		s.shaper = obfs.NewShaper(p.In(c.plans.Region(crowdRegion)), src.Child("shaper"), 0)
		s.next = s.arrival(0)
		c.routes = append(c.routes, s)
	}
	return c
}

// arrival is the next of a Poisson process of the present load.
func (s *shaped) arrival(at machine.Time) machine.Time {
	return at.Add(s.arrivals.Exp(time.Duration(float64(time.Second) / s.load(at))))
}

// minute lets a minute pass for every route.
func (c *crowd) minute() {
	c.plans.Turn(c.now)
	end := c.now.Add(time.Minute)
	for _, s := range c.routes {
		s.run(c, end)
	}
	c.now = end
}

// run lets the slots come that lie before end, by the clock of a process that may
// be behind.
func (s *shaped) run(c *crowd, end machine.Time) {
	for {
		slot := s.shaper.NextSlot()
		late := s.lateness.Exp(c.late)
		at := slot.Add(s.behind + late)
		if at >= end {
			return
		}
		if c.drifts {
			s.behind += late
		}
		s.asked += at.Sub(s.last).Seconds() * float64(c.asked(s.shaper.Class()))
		s.last = at
		s.emitted++
		s.arrive(slot)
		s.shaper.Take(slot.Add(late))
		real := len(s.queue) > 0
		if real {
			c.waited.Observe(uint64(slot.Sub(s.queue[0]) / time.Microsecond))
			s.queue = s.queue[1:]
		}
		s.shaper.Emitted(real)
	}
}

// arrive takes what the application has written before a time.
func (s *shaped) arrive(at machine.Time) {
	for ; s.next <= at; s.next = s.arrival(s.next) {
		if len(s.queue) < queueMax {
			s.queue = append(s.queue, s.next)
		}
	}
}

// asked is the rate of a class as the loop has planned it for now.
func (c *crowd) asked(class obfs.Class) uint16 {
	for i, k := range obfs.Classes {
		if k == class {
			return c.want[i]
		}
	}
	return uint16(class)
}

// epoch lets an epoch pass and has each look at every minute. A minute before its
// end the loop makes the plan of the next, so that it is there when that begins,
// and says what it found.
func (c *crowd) epoch(each func(r *obfs.Report)) (control.CoverState, error) {
	const minutes = int(obfs.CoverEpoch / time.Minute)
	var state control.CoverState
	var plan wire.CoverPlan
	for m := range minutes {
		if m == minutes-1 {
			c.loop.Take(c.plans.Reports(c.now - 1)[0])
			state, plan, _ = c.loop.Next(c.plans.Epoch(c.now) + 1)
			if c.steered {
				if why := c.plans.Offer(c.now, &plan); why != 0 {
					return state, fmt.Errorf("the plan of epoch %d was refused: %v", plan.Epoch, why)
				}
			}
		}
		c.minute()
		r := c.plans.Reports(c.now - 1)[0]
		each(&r)
	}
	if c.steered {
		c.want = plan.Regions[0].Rates
	}
	return state, nil
}

// days is a load that goes up and down by a part of itself each day.
func days(base, part float64) func(machine.Time) float64 {
	return func(at machine.Time) float64 {
		return base * (1 + part*math.Sin(2*math.Pi*time.Duration(at).Hours()/24))
	}
}

// spreadLoads are n loads between two bounds, evenly on a logarithmic scale, as few
// users send much and many little.
func spreadLoads(n int, least, most, part float64) (out []func(machine.Time) float64) {
	for i := range n {
		out = append(out, days(least*math.Pow(most/least, (float64(i)+0.5)/float64(n)), part))
	}
	return out
}
