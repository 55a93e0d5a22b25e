package lab

import (
	"fmt"
	"slices"
	"strconv"
)

// Stat names a statistic of a series.
type Stat string

// Op is a comparison of a measured value (left) with a bound (right).
type Op string

var quantiles = map[Stat]float64{"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}

var statNames = []string{"p50", "p90", "p95", "p99", "p999", "min", "max", "mean", "count", "ratio"}

// units are those in which bounds are written. A series is observed in the
// unit of its objective, except that ratios are counted and "%" multiplies.
var units = []string{"ms", "s", "min", "h", "%", "ratio", "count", "bytes", "per_s", "MB/s", "index"}

func (s Stat) valid() bool { return slices.Contains(statNames, string(s)) }

func (o Op) valid() bool { return slices.Contains([]Op{"<=", "<", ">=", ">", "=="}, o) }

func (o Op) holds(measured, bound float64) bool {
	switch o {
	case "<=":
		return measured <= bound
	case "<":
		return measured < bound
	case ">=":
		return measured >= bound
	case ">":
		return measured > bound
	}
	return measured == bound
}

// Result is one objective, judged.
type Result struct {
	Series   string  `json:"series"`
	Stat     Stat    `json:"stat"`
	Op       Op      `json:"op"`
	Bound    float64 `json:"bound"`
	Unit     string  `json:"unit"`
	Measured float64 `json:"measured"`
	Samples  uint64  `json:"samples"`
	// Interval is the 95 % interval of a ratio, in Unit.
	Interval *[2]float64 `json:"interval95,omitempty"`
	Met      bool        `json:"met"`
	// Chance is with which what lies just at the bound would have shown no worse
	// than this in so many samples: of a ratio that is met, with a bound between
	// none and all.
	Chance float64 `json:"chance_at_bound,omitempty"`
	// Fault says why nothing could be measured; Met is then false and the
	// result does not count as missed either.
	Fault string `json:"fault,omitempty"`
}

// String writes a result as "p95 of stream_latency_ms is 181 ms (≤ 320 ms)".
func (r Result) String() string {
	if r.Fault != "" {
		return fmt.Sprintf("%s %s", r.Series, r.Fault)
	}
	return fmt.Sprintf("%s of %s is %s (%s %s)", r.Stat, r.Series, quantity(r.Measured, r.Unit), r.Op, quantity(r.Bound, r.Unit))
}

// chanceMax is the chance at the bound up to which a sample bears an objective:
// that of a one-sided interval of 95 %. With none failed of n, "at most p" is borne
// where n is at least ln(chanceMax)/ln(1-p), some 3/p.
const chanceMax = 0.05

// small reports whether an objective is met by a sample too small to say so of what
// it was drawn from.
func (r Result) small() bool { return r.Met && r.Chance > chanceMax }

// tooSmall says of what a sample is too small, and what would not be.
func (r Result) tooSmall() string {
	return fmt.Sprintf("%v, but of %d samples: what lies just at the bound would show no worse with a chance of %.0f %%; if none fails, %d samples bear it",
		r, r.Samples, 100*r.Chance, samplesFor(r.allowed()))
}

// allowed is the share of failures up to which a ratio keeps its objective.
func (r Result) allowed() float64 {
	share := r.Bound
	if r.Unit == "%" {
		share /= 100
	}
	if r.Op == ">=" || r.Op == ">" {
		share = 1 - share
	}
	return share
}

// chance is Result.Chance of a ratio. A bound at none or at all is of the trials that
// were made, each of them: no number of samples bears it of others.
func (r Result) chance(s *series) float64 {
	p, failed := r.allowed(), s.part
	if r.Op == ">=" || r.Op == ">" {
		failed = s.whole - s.part
	}
	if p < 1e-9 || p > 1-1e-9 || r.Op == "==" {
		return 0
	}
	return atMost(failed, s.whole, p)
}

// judge compares what was observed with an objective.
func (o SLO) judge(s *series) Result {
	r := Result{Series: o.Series, Stat: o.Stat, Op: o.Op, Bound: o.Bound, Unit: o.Unit}
	v, err := s.stat(o.Stat)
	if err != nil {
		r.Fault = err.Error()
		return r
	}
	r.Samples = s.count()
	if need := max(1, o.AtLeast); r.Samples < need {
		r.Fault = fmt.Sprintf("has %d samples of %d that a verdict needs", r.Samples, need)
		return r
	}
	factor := 1.0
	if o.Unit == "%" {
		factor = 100
	}
	if o.Stat == "ratio" {
		low, high := wilson(s.part, s.whole)
		r.Interval = &[2]float64{low * factor, high * factor}
	}
	r.Measured = v * factor
	r.Met = o.Op.holds(r.Measured, o.Bound)
	if o.Stat == "ratio" && r.Met {
		r.Chance = r.chance(s)
	}
	return r
}

func quantity(v float64, unit string) string {
	text := strconv.FormatFloat(v, 'g', 5, 64)
	switch unit {
	case "ratio", "count", "index":
		return text
	case "per_s":
		return text + "/s"
	}
	return text + " " + unit
}
