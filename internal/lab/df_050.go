package lab

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// arrivedWithin is by when a message must have come back.
const arrivedWithin = 30 * time.Second

// downFor is how long a node that crashed stays away.
const downFor = 10 * time.Second

// arrival is DF-050: sessions on routes of their own at the rate of the load,
// each with one message there and back, while nodes crash and links lose.
func arrival(r *Run) error {
	link := wan
	link.Loss = 1000 // 0.1 % a hop: what a wide-area network loses on a normal day
	routesPerSession := 2
	w, err := r.NewNetwork(Plan{
		Streams: max(10, r.Scaled("stream_nodes")), Mixes: max(15, r.Scaled("mix_nodes")), Level: wire.Fast, Hop: link,
		Gateway: func(c *gateway.Config) { c.Stream.IdleTimeout = shortLived },
		Client: func(c *client.Config) {
			c.Stream.IdleTimeout = shortLived
			c.RoutesPerSession = routesPerSession
			if !r.Protected {
				c.RoutesPerSession, c.Ahead = 1, -1
			}
		}})
	if err != nil {
		return err
	}
	const users = 40
	w.AddUsers(users)
	w.Sim.RunFor(10 * time.Second)
	sessionsPerSecond := r.Param("routes_per_day") / (24 * 3600) * r.Scale / float64(routesPerSession)
	end := w.Sim.Now().Add(r.Duration("seconds", time.Second))
	crashes(r, w, end)
	var failures []string
	w.Poisson("sessions", sessionsPerSecond, end, func(sent machine.Time, i int) {
		u, name := w.Users[i%users], fmt.Sprint("session ", i)
		judged := false
		judge := func(now machine.Time, ok bool) {
			if !judged {
				judged = true
				r.Trial("end_to_end_success_ratio", ok)
			}
		}
		w.Sim.After(arrivedWithin, func(now machine.Time) { judge(now, false) })
		if r.Protected {
			body := messageBody(r, i, 256)
			u.Ask(name, body, func(now machine.Time, answer []byte, err error) {
				if err != nil {
					failures = append(failures, fmt.Sprintf("%v after %v", err, now.Sub(sent).Round(time.Millisecond)))
				}
				judge(now, err == nil && bytes.Equal(answer, body))
				r.ObserveTime("arrival_ms", now.Sub(sent))
			})
			return
		}
		sendOnce(w, u, name, i, judge)
	})
	w.Sim.RunUntil(end.Add(arrivedWithin + time.Second))
	if len(failures) > 0 {
		r.Note("sessions that failed: %s", strings.Join(failures, "; "))
	}
	return nil
}

// crashes takes nodes away at the rate of the load, and brings them back.
func crashes(r *Run, w *Network, end machine.Time) {
	rng := w.Sim.Rand("crashes")
	w.Poisson("crash times", r.Param("crash_per_minute")/60, end, func(machine.Time, int) {
		i := rng.IntN(len(w.Gateways) + len(w.Relays))
		nd := w.Sim.Nodes()[i]
		w.Sim.Crash(nd)
		w.Sim.After(downFor, func(machine.Time) { w.Sim.Restart(nd) })
	})
}

// sendOnce is the control: the message is a datagram on the session's one
// route. It counts as arrived when the service has it.
func sendOnce(w *Network, u *User, name string, i int, judge func(machine.Time, bool)) {
	want := fmt.Sprint("message ", i)
	for _, g := range w.Gateways {
		if g.Service.Message == nil {
			g.Service.Message = func(now machine.Time, b []byte) {
				if f := w.arrivals[string(b)]; f != nil {
					f(now)
				}
			}
		}
	}
	if w.arrivals == nil {
		w.arrivals = map[string]func(machine.Time){}
	}
	w.arrivals[want] = func(now machine.Time) { judge(now, true) }
	u.Flow(name, func(now machine.Time, send func(machine.Time, []byte) error) { send(now, []byte(want)) })
}
