package hop_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/rogue"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// world is a network whose entry has admitted a client that keeps to no rule.
func world(t *testing.T) (*lab.Network, func(func(now machine.Time, c *rogue.Client))) {
	t.Helper()
	w, err := lab.NewRun(&lab.Scenario{ID: "test"}, 1).NewNetwork(lab.Plan{Streams: 3, Mixes: 4})
	if err != nil {
		t.Fatal(err)
	}
	var c *rogue.Client
	node := w.Sim.AddNode(sim.NodeConfig{Addr: netip.MustParseAddrPort("120.0.0.1:1"),
		New: func(_ machine.Time, rng prng.Source) machine.Machine {
			c = rogue.New(w.View, rng)
			return c
		}})
	do := func(f func(machine.Time, *rogue.Client)) {
		w.Sim.Do(node, func(now machine.Time) { f(now, c) })
		w.Sim.RunFor(2 * time.Second)
	}
	do(func(now machine.Time, c *rogue.Client) { c.Init(c.Dial(now, w.Gateways[0].ID), 1, 1) })
	return w, do
}

func setUp(t *testing.T, do func(func(machine.Time, *rogue.Client)), ids ...wire.NodeID) (r *rogue.Route) {
	t.Helper()
	do(func(now machine.Time, c *rogue.Client) {
		var err error
		if r, err = c.RouteOver(now, wire.Fast, ids, nil); err != nil {
			t.Fatal(err)
		}
	})
	return r
}

// A set-up that names a node as its own successor, or a node that nobody knows,
// goes no further.
func TestSetUpsGoToKnownNeighbours(t *testing.T) {
	w, do := world(t)
	entry, exit := w.Gateways[0], w.Gateways[1]
	mix, other := w.Relays[0], w.Relays[1]
	if r := setUp(t, do, entry.ID, mix.ID, mix.ID, exit.ID); len(r.Packets) != 0 {
		t.Error("a route stands on which a node follows itself")
	}
	if n := mix.Core().Counts[trace.DropSetupPeer]; n != 1 {
		t.Errorf("%d set-ups to oneself were refused, want 1", n)
	}
	if n := mix.Core().Links.Links(); n != 1 {
		t.Errorf("%d links at the relay, want that of the entry alone", n)
	}
	without, err := w.ViewOf(func(i int) bool { return i != len(w.Gateways)+1 })
	if err != nil {
		t.Fatal(err)
	}
	all := w.View
	w.View = without // as the nodes know it
	if r := setUp(t, do, entry.ID, mix.ID, other.ID, exit.ID); len(r.Packets) != 0 {
		t.Error("a route stands over a node that left the directory")
	}
	w.View = all
	if r := setUp(t, do, entry.ID, mix.ID, other.ID, exit.ID); len(r.Packets) != 1 {
		t.Error("the same route does not stand when all know all")
	}
}

// When a link goes down, its routes do, and their clients are told.
func TestRoutesEndWithTheirLinks(t *testing.T) {
	w, do := world(t)
	r := setUp(t, do, w.Gateways[0].ID, w.Relays[0].ID, w.Relays[1].ID, w.Gateways[1].ID)
	first := w.Relays[0].Core()
	if n := first.Table.Routes(); n != 1 {
		t.Fatalf("%d routes, want 1", n)
	}
	w.Sim.Crash(w.Relays[1].Node)
	w.Sim.RunFor(2 * time.Minute)
	if len(r.Nacks) != 1 || r.Nacks[0] != wire.NackLinkGone {
		t.Errorf("the client was told %v", r.Nacks)
	}
	w.Sim.Crash(w.Gateways[0].Node)
	w.Sim.RunFor(2 * time.Minute)
	if n := first.Table.Routes(); n != 0 {
		t.Errorf("%d routes from a dead node", n)
	}
}

// The owner of a hop hears of every link.
func TestLinkEventsReachTheOwner(t *testing.T) {
	key := func(seed byte) *seal.KEMPrivate {
		k, err := seal.NewKEMPrivate(&[seal.KEMSeedSize]byte{seed})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	nobody := func(wire.NodeID) (*seal.KEMPublic, netip.AddrPort, bool) { return nil, netip.AddrPort{}, false }
	h := hop.New(hop.Config{Self: wire.NodeID{1}, Static: key(1), Onion: key(2), Neighbours: nobody}, prng.FromUint64(1))
	h.Links.Dial(0, wire.NodeID{2}, key(3).Public(), netip.MustParseAddrPort("192.0.2.1:1"))
	var events []link.Event
	for now := machine.Time(0); now < machine.Time(time.Minute) && len(events) == 0; {
		now = h.NextTimer()
		h.HandleTimer(now)
		h.Forward(now)
		h.LinkEvents(now, func(ev link.Event) { events = append(events, ev) })
	}
	if len(events) != 1 || events[0].Kind != link.Down {
		t.Errorf("events %+v, want one link down", events)
	}
}

// A hop tells its sink of links that come up, of clients and of nodes, and of
// those that go down, with the reason.
func TestLinksAreTold(t *testing.T) {
	told := map[trace.Event]int{}
	w, err := lab.NewRun(&lab.Scenario{ID: "test"}, 1).NewNetwork(lab.Plan{Streams: 3, Mixes: 4, Gateway: func(c *gateway.Config) {
		c.Hop.Sink = func(e trace.Event) {
			e.At = 0
			told[e]++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.AddUsers(1)
	if err := w.WaitReady(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	client, node := trace.Event{Kind: trace.LinkUp}, trace.Event{Kind: trace.LinkUp, A: 1}
	if told[client] == 0 || told[node] == 0 {
		t.Errorf("told %v", told)
	}
	w.Sim.Crash(w.Users[0].Node)
	w.Sim.RunFor(time.Minute)
	if silent := (trace.Event{Kind: trace.LinkDown, A: uint64(link.Silent)}); told[silent] != told[client] {
		t.Errorf("%d links of the client came up, %d fell silent", told[client], told[silent])
	}
}
