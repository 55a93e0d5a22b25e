package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/rogue"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// An entry that passes on set-ups to three mixes of twelve only does not steer: it
// is found out, the mixes that it refused are not avoided for it, and those that it
// likes are first on the routes of others as the law of the draw has them, on a
// quarter. (Control: a client that believes it avoids the mixes that it refused.)
func TestAnEntryRefusesAndDoesNotSteer(t *testing.T) {
	const seconds = 200
	blamed := map[bool]int{}
	for seed := range uint64(3) {
		for _, credulous := range []bool{false, true} {
			w, steer := steeredWorld(t, seed+1, lab.Plan{Streams: 5, Mixes: 12,
				Client: func(c *client.Config) { c.RouteTTL, c.Credulous = 10*time.Second, credulous }})
			_, u := withUserIn(t, w)
			w.Sim.RunFor(30 * time.Second) // the mixes are known to answer
			gate, likes := w.Gateways[0], func(id wire.NodeID) bool {
				return slices.ContainsFunc(w.Relays[:3], func(r *lab.Relay) bool { return r.ID == id })
			}
			if gate.ID == u.Core().ExitOf("a") {
				gate = w.Gateways[1]
			}
			steer(gate, likes)
			seen := map[uint64]bool{}
			hits, others := 0, 0
			for range seconds {
				w.Sim.RunFor(time.Second)
				u.Core().Standing(func(serial uint64, entry, first wire.NodeID) {
					if seen[serial] || entry == gate.ID {
						return
					}
					seen[serial] = true
					if others++; likes(first) {
						hits++
					}
				})
				for _, a := range u.Core().Avoids(w.Sim.Now()) {
					if a.Node != gate.ID {
						blamed[credulous]++
					}
				}
			}
			share, found := float64(hits)/float64(others), u.Core().Stats()[trace.AvoidedSteer]
			t.Logf("seed %d, credulous %v: the liked mixes are first on %.1f %% of %d routes; found out %d times", seed+1, credulous, 100*share, others, found)
			if !credulous && (found != 1 || share > 0.35) {
				t.Errorf("seed %d: found out %d times; the liked mixes are first on %.1f %% of routes", seed+1, found, 100*share)
			}
		}
	}
	t.Logf("honest nodes avoided on average: %.1f, and %.1f if the entry is believed", float64(blamed[false])/seconds/3, float64(blamed[true])/seconds/3)
	if 2*blamed[false] > blamed[true] {
		t.Error("honest nodes are avoided for what an entry refused")
	}
}

// steeredWorld is a network in which an entry can be made to like some mixes.
func steeredWorld(t *testing.T, seed uint64, p lab.Plan) (*lab.Network, func(entry *lab.Gateway, likes func(mix wire.NodeID) bool)) {
	gates := map[machine.Machine]*rogue.Gateway{}
	p.Wrap = func(m machine.Machine) machine.Machine {
		g, ok := m.(*gateway.Gateway)
		if !ok {
			return m
		}
		gates[g] = &rogue.Gateway{Gateway: g}
		return gates[g]
	}
	w := seededWorld(t, seed, p)
	return w, func(entry *lab.Gateway, likes func(wire.NodeID) bool) { gates[entry.Core()].Likes = likes }
}

// At STANDARD, where a failed set-up does not tell how far it came, such an entry is
// found out by what stands without it, and reported with its reason; new routes enter
// elsewhere, and nobody else is accused. Controls: a client that believes nodes finds
// nobody out; and if what failed by the entry goes on to count at the exits of those
// routes (without forgive), these are accused after it.
func TestAnEntryThatSteersIsFoundOutAtStandard(t *testing.T) {
	const finds, after = 90, 30 // seconds
	for _, run := range []struct {
		seed      uint64
		credulous bool
	}{{1, false}, {2, false}, {1, true}} {
		seed, credulous := run.seed, run.credulous
		w, steer := steeredWorld(t, seed, lab.Plan{Streams: 5, Mixes: 12, Level: wire.Standard,
			Client: func(c *client.Config) { c.RouteTTL, c.Credulous = 20*time.Second, credulous }})
		_, u := withUserIn(t, w)
		w.Sim.RunFor(30 * time.Second) // the mixes are known to answer
		gate := w.Gateways[0]
		if gate.ID == u.Core().ExitOf("a") {
			gate = w.Gateways[1]
		}
		steer(gate, func(id wire.NodeID) bool {
			return slices.ContainsFunc(w.Relays[:3], func(r *lab.Relay) bool { return r.ID == id })
		})
		seen, accused := map[uint64]bool{}, 0
		// enters counts the routes that begin to stand in a time, and those of them by the gate.
		enters := func(seconds int, until func() bool) (by, all int) {
			for range seconds {
				w.Sim.RunFor(time.Second)
				u.Core().Standing(func(serial uint64, entry, _ wire.NodeID) {
					if !seen[serial] {
						seen[serial] = true
						if all++; entry == gate.ID {
							by++
						}
					}
				})
				for _, a := range u.Core().Avoids(w.Sim.Now()) {
					if a.Why == trace.ReasonSteer && a.Node != gate.ID {
						accused++
					}
				}
				if until() {
					break
				}
			}
			return by, all
		}
		found := func() bool {
			return slices.ContainsFunc(u.Core().Avoids(w.Sim.Now()), func(a client.Avoided) bool {
				return a.Node == gate.ID && a.Why == trace.ReasonSteer
			})
		}
		begun := w.Sim.Now()
		enters(finds, found)
		took, is := w.Sim.Now().Sub(begun), found()
		enters(3, func() bool { return false })
		by, all := enters(after, func() bool { return false })
		t.Logf("seed %d, credulous %v: found out %v after %v; then %d of %d routes enter there; others accused in %d s", seed, credulous, is, took, by, all, accused)
		switch {
		case credulous && is:
			t.Error("control: found out by who looks for nothing")
		case !credulous && (!is || by != 0 || all < 10):
			t.Errorf("seed %d: found out %v, and %d of %d routes enter there", seed, is, by, all)
		}
		if accused > 0 {
			t.Errorf("seed %d: honest nodes were held to steer for %d s", seed, accused)
		}
	}
}

// A node is found out by the answer to a set-up, whose own route ends there. What is
// ahead goes elsewhere, and nothing of the route is used after it went. (Control: if
// routes are left at once, and not by a timer, the client ends in a nil pointer.)
func TestANodeIsFoundOutByItsOwnAnswer(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard} {
		w := newWorld(t, lab.Plan{Streams: 6, Mixes: 12, Level: level})
		w.AddUsers(1)
		u, bad := w.Users[0], wire.NodeID{}
		w.Sim.RunWhile(w.Sim.Now().Add(5*time.Second), func() bool {
			bad = u.Core().ExitInHand()
			return bad == wire.NodeID{}
		})
		u.Core().Frame(w.Sim.Now(), bad)
		w.Sim.RunFor(20 * time.Second)
		if found := u.Core().Stats()[trace.AvoidedSteer]; found != 1 || bad == (wire.NodeID{}) {
			t.Errorf("%v: found out %d times", level, found)
		}
		if exit := u.Core().ExitAhead(); exit == bad || exit == (wire.NodeID{}) {
			t.Errorf("%v: what is ahead ends at %x, the node found out is %x", level, exit[:4], bad[:4])
		}
	}
}
