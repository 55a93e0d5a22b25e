package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// alternateWithin is how long a route request may take to find another route:
// two set-ups that time out, and one that stands.
const alternateWithin = 10 * time.Second

// splitDirectory is DF-012: the regions are cut apart, half of the nodes cannot
// be reached nor learnt, and a directory answers seven times of ten.
func splitDirectory(r *Run) error {
	w, err := r.NewNetwork(Plan{Streams: 10, Mixes: 15, Level: wire.Fast, Hop: wan, Regions: []string{"near", "far"},
		Client: func(c *client.Config) { c.RoutesPerSession, c.Ahead = 1, 1 }})
	if err != nil {
		return err
	}
	w.Sim.CutRegions("near", "far")
	w.Sim.CutRegions("far", "near")
	near, err := w.ViewOf(func(i int) bool {
		if i >= len(w.Gateways) {
			i -= len(w.Gateways)
		}
		return i%2 == 0
	})
	if err != nil {
		return err
	}
	routes := r.Scaled("routes")
	end := w.Sim.Now().Add(time.Duration(routes) * time.Second / routeRate)
	w.Poisson("routes", routeRate, end, func(_ machine.Time, i int) {
		requestRoute(r, w, near)
		if i%200 == 0 {
			r.Progress("%d of %d route requests", i, routes)
		}
	})
	w.Sim.RunUntil(end.Add(2 * alternateWithin))
	concentration(r, w)
	return nil
}

// routeRate is the route requests of a second.
const routeRate = 20

// requestRoute is one user that needs a route during the split. A query of the
// directory fails at random; what it learns is the near half.
func requestRoute(r *Run, w *Network, near *directory.View) {
	u := w.AddUser()
	rng := w.Sim.Rand("directory/" + u.Node.Name)
	done := false
	end := func(now machine.Time, found bool) {
		if !done {
			done = true
			r.Trial("alternate_route", found)
			w.Sim.At(now, func(machine.Time) { w.Sim.Crash(u.Node) })
		}
	}
	query := func(now machine.Time) (answered bool) {
		answered = rng.Chance(uint64(r.Param("node_response_success") * 1e6))
		r.Trial("directory_query_success_ratio", answered)
		if answered {
			w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, near) })
		}
		return answered
	}
	start := w.Sim.Now()
	w.Sim.At(start.Add(alternateWithin), func(now machine.Time) { end(now, false) })
	// A route that stands must carry a request, or it does not count.
	w.Sim.Every(start, 50*time.Millisecond, func(machine.Time) bool {
		if !done && u.Core().Ready() {
			u.Ask("a", make([]byte, 64), func(now machine.Time, _ []byte, err error) { end(now, err == nil) })
			return false
		}
		return !done
	})
	if !r.Protected {
		query(start)
		return
	}
	// The cache of before the split knows all nodes; other sources are asked
	// until one answers.
	w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, w.View) })
	w.Sim.Every(start, time.Second, func(now machine.Time) bool {
		return !done && !query(now)
	})
}

// concentration observes how far routes gather on few mixes: the share of the
// busiest reachable one, as a multiple of an even share.
func concentration(r *Run, w *Network) {
	var most, all, reachable float64
	for i, m := range w.Relays {
		if i%2 != 0 {
			continue
		}
		counts := m.Core().Stats()
		n := float64(counts[trace.SetupDone])
		most, all, reachable = max(most, n), all+n, reachable+1
	}
	if all > 0 {
		r.Observe("route_concentration_index", most*reachable/all)
	}
}
