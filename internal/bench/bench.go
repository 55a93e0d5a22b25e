// Package bench measures what docs/performance.md claims, each figure with the
// floor measured in the same run, so that ratios hold where machines differ.
package bench

import (
	"context"
	"fmt"
	"io"
	"sort"
	"text/tabwriter"
	"time"
)

// Figure is one measured value.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Floor is the least, or for rates the most, that this machine could do,
	// measured in the same run; 0 where there is none.
	Floor float64 `json:"floor,omitempty"`
	// Ratio is Value to Floor.
	Ratio float64 `json:"ratio,omitempty"`
	// Bound is the budget, in the unit of Value, or of Ratio where there is a
	// floor; 0 where there is none.
	Bound float64 `json:"budget,omitempty"`
	Note  string  `json:"note,omitempty"`
}

// against sets the floor and the ratio.
func (f Figure) against(floor float64) Figure {
	f.Floor = floor
	if floor != 0 {
		f.Ratio = f.Value / floor
	}
	return f
}

// Options say how long and how large.
type Options struct {
	// Seconds is the time spent on each throughput figure; 0 means 3.
	Seconds int
	// Sessions is how many the measurement of idle sessions holds; 0 means
	// 20,000, and 10,000 for that of the capacity plan.
	Sessions int
	// Events is how many the measurement of the audit log verifies; 0 means
	// 1,000,000.
	Events int
	// Phase is that of the capacity plan; "" means alpha.
	Phase string
	// Progress takes a line now and then; nil takes none.
	Progress func(string)
}

func (o Options) withDefaults() Options {
	if o.Seconds == 0 {
		o.Seconds = 3
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o
}

func (o Options) duration() time.Duration { return time.Duration(o.Seconds) * time.Second }

// Bench is one named measurement.
type Bench struct {
	Name, About string
	Run         func(context.Context, Options) ([]Figure, error)
}

// All lists the measurements.
func All() []Bench {
	return []Bench{
		{"hop", "CPU time of one hop for one datagram, forwarding at load", runHop},
		{"setup", "CPU time of one hop for one route set-up", runSetup},
		{"stream", "bytes per second through the local network, level fast", runStream},
		{"requests", "small requests through the local network, level fast", runRequests},
		{"session", "time to a session, first bytes, and what idle costs", runSession},
		{"idle", "memory and CPU of idle sessions at one Stream node", runIdle},
		{"sim", "datagram-hops per second of the simulator", runSim},
		{"capacity", "a phase of the capacity plan in the simulator, and what nodes need in all", runCapacity},
		{"audit", "events per second into the audit log, and through its verification", runAudit},
	}
}

// Find returns the measurement of a name.
func Find(name string) (Bench, error) {
	for _, b := range All() {
		if b.Name == name {
			return b, nil
		}
	}
	return Bench{}, fmt.Errorf("there is no bench %q; use hop, setup, stream, requests, session, idle, sim, capacity or audit", name)
}

// Print writes figures as a table for people.
func Print(w io.Writer, figures []Figure) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tvalue\tunit\tfloor\tratio\tbudget\tnote")
	for _, f := range figures {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, number(f.Value), f.Unit, number(f.Floor), number(f.Ratio), number(f.Bound), f.Note)
	}
	t.Flush()
}

func number(x float64) string {
	switch {
	case x == 0:
		return ""
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	default:
		return fmt.Sprintf("%.3g", x)
	}
}

// percentile returns the p-th percentile of samples, which it sorts.
func percentile(samples []time.Duration, p int) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	sort.Slice(samples, func(i, j int) bool { return samples[i] < samples[j] })
	return samples[min(len(samples)*p/100, len(samples)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }
