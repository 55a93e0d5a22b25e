package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// lostTelemetry is DF-020: for half a minute, again and again, no report reaches the
// control plane, and in that time Stream nodes are overloaded. Does anybody see it?
func lostTelemetry(r *Run) error {
	gap, every := r.Duration("gap_seconds", time.Second), r.Duration("gap_every_seconds", time.Second)
	gaps := r.Scaled("gaps")
	begin := machine.Never
	blank := func(now machine.Time) bool {
		return now >= begin && now.Sub(begin)%every >= every-gap
	}
	const onItsWay = 100 * time.Millisecond
	s, err := r.newStrained(
		func(now machine.Time, _ *prng.Stream) time.Duration {
			if blank(now) {
				return -1
			}
			return onItsWay
		},
		func(after time.Duration) { r.ObserveTime("rate_reaction", after) },
		func(_ time.Duration, acted bool) { r.Trial("overloads_missed", !acted) })
	if err != nil {
		return err
	}
	begin = s.Sim.Now()
	end := begin.Add(time.Duration(gaps) * every)
	s.load("base", 1, begin, end)
	alone := func(at machine.Time, alone bool) {
		s.Sim.At(at, func(machine.Time) {
			for _, n := range s.nodes {
				s.Sim.Do(n.g.Node, func(now machine.Time) { n.g.Core().HandleParams(now, gateway.Params{Alone: &alone}) })
			}
		})
	}
	length := r.Duration("surge_seconds", time.Second)
	surges := int(r.Param("surges_a_gap"))
	for i := range gaps {
		from := begin.Add(time.Duration(i+1)*every - gap)
		for j := range surges {
			at := from.Add(2*time.Second + time.Duration(j)*gap/time.Duration(surges))
			s.load("surge", r.Param("surge"), at, at.Add(length))
		}
		alone(from.Add(5*time.Second), true) // as a reporter finds it
		alone(from.Add(gap), false)
	}
	s.Sim.RunUntil(end.Add(10 * time.Second))
	r.Observe("telemetry_fallback_used_total", float64(s.scheduler.Fallbacks))
	r.Note("%d gaps of %v; the control plane left the rates alone %d times", gaps, gap, s.scheduler.Fallbacks)
	return nil
}
