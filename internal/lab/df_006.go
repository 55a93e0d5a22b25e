package lab

import (
	"math"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// epochAt has a cover epoch begin at a time of the run.
func epochAt(at time.Duration) (unixStart int64) {
	return int64((1_000_000*obfs.CoverEpoch - at) / time.Second)
}

// region is that of networks which have one.
const region = "eu"

// coverPlan is a plan for a network of one region, in an epoch after that in which
// the run began.
func coverPlan(after uint32) *wire.CoverPlan {
	return &wire.CoverPlan{Epoch: 1_000_000 - 1 + after, Regions: []wire.CoverRegion{{Name: region, Weight: wire.CoverWeightOne, Rates: obfs.Nominal()}}}
}

// plannedNetwork is a network at STANDARD in one region, with a route for each of
// its users, where an epoch begins at a time of the run. Without its protection
// plans are followed whatever they say.
func (r *Run) plannedNetwork(begins time.Duration) (w *Network, users int, err error) {
	w, err = r.NewNetwork(Plan{Streams: 3, Mixes: 6, Level: wire.Standard, Hop: wan,
		Gateway: func(c *gateway.Config) {
			c.Region, c.Stream.UnixStart, c.PlansUnchecked = region, epochAt(begins), !r.Protected
		},
		Client: func(c *client.Config) {
			c.RoutesPerSession, c.Ahead = 1, -1
			c.Stream.UnixStart, c.PlansUnchecked = epochAt(begins), !r.Protected
		}})
	if err != nil {
		return nil, 0, err
	}
	users = int(r.Param("users"))
	w.AddUsers(users)
	return w, users, w.WaitReadyOrOpen(20 * time.Second)
}

// offer hands a plan to every machine and returns how many follow it.
func (w *Network) offer(plan *wire.CoverPlan) (followed, all uint64) {
	note := func(why obfs.Refusal) {
		if all++; why == 0 {
			followed++
		}
	}
	for _, g := range w.Gateways {
		w.Sim.Do(g.Node, func(now machine.Time) { note(g.Core().HandleParams(now, gateway.Params{Plan: plan})) })
	}
	for _, u := range w.Users {
		w.Sim.Do(u.Node, func(now machine.Time) { note(u.Core().HandleParams(now, client.Params{Plan: plan})) })
	}
	return followed, all
}

// covered is what all routes emitted in the last minutes.
func (w *Network) covered() (sum obfs.Report) {
	now := w.Sim.Now()
	for _, g := range w.Gateways {
		for _, r := range g.Core().Reports(now) {
			sum.Add(r)
		}
	}
	for _, u := range w.Users {
		for _, r := range u.Core().CoverReports(now) {
			sum.Add(r)
		}
	}
	return sum
}

// runawayCover is DF-006: a mistake in the rule for λ takes the cover that it
// measured for a want and asks for five times as much, again and again.
func runawayCover(r *Run) error {
	const first = 30 * time.Second // of the mistaken plans
	w, users, err := r.plannedNetwork(first)
	if err != nil {
		return err
	}
	length := time.Duration(r.Scale * float64(r.Duration("seconds", time.Second)))
	end := machine.Time(first + length)
	load, body := r.Param("requests_per_second"), make([]byte, int(r.Param("request_bytes")))
	w.Poisson("requests", load*float64(users), end, func(now machine.Time, i int) {
		w.Users[i%users].Ask("a", body, func(done machine.Time, _ []byte, err error) {
			r.Trial("request_failed", err != nil)
			if now >= machine.Time(first) {
				r.ObserveTime("stream_latency", done.Sub(now))
			}
		})
	})
	w.Sim.RunUntil(machine.Time(first) - 1)
	before := w.covered()
	normal, _ := before.Ratio()
	plan := coverPlan(1)
	wrong := &plan.Regions[0].Rates
	for i, c := range obfs.Classes { // real + factor × dummies, in whole steps
		if c > 100 {
			grown := float64(wrong[i]) * (1 + r.Param("dummy_growth")*normal) / (1 + normal)
			wrong[i] = uint16(math.Ceil(grown/100) * 100)
		}
	}
	followed, all := w.offer(plan)
	r.Tally("cover_plan_followed", followed, all)
	w.Sim.Every(machine.Time(first).Add(15*time.Second), 5*time.Second, func(now machine.Time) bool {
		sum := w.covered()
		if ratio, ok := sum.Ratio(); ok {
			r.Observe("obf_cover_ratio", ratio)
		}
		return now < end
	})
	w.Sim.RunUntil(end.Add(5 * time.Second))
	r.Note("ratio %.2f before; the mistaken plan asks class 200 for %d cells a second; %d of %d machines follow it; ratios are of the last five minutes", normal, wrong[5], followed, all)
	return nil
}
