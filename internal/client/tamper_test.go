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

// A mix that begins to change cells on the way back is left, and avoided with
// the neighbour that cannot be told from it, for a while and no longer.
func TestTamperingHopIsLeft(t *testing.T) {
	w, rogues := rogueWorld(t, 1, lab.Plan{Streams: 8, Mixes: 16,
		Client: func(c *client.Config) { c.RouteTTL = 20 * time.Second }})
	_, u := withUserIn(t, w)
	bad := wire.NodeID(u.Core().LastMixes("a")[0])
	culprit := rogues(bad)
	culprit.Tamper = true
	for range 10 {
		ask(t, w, u, "a", 20_000, 10*time.Second)
	}
	if n := u.Core().Stats()[trace.RoutesTampered]; n == 0 || n > 4 {
		t.Errorf("%d routes were left for changed cells", n)
	}
	suspects := u.Core().Suspects(w.Sim.Now())
	if len(suspects) < 2 || len(suspects) > 4 || !suspects[bad] {
		t.Errorf("%d suspects, the mix among them: %v", len(suspects), suspects[bad])
	}
	w.Sim.RunFor(30 * time.Second) // routes that stood unused are replaced in their turn
	for range 40 {                 // every route is renewed many times
		w.Sim.RunFor(10 * time.Second)
		ask(t, w, u, "a", 100, 5*time.Second)
		if n := u.Core().Through(bad); n != 0 {
			t.Fatalf("%d routes lead through the mix again, after %v", n, w.Sim.Now())
		}
	}
	culprit.Tamper = false
	w.Sim.RunFor(5 * time.Minute)
	if n := len(u.Core().Suspects(w.Sim.Now())); n != 0 {
		t.Errorf("%d nodes are suspected for ever", n)
	}
}

// Who is avoided for a fault: both hops beside it when its layer does not
// authenticate, and the hop alone that made a layer which does and is malformed.
func TestBlameIsAsNarrowAsTheFault(t *testing.T) {
	for _, c := range []struct {
		drop  trace.Counter
		first int // of the hops blamed for a fault at position 3
	}{{trace.DropCellAuth, 2}, {trace.DropCellMalformed, 3}} {
		w, u := withUser(t, lab.Plan{Streams: 8, Mixes: 16})
		path := u.Core().Fault(w.Sim.Now(), "a", 3, c.drop)
		suspects := u.Core().Suspects(w.Sim.Now())
		for i, hop := range path {
			if want := i >= c.first && i <= 3; suspects[hop] != want {
				t.Errorf("%v at hop 3: hop %d is avoided: %v", c.drop, i, !want)
			}
		}
		if len(path) != 5 {
			t.Errorf("a route of %d hops", len(path))
		}
	}
}

// A hop's word that a neighbour changes or repeats cells costs the route, speaks against
// hop and neighbour alike, and is not enough to leave either out. (Control: a weight of
// blameMost for a word.) What the client sends twice itself is nobody's fault.
func TestAWordAccusesBoth(t *testing.T) {
	for _, c := range []struct {
		position int
		why      wire.NackReason
		again    int
		charged  []int
	}{
		{2, wire.NackChanged, 0, []int{1, 2}},
		{2, wire.NackRepeated, 0, []int{1, 2}},
		{2, wire.NackRepeated, 3 * wire.NackRefusals, []int{1, 2}},
		{2, wire.NackRepeatedBack, 0, []int{2, 3}},
		{4, wire.NackChanged, 0, []int{3, 4}},
		{0, wire.NackRepeatedBack, 0, []int{0, 1}},
		{1, wire.NackRepeated, wire.NackRefusals - 1, []int{0, 1}},
		{1, wire.NackRepeated, wire.NackRefusals, nil},
		{0, wire.NackRepeated, 0, nil},
		{0, wire.NackChanged, 0, nil},
		{4, wire.NackRepeatedBack, 0, nil},
	} {
		w, u := withUser(t, lab.Plan{Streams: 4, Mixes: 9})
		w.Sim.Do(u.Node, func(now machine.Time) {
			before := u.Core().Routes()
			path := u.Core().Told(now, "a", c.position, c.why, c.again)
			for i, hop := range path {
				if got, want := u.Core().Blamed(hop) > 0, slices.Contains(c.charged, i); got != want {
					t.Errorf("hop %d says %d: hop %d is charged: %v", c.position, c.why, i, got)
				}
			}
			if left := before - u.Core().Routes(); left != min(len(c.charged), 1) {
				t.Errorf("hop %d says %d: %d routes are left", c.position, c.why, left)
			}
			if a := u.Core().Avoids(now); len(a) > 0 {
				t.Errorf("hop %d says %d: one word is enough to avoid %v", c.position, c.why, a)
			}
		})
	}
}
