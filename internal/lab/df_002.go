package lab

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// voidDecisions is DF-002: the intakes of many entries, whose decisions become void
// together, before a control plane that is slower than their questions could come.
func voidDecisions(r *Run) error {
	w := &policyWorld{run: r, net: r.Network(sim.Link{}), nodes: r.Scaled("nodes"), revision: "1"}
	w.decides = time.Duration(float64(r.Duration("decision_ms", time.Millisecond)) / r.Scale)
	w.free = make([]machine.Time, int(r.Param("control_nodes")))
	w.service = w.net.Rand("decisions")
	cfg := control.DecisionConfig{}
	if !r.Protected {
		cfg = control.DecisionConfig{Spread: -1, Grace: -1}
	}
	for i := range w.nodes {
		w.entries = append(w.entries, newPolicyEntry(r, i, cfg))
	}
	end := machine.Time(r.Duration("minutes", time.Minute))
	w.replace()
	draw, gap := w.net.Rand("sessions"), time.Duration(float64(time.Second)/r.Param("sessions_per_node_per_second")/float64(w.nodes))
	var session func(machine.Time)
	session = func(now machine.Time) {
		e := w.entries[draw.IntN(w.nodes)]
		e.serial++
		m := &wire.SessionInit{Version: wire.AdmissionVersion, Level: wire.Level(draw.IntN(int(wire.Extreme) + 1))}
		binary.BigEndian.PutUint64(m.ClientID[:], e.serial)
		e.intake.Handle(now, m, control.Holder(e.serial))
		w.settle(now, e)
		if next := now.Add(draw.Exp(gap)); next < end {
			w.net.At(next, session)
		}
	}
	w.net.At(machine.Time(time.Second), session)
	w.net.RunUntil(end.Add(5 * time.Second))
	misses, stale := uint64(0), uint64(0)
	for _, e := range w.entries {
		misses += e.counts[trace.PolicyCacheMiss]
		stale += e.counts[trace.PolicyCacheStale]
	}
	r.Observe("policy_cache_miss", float64(misses))
	load := uint64(w.nodes) * uint64(wire.Extreme+1)
	r.Tally("misses_of_load", min(misses, load), load)
	r.Tally("session_establish_failed", w.failed, w.asked)
	r.Note("%d nodes: %d misses, %d looks at an old decision meanwhile; the longest wait before a control node was %v", w.nodes, misses, stale, w.longest)
	return nil
}

// policyWorld is entries before a control plane.
type policyWorld struct {
	run           *Run
	net           *sim.Network
	entries       []*policyEntry
	nodes         int
	revision      string
	decides       time.Duration  // mean of one
	free          []machine.Time // when each control node is
	service       *prng.Stream
	longest       time.Duration
	asked, failed uint64
}

// policyEntry is one entry's intake.
type policyEntry struct {
	intake *control.Intake
	counts trace.Counts
	serial uint64
	timer  machine.Time // of the pending event
}

func newPolicyEntry(r *Run, i int, cfg control.DecisionConfig) *policyEntry {
	e := &policyEntry{timer: machine.Never}
	rng := r.Source(fmt.Sprint("entry ", i))
	records := control.NewAdmission(control.Policy{Central: true, Decisions: cfg, Lifetime: 10 * time.Second}, &seal.Key{1}, rng)
	e.intake = control.NewIntake(records, rng, &e.counts)
	for place := range control.NumQuestions {
		e.intake.HandleDecision(0, control.QuestionAt(place), control.Decision{CacheFor: control.CacheMost, Revision: "1"})
	}
	return e
}

// replace puts a new policy in force.
func (w *policyWorld) replace() {
	w.revision = "2"
	for _, e := range w.entries {
		e.intake.Decisions.Invalidate(0)
	}
}

// checkMax is how long a node waits for the answer to a POLICY_CHECK.
const checkMax = 1500 * time.Millisecond

// settle takes what an entry has to say: answers to clients, questions to the control
// plane, which serves them in their order.
func (w *policyWorld) settle(now machine.Time, e *policyEntry) {
	for a, ok := e.intake.PollAnswer(); ok; a, ok = e.intake.PollAnswer() {
		if w.asked++; a.Refused.Reason != 0 {
			w.failed++
		}
	}
	for q, ok := e.intake.PollCheck(now); ok; q, ok = e.intake.PollCheck(now) {
		first := 0
		for i := range w.free {
			if w.free[i] < w.free[first] {
				first = i
			}
		}
		begins := max(now, w.free[first])
		w.longest = max(w.longest, min(begins.Sub(now), checkMax))
		ends := begins.Add(w.service.Exp(w.decides))
		if begins.Sub(now) < checkMax { // else it was given up before its turn
			w.free[first] = ends
		}
		if ends.Sub(now) > checkMax {
			w.net.At(now.Add(checkMax), func(now machine.Time) {
				e.intake.Decisions.HandleFault(now, q)
				w.settle(now, e)
			})
			continue
		}
		w.net.At(ends, func(now machine.Time) {
			e.intake.HandleDecision(now, q, control.Decision{CacheFor: control.CacheMost, Revision: w.revision})
			w.settle(now, e)
		})
	}
	if next := e.intake.NextTimer(); next < e.timer {
		e.timer = next
		w.net.At(next, func(now machine.Time) {
			e.timer = machine.Never
			e.intake.HandleTimer(now)
			w.settle(now, e)
		})
	}
}
