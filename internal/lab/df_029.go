package lab

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// changingRoutes is DF-029: the ways of a session's routes change 30 times a minute,
// and what was sent by a slow one comes after what was sent later by a quick one. A
// piece that was put in order in time for playing counts as a success.
func changingRoutes(r *Run) error {
	w, err := r.NewNetwork(Plan{Streams: 4, Mixes: 12, Level: wire.Fast, Hop: wan,
		Gateway: func(c *gateway.Config) {
			if !r.Protected {
				c.Stream.StreamWindowMax = 1 // as it is at first
			}
		},
		Client: func(c *client.Config) { c.RoutesPerSession, c.Ahead = 3, -1 }})
	if err != nil {
		return err
	}
	w.AddUsers(1)
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return err
	}
	w.Sim.RunFor(5 * time.Second) // all routes stand
	end := w.Sim.Now().Add(time.Duration(r.Scale * float64(r.Duration("seconds", time.Second))))
	var ways []time.Duration // of the routes, in the order of their entries
	for i := range 3 {
		ways = append(ways, wan.Latency+time.Duration(i)*r.Duration("gap_ms", time.Millisecond))
	}
	entries, turn, changes := w.entries(), time.Duration(float64(time.Minute)/r.Param("changes_per_minute")), 0
	w.Sim.Every(w.Sim.Now(), turn, func(now machine.Time) bool {
		for i, g := range entries {
			way := wan
			way.Latency = ways[(i+changes)%len(ways)]
			w.SetAccess(w.Users[0], g, way)
		}
		changes++
		return now < end
	})
	w.Sim.RunFor(10 * time.Second) // the routes are measured
	size := int(r.Param("piece_bytes"))
	every := time.Duration(float64(size) / r.Param("bytes_per_second") * float64(time.Second))
	playout := r.Duration("playout_ms", time.Millisecond)
	var took []time.Duration
	from := w.Sim.Now().Add(5 * time.Second) // until then the rate is found
	if err := w.paced(size, every, end, func(now machine.Time, d time.Duration) {
		if now.Sub(from) > d {
			took = append(took, d)
			r.Trial("reordering_success", d <= playout)
		}
	}); err != nil {
		return err
	}
	w.Sim.Every(w.Sim.Now(), 50*time.Millisecond, func(now machine.Time) bool {
		for _, g := range w.Gateways {
			for _, st := range g.Core().Figures() {
				r.Observe("transport_reordering_buffer_usage", 100*float64(st.Early)/float64(st.SessionWindow))
			}
		}
		return now < end
	})
	w.Sim.RunUntil(end.Add(2 * time.Second))
	slices.Sort(took)
	r.Note("%d changes; pieces took %v at the median, %v at P99.9 and %v at the most", changes, took[len(took)/2], took[len(took)*999/1000], took[len(took)-1])
	return nil
}
