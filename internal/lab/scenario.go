// Package lab runs the scenarios of the catalogue and keeps the evidence.
//
// A scenario is data (scenarios/*.toml: what is loaded, what is measured, what
// must hold) and a Func that executes it. A run measures, the engine computes
// the verdict from what was measured, and runs the scenario a second time with
// its protection switched off: that negative control must miss the objective,
// or else the measurement cannot see the fault and proves nothing.
//
// The pieces: scenario.go and catalogue.go (what is to be shown), run.go and
// series.go (what a Func holds in its hands), slo.go and engine.go (the
// verdict), evidence.go and ledger.go (what remains).
package lab

import (
	"fmt"
	"strings"
)

// Mode says how far a result of a scenario reaches.
type Mode string

// Modes. The mode is part of every result.
const (
	// Live runs real processes, sockets and engines on this machine.
	Live Mode = "live"
	// Sim runs the real cores on virtual time.
	Sim Mode = "sim"
	// Model calculates from measured inputs. Its objective counts as "not met
	// until run there", whatever the calculation gives, unless the run was (Run.There).
	Model Mode = "model"
)

// Scenario is one entry of the catalogue. Figures are those of the
// specification; the words are the catalogue's own.
type Scenario struct {
	ID    string `toml:"id"`    // DF-001 … DF-050, SCL-001 … SCL-050
	Title string `toml:"title"` // one line
	Mode  Mode   `toml:"mode"`

	// Layer is the layer under test (SCL) or the stage of the flow (DF).
	Layer string `toml:"layer"`
	// Focus is the question that the scenario answers, and Trigger what brings
	// the situation about (DF).
	Focus   string `toml:"focus"`
	Trigger string `toml:"trigger"`
	// Load and Configuration in words; their figures stand in Parameters.
	Load          string `toml:"load"`
	Configuration string `toml:"configuration"`

	// SLI is the indicator in words.
	SLI    string   `toml:"sli"`
	SLO    []SLO    `toml:"slo"`
	Metric []Metric `toml:"metric"`

	Preconditions  string `toml:"preconditions"`
	Procedure      string `toml:"procedure"`
	Risk           string `toml:"risk"`           // DF
	Recommendation string `toml:"recommendation"` // DF
	Fallback       string `toml:"fallback"`       // SCL
	Escalation     string `toml:"escalation"`     // SCL
	FollowUp       string `toml:"follow_up"`

	// Parameters are the figures that the Func reads by Run.Param.
	Parameters map[string]float64 `toml:"parameters"`
	Scale      Scale              `toml:"scale"`
	Control    Control            `toml:"control"`

	// File is where the scenario was read, and Digest the SHA-256 of it.
	File   string `toml:"-"`
	Digest string `toml:"-"`
}

// SLO is one objective: a statistic of a series, compared with a bound.
type SLO struct {
	// Series is the name under which the Func observes.
	Series string `toml:"series"`
	Stat   Stat   `toml:"stat"`
	Op     Op     `toml:"op"`
	// Bound is in Unit; Unit "%" compares a ratio in hundredths.
	Bound float64 `toml:"bound"`
	Unit  string  `toml:"unit"`
	// AtLeast is how many samples (or trials of a ratio) a verdict needs; 0 is
	// one.
	AtLeast uint64 `toml:"at_least"`
}

// String writes an objective as the ledger shows it.
func (o SLO) String() string {
	return fmt.Sprintf("%s of %s %s %s", o.Stat, o.Series, o.Op, quantity(o.Bound, o.Unit))
}

// Metric is a series that the running system exports.
type Metric struct {
	// Name is the specification's. Dots and underscores are one: see
	// SeriesName.
	Name string `toml:"name"`
	// Owner is "nyx" for what this system exports, or the product whose metric
	// it is.
	Owner string `toml:"owner"`
}

// OwnerNyx marks a metric as this system's own: a run must move it.
const OwnerNyx = "nyx"

// Scale says how much of the specified load a run carries.
type Scale struct {
	// Default is the fraction that a run without --scale takes, in (0, 1].
	Default float64 `toml:"default"`
	// Full describes the load at scale 1.
	Full string `toml:"full"`
}

// Control describes the negative control.
type Control struct {
	// Off is the protection that the control runs without.
	Off string `toml:"off"`
	// Fails lists the series whose objectives the control must miss.
	Fails []string `toml:"fails"`
}

// SeriesName is the one name of a metric that the specification writes with
// dots in one place and underscores in another.
func SeriesName(metric string) string { return strings.ReplaceAll(metric, ".", "_") }

// Family is the part of the id before the dash.
func (s *Scenario) Family() string {
	family, _, _ := strings.Cut(s.ID, "-")
	return family
}
