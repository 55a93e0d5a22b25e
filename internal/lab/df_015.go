package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// releaseWithin is by when everything of an ended session must be gone: the
// idle time-out of a session (5 min), the delay of SESSION_TERMINATE, and room.
const releaseWithin = 8 * time.Minute

// heardNothing is for how long nothing was heard of a session that a time-out ended, at
// least: by it a node tells such an end from one with a packet, when it counts
// SESSION_TERMINATEs of silent sessions for the audit log.
const heardNothing = 10 * time.Second

// abnormalEnds is DF-015: sessions end by a crash, or by a SESSION_TERMINATE
// that comes late, and what Stream and Mix nodes hold of them is counted.
func abnormalEnds(r *Run) error {
	stopped, timedOut := false, 0
	w, err := r.NewNetwork(Plan{Streams: 10, Mixes: 15, Level: wire.Fast, Hop: wan,
		Wrap: func(m machine.Machine) machine.Machine { return &timeless{m, &stopped} },
		Client: func(c *client.Config) {
			c.Ahead = -1
		},
		Gateway: func(c *gateway.Config) {
			c.Sink = func(e trace.Event) {
				if e.Kind == trace.SessionClosed && e.A >= uint64(heardNothing) {
					timedOut++
				}
			}
		}})
	if err != nil {
		return err
	}
	sessions := r.Scaled("sessions")
	w.AddUsers(sessions)
	answered := map[*User]bool{}
	for _, u := range w.Users {
		u.Ask("a", make([]byte, 64), func(_ machine.Time, _ []byte, err error) {
			if err == nil {
				answered[u] = true
			}
		})
	}
	w.Sim.RunFor(15 * time.Second)
	held := w.held()
	r.Note("%d of %d sessions stood; nodes held %d resources of them", len(answered), sessions, held)

	rng := w.Sim.Rand("ends")
	var last machine.Time
	for _, u := range w.Users {
		at := w.Sim.Now().Add(rng.Exp(r.Duration("terminate_delay_mean_s", time.Second)))
		last = max(last, at)
		if rng.Chance(uint64(r.Param("crash_share") * 1e6)) {
			w.Sim.At(at, func(machine.Time) { w.Sim.Crash(u.Node) })
			continue
		}
		w.Sim.At(at, func(now machine.Time) {
			w.Sim.Do(u.Node, func(now machine.Time) { u.Core().Close(now) })
			w.Sim.Crash(u.Node)
		})
	}
	stopped = !r.Protected
	w.Sim.RunUntil(last.Add(releaseWithin))
	atEnd := w.held() // more than before, where clients lost their routes and built others
	left := min(atEnd, held)
	r.Tally("resource_release", uint64(held-left), uint64(held))
	ended := 0
	for _, g := range w.Gateways { // as each exports it
		lag := &g.Core().Distributions[trace.SessionCloseLag]
		if ended += int(lag.Count); lag.Count > 0 {
			r.ObserveTime("stream_session_close_lag", time.Duration(lag.Quantile(0.95))*time.Microsecond)
		}
	}
	silent := timedOut + max(0, len(answered)-ended) // all that no packet ended
	r.Tally("timeout_recorded", uint64(timedOut), uint64(silent))
	r.Note("%d resources were left %v after the last end; of %d sessions that ended without a word %d are told to the audit log as ended by a time-out; stream_session_close_lag is the P95 of each Stream node, as it counts", atEnd, releaseWithin, silent, timedOut)
	return nil
}

// held counts what nodes hold of sessions: links of clients, admission records,
// sessions with their streams, what stands in their name before targets, and the
// state of each route at each of its hops.
func (w *Network) held() (n int) {
	for _, g := range w.Gateways {
		core := g.Core()
		n += core.Links.Clients() + core.Admitted() + core.Len() + core.Table.Routes() + g.Service.Open()
		for _, s := range core.Figures() {
			n += s.Streams
		}
	}
	for _, m := range w.Relays {
		n += m.Core().Table.Routes()
	}
	return n
}

// timeless is a machine whose timers can be stopped: the negative control.
type timeless struct {
	machine.Machine
	stopped *bool
}

func (t *timeless) Unwrap() machine.Machine { return t.Machine }

func (t *timeless) HandleTimer(now machine.Time) {
	if !*t.stopped {
		t.Machine.HandleTimer(now)
	}
}

func (t *timeless) NextTimer() machine.Time {
	if *t.stopped {
		return machine.Never
	}
	return t.Machine.NextTimer()
}
