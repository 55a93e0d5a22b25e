package client_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
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

// A client that only receives finds out as soon that its exit has died. (Control:
// without the question that it asks when the bytes stop, at the next heartbeat.)
func TestADownloadFindsItsDeadExit(t *testing.T) {
	for i := range 4 {
		w, u := withUserIn(t, seededWorld(t, uint64(i+1), lab.Plan{Streams: 6, Mixes: 8, Hop: sim.Link{Latency: 2 * time.Millisecond, Rate: 4 << 20}}))
		for _, g := range w.Gateways {
			g.Service.Answer = func(machine.Time, []byte) []byte { return make([]byte, 16<<20) }
		}
		var ended machine.Time
		u.Ask("a", nil, func(now machine.Time, _ []byte, err error) { ended = now })
		w.Sim.RunFor(time.Second)
		crashExit(t, w, u, "a")
		died := w.Sim.Now()
		w.Sim.RunWhile(died.Add(time.Minute), func() bool { return ended == 0 })
		if took := ended.Sub(died); ended == 0 || took > 2*time.Second {
			t.Errorf("run %d: the transfer ended %v after its exit", i, took)
		} else {
			t.Log(took)
		}
	}
}

// On a loaded machine relays answer late and by fits and starts, and every
// measure of the session grows with that. A dead exit is found out all the same,
// and a session that holds one route only, because the other is being replaced,
// is no exception.
func TestDeadExitIsLeftSoonUnderLoad(t *testing.T) {
	loaded := sim.Link{Latency: 2 * time.Millisecond, JitterMean: 20 * time.Millisecond, InOrder: true}
	for _, lame := range []bool{false, true} {
		var took []time.Duration
		for i := range 12 {
			w, u := withUserIn(t, seededWorld(t, uint64(i+1), lab.Plan{Streams: 4, Mixes: 8, Hop: loaded}))
			w.Sim.RunFor(3 * time.Second)
			for range 3 {
				u.Ask("a", make([]byte, 16<<20), func(machine.Time, []byte, error) {})
			}
			w.Sim.RunFor(1500 * time.Millisecond)
			crashExit(t, w, u, "a")
			if lame {
				w.Sim.Do(u.Node, func(now machine.Time) { u.Core().DropRoute(now, "a") })
			}
			took = append(took, redial(t, w, u, "a", 60*time.Second))
		}
		slices.Sort(took)
		t.Logf("one route: %v; median %v, worst %v", lame, took[len(took)/2], took[len(took)-1])
		if worst := took[len(took)-1]; worst > 3500*time.Millisecond {
			t.Errorf("one route: %v; a dial after the death of the exit took %v, want 3.5s at most", lame, worst)
		}
	}
}

// The client's own line, or its process, stalls when its exit has just died:
// what lives speaks again, and the exit is found out by its silence beside it.
func TestDeadExitIsFoundAfterAStall(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard} {
		for i := range 5 {
			w, u := withUserIn(t, seededWorld(t, uint64(i+1), lab.Plan{Streams: 6, Mixes: 8, Level: level}))
			w.Sim.RunFor(3 * time.Second)
			crashExit(t, w, u, "a")
			w.Sim.RunFor(time.Duration(100+150*i) * time.Millisecond)
			cutOff(w, u, 900*time.Millisecond)
			if d := redial(t, w, u, "a", 40*time.Second); d > 3500*time.Millisecond {
				t.Errorf("%v, run %d: a dial after the stall took %v", level, i, d)
			}
		}
	}
}

// What gives an exit up: twelve loops, of two mixes, not one less. At 15 % loss
// each way a living exit leaves as many PINGs unanswered twice in ten million
// times. The time that it is given grows with what the loops took.
func TestHowManyLoopsGiveAnExitUp(t *testing.T) {
	if p := math.Pow(1-0.85*0.85, client.LoopsEnough); p > 2.5e-7 {
		t.Errorf("%d PINGs are all lost with probability %.1g", client.LoopsEnough, p)
	}
	w, u := withUser(t, lab.Plan{})
	w.Sim.RunFor(time.Second)
	for _, c := range []struct {
		after time.Duration
		loops []int
		given time.Duration
	}{
		{0, []int{client.LoopsEnough - 1, 0}, 0},
		{0, []int{2 * client.LoopsEnough, 0}, 0},
		{0, []int{2 * client.LoopsEnough, 3}, 0},
		{0, []int{4, client.LoopsEnough - 5}, 0},
		{0, []int{4, client.LoopsEnough - 4}, 600 * time.Millisecond},
		{100 * time.Millisecond, []int{6, 6}, 600 * time.Millisecond},
		{250 * time.Millisecond, []int{6, 6}, time.Second},
		{500 * time.Millisecond, []int{6, 6}, 1500 * time.Millisecond},
		{time.Second, []int{6, 6}, 2 * time.Second}, // as long again as the loops took
	} {
		if given := u.Core().Looped(w.Sim.Now(), "a", c.after, c.loops...); given != c.given {
			t.Errorf("%v loops after %v: the exit is given %v, want %v", c.loops, c.after, given, c.given)
		}
	}
}

// An exit that answers late, and one that is held up for a moment, live.
func TestSlowExitIsNoDeadExit(t *testing.T) {
	for _, slow := range []sim.Link{
		{Latency: 300 * time.Millisecond},
		{Latency: 800 * time.Millisecond, Loss: 50_000},
		{Latency: 1400 * time.Millisecond},
		{Latency: 100 * time.Millisecond, JitterMean: 200 * time.Millisecond, Loss: 50_000},
	} {
		w, u := withUserIn(t, newWorld(t, lab.Plan{Streams: 6, Mixes: 8}))
		exit := wire.NodeID(u.Core().ExitOf("a"))
		var at *sim.Node
		for _, g := range w.Gateways {
			if g.ID == exit {
				at = g.Node
			}
		}
		quick := sim.Link{Latency: 5 * time.Millisecond}
		become := func(l sim.Link) {
			for _, r := range w.Relays {
				w.Sim.SetLink(at, r.Node, l)
			}
		}
		for latency := quick.Latency; latency < slow.Latency; latency *= 2 { // not from one moment to the next
			become(sim.Link{Latency: latency})
			ask(t, w, u, "a", 20_000, 20*time.Second)
		}
		become(slow)
		failed, answered := 0, 0
		w.Poisson("requests", 2, w.Sim.Now().Add(2*time.Minute), func(_ machine.Time, i int) {
			u.Ask("a", make([]byte, 1000), func(_ machine.Time, _ []byte, err error) {
				if answered++; err != nil {
					failed++
				}
			})
		})
		for range 30 { // and it is held up for 300 ms now and then
			w.Sim.RunFor(4 * time.Second)
			held := slow
			held.Latency += 300 * time.Millisecond
			become(held)
			w.Sim.RunFor(300 * time.Millisecond)
			become(slow)
		}
		w.Sim.RunFor(30 * time.Second)
		if gone := u.Core().ExitsGone(); gone != 0 || failed != 0 || answered < 150 || u.Core().ExitOf("a") != exit {
			t.Errorf("%+v: %d exits given up, %d of %d requests failed", slow, gone, failed, answered)
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
		if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
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
			cutOff(w, u, time.Duration(1000+137*i)*time.Millisecond)
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
