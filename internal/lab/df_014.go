package lab

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// jitterFeedback is DF-014: one of a session's two routes becomes jittery, and later
// the other. Telemetry looks every 15 s at how much what came jittered, and has the
// session leave the route if it was too much; the session looks at every packet.
func jitterFeedback(r *Run) error {
	w, err := r.NewNetwork(Plan{Streams: 3, Mixes: 9, Level: wire.Fast, Hop: wan,
		Client: func(c *client.Config) {
			c.RoutesPerSession, c.Ahead = 2, -1
			if !r.Protected {
				c.Stream.PathLag = time.Hour
			}
		}})
	if err != nil {
		return err
	}
	w.AddUsers(1)
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return err
	}
	w.Sim.RunFor(5 * time.Second) // both routes stand
	bound, turn := r.Duration("jitter_ms", time.Millisecond), r.Duration("turn_seconds", time.Second)
	end := w.Sim.Now().Add(time.Duration(r.Scale * float64(r.Duration("seconds", time.Second))))
	core := w.Users[0].session()

	var onset machine.Time // of the jitter that the session has not left
	var before time.Duration
	var lately []time.Duration
	path := core.ActivePath()
	err = w.paced(500, 20*time.Millisecond, end, func(now machine.Time, took time.Duration) {
		if before != 0 {
			jitter := max(took-before, before-took)
			lately = append(lately, jitter)
			r.ObserveTime("transport_jitter", jitter)
		}
		before = took
		if core.ActivePath() != path {
			if path = core.ActivePath(); onset != 0 {
				r.ObserveTime("transport_jitter_feedback_latency", now.Sub(onset))
			}
			onset = 0
		}
	})
	if err != nil {
		return err
	}
	telemetry := r.Duration("telemetry_seconds", time.Second)
	w.Sim.Every(w.Sim.Now().Add(telemetry), telemetry, func(machine.Time) bool {
		slices.Sort(lately)
		if n := len(lately); n > 0 && lately[n*95/100] > bound {
			w.Sim.Do(w.Users[0].Node, func(now machine.Time) {
				for _, p := range core.Stats().Paths {
					if p.ID != core.ActivePath() {
						core.SetActivePath(now, p.ID)
						w.Users[0].Core().Touch(w.Users[0].Core().Members()[0])
						break
					}
				}
			})
		}
		lately = lately[:0]
		return w.Sim.Now() < end
	})
	// It is always the active route that becomes jittery, the other being sound.
	entries, turns := w.entries(), 0
	w.Sim.Every(w.Sim.Now(), turn, func(now machine.Time) bool {
		for i, g := range entries {
			way := wan
			if i == turns%len(entries) {
				way.JitterMean = r.Duration("path_jitter_ms", time.Millisecond)
			}
			w.SetAccess(w.Users[0], g, way)
		}
		turns++
		onset = now
		return now < end
	})
	w.Sim.RunUntil(end)
	r.Note("the routes of the session became jittery %d times, one after the other; telemetry looked every %v", turns, telemetry)
	return nil
}
