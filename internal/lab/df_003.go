package lab

import (
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// wan is a hop of a network with 100 ms of round trip over five hops.
var wan = sim.Link{Latency: 10 * time.Millisecond, Jitter: time.Millisecond}

// shortLived lets finished sessions go soon, so that a run with thousands of
// them measures sessions and not memory; sessions built ahead, which are idle
// too, must not be rebuilt all the time.
const shortLived = 10 * time.Second

// routeSearch is DF-003: sessions start while the directory answers slowly.
// With the protection, a search runs beside the sessions, on the client's own
// schedule; without, each session waits for one and then builds its routes.
func routeSearch(r *Run) error {
	w, err := r.NewNetwork(Plan{Streams: 10, Mixes: 15, Level: wire.Fast, Hop: wan,
		Gateway: func(c *gateway.Config) { c.Stream.IdleTimeout = shortLived },
		Client: func(c *client.Config) {
			c.Stream.IdleTimeout = shortLived
			c.Ahead = 3
			if !r.Protected {
				c.Ahead = -1
			}
		}})
	if err != nil {
		return err
	}
	const users = 20
	for range users {
		w.AddUser()
	}
	steps := int(r.Param("search_steps"))
	perStep := max(1, r.Scaled("sessions")/steps)
	length := time.Duration(perStep) * time.Second / searchRate
	var mean time.Duration
	draws := w.Sim.Rand("search")
	search := func(u *User, then func()) {
		d := draws.Exp(mean)
		w.Sim.After(d, func(machine.Time) {
			r.ObserveTime("mix_route_plan_latency", d)
			w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, w.View) })
			then()
		})
	}
	mean = r.Duration("search_mean_ms", time.Millisecond) / time.Duration(steps)
	for _, u := range w.Users {
		search(u, func() {})
	}
	w.Sim.RunFor(10 * time.Second)
	serial := 0
	for step := 1; step <= steps; step++ {
		mean = r.Duration("search_mean_ms", time.Millisecond) * time.Duration(step) / time.Duration(steps)
		r.Progress("search takes %v", mean)
		end := w.Sim.Now().Add(length)
		if r.Protected {
			for _, u := range w.Users {
				w.Sim.Every(w.Sim.Now(), time.Second, func(now machine.Time) bool {
					search(u, func() {})
					return now < end
				})
			}
		}
		w.Poisson(fmt.Sprint("sessions ", step), searchRate, end, func(now machine.Time, _ int) {
			serial++
			u := w.Users[serial%users]
			name := fmt.Sprint("session ", serial)
			if r.Protected {
				beginSession(r, w, u, name, now)
			} else {
				search(u, func() { beginSession(r, w, u, name, now) })
			}
		})
		w.Sim.RunUntil(end)
	}
	w.Sim.RunFor(20 * time.Second)
	return nil
}

// searchRate is the sessions that start each second, over all users.
const searchRate = 20

// beginSession opens a session and judges whether it stood in time, counted
// from when it was asked for.
func beginSession(r *Run, w *Network, u *User, name string, asked machine.Time) {
	timeout := r.Duration("timeout_ms", time.Millisecond)
	judged := false
	judge := func(now machine.Time, ok bool) {
		if !judged {
			judged = true
			r.Trial("session_timeout", !ok)
			r.ObserveTime("session_setup_ms", now.Sub(asked))
		}
	}
	u.Ask(name, make([]byte, 64), func(now machine.Time, _ []byte, err error) {
		judge(now, err == nil && now.Sub(asked) <= timeout)
	})
	w.Sim.At(asked.Add(timeout+1), func(now machine.Time) { judge(now, false) })
}
