package relay_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/rogue"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

func network(t *testing.T) *lab.Network {
	t.Helper()
	w, err := lab.NewRun(&lab.Scenario{ID: "test"}, 1).NewNetwork(lab.Plan{Streams: 3, Mixes: 4, Level: wire.Standard})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Relays pass cells on and end no route.
func TestRelaysCarryRequests(t *testing.T) {
	w := network(t)
	w.AddUsers(1)
	if err := w.WaitReady(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	body, answered := bytes.Repeat([]byte{7}, 5000), false
	w.Users[0].Ask("a", body, func(_ machine.Time, answer []byte, err error) { answered = err == nil && bytes.Equal(answer, body) })
	w.Sim.RunFor(10 * time.Second)
	if !answered {
		t.Error("no answer")
	}
	var setups uint64
	for i, r := range w.Relays {
		c := r.Core().Stats()
		if setups += c[trace.SetupDone]; r.Core().Table.Routes() == 0 && c[trace.SetupDone] > 0 {
			t.Errorf("relay %d lost its routes", i)
		}
		if _, ok := r.Core().Table.PollDeliver(); ok {
			t.Errorf("a route ended at relay %d", i)
		}
	}
	if setups == 0 {
		t.Error("no set-up was counted")
	}
}

// A relay speaks with nodes of the directory only: a client gets no link, and
// so no route and no admission.
func TestRelayRefusesClients(t *testing.T) {
	w := network(t)
	var c *rogue.Client
	node := w.Sim.AddNode(sim.NodeConfig{Addr: netip.MustParseAddrPort("120.0.0.1:1"),
		New: func(_ machine.Time, rng prng.Source) machine.Machine {
			c = rogue.New(w.View, rng)
			return c
		}})
	w.Sim.Do(node, func(now machine.Time) {
		id := c.Dial(now, w.Relays[0].ID)
		c.Init(id, 1, 1)
		if _, err := c.RouteOver(now, wire.Fast, []wire.NodeID{w.Relays[0].ID, w.Relays[1].ID, w.Gateways[0].ID}, nil); err != nil {
			t.Fatal(err)
		}
	})
	w.Sim.RunFor(15 * time.Second)
	relay := w.Relays[0].Core()
	if n := relay.Links.Links(); n != 0 {
		t.Errorf("%d links with a client", n)
	}
	if len(c.Admission) != 0 || relay.Stats()[trace.SetupIn] != 0 {
		t.Error("a relay served a client")
	}
}
