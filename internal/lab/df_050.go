package lab

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// arrivedWithin is by when a message must have come back.
const arrivedWithin = 30 * time.Second

// downFor is how long a node that crashed stays away.
const downFor = 10 * time.Second

// A program that has no answer from another client after callAgain calls once more,
// at the next of the places where the other waits now, up to callTries times.
const (
	callAgain = 3 * time.Second
	callTries = 6
)

// arrival is DF-050: sessions on routes of their own at the rate of the load,
// each with one message there and back, to a target behind an exit or to another
// client at a meeting point, while nodes crash and links lose.
func arrival(r *Run) error {
	link := wan
	link.Loss = 1000 // 0.1 % a hop: what a wide-area network loses on a normal day
	routesPerSession := 2
	routes := 0
	w, err := r.NewNetwork(Plan{
		Streams: max(10, r.Scaled("stream_nodes")), Mixes: max(15, r.Scaled("mix_nodes")), Level: wire.Fast, Hop: link,
		Gateway: func(c *gateway.Config) { c.Stream.IdleTimeout = shortLived },
		Client: func(c *client.Config) {
			c.Stream.IdleTimeout = shortLived
			c.RoutesPerSession = routesPerSession
			c.Sink = func(e trace.Event) {
				if e.Kind == trace.RouteUp {
					routes++
				}
			}
			if !r.Protected {
				c.RoutesPerSession, c.Ahead = 1, -1
			}
		}})
	if err != nil {
		return err
	}
	const users, hosts = 40, 8 // of the users, the first are called by the others
	w.AddUsers(users)
	for _, h := range w.Users[:hosts] {
		if err := h.Serve(&Service{Answer: Echo}); err != nil {
			return err
		}
	}
	w.Sim.RunFor(10 * time.Second)
	toClients := r.Param("to_clients")
	// Who is called answers each of the caller's routes with one of its own.
	routesPerMessage := float64(routesPerSession) * (1 + toClients)
	perSecond := r.Param("routes_per_day") / (24 * 3600) * r.Scale
	start := w.Sim.Now()
	end := start.Add(r.Duration("seconds", time.Second))
	crashes(r, w, end)
	a := &arrivals{Run: r, w: w}
	before := routes
	kinds := w.Sim.Rand("kinds")
	w.Poisson("sessions", perSecond/routesPerMessage, end, func(_ machine.Time, i int) {
		if kinds.Chance(uint64(toClients * 1e6)) {
			a.call(w.Users[hosts+i%(users-hosts)], w.Users[i%hosts], i)
		} else {
			a.ask(w.Users[i%users], i)
		}
	})
	w.Sim.RunUntil(end)
	stood := float64(routes-before) / end.Sub(start).Seconds()
	w.Sim.RunUntil(end.Add(arrivedWithin + time.Second))
	if len(a.failures) > 0 {
		r.Note("messages that failed: %s", strings.Join(a.failures, "; "))
	}
	nodes := float64(len(w.Gateways) + len(w.Relays))
	full := r.Param("stream_nodes") + r.Param("mix_nodes")
	r.Note("%.0f routes a second stood over %.0f nodes, %.2f a node; the load is %.0f over %.0f, %.2f a node. What a node does is the same, and a message meets as many nodes; "+
		"so a day of the load, %.3g messages, loses the share seen here: %d of %d, less than %.3g %% with 95 %% confidence. Crashes are as many a minute as here, not as many a node: on %.0f nodes each meets a smaller share of the messages",
		stood, nodes, stood/nodes, r.Param("routes_per_day")/(24*3600), full, r.Param("routes_per_day")/(24*3600)/full,
		r.Param("routes_per_day")/routesPerMessage, a.lost, a.sent, 100*lostAtMost(a.lost, a.sent), full)
	return nil
}

// lostAtMost is the share below which losses lie with 95 % confidence when so many
// of all were lost: the normal approximation, and the rule of three where none was.
func lostAtMost(lost, all int) float64 {
	if lost == 0 {
		return 3 / float64(max(all, 1))
	}
	share := float64(lost) / float64(all)
	return share + 1.645*math.Sqrt(share/float64(all))
}

// arrivals is what became of messages.
type arrivals struct {
	*Run
	w          *Network
	sent, lost int
	failures   []string
}

// expect counts a message, and returns what judges it, once. leg, if not "", is
// the series of its kind beside that of all.
func (a *arrivals) expect(leg string) func(now machine.Time, ok bool) {
	judged := false
	a.sent++
	judge := func(_ machine.Time, ok bool) {
		if judged {
			return
		}
		judged = true
		if !ok {
			a.lost++
		}
		a.Trial("end_to_end_success_ratio", ok)
		if leg != "" {
			a.Trial(leg, ok)
		}
	}
	a.w.Sim.After(arrivedWithin, func(now machine.Time) { judge(now, false) })
	return judge
}

// ask is a message to a target behind an exit. If its session ends before the
// answer, as when the exit dies, it is asked once more, as clients do by themselves
// (daemon.Client).
func (a *arrivals) ask(u *User, i int) {
	judge, name, sent := a.expect(""), fmt.Sprint("session ", i), a.w.Sim.Now()
	if !a.Protected {
		sendOnce(a.w, u, name, i, judge)
		return
	}
	body := messageBody(a.Run, i, 256)
	u.Ask(name, body, func(now machine.Time, answer []byte, err error) {
		arrived := func(now machine.Time, answer []byte, err error) {
			if err != nil {
				a.failures = append(a.failures, fmt.Sprintf("%v after %v", err, now.Sub(sent).Round(time.Millisecond)))
			}
			judge(now, err == nil && bytes.Equal(answer, body))
			a.ObserveTime("arrival_ms", now.Sub(sent))
		}
		a.Trial("asked_once", err == nil)
		if errors.Is(err, ErrEnded) {
			a.w.Sim.At(now, func(machine.Time) { u.Ask(name, body, arrived) })
			return
		}
		arrived(now, answer, err)
	})
}

// call is a message to another client, over its meeting point.
func (a *arrivals) call(u, to *User, i int) {
	judge, sent := a.expect("client_to_client_success_ratio"), a.w.Sim.Now()
	body := messageBody(a.Run, i, 256)
	answered, tries := false, 0
	var try func(machine.Time)
	try = func(machine.Time) {
		tries++
		first := tries == 1
		u.Call(to, i+tries, fmt.Sprint("call ", i, " ", tries), body, func(now machine.Time, answer []byte, err error) {
			ok := err == nil && bytes.Equal(answer, body)
			if first {
				a.Trial("called_once", ok)
			}
			if answered || !ok {
				return
			}
			answered = true
			judge(now, true)
			a.ObserveTime("call_ms", now.Sub(sent))
		})
		if a.Protected && tries < callTries {
			a.w.Sim.After(callAgain, func(now machine.Time) {
				if !answered {
					try(now)
				}
			})
		}
	}
	try(sent)
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
