package control

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/aggregate"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// SchedulePeriod is how often λ′ is computed.
	SchedulePeriod = time.Second
	// safeAfter is the silence of a region after which its rates are left alone: more
	// than one sample of each node, less than the seed's gap of 30 s.
	safeAfter = 15 * time.Second
	// nodeStale is how long a node's last report is good.
	nodeStale = 30 * time.Second
	// scheduledMax bounds the nodes that are kept.
	scheduledMax = 1 << 16
	// loadAim is the part of a region's capacity that rates may use.
	loadAim = 0.75
	// saturated is the use, in hundredths, from which on a class may need any rate.
	saturated = 95
	// settled is the part of a rate's step that λ′ must lie away for the rate to move.
	settled = 0.75
)

// Scheduler is the control plane's rate loop: it takes what nodes report, steers a λ′
// for each class of each region towards the rate whose cover is CoverTarget, and says
// by ADJUST_RATE what should change in the next plan (Planner.Adjust). It goes by what
// crowds of routes need on average over minutes, and by the load of whole regions;
// what one user does at a moment is in none of it.
//
// Take and Follow take input, Turn moves time on, all else are getters. It belongs to
// one goroutine. Times are since any moment, the same for all calls.
type Scheduler struct {
	// Gains of all loops; change them before the first Turn.
	Gains Gains
	// Lag is how old all reports of known regions were when they came, in ms: telemetry.pipeline_lag_seconds.
	Lag aggregate.Sketch
	// Refused counts reports that were not taken: older than the last of their node, of
	// an unknown region, or of one node too many. Fallbacks counts how often a region
	// went to safe mode.
	Refused, Fallbacks uint64

	plan    *wire.CoverPlan // in force; nil: the nominal rates
	regions map[string]*scheduled
	nodes   int
	turned  machine.Time
	started bool

	swung float64 // the greatest amplitude of the last minute
	steps int     // all told
}

// scheduled is the loop of one region.
type scheduled struct {
	nodes  map[wire.NodeID]*told
	heard  machine.Time
	safe   bool
	servos [wire.CoverClasses]Servo
	swings [wire.CoverClasses]swing
}

// swing is between what a λ′ moved in a minute.
type swing struct {
	low, high, sum float64
	steps          int
}

// swingSteps is how many steps a swing is of: a minute.
const swingSteps = int(time.Minute / SchedulePeriod)

func (w *swing) note(v float64) {
	if w.steps == 0 {
		w.low, w.high, w.sum = v, v, 0
	}
	w.low, w.high, w.sum = min(w.low, v), max(w.high, v), w.sum+v
	w.steps++
}

// amplitude is half of what lies between the least and the greatest, as a part of the
// mean.
func (w *swing) amplitude() float64 { return (w.high - w.low) / 2 / (w.sum / float64(w.steps)) }

// told is the last report of a node.
type told struct {
	wire.Telemetry
	at machine.Time // when it came
}

// NewScheduler returns a scheduler without regions.
func NewScheduler() *Scheduler { return &Scheduler{Gains: Tuned, regions: map[string]*scheduled{}} }

// Follow says which regions there are, and what plan is in force.
func (s *Scheduler) Follow(now machine.Time, plan *wire.CoverPlan, regions []string) {
	s.plan = plan
	for name, r := range s.regions {
		if !slices.Contains(regions, name) {
			s.nodes -= len(r.nodes)
			delete(s.regions, name)
		}
	}
	for _, name := range regions {
		if s.regions[name] == nil {
			r := &scheduled{nodes: map[wire.NodeID]*told{}, heard: now}
			rates := s.rates(name)
			for k, class := range obfs.Classes {
				least, most, _ := obfs.Bounds(class)
				g := s.Gains
				g.Least, g.Most = float64(least), float64(most)
				r.servos[k] = Servo{Gains: g, Value: float64(rates[k])}
			}
			s.regions[name] = r
		}
	}
}

// rates are those in force in a region.
func (s *Scheduler) rates(region string) [wire.CoverClasses]uint16 {
	if s.plan != nil {
		if r := s.plan.Region(region); r != nil {
			return r.Rates
		}
	}
	return obfs.Nominal()
}

// Take takes a node's report. unixMillis is the time by the clock that reports go by.
// The report is kept as it is.
func (s *Scheduler) Take(now machine.Time, unixMillis int64, node wire.NodeID, region string, t *wire.Telemetry) bool {
	r := s.regions[region]
	if r == nil {
		s.Refused++
		return false
	}
	s.Lag.Observe(uint64(max(unixMillis-t.Millis, 0)))
	n := r.nodes[node]
	switch {
	case n == nil && s.nodes >= scheduledMax, n != nil && t.Millis <= n.Millis:
		s.Refused++
		return false
	case n == nil:
		n = &told{}
		r.nodes[node] = n
		s.nodes++
	}
	*n = told{*t, now}
	r.heard = now
	return true
}

// Bound has a report say no more than twice what a node of the capacity that the
// directory lists can do: so much a node weighs, whatever it says.
func Bound(t *wire.Telemetry, capacity uint32) {
	t.Capacity = min(t.Capacity, capacity)
	most := capacitySlack * uint64(capacity)
	t.Sent = uint32(min(uint64(t.Sent), most*uint64(t.Span)/1000))
	emitted := uint64(0)
	for _, c := range t.Classes {
		emitted += uint64(c.Routes) * uint64(obfs.Classes[c.Place])
	}
	if emitted > most {
		t.Classes = nil
	}
}

// Turn has every loop make the steps that are due. What it missed for longer than a
// few periods it does not make up for.
func (s *Scheduler) Turn(now machine.Time) {
	if s.started && now.Sub(s.turned) < SchedulePeriod {
		return
	}
	s.started, s.turned = true, now
	for _, name := range slices.Sorted(maps.Keys(s.regions)) {
		r := s.regions[name]
		for id, n := range r.nodes {
			if now.Sub(n.at) > nodeStale {
				delete(r.nodes, id)
				s.nodes--
			}
		}
		if silent := now.Sub(r.heard) >= safeAfter; silent != r.safe {
			if r.safe = silent; silent {
				s.Fallbacks++
			}
		}
		if !r.safe {
			r.step(s.rates(name))
		}
	}
	if s.steps++; s.steps%swingSteps == 0 {
		s.swung = 0
		for _, r := range s.regions {
			for k := range r.swings {
				if r.swings[k].steps > 0 {
					s.swung = max(s.swung, r.swings[k].amplitude())
				}
				r.swings[k] = swing{}
			}
		}
	}
}

// Oscillation is by how much a λ′ swung to each side in the last whole minute, as a
// part of its mean, and of that the greatest of all classes and regions:
// control.feedback_oscillation. ok is false before the first minute is over.
func (s *Scheduler) Oscillation() (amplitude float64, ok bool) {
	return s.swung, s.steps >= swingSteps
}

// step moves λ′ of each class one step on.
func (r *scheduled) step(rates [wire.CoverClasses]uint16) {
	relief := 1.0
	if load := r.load(); load > loadAim {
		relief = loadAim / load
	}
	for k := range r.servos {
		if want, known := r.want(k, float64(rates[k])); known {
			r.swings[k].note(r.servos[k].Step(want * relief / r.servos[k].Value))
		}
	}
}

// load is that of all nodes together, as a part of what they can send.
func (r *scheduled) load() float64 {
	sent, capacity := 0.0, 0.0
	for _, id := range r.sorted() {
		n := r.nodes[id]
		sent, capacity = sent+n.Load()*float64(n.Capacity), capacity+float64(n.Capacity)
	}
	if capacity == 0 {
		return 0
	}
	return sent / capacity
}

// want is the rate at which a class would have its target of cover, from the use that
// nodes report under the rate in force. A class that is used up may need any rate: it
// is wanted at what half as much again of the target brings, and looked at again.
func (r *scheduled) want(class int, rate float64) (want float64, known bool) {
	used, routes := 0.0, 0.0
	for _, n := range r.nodes {
		for _, c := range n.Classes {
			if int(c.Place) == class {
				used += float64(c.Use) * float64(c.Routes) // whole numbers: their order reaches nothing
				routes += float64(c.Routes)
			}
		}
	}
	if routes == 0 {
		return 0, false
	}
	use := used / routes
	if use >= saturated {
		return rate * fallMax * (1 + CoverTarget), true
	}
	return rate * use / 100 * (1 + CoverTarget), true
}

// Cover is the cover ratio of the routes above their floors of which nodes speak, by
// their last reports; ok is false where there are too few routes for any node to speak.
func (s *Scheduler) Cover() (ratio float64, ok bool) {
	filled, all := uint64(0), uint64(0) // hundredths of a cell a second; whole numbers: their order reaches nothing
	for _, r := range s.regions {
		for _, n := range r.nodes {
			for _, c := range n.Classes {
				emitted := uint64(c.Routes) * uint64(obfs.Classes[c.Place]) // as Classes counts routes
				filled, all = filled+emitted*uint64(c.Use), all+emitted*100
			}
		}
	}
	if filled == 0 {
		return 0, false
	}
	return float64(all-filled) / float64(filled), true
}

func (r *scheduled) sorted() []wire.NodeID {
	return slices.SortedFunc(maps.Keys(r.nodes), func(a, b wire.NodeID) int { return slices.Compare(a[:], b[:]) })
}

// Rate is λ′ of a class of a region, as a number by its place in obfs.Classes; 0: the
// region is not known.
func (s *Scheduler) Rate(region string, class int) float64 {
	if r := s.regions[region]; r != nil {
		return r.servos[class].Value
	}
	return 0
}

// Safe are the regions whose telemetry is gone: their rates stay as they are.
func (s *Scheduler) Safe() (out []string) {
	for _, name := range slices.Sorted(maps.Keys(s.regions)) {
		if s.regions[name].safe {
			out = append(out, name)
		}
	}
	return out
}

// strainedLoad is the load, of its capacity, from which on a node is overloaded
// whatever it says itself.
const strainedLoad = 0.95

// Strained reports whether a node is overloaded, by its last report.
func (s *Scheduler) Strained(region string, node wire.NodeID) bool {
	if r := s.regions[region]; r != nil {
		if n := r.nodes[node]; n != nil {
			return n.strained()
		}
	}
	return false
}

func (n *told) strained() bool {
	return n.Flags&wire.TelemetryOverloaded != 0 || n.Load() >= strainedLoad
}

// Overloaded counts the nodes that are.
func (s *Scheduler) Overloaded() (n int) {
	for _, r := range s.regions {
		for _, t := range r.nodes {
			if t.strained() {
				n++
			}
		}
	}
	return n
}

// Adjust says what is to change in the plan of an epoch, as plans can have it: in
// whole steps, not further than plans may move, and no class below the one before.
// Regions in safe mode are not spoken of.
func (s *Scheduler) Adjust(epoch uint32) (out []wire.AdjustRate) {
	for _, name := range slices.Sorted(maps.Keys(s.regions)) {
		r, rates := s.regions[name], s.rates(name)
		if r.safe {
			continue
		}
		before := rates
		for k, class := range obfs.Classes {
			rates[k] = plannable(class, rates[k], r.servos[k].Value)
			if k > 0 {
				rates[k] = max(rates[k], rates[k-1])
			}
			if rates[k] != before[k] {
				out = append(out, wire.AdjustRate{Epoch: epoch, Region: name, Class: uint16(class), Rate: rates[k]})
			}
		}
	}
	return out
}

// plannable is the rate nearest to λ′ that may follow a rate of a class.
func plannable(class obfs.Class, rate uint16, want float64) uint16 {
	least, most, step := obfs.Bounds(class)
	if least == most {
		return rate
	}
	if math.Abs(want-float64(rate)) < settled*float64(step) {
		return rate
	}
	want = max(want, float64(rate)/fallMax)
	most = min(most, obfs.Step(class, rate)/step*step)
	return min(max(uint16(math.Round(want/float64(step)))*step, least), most)
}
