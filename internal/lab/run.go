package lab

import (
	"fmt"
	"math"
	"os/exec"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/sim"
)

// Func executes a scenario. It observes series on the run, and returns an
// error only when it could not be carried out: a missed objective is not an
// error, and must be visible in the series instead.
type Func func(r *Run) error

// Run is one execution of a scenario, with its protection or, as the negative
// control, without.
type Run struct {
	Scenario *Scenario
	// Seed repeats the run.
	Seed uint64
	// Scale is the fraction of the specified load, in (0, 1].
	Scale float64
	// Protected is false in the negative control: the Func then leaves out
	// what Scenario.Control.Off names, and nothing else.
	Protected bool

	names    []string // of series, in order of first observation
	series   map[string]*series
	notes    []string
	there    bool
	networks []*sim.Network
	progress func(string)
	program  func(args ...string) (*exec.Cmd, error)
}

// NewRun returns a run outside of the engine, for measurements: with the
// protection, at full scale, and without evidence.
func NewRun(s *Scenario, seed uint64) *Run {
	return &Run{Scenario: s, Seed: seed, Scale: 1, Protected: true, series: map[string]*series{}}
}

// Param returns a figure of the scenario's load. A name that the catalogue
// lacks ends the run.
func (r *Run) Param(name string) float64 {
	v, ok := r.Scenario.Parameters[name]
	if !ok {
		panic(fmt.Sprintf("%s has no parameter %q", r.Scenario.File, name))
	}
	return v
}

// Duration returns a figure that counts in units of unit.
func (r *Run) Duration(name string, unit time.Duration) time.Duration {
	return time.Duration(math.Round(r.Param(name) * float64(unit)))
}

// Scaled returns a figure of the load at the run's scale, at least 1.
func (r *Run) Scaled(name string) int {
	return max(1, int(math.Round(r.Param(name)*r.Scale)))
}

// Source returns the randomness of a part of the run.
func (r *Run) Source(label string) prng.Source { return prng.FromUint64(r.Seed).Child("lab/" + label) }

// Network makes a simulated network under the run's seed. Its trace hash and
// its virtual time become part of the evidence.
func (r *Run) Network(link sim.Link) *sim.Network {
	n := sim.New(sim.Config{Seed: r.Seed + uint64(len(r.networks))<<32, Link: link})
	r.networks = append(r.networks, n)
	return n
}

func (r *Run) of(name string) *series {
	s := r.series[name]
	if s == nil {
		if !seriesPattern.MatchString(name) {
			panic(fmt.Sprintf("series name %q: lower-case letters, digits and _ only", name))
		}
		s = &series{}
		r.series[name] = s
		r.names = append(r.names, name)
	}
	return s
}

// Observe adds one sample, in the unit of the objective on that series.
func (r *Run) Observe(name string, v float64) {
	s := r.of(name)
	if len(s.samples) == samplesMax {
		panic(fmt.Sprintf("series %s has more than %d samples: sum them up", name, samplesMax))
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		panic(fmt.Sprintf("series %s: a sample is %v", name, v))
	}
	s.samples, s.sorted = append(s.samples, v), false
}

// ObserveTime adds a duration in milliseconds.
func (r *Run) ObserveTime(name string, d time.Duration) {
	r.Observe(name, float64(d)/float64(time.Millisecond))
}

// Tally adds to a ratio: part of whole trials had the property counted.
func (r *Run) Tally(name string, part, whole uint64) {
	if part > whole {
		panic(fmt.Sprintf("series %s: %d of %d", name, part, whole))
	}
	s := r.of(name)
	s.part += part
	s.whole += whole
}

// Trial adds one trial to a ratio.
func (r *Run) Trial(name string, hit bool) {
	if hit {
		r.Tally(name, 1, 1)
	} else {
		r.Tally(name, 0, 1)
	}
}

// Note adds a sentence to the evidence: what a reader of the figures must
// know. It holds no measured verdict.
func (r *Run) Note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// There says that the run was made on what the scenario names, not calculated: its
// evidence is of mode live then, whatever the catalogue says.
func (r *Run) There() { r.there = true }

// Progress tells whoever waits how far the run is.
func (r *Run) Progress(format string, args ...any) {
	if r.progress != nil {
		r.progress(fmt.Sprintf(format, args...))
	}
}

// virtual is the longest virtual time of the run's networks.
func (r *Run) virtual() time.Duration {
	var t machine.Time
	for _, n := range r.networks {
		t = max(t, n.Now())
	}
	return time.Duration(t)
}
