package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/rogue"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/relay"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// rogueWorld is a network whose mixes can be given vices.
func rogueWorld(t *testing.T, seed uint64, p lab.Plan) (*lab.Network, func(wire.NodeID) *rogue.Relay) {
	t.Helper()
	rogues := map[machine.Machine]*rogue.Relay{}
	p.Wrap = func(m machine.Machine) machine.Machine {
		r, ok := m.(*relay.Relay)
		if !ok {
			return m
		}
		rogues[r] = rogue.NewRelay(r, prng.New([32]byte{byte(len(rogues))}).Stream("dice"))
		return rogues[r]
	}
	w := seededWorld(t, seed, p)
	return w, func(id wire.NodeID) *rogue.Relay {
		for _, r := range w.Relays {
			if r.ID == id {
				return rogues[r.Core()]
			}
		}
		t.Fatal("no such mix")
		return nil
	}
}

// busy has a user ask for what is answered with as much again, all the time, and
// returns how many bytes have come whole.
func busy(w *lab.Network, u *lab.User, size int) (done *int) {
	done = new(int)
	var again func(machine.Time)
	again = func(machine.Time) {
		u.Ask("a", make([]byte, size), func(now machine.Time, answer []byte, err error) {
			*done += len(answer)
			w.Sim.At(now.Add(time.Millisecond), again)
		})
	}
	again(w.Sim.Now())
	return done
}

// A mix that drops, or holds up, what it should pass on is left, found out by
// what happens beside it, and drawn no more, while honest nodes stay. Controls: a
// client that leaves nobody for it has the mix on its routes as often as any.
func TestRogueMixIsFoundOut(t *testing.T) {
	const before, after = 15, 30 // seconds
	for _, c := range []struct {
		name  string
		level wire.Level
		vice  rogue.Vice
		finds time.Duration // how long it has, while an idle route shows less
		whys  []trace.Reason
	}{
		{"drops on the way back", wire.Standard, rogue.Vice{Back: 30}, 75 * time.Second, []trace.Reason{trace.ReasonDrop}},
		{"drops on the way out", wire.Standard, rogue.Vice{Out: 30}, 150 * time.Second, []trace.Reason{trace.ReasonDrop, trace.ReasonSilent}},
		{"drops on the way out, FAST", wire.Fast, rogue.Vice{Out: 30}, 150 * time.Second, []trace.Reason{trace.ReasonDrop, trace.ReasonSilent}},
		{"drops everything", wire.Standard, rogue.Vice{Out: 30, Back: 30, Setups: 30}, 75 * time.Second, []trace.Reason{trace.ReasonDrop, trace.ReasonSilent, trace.ReasonSetup}},
		{"delays", wire.Standard, rogue.Vice{Delay: 300 * time.Millisecond}, 120 * time.Second, []trace.Reason{trace.ReasonDelay, trace.ReasonSilent}},
	} {
		for _, credulous := range []bool{false, true} {
			if credulous && (c.level == wire.Fast || c.vice.Setups > 0) {
				continue // the session moves to the better route, found out or not; set-ups that fail tell as much
			}
			w, rogues := rogueWorld(t, 1, lab.Plan{Streams: 8, Mixes: 16, Level: c.level,
				Client: func(cfg *client.Config) { cfg.RouteTTL, cfg.Credulous = 20*time.Second, credulous }})
			_, u := withUserIn(t, w)
			done := busy(w, u, 20_000)
			w.Sim.RunFor(before * time.Second)
			honest := float64(*done) / before
			bad := wire.NodeID(u.Core().LastMixes("a")[0])
			rogues(bad).Vice = c.vice
			w.Sim.RunFor(c.finds)
			at, through, routes := *done, 0, 0
			for range after {
				w.Sim.RunFor(time.Second)
				through += u.Core().Through(bad)
				routes += u.Core().Routes()
			}
			share, goodput := float64(through)/float64(routes), float64(*done-at)/after
			var why []trace.Reason
			others := 0
			for _, a := range u.Core().Avoids(w.Sim.Now()) {
				if a.Node != bad {
					others++
				} else if slices.Contains(c.whys, a.Why) {
					why = append(why, a.Why)
				}
			}
			t.Logf("%s, credulous %v: %.0f B/s of %.0f, on %.1f %% of routes, %d honest nodes avoided, for %v", c.name, credulous, goodput, honest, 100*share, others, why)
			switch found := len(why) > 0 && share < 0.02; {
			case !credulous && (!found || goodput < 0.9*honest):
				t.Errorf("%s: %.0f B/s of %.0f, on %.1f %% of routes, why %v", c.name, goodput, honest, 100*share, why)
			case credulous && found:
				t.Errorf("%s: found out by a client that looks for nothing", c.name)
			}
			if others > 2 {
				t.Errorf("%s: %d honest nodes are avoided", c.name, others)
			}
		}
	}
}

// A mix that changes cells on their way out, or sends them twice, is found out by the
// word of honest neighbours on either side, for what it does. One that lets no cell pass
// whole is silent: to none that is changed there is an answer. Control: a client that
// listens to nobody.
func TestWhoSpoilsCellsIsFoundOut(t *testing.T) {
	for _, c := range []struct {
		name      string
		level     wire.Level
		vice      rogue.Vice
		credulous bool
		whys      []trace.Reason
	}{
		{"changes a part on the way out", wire.Standard, rogue.Vice{TamperOut: 30}, false, []trace.Reason{trace.ReasonTamper}},
		{"changes all on the way out", wire.Standard, rogue.Vice{TamperOut: 100}, false, []trace.Reason{trace.ReasonDrop, trace.ReasonSilent}},
		{"repeats", wire.Standard, rogue.Vice{Replay: true}, false, []trace.Reason{trace.ReasonReplay}},
		{"repeats, FAST", wire.Fast, rogue.Vice{Replay: true}, false, []trace.Reason{trace.ReasonReplay}},
		{"repeats, credulous", wire.Standard, rogue.Vice{Replay: true}, true, nil},
		{"seals anew", wire.Standard, rogue.Vice{Anew: true}, false, []trace.Reason{trace.ReasonReplay}},
	} {
		w, rogues := rogueWorld(t, 1, lab.Plan{Streams: 8, Mixes: 16, Level: c.level,
			Client: func(cfg *client.Config) { cfg.RouteTTL, cfg.Credulous = 20*time.Second, c.credulous }})
		_, u := withUserIn(t, w)
		busy(w, u, 20_000)
		w.Sim.RunFor(5 * time.Second)
		bad := wire.NodeID(u.Core().LastMixes("a")[0])
		rogues(bad).Vice = c.vice
		finds := 12 * time.Second
		if c.level == wire.Fast {
			finds = 25 * time.Second // an idle route shows less
		}
		w.Sim.RunFor(finds)
		var why []string
		found, honest := false, 0
		for _, a := range u.Core().Avoids(w.Sim.Now()) {
			if a.Node != bad {
				honest++
				continue
			}
			why = append(why, a.Why.String())
			found = found || slices.Contains(c.whys, a.Why)
		}
		t.Logf("%s: avoided for %v, %d honest nodes too", c.name, why, honest)
		if found == c.credulous || len(why) > 0 == c.credulous || honest > 2 {
			t.Errorf("%s: avoided for %v, with %d honest nodes", c.name, why, honest)
		}
		if through := u.Core().Through(bad); !c.credulous && through > 0 {
			t.Errorf("%s: %d routes lead through it", c.name, through)
		}
	}
}

// What a mix sends twice changes nothing, also where it is not left for it: the next
// hop drops what it had, and counts it.
func TestReplayedCellsEndAtTheNextHop(t *testing.T) {
	w, rogues := rogueWorld(t, 1, lab.Plan{Streams: 4, Mixes: 6, Client: func(c *client.Config) { c.Credulous = true }})
	_, u := withUserIn(t, w)
	drops := func() (n uint64) {
		for _, g := range w.Gateways {
			n += g.Core().Counts[trace.DropCellReplay]
		}
		for _, r := range w.Relays {
			n += r.Core().Counts[trace.DropCellReplay]
		}
		return n
	}
	before := drops()
	rogues(wire.NodeID(u.Core().ActiveMix("a"))).Replay = true
	for range 5 {
		ask(t, w, u, "a", 50_000, 5*time.Second)
	}
	if n := drops() - before; n < 250 {
		t.Errorf("%d cells were dropped as replays", n)
	}
}

// A session keeps the last of its routes, however much it loses: it is slow, and goes
// on until another stands. (Control: each route that is found is given up at once.)
func TestALossyRouteIsBetterThanNone(t *testing.T) {
	w, u := withUserIn(t, seededWorld(t, 3, lab.Plan{Streams: 3, Mixes: 9, Level: wire.Fast}))
	done := busy(w, u, 20_000)
	w.Sim.RunFor(3 * time.Second)
	before := *done
	w.Sim.Do(u.Node, func(now machine.Time) { u.Core().QuitAll(now, "a") })
	if left := len(u.Core().Paths("a")); left != 1 {
		t.Fatalf("%d routes are left, want 1", left)
	}
	w.Sim.RunFor(100 * time.Millisecond)
	if *done == before {
		t.Error("nothing has come by it")
	}
}
