package client_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

func second(n int) machine.Time { return machine.Time(n) * machine.Time(time.Second) }

// screen runs a user on mobile whose screen goes off at a second, or not at all,
// and who may work until the second 70. It returns what leaves the user and what
// comes, and how many of the user's requests were answered.
func screen(t *testing.T, off int, works bool) (views [2]*sim.View, answered int) {
	w := newWorld(t, lab.Plan{Level: wire.Standard, Ideal: true, Client: func(c *client.Config) { c.Profile, c.Ahead = wire.ProfileMobile, -1 }})
	var all netip.AddrPort
	w.AddUsers(1)
	u := w.Users[0]
	views = [2]*sim.View{w.Sim.Tap(u.Node.Addr(), all, sim.Departure), w.Sim.Tap(all, u.Node.Addr(), sim.Arrival)}
	ask := func(now machine.Time) {
		u.Ask("a", []byte("hello"), func(_ machine.Time, _ []byte, err error) {
			if err != nil {
				t.Error(err)
			}
			answered++
		})
	}
	w.Sim.At(second(1), ask)
	if works {
		for at := 20; at < 70; at += 5 { // too little for the next class
			w.Sim.At(second(at), ask)
		}
	}
	low := wire.ProfileLow
	if off > 0 {
		w.Sim.At(second(off), func(machine.Time) {
			w.Sim.Do(u.Node, func(now machine.Time) { u.Core().HandleParams(now, client.Params{Profile: &low}) })
		})
	}
	w.Sim.At(second(150), ask)
	w.Sim.RunUntil(second(180))
	return views, answered
}

// upTo is where two views part before a time, or 0.
func upTo(a, b *sim.View, end machine.Time) machine.Time {
	for i := 0; i < a.Len() && a.At(i).At < end; i++ {
		if i >= b.Len() || a.At(i) != b.At(i) {
			return a.At(i).At
		}
	}
	return 0
}

// perSecond is how many datagrams a view has a second between two times.
func perSecond(v *sim.View, from, to int) float64 {
	n := 0
	for i := range v.Len() {
		if at := v.At(i).At; at >= second(from) && at < second(to) {
			n++
		}
	}
	return float64(n) / float64(to-from)
}

// A screen that goes off changes nothing before the next full minute of the clock;
// then both directions keep to the lowest class, and the session goes on.
func TestRatesChangeOnScheduleWhenTheScreenGoesOff(t *testing.T) {
	on, _ := screen(t, 0, false)
	off, answered := screen(t, 70, false)
	for i := range off {
		if at := upTo(off[i], on[i], second(120)); at != 0 {
			t.Errorf("direction %d: the screen is seen at %v", i, time.Duration(at))
		}
		if before, after := perSecond(off[i], 80, 120), perSecond(off[i], 130, 180); before < 38 || before > 42 || after < 19 || after > 22 {
			t.Errorf("direction %d: %.1f datagrams a second before, %.1f after; four routes of class 10, then 5", i, before, after)
		}
		if perSecond(on[i], 130, 180) < 38 {
			t.Error("control: the rate falls while the screen is on")
		}
	}
	if answered != 2 {
		t.Errorf("%d of 2 requests were answered", answered)
	}
}

// What a user did before the screen went off shows neither then nor later.
func TestProfilesDoNotTellWork(t *testing.T) {
	idle, _ := screen(t, 70, false)
	works, n := screen(t, 70, true)
	for i := range idle {
		if d := idle[i].Diff(works[i]); d != "" {
			t.Errorf("direction %d: work is seen: %s", i, d)
		}
	}
	if n != 12 {
		t.Errorf("%d of 12 requests were answered", n)
	}
}

// Both machines follow a good plan, refuse a bad one with its reason, count and
// tell both.
func TestPlansComeByHandleParams(t *testing.T) {
	var told []trace.Event
	w, u := withUser(t, lab.Plan{Level: wire.Standard, Client: func(c *client.Config) {
		c.Sink = func(e trace.Event) {
			if e.Kind == trace.PlanJudged {
				told = append(told, e)
			}
		}
	}})
	plan := wire.CoverPlan{Epoch: 1, Regions: []wire.CoverRegion{{Name: "eu", Weight: wire.CoverWeightOne, Rates: obfs.Nominal()}}}
	fivefold := plan
	fivefold.Regions = []wire.CoverRegion{{Name: "eu", Weight: wire.CoverWeightOne, Rates: obfs.Nominal()}}
	for i := range fivefold.Regions[0].Rates {
		fivefold.Regions[0].Rates[i] *= 5
	}
	g := w.Gateways[0]
	for _, c := range []struct {
		plan *wire.CoverPlan
		want obfs.Refusal
	}{{&fivefold, obfs.RefusedGrowth}, {&plan, 0}, {&plan, obfs.RefusedEpoch}} {
		var a, b obfs.Refusal
		w.Sim.Do(u.Node, func(now machine.Time) { a = u.Core().HandleParams(now, client.Params{Plan: c.plan}) })
		w.Sim.Do(g.Node, func(now machine.Time) { b = g.Core().HandleParams(now, gateway.Params{Plan: c.plan}) })
		if a != c.want || b != c.want || told[len(told)-1].B != uint64(c.want) {
			t.Errorf("client %v, gateway %v, told %v; want %v", a, b, told, c.want)
		}
	}
	for _, n := range []trace.Counts{u.Core().Stats(), g.Core().Stats()} {
		if n[trace.PlanTaken] != 1 || n[trace.PlanRefused] != 2 {
			t.Errorf("%d plans taken, %d refused", n[trace.PlanTaken], n[trace.PlanRefused])
		}
	}
}

// Weights of a plan move where exits are drawn, and no further than they say.
func TestWeightsMoveExits(t *testing.T) {
	share := func(weight uint16) float64 {
		w := newWorld(t, lab.Plan{Level: wire.Fast, Streams: 8, Mixes: 6, Regions: []string{"eu", "us"}})
		u := w.AddUser()
		plan := wire.CoverPlan{Regions: []wire.CoverRegion{
			{Name: "eu", Weight: wire.CoverWeightOne, Rates: obfs.Nominal()}, {Name: "us", Weight: weight, Rates: obfs.Nominal()}}}
		us := 0
		const draws = 2000
		w.Sim.Do(u.Node, func(now machine.Time) {
			core := u.Core()
			core.SetView(now, w.View)
			if why := core.HandleParams(now, client.Params{Plan: &plan}); why != 0 {
				t.Fatal(why)
			}
			for range draws {
				if core.DrawExit(t, wire.Fast).Region == "us" {
					us++
				}
			}
		})
		return float64(us) / draws
	}
	if p := share(wire.CoverWeightOne); p < 0.47 || p > 0.53 {
		t.Errorf("without weights %.3f of the exits are in one of two regions", p)
	}
	if p := share(3 * wire.CoverWeightOne); p < 0.71 || p > 0.79 {
		t.Errorf("with three times the weight %.3f of the exits are there, want 0.75", p)
	}
}
