package lab

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/lab/stall"
)

// Lab joins the catalogue with what executes it.
type Lab struct {
	Catalogue *Catalogue
	// Funcs executes scenarios, by id.
	Funcs map[string]Func
	// Version is the version of the program, for evidence; empty: unknown.
	Version string
	// Program is the program nyx with such arguments, as a process that ends with this one,
	// for scenarios that look at what runs; nil: they cannot be carried out.
	Program func(args ...string) (*exec.Cmd, error)
}

// Options of one run.
type Options struct {
	Seed uint64
	// Scale is the fraction of the specified load; 0 is the scenario's own.
	Scale float64
	// SkipControl leaves out the negative control; the verdict is then at most
	// "met without control".
	SkipControl bool
	// Repeat runs twice and compares the trace hashes.
	Repeat bool
	// Progress takes a line now and then; nil takes none.
	Progress func(line string)
}

// Verdicts. They are computed; nobody types them in.
const (
	VerdictMet      = "met"                       // objectives met, control missed them
	VerdictSmall    = "met in too small a sample" // as met, but the samples do not bear a bound
	VerdictUnproven = "met without control"       // objectives met, control not run
	VerdictNotMet   = "not met"                   // an objective was missed
	VerdictNotThere = "not met until run there"   // mode model: a calculation
	VerdictVoid     = "void"                      // the control met the objectives, or nothing was measured
	VerdictError    = "error"                     // the scenario could not be carried out
	VerdictDiverged = "diverged"                  // two runs with one seed differ
)

// Run executes a scenario and returns the evidence. The error says only that
// there is nothing to run; everything else is in the evidence. Cancelling ctx
// is honoured between the executions that a run consists of.
func (l *Lab) Run(ctx context.Context, id string, o Options) (*Evidence, error) {
	s, ok := l.Catalogue.Find(id)
	if !ok {
		return nil, fmt.Errorf("no scenario %q: `nyx scenario list` shows what there is", id)
	}
	f := l.Funcs[s.ID]
	if f == nil {
		return nil, fmt.Errorf("scenario %s is in the catalogue, but nothing executes it yet", s.ID)
	}
	if o.Scale == 0 {
		o.Scale = s.Scale.Default
	}
	if o.Scale < 0 || o.Scale > 1 {
		return nil, fmt.Errorf("scale %v is not above 0 and at most 1", o.Scale)
	}
	started := time.Now()
	e := l.newEvidence(s, o, started)
	e.Run = l.execute(s, f, o, true)
	if o.Repeat && ctx.Err() == nil {
		again := l.execute(s, f, o, true)
		same := again.same(e.Run)
		e.Repeated = &same
	}
	if !o.SkipControl && ctx.Err() == nil {
		control := l.execute(s, f, o, false)
		e.Control = &control
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("scenario %s was stopped: %w", s.ID, err)
	}
	if e.Run.There {
		e.Mode = Live
	}
	e.DurationSeconds = time.Since(started).Seconds()
	e.Verdict, e.Reason = verdict(s, e)
	return e, nil
}

// execute carries a scenario out once. A panic of a machine or of the Func is
// an error of the execution.
func (l *Lab) execute(s *Scenario, f Func, o Options, protected bool) (x Execution) {
	r := &Run{Scenario: s, Seed: o.Seed, Scale: o.Scale, Protected: protected,
		series: map[string]*series{}, progress: o.Progress, program: l.Program}
	started := time.Now()
	if s.Mode == Live {
		end := stall.Watch()
		defer func() {
			lost, longest := end()
			x.StalledSeconds, x.StalledMost = lost.Seconds(), longest.Seconds()
		}()
	}
	defer func() {
		if p := recover(); p != nil {
			x.Error = fmt.Sprintf("%v\n%s", p, firstFrames(debug.Stack()))
		}
		x.WallSeconds = time.Since(started).Seconds()
	}()
	if err := f(r); err != nil {
		x.Error = err.Error()
	}
	x.Protected = protected
	x.VirtualSeconds = r.virtual().Seconds()
	x.Notes, x.There = r.notes, r.there
	for _, n := range r.networks {
		x.TraceHashes = append(x.TraceHashes, n.TraceHash())
		x.Datagrams += n.Stats().Sent
	}
	for _, name := range r.names {
		x.Series = append(x.Series, r.series[name].summary(name))
	}
	for _, slo := range s.SLO {
		x.Results = append(x.Results, slo.judge(r.series[slo.Series]))
	}
	if x.Error == "" && protected {
		x.Error = unmoved(s, r)
	}
	return x
}

// unmoved names a metric of this system that the run did not move.
func unmoved(s *Scenario, r *Run) string {
	for _, m := range s.Metric {
		if m.Owner == OwnerNyx && r.series[SeriesName(m.Name)] == nil {
			return fmt.Sprintf("the metric %s did not move: the run must observe %s", m.Name, SeriesName(m.Name))
		}
	}
	return ""
}

// verdict is the one place that decides.
func verdict(s *Scenario, e *Evidence) (verdict, reason string) {
	x := e.Run
	switch {
	case x.Error != "":
		return VerdictError, firstLine(x.Error)
	case e.Repeated != nil && !*e.Repeated:
		return VerdictDiverged, "two executions with one seed differ: the run proves nothing"
	}
	var missed, small []string
	for _, r := range x.Results {
		if r.Fault != "" {
			return VerdictVoid, r.String()
		}
		if !r.Met {
			missed = append(missed, r.String())
		}
		if r.small() {
			small = append(small, r.tooSmall())
		}
	}
	if len(missed) > 0 {
		return VerdictNotMet, strings.Join(missed, "; ")
	}
	met := x.Results[0].String()
	if len(small) > 0 {
		met = strings.Join(small, "; ")
	}
	if e.Control != nil {
		if why := blind(s, e.Control); why != "" {
			return VerdictVoid, why
		}
	}
	switch {
	case e.Mode == Model:
		return VerdictNotThere, "calculated: " + met
	case e.Control == nil:
		return VerdictUnproven, met
	case len(small) > 0:
		return VerdictSmall, met
	}
	return VerdictMet, met
}

// blind says why a control does not show that the measurement sees the fault,
// or nothing.
func blind(s *Scenario, control *Execution) string {
	if control.Error != "" {
		return "the negative control could not be carried out: " + firstLine(control.Error)
	}
	for _, r := range control.Results {
		if !slices.Contains(s.Control.Fails, r.Series) {
			continue
		}
		if r.Fault != "" {
			return "the negative control measured nothing: " + r.String()
		}
		if r.Met {
			return "the negative control met the objective, so the measurement cannot see the fault: " + r.String()
		}
	}
	return ""
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// framesMax is how many lines of a stack go into evidence.
const framesMax = 24

func firstFrames(stack []byte) string {
	lines := strings.Split(string(stack), "\n")
	return strings.Join(lines[:min(len(lines), framesMax)], "\n")
}

// versions describes what ran, and where.
func (l *Lab) versions() Versions {
	v := Versions{Nyx: l.Version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, kv := range info.Settings {
			switch kv.Key {
			case "vcs.revision":
				v.Commit = kv.Value
			case "vcs.modified":
				v.Modified = kv.Value == "true"
			}
		}
	}
	return v
}
