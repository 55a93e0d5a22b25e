package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// reconnections is DF-001: clients come back in mass, each for one session, from its
// first datagram to the first answer of its exit. Entries ask a control plane, and
// admit at a pace.
func reconnections(r *Run) error {
	queue := 0
	if !r.Protected {
		queue = -1
	}
	w, err := r.NewNetwork(Plan{Streams: int(r.Param("stream_nodes")), Mixes: int(r.Param("mix_nodes")), Level: wire.Fast,
		Hop: sim.Link{Latency: r.Duration("hop_ms", time.Millisecond)},
		Gateway: func(c *gateway.Config) {
			c.Policy.Central, c.Policy.QueueMax, c.Policy.PerSecond = true, queue, int(r.Param("admitted_per_node_per_second"))
		},
		Client: func(c *client.Config) { c.RoutesPerSession, c.Ahead = 1, -1 }})
	if err != nil {
		return err
	}
	asked := 0
	service := w.Sim.Rand("policy")
	for _, g := range w.Gateways {
		w.answerChecks(g, control.Decision{CacheFor: 5 * time.Minute, PerMinute: 30, Revision: "1"}, func() time.Duration {
			asked++
			return service.Exp(r.Duration("policy_ms", time.Millisecond))
		})
	}
	// Links between nodes stand before the release, and decisions are there.
	w.AddUsers(int(r.Param("warm_users")))
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return err
	}
	count := r.Scaled("sessions")
	began, open := make([]machine.Time, count), count
	first, end := w.Sim.Now(), w.Sim.Now().Add(time.Hour)
	windows := make([]series, 1) // of the sessions that began in each
	w.Poisson("reconnections", r.Param("sessions_per_second"), end, func(now machine.Time, i int) {
		if i >= count {
			return
		}
		began[i] = now
		w.AddUsers(1)
		w.Users[len(w.Users)-1].Ask("a", []byte("hello"), func(now machine.Time, _ []byte, err error) {
			if open--; err == nil {
				took := now.Sub(began[i]) - r.roundTrip()
				r.ObserveTime("telemetry_session_handshake_latency", took)
				at := int(began[i].Sub(first) / r.Duration("window_s", time.Second))
				for at >= len(windows) {
					windows = append(windows, series{})
				}
				windows[at].samples = append(windows[at].samples, float64(took)/float64(time.Millisecond))
			}
			r.Trial("session_establish_failed", err != nil)
		})
	})
	if !w.Sim.RunWhile(w.Sim.Now().Add(30*time.Second+time.Duration(float64(count)/r.Param("sessions_per_second"))*time.Second), func() bool { return open > 0 }) {
		r.Tally("session_establish_failed", uint64(open), uint64(open))
	}
	for i := range windows {
		if len(windows[i].samples) > 0 {
			r.Observe("handshake_p95_of_window", windows[i].quantile(0.95))
		}
	}
	n := w.counts()
	r.Note("%d sessions; %d POLICY_CHECKs beside %d decisions from caches; %d SESSION_INITs told that the entry is busy", count, asked, n[trace.PolicyCacheHit], n[trace.AdmissionShed])
	return nil
}

// roundTrip is that of the request that a session is measured by, from end to end:
// its answer comes that much after the session stands.
func (r *Run) roundTrip() time.Duration {
	return 2 * fastLinks * r.Duration("hop_ms", time.Millisecond)
}

// answerChecks answers a Stream node's POLICY_CHECKs alike, each after a time.
func (w *Network) answerChecks(g *Gateway, d control.Decision, after func() time.Duration) {
	g.checks = func(now machine.Time) {
		core := g.Core()
		for q, ok := core.PollCheck(now); ok; q, ok = core.PollCheck(now) {
			w.Sim.After(after(), func(machine.Time) {
				w.Sim.Do(g.Node, func(now machine.Time) {
					g.Core().HandleDecision(now, q, d)
				})
			})
		}
	}
}
