package client_test

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/lab"
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
