package daemon

import (
	"context"
	"math"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// How a node knows that it is overloaded, and who hears of it:
//
//  1. look, each second, and a Stream node's machine with what comes: the guard judges
//     what is sent, dropped, and waits (control.Guard). A Stream node's slows admissions
//     by itself.
//  2. report.go: an overloaded node reports a full load to the authorities, so that
//     clients draw other nodes.
//  3. tell: a TELEMETRY_REPORT of the second goes to the control plane, if there is one
//     (telemetry.Reporter).

// strain is what a node knows of its own.
type strain struct {
	guard    control.Guard       // a Mix node's, under the host's lock
	reporter *telemetry.Reporter // nil: there is no control plane
	noise    *prng.Stream        // on the numbers of routes

	// Of the last report: one goroutine's.
	at      time.Time
	counts  trace.Counts
	held    uint64
	window  uint32
	classes []wire.TelemetryClass
	waited  time.Duration // the longest since
	was     bool          // overloaded

	alones uint64 // how often the node found itself alone, under the host's lock
}

// startStrain begins to watch a node. Its reports go to the control plane by
// cfg.Telemetry until ctx ends.
func (n *Node) startStrain(ctx context.Context) {
	n.strain.guard = control.NewGuard(n.cfg.Capacity)
	if n.cfg.Telemetry == nil && n.teller != nil {
		n.cfg.Telemetry = n.teller.telemetry
	}
	if n.cfg.Telemetry == nil {
		return
	}
	draw := systemEntropy().Child("telemetry")
	n.strain.noise = draw.Stream("noise")
	n.strain.reporter = telemetry.NewReporter(time.Now(), draw.Stream("sampler"), n.cfg.Telemetry)
	n.running.Go(func() { n.strain.reporter.Run(ctx) })
}

// guardOf is the node's guard. The host's lock is held.
func (n *Node) guardOf() *control.Guard {
	if n.gateway != nil {
		return &n.gateway.Guard
	}
	return &n.strain.guard
}

// overloaded reports whether the node is.
func (n *Node) overloaded() (over bool) {
	n.host.Do(func(machine.Time) { over = n.guardOf().Overloaded() })
	return over
}

// look has the guard look at the node, which has just waited for its turn. The host's
// lock is held.
func (n *Node) look(now machine.Time, waited time.Duration) {
	s, g := &n.strain, n.guardOf()
	s.waited = max(s.waited, waited)
	alone := s.reporter != nil && s.reporter.Alone(time.Now())
	if alone && !g.IsAlone() {
		s.alones++
	}
	if n.gateway != nil {
		n.gateway.HandleParams(now, gateway.Params{Wait: waited, Alone: &alone})
		return
	}
	counts := n.stats()
	g.Alone(alone)
	g.Observe(now, control.VitalsOf(&counts, waited))
}

// tell says how the last second was: to whoever reads the log, and to the control plane.
func (n *Node) tell(now time.Time) {
	s := &n.strain
	var g control.Guard
	var counts trace.Counts
	n.host.Do(func(machine.Time) { g, counts = *n.guardOf(), n.stats() })
	if over := g.Overloaded(); over != s.was {
		if s.was = over; over {
			n.log.Warn("the node is overloaded and slows what it admits; give it more capacity or more nodes beside it", "strain", math.Round(100*g.Strain())/100)
		} else {
			n.log.Info("the node is overloaded no more", telemetry.Important())
		}
	}
	if s.reporter == nil {
		return
	}
	before, held, since := s.counts, s.held, s.at
	s.counts, s.held, s.at = counts, g.Held, now
	if since.IsZero() {
		return
	}
	if w := obfs.WindowAt(now.Unix()); w != s.window {
		s.window = w
		if sum, ok := n.covered(); ok {
			s.classes = control.Classes(sum, s.noise)
		}
	}
	v, was := control.VitalsOf(&counts, 0), control.VitalsOf(&before, 0)
	t := wire.Telemetry{Millis: now.UnixMilli(), Span: uint32(min(max(now.Sub(since).Milliseconds(), 1), wire.TelemetrySpanMax)),
		Capacity: n.capacity(), Sent: uint32Of(v.Sent - was.Sent), Came: uint32Of(v.Came - was.Came), Refused: uint32Of(g.Held - held),
		Queue: uint16(min(s.waited.Milliseconds(), math.MaxUint16)), Classes: s.classes}
	t.Dropped = min(uint32Of(v.Dropped-was.Dropped), t.Came)
	for flag, is := range map[wire.TelemetryFlags]bool{
		wire.TelemetryOverloaded: g.Overloaded(), wire.TelemetryDraining: n.gauge.draining.Load(), wire.TelemetryAlone: g.IsAlone()} {
		if is {
			t.Flags |= flag
		}
	}
	s.waited = 0
	s.reporter.Offer(t)
}

// uint32Of is a count as reports have it.
func uint32Of(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }

// guardFigures are what a node's guard and reporter show.
type guardFigures struct {
	overloaded, alone bool
	strain            float64
	trips, held       uint64
	alones            uint64
	dropped           uint64 // reports
}

func (n *Node) guardFigures() *guardFigures {
	f := &guardFigures{}
	n.host.Do(func(machine.Time) {
		g := n.guardOf()
		f.overloaded, f.alone, f.strain, f.trips, f.held, f.alones = g.Overloaded(), g.IsAlone(), g.Strain(), g.Trips, g.Held, n.strain.alones
	})
	if r := n.strain.reporter; r != nil {
		f.dropped = r.Dropped()
	}
	return f
}

func writeGuards(to *metric.Page, parts []part) {
	flag := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	for i := range parts {
		f, name := parts[i].guard, parts[i].Name
		if f == nil {
			continue
		}
		to.Add("node_overloaded", flag(f.overloaded), "part", name)
		to.Add("node_strain", f.strain, "part", name)
		to.Add("node_overloads_total", float64(f.trips), "part", name)
		to.Add("node_admissions_held_total", float64(f.held), "part", name)
		to.Add("telemetry_alone", flag(f.alone), "part", name)
		to.Add("telemetry_alone_total", float64(f.alones), "part", name)
		to.Add("telemetry_reports_dropped_total", float64(f.dropped), "part", name)
	}
}

// writeLines writes what became of the lines of the log.
func writeLines(to *metric.Page, l *telemetry.Lines) {
	if l == nil {
		return
	}
	c := l.Counts()
	to.Add("stream_log_sampling_gap", float64(c.Gap))
	to.Add("log_lines_total", float64(c.Kept))
	to.Add("log_lines_left_out_total", float64(c.LeftOut))
}
