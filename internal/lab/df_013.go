package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// timingNoise is DF-013: first no noise, then the widest that the bound on delay has
// room for, then a plan that was meant to harden and asks for as much at each
// segment. What do requests take?
func timingNoise(r *Run) error {
	const settle = 15 * time.Second
	stage := time.Duration(r.Scale * float64(r.Duration("stage_seconds", time.Second))).Truncate(time.Minute)
	stage = max(stage, time.Minute)
	// The plans: one for the epoch in which the run begins, from its first minute
	// on, and one for the next.
	first, second := stage, 2*stage
	w, users, err := r.plannedNetwork(second)
	if err != nil {
		return err
	}
	width := r.Param("noise_ms")
	split := func(share float64) (n [wire.CoverSegments]uint8) {
		for i := range n {
			n[i] = uint8(width * share)
		}
		return n
	}
	planned, mistaken := coverPlan(0), coverPlan(1)
	planned.Noise, mistaken.Noise = split(1.0/wire.CoverSegments), split(1)
	w.Sim.At(machine.Time(first)-machine.Time(time.Second), func(machine.Time) {
		followed, all := w.offer(planned)
		r.Note("%d of %d machines follow the plan with %v ms of noise at the first mix, those between and the last", followed, all, planned.Noise)
	})
	w.Sim.At(machine.Time(second)-machine.Time(time.Second), func(machine.Time) {
		followed, all := w.offer(mistaken)
		r.Tally("noise_plan_followed", followed, all)
	})
	end := machine.Time(second + stage)
	w.Poisson("requests", r.Param("requests_per_second"), end, func(now machine.Time, i int) {
		w.Users[i%users].Ask("a", make([]byte, 200), func(done machine.Time, _ []byte, err error) {
			took, at := done.Sub(now), time.Duration(now)
			switch {
			case err != nil:
				r.Trial("request_failed", true)
			case at < first:
				r.ObserveTime("without_noise", took)
			case at >= first+settle && at < second:
				r.ObserveTime("with_noise", took)
			case at >= second+settle:
				r.ObserveTime("end_to_end_latency", took)
			}
		})
	})
	var before trace.Values
	w.Sim.RunUntil(machine.Time(second + settle))
	before = w.Users[0].Core().Distributions[trace.TimingJitter]
	w.Sim.RunUntil(end.Add(5 * time.Second))
	after := w.Users[0].Core().Distributions[trace.TimingJitter]
	r.Observe("obf_timing_jitter_ms", float64(after.Sum-before.Sum)/float64(after.Count-before.Count)/1000)
	return nil
}
