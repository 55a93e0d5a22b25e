package client_test

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// setups counts what became of a client's set-ups.
type setups struct {
	stood, failed int
	longest       time.Duration // that one which failed was waited for
}

// counting is a plan whose client tells what became of its set-ups. Its routes
// live shortly, so that there are many.
func counting(s *setups, p lab.Plan) lab.Plan {
	p.Client = func(c *client.Config) {
		c.Ahead, c.RouteTTL = -1, 20*time.Second
		c.Sink = func(e trace.Event) {
			switch {
			case e.Kind == trace.RouteUp:
				s.stood++
			case e.Kind == trace.RouteDown && time.Duration(e.B) < c.RouteTTL/2:
				s.failed++
				s.longest = max(s.longest, time.Duration(e.B))
			}
		}
	}
	return p
}

// Mixes that are in the directory and do not answer are found out by the set-ups
// that fail at them, and left out of later ones; a set-up through one is given up
// after what set-ups take here. (Controls: without blame five of six set-ups
// fail at either level; with fixed times each is waited for a second.)
func TestNodesAtWhichSetupsFailAreAvoided(t *testing.T) {
	for _, c := range []struct {
		level   wire.Level
		share   float64 // of set-ups that may fail
		longest time.Duration
	}{{wire.Fast, 0.15, 600 * time.Millisecond}, {wire.Standard, 0.3, time.Second}} {
		var got setups
		w, u := withUserIn(t, seededWorld(t, 1, counting(&got, lab.Plan{Streams: 4, Mixes: 12, Level: c.level})))
		w.Sim.RunFor(20 * time.Second)
		for _, r := range w.Relays[:3] {
			w.Sim.Crash(r.Node)
		}
		w.Sim.RunFor(20 * time.Second) // the routes through them are found out
		got = setups{}
		for range 60 {
			ask(t, w, u, "a", 100, 20*time.Second)
			w.Sim.RunFor(5 * time.Second)
		}
		share := float64(got.failed) / float64(got.failed+got.stood)
		t.Logf("%v: %+v, %.2f", c.level, got, share)
		if share > c.share || got.longest > c.longest || got.stood < 30 {
			t.Errorf("%v: %.2f of set-ups fail at dead mixes, want %.2f; one is waited for %v, want %v", c.level, share, c.share, got.longest, c.longest)
		}
	}
}

// Where set-ups take long, later ones are given the time. (Control: with fixed
// times none stands.)
func TestSetupsAreGivenTheTimeThatTheyTake(t *testing.T) {
	var got setups
	w := seededWorld(t, 1, counting(&got, lab.Plan{Streams: 4, Mixes: 8, Hop: sim.Link{Latency: 180 * time.Millisecond}}))
	w.AddUsers(1)
	u := w.Users[0]
	ask(t, w, u, "a", 100, time.Minute)
	w.Sim.RunFor(time.Minute)
	got = setups{}
	for range 20 {
		ask(t, w, u, "a", 100, 20*time.Second)
		w.Sim.RunFor(8 * time.Second)
	}
	t.Logf("%+v", got)
	if got.failed > 0 || got.stood < 15 {
		t.Errorf("%d set-ups stand, %d were given up too soon", got.stood, got.failed)
	}
}

// Three set-ups of a session that fail in a row are told to who waits for a stream of
// it, and the client goes on: as soon as the line is back, another stream is answered.
// Who begins to wait later is told when one more has failed. (Control: with a bound of
// 30 in the place of setupsTold nobody is told before the handshake is given up.)
func TestThreeFailedSetupsAreTold(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard} {
		var got setups
		var failed []machine.Time
		p := counting(&got, lab.Plan{Streams: 4, Mixes: 8, Level: level})
		count := p.Client
		p.Client = func(c *client.Config) {
			count(c)
			seen := c.Sink
			c.Sink = func(e trace.Event) {
				before := got.failed
				if seen(e); got.failed > before && (len(failed) == 0 || e.At > failed[len(failed)-1]) {
					failed = append(failed, e.At)
				}
			}
		}
		w, u := withUserIn(t, seededWorld(t, 1, p))
		w.Sim.RunFor(10 * time.Second)
		var entries []*sim.Node
		for _, g := range w.Gateways {
			entries = append(entries, g.Node)
		}
		w.Sim.Partition([]*sim.Node{u.Node}, entries)
		open := func() (ref session.Ref, at machine.Time) {
			w.Sim.Do(u.Node, func(now machine.Time) {
				var err error
				if ref, err = u.Core().Open(now, "another", wire.Target{Network: wire.TCP, Host: "x", Port: 80}); err != nil {
					t.Fatal(err)
				}
				at = now
			})
			return ref, at
		}
		failed = nil
		first, at := open()
		if !w.Sim.RunWhile(w.Sim.Now().Add(14*time.Second), func() bool { return u.Core().Stuck(first, at) == nil }) {
			t.Fatalf("%v: nobody is told after %d set-ups that failed", level, len(failed))
		}
		t.Logf("%v: told after %v and %d set-ups: %v", level, w.Sim.Now().Sub(at), len(failed), u.Core().Stuck(first, at))
		if len(failed) < 3 || u.Core().Trouble() == nil {
			t.Errorf("%v: told after %d set-ups, trouble %v", level, len(failed), u.Core().Trouble())
		}
		second, at := open()
		if u.Core().Stuck(second, at) != nil {
			t.Errorf("%v: told before anything was tried", level)
		}
		before := len(failed)
		w.Sim.RunFor(30 * time.Second)
		if n := len(failed) - before; n < 3 || n > 30 {
			t.Errorf("%v: %d set-ups in the half minute after", level, n)
		}
		w.Sim.Heal()
		took := redial(t, w, u, "another", 12*time.Second)
		t.Logf("%v: an answer %v after the line was back", level, took)
		if u.Core().Trouble() != nil {
			t.Errorf("%v: trouble is told while routes stand", level)
		}
	}
}

// A session whose exit does not answer its set-ups begins at another, and who waits
// for it is told after three of them. (Control: without the case of hopeless in fail
// it takes the handshake's 15 s.)
func TestASessionBeginsAtAnotherExit(t *testing.T) {
	var got setups
	w, u := withUserIn(t, seededWorld(t, 1, counting(&got, lab.Plan{Streams: 8, Mixes: 12})))
	w.Sim.RunFor(5 * time.Second)
	for _, g := range w.Gateways[:4] {
		w.Sim.Crash(g.Node)
	}
	var worst time.Duration
	for _, key := range []string{"b", "c", "d", "e", "f", "g", "h", "i"} {
		worst = max(worst, redial(t, w, u, key, 30*time.Second))
	}
	t.Logf("the slowest answer came after %v", worst)
	if worst > 6*time.Second {
		t.Errorf("an answer took %v, with half of the exits dead", worst)
	}
}

// While nothing comes back, set-ups slow down, and no node is blamed; when the
// line is back, so is the session.
func TestSetupsSlowDownWhenEverythingFails(t *testing.T) {
	var got setups
	w, u := withUserIn(t, seededWorld(t, 1, counting(&got, lab.Plan{Streams: 4, Mixes: 8})))
	w.Sim.RunFor(20 * time.Second)
	got = setups{}
	cutOff(w, u, 2*time.Minute)
	if got.failed > 70 || got.stood != 0 {
		t.Errorf("%d set-ups were tried while nothing was heard for two minutes", got.failed)
	}
	if n := u.Core().Failing(w.Sim.Now()); n != 0 {
		t.Errorf("%d nodes are blamed for the client's own line", n)
	}
	took := ask(t, w, u, "a", 100, time.Minute)
	t.Logf("%d set-ups in two minutes; an answer %v after them", got.failed, took)
	if took > 11*time.Second {
		t.Errorf("an answer came %v after the line was back", took)
	}
}
