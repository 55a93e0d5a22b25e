package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// inTurn has entries and mixes of a download die, one each time, and start again when
// it is over, and returns the longest pause of each.
func inTurn(t *testing.T, seed uint64, protected bool) (pauses []time.Duration) {
	t.Helper()
	plan := lab.Plan{Level: wire.Fast}
	if !protected {
		plan.Client = func(c *client.Config) { c.Patient = true }
		plan.Mix = func(h *hop.Config) { h.At = nil }
		plan.Gateway = func(g *gateway.Config) { g.Hop.At = nil }
	}
	w, u := farUser(t, seed, plan)
	body := make([]byte, 24<<20)
	for _, g := range w.Gateways {
		g.Service.Answer = func(machine.Time, []byte) []byte { return body }
	}
	var last machine.Time
	var longest time.Duration
	u.Arrived = func(now machine.Time, _ int) {
		longest, last = max(longest, now.Sub(last)), now
	}
	for turn := range 9 {
		done := false
		u.Ask("a", nil, func(_ machine.Time, _ []byte, err error) { done = err == nil })
		w.Sim.RunFor(3 * time.Second)
		longest, last = 0, w.Sim.Now()
		victim := nodeOf(w, u.Core().Paths("a")[0][turn%2*(1+turn/2%3)])
		w.Sim.Crash(victim)
		for range 40 {
			if w.Sim.RunFor(time.Second); done {
				break
			}
		}
		if !done {
			return append(pauses, time.Minute)
		}
		pauses = append(pauses, longest.Round(time.Millisecond))
		w.Sim.Restart(victim)
	}
	return pauses
}

func nodeOf(w *lab.Network, id wire.NodeID) *sim.Node {
	if i := slices.IndexFunc(w.Relays, func(r *lab.Relay) bool { return r.ID == id }); i >= 0 {
		return w.Relays[i].Node
	}
	return w.Gateways[slices.IndexFunc(w.Gateways, func(g *lab.Gateway) bool { return g.ID == id })].Node
}

// A small network outlives the death of one of its nodes after the other, each of which
// comes back without its links. (Control: nodes that do not greet those who send by old
// links, and a client that asks a silent entry again and again.)
func TestTransfersOutliveNodesInTurn(t *testing.T) {
	for _, seed := range []uint64{5, 10} {
		took, control := inTurn(t, seed, true), inTurn(t, seed, false)
		t.Logf("pauses %v, control %v", took, control)
		soon := 0
		for _, d := range took {
			if d < time.Second {
				soon++
			}
		}
		if soon < len(took)-2 || slices.Max(took) > 2500*time.Millisecond {
			t.Errorf("seed %d: pauses %v, want all but two below 1 s, and those below 2.5 s", seed, took)
		}
		if slices.Max(control) < 3*time.Second {
			t.Errorf("seed %d: the control pauses for %v only", seed, slices.Max(control))
		}
	}
}
