package lab

import (
	"math"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// The loop of DF-044 is closed over routes of one class without a network below them.
const (
	loopClass  = obfs.Class(500)
	loopRegion = region
	// loopSettles is the time given to come to rest after a change of demand.
	loopSettles = 90
)

// feedbackLoop is DF-044: λ′ of a class is put into force each second, and the next
// report tells what it brought. Demand changes in a step now and then, and is a Poisson
// process otherwise. By how much does λ′ swing when it should rest?
func feedbackLoop(r *Run) error {
	s := control.NewScheduler()
	if !r.Protected {
		s.Gains.P, s.Gains.I, s.Gains.Slew, s.Gains.Dead = r.Param("wrong_p"), r.Param("wrong_i"), 4, 0
	}
	nodes, routes := int(r.Param("nodes")), int(r.Param("routes_per_node"))
	place := uint8(slices.Index(obfs.Classes[:], loopClass))
	draw := r.Source("loop").Stream("demand")
	s.Follow(0, nil, []string{loopRegion})
	plan := wire.CoverPlan{Regions: []wire.CoverRegion{{Name: loopRegion, Weight: wire.CoverWeightOne, Rates: obfs.Nominal()}}}
	demands := []float64{0.7, 0.45, 0.9, 0.6, 1.1}
	var late []func() // reports on their way
	swings := swings{run: r}
	seconds := r.Scaled("seconds")
	step := max(seconds/len(demands), 2*loopSettles)
	for second := range seconds {
		now := machine.Time(second+1) * machine.Time(time.Second)
		demand := demands[second/step%len(demands)] * float64(loopClass)
		rate := s.Rate(loopRegion, int(place))
		plan.Regions[0].Rates[place] = uint16(math.Round(rate))
		followed := plan
		followed.Regions = slices.Clone(plan.Regions)
		var reports []wire.Telemetry
		for range nodes {
			reports = append(reports, loopReport(draw, now, place, routes, demand, rate))
		}
		late = append(late, func() {
			s.Follow(now, &followed, []string{loopRegion})
			for i := range reports {
				s.Take(now, int64(now/machine.Time(time.Millisecond)), wire.NodeID{byte(i)}, loopRegion, &reports[i])
			}
		})
		if len(late) > int(r.Param("lag_seconds")) {
			late[0]()
			late = late[1:]
		}
		s.Turn(now)
		swings.note(second%step, s.Rate(loopRegion, int(place)), demand)
	}
	swings.end()
	if told, ok := s.Oscillation(); ok {
		r.Observe("told_by_itself", told)
	}
	r.Note("the routes are sums of Poisson arrivals that wait for slots, not machines; the scheduler and the reports are those that run; in a network λ′ enters plans each quarter of an hour, in steps: a period of 1 s is the harder test")
	return nil
}

// loopReport is what a node reports of a second in which its routes had a demand, in
// cells per second and route, and emitted at a rate.
func loopReport(draw *prng.Stream, now machine.Time, place uint8, routes int, demand, rate float64) wire.Telemetry {
	slots := rate * float64(routes)
	mean := demand * float64(routes)
	arrived := mean + math.Sqrt(mean)*gauss(draw) // Poisson, of thousands
	const coarse = wire.TelemetryUseStep
	use := min(arrived/slots, 1) * 100
	return wire.Telemetry{StandsFor: 1, Millis: int64(now / machine.Time(time.Millisecond)), Span: 1000,
		Capacity: uint32(4 * slots), Sent: uint32(slots),
		Classes: []wire.TelemetryClass{{Place: place, Routes: uint16(routes / wire.TelemetryRoutesStep * wire.TelemetryRoutesStep),
			Use: uint8((int(math.Round(use)) + coarse/2) / coarse * coarse)}}}
}

// gauss is about normal: the sum of twelve.
func gauss(draw *prng.Stream) (v float64) {
	for range 12 {
		v += unit(draw) - 0.5
	}
	return v
}

// swings observes how far λ′ lies from its mean, minute by minute, once it has had time
// to come to rest.
type swings struct {
	run    *Run
	values []float64
}

func (s *swings) note(sinceStep int, rate, demand float64) {
	if sinceStep < loopSettles {
		s.end()
		return
	}
	s.values = append(s.values, rate)
	s.run.Observe("cover_ratio_at_rest", max(rate/demand-1, 0))
	if len(s.values) == 60 {
		s.end()
	}
}

func (s *swings) end() {
	if len(s.values) >= 30 {
		sum := 0.0
		for _, v := range s.values {
			sum += v
		}
		mean := sum / float64(len(s.values))
		s.run.Observe("control_feedback_oscillation", (slices.Max(s.values)-slices.Min(s.values))/2/mean)
	}
	s.values = s.values[:0]
}
