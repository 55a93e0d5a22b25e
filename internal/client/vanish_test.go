package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// crashExit ends the node at which an isolation key's session ends.
func crashExit(t *testing.T, w *lab.Network, u *lab.User, isolation string) {
	t.Helper()
	exit := wire.NodeID(u.Core().ExitOf(isolation))
	for _, g := range w.Gateways {
		if g.ID == exit {
			w.Sim.Crash(g.Node)
			return
		}
	}
	t.Fatal("no session")
}

// redial asks, and once more whenever the session ends, as the daemon does. It
// returns how long the answer took.
func redial(t *testing.T, w *lab.Network, u *lab.User, isolation string, limit time.Duration) time.Duration {
	t.Helper()
	begun, done := w.Sim.Now(), false
	var try func(machine.Time)
	try = func(machine.Time) {
		u.Ask(isolation, []byte("again"), func(now machine.Time, _ []byte, err error) {
			if done = err == nil; !done {
				w.Sim.At(now.Add(time.Millisecond), try)
			}
		})
	}
	try(begun)
	if !w.Sim.RunWhile(begun.Add(limit), func() bool { return !done }) {
		t.Fatalf("no answer within %v; last error: %v", limit, u.Core().LastError())
	}
	return w.Sim.Now().Sub(begun)
}

// An exit that dies is found out soon: a dial after it works within three
// seconds, with the session's old streams ended.
func TestDeadExitIsLeftSoon(t *testing.T) {
	for _, c := range []struct {
		level wire.Level
		runs  int
	}{{wire.Fast, 20}, {wire.Standard, 20}, {wire.High, 6}, {wire.Extreme, 6}} {
		var took []time.Duration
		for i := range c.runs {
			p := lab.Plan{Streams: 6, Mixes: 8, Level: c.level, Hop: sim.Link{Latency: time.Duration(2+i/2) * time.Millisecond}}
			if c.level >= wire.High {
				p.Mixes, p.Regions = 14, []string{"eu", "us", "as"}
			}
			w, u := withUserIn(t, seededWorld(t, uint64(i+1), p))
			w.Sim.RunFor(3 * time.Second)
			pending := 0
			if i%2 == 1 { // a stream is under way
				u.Ask("a", make([]byte, 4<<20), func(_ machine.Time, _ []byte, err error) {
					if pending--; err == nil {
						t.Error("a stream survived its exit")
					}
				})
				pending++
				w.Sim.RunFor(50 * time.Millisecond)
			}
			crashExit(t, w, u, "a")
			took = append(took, redial(t, w, u, "a", 40*time.Second))
			if pending != 0 {
				t.Errorf("%v: a stream through the dead exit goes on", c.level)
			}
		}
		slices.Sort(took)
		t.Logf("%v: median %v, worst %v", c.level, took[len(took)/2], took[len(took)-1])
		if p95 := took[len(took)*95/100]; p95 > 3*time.Second {
			t.Errorf("%v: a dial after the death of the exit took %v (P95), want 3s", c.level, p95)
		}
	}
}

// Loss of 15 % and jitter of 300 ms on the way there, and on the way back, end
// no session.
func TestBadNetworkIsNoDeadExit(t *testing.T) {
	const hops = 5
	bad := sim.Link{Latency: 5 * time.Millisecond, Jitter: 300 * time.Millisecond / hops, Loss: 32_000} // 0.968^5 = 0.85
	for _, level := range []wire.Level{wire.Fast, wire.Standard} {
		span := map[wire.Level]time.Duration{wire.Fast: 4 * time.Minute, wire.Standard: 30 * time.Second}[level]
		w := newWorld(t, lab.Plan{Streams: 6, Mixes: 8, Level: level, Hop: bad})
		w.AddUsers(2)
		err := w.WaitReadyOrOpen(30 * time.Second)
		if err != nil { // one session in 40 is not made in its 15 s here: ask again
			err = w.WaitReadyOrOpen(30 * time.Second)
		}
		if err != nil {
			t.Fatal(err)
		}
		failed, answered := 0, 0
		w.Poisson("requests", 4, w.Sim.Now().Add(span), func(_ machine.Time, i int) {
			w.Users[i%2].Ask("a", make([]byte, 100), func(_ machine.Time, _ []byte, err error) {
				if answered++; err != nil {
					failed++
				}
			})
		})
		w.Sim.RunFor(span + 30*time.Second)
		gone := 0
		for _, u := range w.Users {
			gone += u.Core().ExitsGone()
		}
		t.Logf("%v: %d answers, %d failed, %d exits given up", level, answered, failed, gone)
		if gone != 0 || failed != 0 || answered < int(span/time.Second) {
			t.Errorf("%v: %d living exits were given up, %d requests of %d failed", level, gone, failed, answered)
		}
	}
}

// The client's own line fails and comes back: its routes speak again one after
// the other, and none of their exits was dead.
func TestOutageOfTheOwnLineIsNoDeadExit(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard} {
		for i := range 10 {
			w, u := withUserIn(t, seededWorld(t, uint64(i+1), lab.Plan{Streams: 6, Mixes: 8, Level: level}))
			w.Sim.RunFor(3 * time.Second)
			ended := false
			u.Ask("a", make([]byte, 4<<20), func(_ machine.Time, _ []byte, err error) { ended = ended || err != nil })
			w.Sim.RunFor(50 * time.Millisecond)
			rest := make([]*sim.Node, 0, 14)
			for _, g := range w.Gateways {
				rest = append(rest, g.Node)
			}
			w.Sim.Partition([]*sim.Node{u.Node}, rest)
			w.Sim.RunFor(time.Duration(1000+137*i) * time.Millisecond)
			w.Sim.Heal()
			w.Sim.RunFor(5 * time.Second)
			if ended || u.Core().ExitsGone() != 0 {
				t.Errorf("%v, run %d: %d exits given up, the stream ended: %v", level, i, u.Core().ExitsGone(), ended)
			}
		}
	}
}

// Mixes that lost the link to the exit say so. One of them is believed for its
// own route; two of different routes are for the exit.
func TestMixesTellThatTheExitIsGone(t *testing.T) {
	for _, all := range []bool{false, true} {
		w, u := withUser(t, lab.Plan{Streams: 6, Mixes: 8})
		exit := wire.NodeID(u.Core().ExitOf("a"))
		key, _ := w.View.Link(exit)
		n, _ := w.View.Node(exit)
		last := u.Core().LastMixes("a")
		if len(last) != 2 {
			t.Fatalf("%d routes", len(last))
		}
		for _, r := range w.Relays {
			if r.ID == last[0] || all && r.ID == last[1] {
				w.Sim.Do(r.Node, func(now machine.Time) {
					links := r.Core().Links
					links.Close(now, links.Dial(now, exit, key, n.Addrs[0]))
				})
			}
		}
		w.Sim.RunFor(200 * time.Millisecond)
		if gone := u.Core().ExitsGone(); (gone == 1) != all {
			t.Errorf("both mixes: %v; %d exits given up", all, gone)
		}
		if d := redial(t, w, u, "a", 10*time.Second); d > time.Second {
			t.Errorf("both mixes: %v; a dial took %v", all, d)
		}
	}
}
