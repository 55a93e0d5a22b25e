package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// lateTelemetry is DF-007: reports take three seconds to the control plane, while
// Stream nodes are overloaded again and again. How soon does somebody slow down what
// is admitted?
func lateTelemetry(r *Run) error {
	const least = 2 * time.Second
	mean := r.Duration("lag_seconds", time.Second)
	lag := func(_ machine.Time, draw *prng.Stream) time.Duration { return least + draw.Exp(mean-least) }
	missed := 0
	s, err := r.newStrained(lag,
		func(after time.Duration) { r.ObserveTime("rate_reaction", after) },
		func(lasted time.Duration, acted bool) {
			if !acted {
				missed++
				r.ObserveTime("rate_reaction", lasted)
			}
		})
	if err != nil {
		return err
	}
	every, length := r.Duration("surge_every_seconds", time.Second), r.Duration("surge_seconds", time.Second)
	surges := r.Scaled("surges")
	begin := s.Sim.Now()
	end := begin.Add(time.Duration(surges) * every)
	s.load("base", 1, begin, end)
	for i := range surges {
		at := begin.Add(time.Duration(i)*every + every/2)
		s.load("surge", r.Param("surge"), at, at.Add(length))
	}
	s.Sim.RunUntil(end.Add(5 * time.Second))
	trips, held := uint64(0), uint64(0)
	for _, n := range s.nodes {
		trips, held = trips+n.g.Core().Guard.Trips, held+n.g.Core().Guard.Held
	}
	age := &s.scheduler.Lag // as the control plane counts and exports it
	for _, q := range []float64{0.5, 0.95, 0.99} {
		r.Observe("telemetry_pipeline_lag_seconds", float64(age.Quantile(q))/1000)
	}
	r.Note("%d reports were %.1f s old when they came, on average; %d surges; guards tripped %d times; %d overloads ended before anybody reacted; by telemetry alone the control plane would know after telemetry_pipeline_lag_seconds and up to a second more", age.Count, float64(age.Sum)/1000/float64(max(1, age.Count)), surges, trips, missed)
	return nil
}
