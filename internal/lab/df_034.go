package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// driftingPaths is DF-034: the routes of each session differ by 200 ms of round
// trip, and bytes are to come in order nevertheless.
func driftingPaths(r *Run) error {
	lag := time.Duration(0) // the default
	if !r.Protected {
		lag = time.Hour
	}
	hop := wan
	hop.InOrder = true // what is out of order is so by the paths
	w, err := r.NewNetwork(Plan{Streams: 4, Mixes: 12, Level: wire.Fast, Hop: hop,
		Gateway: func(c *gateway.Config) { c.Stream.PathLag = lag },
		Client: func(c *client.Config) {
			c.RoutesPerSession, c.Ahead = int(r.Param("paths")), -1
			c.Stream.PathLag = lag
		}})
	if err != nil {
		return err
	}
	const users = 3
	w.AddUsers(users)
	for i, g := range w.Gateways {
		link := sim.Link{Latency: 10*time.Millisecond + time.Duration(i)*r.Duration("gap_ms", time.Millisecond)/2, Rate: 500_000, Queue: 400_000}
		for _, u := range w.Users {
			w.SetAccess(u, g, link)
		}
	}
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return err
	}
	length := time.Duration(r.Scale * float64(r.Duration("seconds", time.Second)))
	for _, g := range w.Gateways {
		g.Service.Answer = func(machine.Time, []byte) []byte { return make([]byte, 4<<20) }
	}
	w.Sim.RunFor(10 * time.Second) // all routes stand
	end := w.Sim.Now().Add(length)
	for _, u := range w.Users {
		var next func(now machine.Time, answer []byte, err error)
		next = func(now machine.Time, _ []byte, err error) {
			if err == nil && now < end {
				u.Ask("", []byte{1}, next)
			}
		}
		next(w.Sim.Now(), nil, nil)
	}
	w.Sim.Every(w.Sim.Now().Add(time.Second), time.Second, func(machine.Time) bool {
		for _, g := range w.Gateways {
			for _, st := range g.Core().Figures() {
				if gap, several := st.DelayGap(); several {
					r.ObserveTime("transport_multipath_delay_gap", gap)
				}
			}
		}
		return w.Sim.Now() < end
	})
	frames := func() (early, all uint64) {
		for _, u := range w.Users {
			for _, st := range u.Core().Figures() {
				early, all = early+st.EarlyFrames, all+st.Frames
			}
		}
		return early, all
	}
	w.Sim.RunFor(10 * time.Second) // paths are measured, the rate is found
	early, all := frames()
	w.Sim.RunUntil(end)
	earlier, more := frames()
	r.Tally("transport_reordering", earlier-early, more-all)
	return nil
}
