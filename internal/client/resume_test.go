package client_test

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// resumed is how many sessions that end at Stream nodes were begun by a ticket.
func resumed(w *lab.Network) (n int) {
	for _, g := range w.Gateways {
		if g.Node.Up() {
			for _, m := range g.Core().Members() {
				if m.Core.Resumed() {
					n++
				}
			}
		}
	}
	return n
}

// An exit dies, and the next request is answered by another within half a second
// of its being found out: by a session that was made ahead, or by one that begins
// with a ticket and carries the request in its first flight.
func TestTheNextRequestIsAnsweredSoon(t *testing.T) {
	for _, ahead := range []int{1, -1} {
		var worst time.Duration
		for i := range 10 {
			var gone time.Duration
			w, u := withUserIn(t, seededWorld(t, uint64(i+1), lab.Plan{Streams: 6, Mixes: 8, Hop: sim.Link{Latency: 10 * time.Millisecond},
				Client: func(c *client.Config) {
					c.Ahead = ahead
					c.Sink = func(e trace.Event) {
						if e.Kind == trace.ExitGone {
							gone = time.Duration(e.At)
						}
					}
				}}))
			w.Sim.RunFor(3 * time.Second)
			crashExit(t, w, u, "a")
			redial(t, w, u, "a", 10*time.Second)
			took := time.Duration(w.Sim.Now()) - gone
			worst = max(worst, took)
			if gone == 0 || took > 500*time.Millisecond {
				t.Errorf("ahead %d, run %d: answered %v after the exit was given up", ahead, i, took)
			}
			if n := resumed(w); n != 1 && ahead < 0 {
				t.Errorf("run %d: %d sessions were begun by a ticket", i, n)
			}
		}
		t.Logf("ahead %d: worst %v", ahead, worst)
	}
}

// Tickets are not used where they would link what the level keeps apart, for other
// isolation keys, or after a session that ended by itself.
func TestWhereTicketsAreNotUsed(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.High} {
		w, u := withUserIn(t, seededWorld(t, 1, lab.Plan{Streams: 6, Mixes: 8, Level: level, Regions: []string{"eu", "us"},
			Client: func(c *client.Config) { c.Ahead = -1 }}))
		w.Sim.RunFor(3 * time.Second)
		if level == wire.Fast {
			ask(t, w, u, "b", 10, 10*time.Second)
			w.Sim.RunFor(10 * time.Minute) // the sessions have been idle until their end
			ask(t, w, u, "a", 10, 10*time.Second)
		} else {
			crashExit(t, w, u, "a")
			redial(t, w, u, "a", 60*time.Second)
		}
		if n := resumed(w); n != 0 {
			t.Errorf("%v: %d sessions were begun by a ticket", level, n)
		}
	}
}

// Where nodes do not share the fleet's key, as while it is replaced, a ticket is
// refused by the exit, and the session begins without.
func TestTicketsOfAnotherFleetCostARoundTrip(t *testing.T) {
	fleets := byte(0)
	w := seededWorld(t, 1, lab.Plan{Streams: 6, Mixes: 8,
		Client: func(c *client.Config) { c.Ahead = -1 },
		Gateway: func(c *gateway.Config) {
			fleets++
			c.Fleet = &seal.Key{fleets}
		}})
	w, u := withUserIn(t, w)
	w.Sim.RunFor(3 * time.Second)
	crashExit(t, w, u, "a")
	took := redial(t, w, u, "a", 10*time.Second)
	t.Log(took)
	if n := resumed(w); n != 0 || took > 2*time.Second {
		t.Errorf("%d sessions were begun by a ticket of another fleet; the answer took %v", n, took)
	}
}
