package lab

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/sim"
)

// sender sends numbered pings until each is answered, or once when it does not
// retransmit; answerer answers.
type sender struct {
	to         netip.AddrPort
	left       int
	retransmit bool
	sentAt     machine.Time
	due        bool
	timer      machine.Time
	tries      int
	done       func(d time.Duration, ok bool)
}

const senderTimeout = 30 * time.Millisecond

func (s *sender) HandleDatagram(now machine.Time, _ netip.AddrPort, _ []byte) { s.end(now, true) }

func (s *sender) end(now machine.Time, ok bool) {
	if s.left == 0 {
		return
	}
	s.done(now.Sub(s.sentAt), ok)
	s.left--
	s.sentAt, s.due, s.tries = now, s.left > 0, 0
}

func (s *sender) HandleTimer(now machine.Time) {
	s.timer = machine.Never
	if s.left == 0 {
		return
	}
	if s.tries == 1 && !s.retransmit {
		s.end(now, false)
	}
	s.due = true
}

func (s *sender) NextTimer() machine.Time { return s.timer }

func (s *sender) PollTransmit(now machine.Time, b []byte) (netip.AddrPort, int, bool) {
	if !s.due {
		return netip.AddrPort{}, 0, false
	}
	s.due = false
	s.tries++
	s.timer = now.Add(senderTimeout)
	return s.to, 100, true
}

func (s *sender) PollJob() (machine.Job, bool)        { return nil, false }
func (s *sender) HandleJob(machine.Time, machine.Job) {}

type answerer struct{ to netip.AddrPort }

func (a *answerer) HandleDatagram(_ machine.Time, from netip.AddrPort, _ []byte) { a.to = from }
func (a *answerer) HandleTimer(machine.Time)                                     {}
func (a *answerer) NextTimer() machine.Time                                      { return machine.Never }
func (a *answerer) PollTransmit(_ machine.Time, b []byte) (netip.AddrPort, int, bool) {
	to := a.to
	a.to = netip.AddrPort{}
	return to, 100, to.IsValid()
}
func (a *answerer) PollJob() (machine.Job, bool)        { return nil, false }
func (a *answerer) HandleJob(machine.Time, machine.Job) {}

// pings is the synthetic scenario: pings over a link that loses, with
// retransmission as the protection.
func pings(r *Run) error {
	n := r.Network(sim.Link{Latency: 5 * time.Millisecond, Loss: uint64(r.Param("loss") * 1e6)})
	a, b := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1")
	n.AddNode(sim.NodeConfig{Addr: b, New: func(machine.Time, prng.Source) machine.Machine { return &answerer{} }})
	n.AddNode(sim.NodeConfig{Addr: a, New: func(now machine.Time, _ prng.Source) machine.Machine {
		return &sender{to: b, left: r.Scaled("trials"), retransmit: r.Protected, due: true, timer: machine.Never,
			done: func(d time.Duration, ok bool) {
				r.Trial("success_ratio", ok)
				r.ObserveTime("latency_ms", d)
			}}
	}})
	n.RunFor(10 * time.Minute)
	r.Note("pings over one link")
	return nil
}

func labOf(t *testing.T, f Func, edit ...string) *Lab {
	t.Helper()
	s, err := Parse("scl-007.toml", synthetic(edit...))
	if err != nil {
		t.Fatal(err)
	}
	return &Lab{Catalogue: &Catalogue{[]*Scenario{s}}, Funcs: map[string]Func{"SCL-007": f}, Version: "test"}
}

func run(t *testing.T, l *Lab, o Options) *Evidence {
	t.Helper()
	e, err := l.Run(context.Background(), "scl-007", o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestVerdictIsComputedFromMeasurements(t *testing.T) {
	e := run(t, labOf(t, pings), Options{Seed: 3, Repeat: true})
	if !e.Passed() || e.Verdict != VerdictMet {
		t.Fatalf("verdict %s: %s", e.Verdict, e.Reason)
	}
	if r := e.Run.Results[0]; r.Samples != 500 || r.Measured != 100 || r.Interval == nil || r.Interval[0] >= 100 {
		t.Errorf("result %+v", r)
	}
	if r := e.Control.Results[0]; r.Met || r.Measured > 80 || r.Measured < 50 {
		t.Errorf("control %+v", r)
	}
	if e.Repeated == nil || !*e.Repeated || len(e.Run.TraceHashes) != 1 || e.Run.VirtualSeconds != 600 || e.Run.Datagrams == 0 {
		t.Errorf("evidence %+v", e)
	}
	if e.Replay != "nyx scenario run SCL-007 --seed 3 --scale 0.5" || e.Run.Notes[0] != "pings over one link" {
		t.Errorf("replay %q, notes %q", e.Replay, e.Run.Notes)
	}
	other := run(t, labOf(t, pings), Options{Seed: 4, Scale: 0.1, SkipControl: true})
	if other.Verdict != VerdictUnproven || other.Run.Results[0].Samples != 100 || other.Control != nil {
		t.Errorf("verdict %s of %d samples", other.Verdict, other.Run.Results[0].Samples)
	}
}

func TestVerdictsOfFaults(t *testing.T) {
	count := 0
	observe := func(good, bad uint64) Func {
		return func(r *Run) error {
			if r.Protected {
				r.Tally("success_ratio", 3*good, 300) // 299 bear 99 % if none fails
			} else {
				r.Tally("success_ratio", 3*bad, 300)
			}
			for i := range 20 {
				r.Observe("latency_ms", float64(i))
			}
			r.Progress("half %s", "way")
			return nil
		}
	}
	for _, c := range []struct {
		name    string
		f       Func
		edit    []string
		verdict string
		reason  string
	}{
		{"met", observe(100, 40), nil, VerdictMet, "ratio of success_ratio is 100 % (>= 99 %)"},
		{"met by too few", observe(100, 40), []string{"bound = 99\n", "bound = 99.05\n"}, VerdictSmall,
			"is 100 % (>= 99.05 %), but of 300 samples: what lies just at the bound would show no worse with a chance of 6 %; if none fails, 314 samples bear it"},
		{"all of few", observe(100, 40), []string{"bound = 99\n", "bound = 100\n"}, VerdictMet, "is 100 % (>= 100 %)"},
		{"missed", observe(98, 40), nil, VerdictNotMet, "is 98 % (>= 99 %)"},
		{"control sees nothing", observe(100, 100), nil, VerdictVoid, "the negative control met the objective"},
		{"model", observe(100, 40), []string{`"sim"`, `"model"`}, VerdictNotThere, "calculated: "},
		{"model, run there", func(r *Run) error { r.There(); return observe(100, 40)(r) }, []string{`"sim"`, `"model"`}, VerdictMet, "ratio of success_ratio is 100 % (>= 99 %)"},
		{"too few samples", observe(100, 40), []string{"at_least = 10", "at_least = 21"}, VerdictVoid, "has 20 samples of 21"},
		{"error", func(*Run) error { return errors.New("no network") }, nil, VerdictError, "no network"},
		{"panic", func(r *Run) error { return map[bool]error{}[r.Param("nothing") > 0] }, nil, VerdictError, `no parameter "nothing"`},
		{"nothing observed", func(r *Run) error { r.Trial("success_ratio", true); return nil }, nil, VerdictVoid, "latency_ms was never observed"},
		{"unmoved metric", observe(100, 40), []string{`"success.ratio"`, `"stream.latency_p95"`}, VerdictError, "must observe stream_latency_p95"},
		{"metric of another product", observe(100, 40), []string{`"success.ratio"`, `"tfc_queue_depth"`, `owner = "nyx"`, `owner = "Terraform Cloud"`}, VerdictMet, ""},
		{"not repeatable", func(r *Run) error {
			count++
			r.Observe("draws", float64(count))
			return observe(100, 40)(r)
		}, nil, VerdictDiverged, "two executions with one seed differ"},
		{"control fails to run", func(r *Run) error {
			if !r.Protected {
				return errors.New("cannot switch it off")
			}
			return observe(100, 40)(r)
		}, nil, VerdictVoid, "cannot switch it off"},
		{"control measures nothing", func(r *Run) error {
			if r.Protected {
				return observe(100, 40)(r)
			}
			return nil
		}, nil, VerdictVoid, "the negative control measured nothing"},
	} {
		e := run(t, labOf(t, c.f, c.edit...), Options{Repeat: c.verdict == VerdictDiverged, Progress: func(string) {}})
		if e.Verdict != c.verdict || !strings.Contains(e.Reason, c.reason) {
			t.Errorf("%s: %s, %q; want %s, %q", c.name, e.Verdict, e.Reason, c.verdict, c.reason)
		}
	}
}

func TestNothingToRun(t *testing.T) {
	l := labOf(t, pings)
	if _, err := l.Run(context.Background(), "DF-099", Options{}); err == nil || !strings.Contains(err.Error(), "nyx scenario list") {
		t.Errorf("unknown scenario: %v", err)
	}
	if _, err := l.Run(context.Background(), "SCL-007", Options{Scale: 3}); err == nil {
		t.Error("a scale of 3 was accepted")
	}
	l.Funcs = nil
	if _, err := l.Run(context.Background(), "SCL-007", Options{}); err == nil || !strings.Contains(err.Error(), "nothing executes it") {
		t.Errorf("no program: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l = labOf(t, func(*Run) error { cancel(); return nil })
	if _, err := l.Run(ctx, "SCL-007", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

func TestMisuseOfARunIsAnError(t *testing.T) {
	for name, f := range map[string]Func{
		"series name": func(r *Run) error { r.Observe("Latency", 1); return nil },
		"not a number": func(r *Run) error {
			zero := 0.0
			r.Observe("latency_ms", 1/zero)
			return nil
		},
		"more than all": func(r *Run) error { r.Tally("x", 2, 1); return nil },
	} {
		if e := run(t, labOf(t, f), Options{}); e.Verdict != VerdictError {
			t.Errorf("%s: %s", name, e.Verdict)
		}
	}
	r := &Run{Scenario: &Scenario{Parameters: map[string]float64{"ms": 1.5}}, Seed: 1, Scale: 0.001}
	if r.Duration("ms", time.Millisecond) != 1500*time.Microsecond || r.Scaled("ms") != 1 {
		t.Error("parameters are read wrongly")
	}
	if r.Source("a").Stream("x").Uint64() == r.Source("b").Stream("x").Uint64() {
		t.Error("two parts draw the same")
	}
	if a, b := r.Network(sim.Link{}), r.Network(sim.Link{}); a.Seed() == b.Seed() {
		t.Error("two networks of a run have one seed")
	}
}
