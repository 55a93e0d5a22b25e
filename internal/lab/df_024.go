package lab

import (
	"errors"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// unevenCover is DF-024: most Stream nodes name one region, so that cover ends
// there. Clients come in two waves: from the reports on the first the loop makes the
// plan that the second has.
func unevenCover(r *Run) error {
	regions := []string{"ap"}
	for range int(r.Param("streams_one_region")) {
		regions = append(regions, "eu")
	}
	regions = append(regions, "us")
	dealt := 0
	w, err := r.NewNetwork(Plan{Streams: len(regions), Mixes: 2 * len(regions), Level: wire.Standard, Hop: wan, Regions: regions,
		Gateway: func(c *gateway.Config) {
			c.Region, c.Stream.UnixStart = regions[dealt%len(regions)], epochAt(time.Hour)
			dealt++
		},
		Client: func(c *client.Config) {
			c.RoutesPerSession, c.Profile, c.Stream.UnixStart = 1, wire.ProfileLow, epochAt(time.Hour)
		}})
	if err != nil {
		return err
	}
	loop := control.NewCover(regions)
	plan := wire.CoverPlan{}
	// wave has clients come, watches where their cover ends, and has them leave.
	wave := func() (state control.CoverState, err error) {
		from := len(w.Users)
		for range r.Scaled("users") {
			u := w.AddUser()
			w.Sim.Do(u.Node, func(now machine.Time) {
				if plan.Regions != nil {
					if why := u.Core().HandleParams(now, client.Params{Plan: &plan}); why != 0 {
						err = errors.New("a client refused the plan: " + why.String())
					}
				}
				u.Core().SetView(now, w.View)
			})
		}
		w.Sim.RunFor(90 * time.Second)
		for _, g := range w.Gateways {
			for _, report := range g.Core().Reports(w.Sim.Now()) {
				loop.Take(report)
			}
		}
		state, plan, _ = loop.Next(coverPlan(0).Epoch - 3) // the epoch in which the run lies
		for _, u := range w.Users[from:] {
			w.Sim.Do(u.Node, func(now machine.Time) { u.Core().Close(now) })
		}
		w.Sim.RunFor(6 * time.Minute) // the next wave's reports hold nothing of this one
		return state, err
	}
	before, err := wave()
	if err != nil {
		return err
	}
	r.Observe("cover_before", before.Distribution)
	r.Trial("fault_found", before.Uneven)
	if !r.Protected {
		for i := range plan.Regions {
			plan.Regions[i].Weight = wire.CoverWeightOne
		}
	}
	weights := map[string]float64{}
	for _, region := range plan.Regions {
		weights[region.Name] = float64(region.Weight) / wire.CoverWeightOne
	}
	after, err := wave()
	if err != nil {
		return err
	}
	r.Observe("obf_cover_geo_distribution", after.Distribution)
	r.Note("shares of cover in ap, eu, us: %.2f before, %.2f after, by weights of %.2f, %.2f, %.2f", before.Shares, after.Shares, weights["ap"], weights["eu"], weights["us"])
	return nil
}
