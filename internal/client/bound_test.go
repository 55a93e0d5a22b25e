package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// A client that is bound to an entry has itself admitted there before anything is asked
// for; every path that it draws then enters there, and no other entry hears of it.
func TestBoundToAnEntry(t *testing.T) {
	var steps []trace.Kind
	var bound wire.NodeID
	w := newWorld(t, lab.Plan{Client: func(c *client.Config) {
		c.Level, c.Ahead, c.Entry = wire.Standard, -1, bound
		c.Steps = func(e trace.Event) { steps = append(steps, e.Kind) }
	}})
	bound = w.Gateways[0].ID
	w.AddUsers(1)
	u := w.Users[0]
	granted := func() bool { return slices.Contains(steps, trace.StepGranted) }
	if !w.Sim.RunWhile(machine.Time(20*time.Second), func() bool { return !granted() }) {
		t.Fatalf("not admitted: %v, %v", steps, u.Core().LastError())
	}
	if slices.Contains(steps, trace.StepRequest) {
		t.Errorf("steps before anything was asked for: %v", steps)
	}
	w.Sim.Do(u.Node, func(now machine.Time) {
		if _, err := u.Core().OpenAt(now, "probe", w.Gateways[2].ID, wire.Target{Network: wire.TCP, Host: "service.lab", Port: 80}); err != nil {
			t.Fatal(err)
		}
	})
	planned := func() bool { return slices.Contains(steps, trace.StepPlan) }
	if !w.Sim.RunWhile(w.Sim.Now().Add(20*time.Second), func() bool { return !planned() }) {
		t.Fatal("no path")
	}
	w.Sim.RunFor(time.Second)
	var first []trace.Kind
	for _, k := range steps {
		if !slices.Contains(first, k) {
			first = append(first, k)
		}
	}
	want := []trace.Kind{trace.StepInit, trace.StepGranted, trace.StepRequest, trace.StepQuery, trace.StepResponse, trace.StepPlan}
	if !slices.Equal(first, want) {
		t.Errorf("steps %v, want %v", first, want)
	}
	for i, g := range w.Gateways {
		if n := g.Core().Admitted(); n != map[bool]int{true: 1, false: 0}[i == 0] {
			t.Errorf("entry %d has admitted %d", i, n)
		}
	}
}
