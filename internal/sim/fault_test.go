package sim

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"pgregory.net/rapid"
)

const ms = machine.Time(time.Millisecond)

func TestPerfectLinkDeliversInOrderAfterItsLatency(t *testing.T) {
	n, a, b, ma, mb := pairOf(1, Link{Latency: 30 * time.Millisecond})
	stream(n, a, ma, b.Addr(), 50, time.Millisecond)
	n.RunFor(time.Second)
	if len(mb.got) != 50 {
		t.Fatalf("%d datagrams of 50", len(mb.got))
	}
	for i, text := range mb.got {
		if text != fmt.Sprint(i) || mb.gotAt[i] != machine.Time(i)*ms+30*ms || mb.from[i] != a.Addr() {
			t.Fatalf("datagram %d is %q at %d from %v", i, text, mb.gotAt[i], mb.from[i])
		}
	}
	if b.Stats().Received != 50 || a.Stats().Sent != 50 || n.Now() != machine.Time(time.Second) || !n.Idle() {
		t.Errorf("accounts wrong: %+v %+v at %d", a.Stats(), b.Stats(), n.Now())
	}
}

func TestChancesOfALink(t *testing.T) {
	const count = 20_000
	near := func(what string, got uint64, want float64) {
		t.Helper()
		if math.Abs(float64(got)-want) > 5*math.Sqrt(want) {
			t.Errorf("%s: %d of %d, want about %.0f", what, got, count, want)
		}
	}
	n, a, b, ma, mb := pairOf(2, Link{Loss: 100_000, Duplicate: 50_000})
	stream(n, a, ma, b.Addr(), count, 100*time.Microsecond)
	n.RunFor(time.Minute)
	s := n.Stats()
	near("lost", s.Lost, 0.1*count)
	near("doubled", s.Duplicated, 0.9*0.05*count)
	if uint64(len(mb.got)) != count-s.Lost+s.Duplicated || s.Delivered != uint64(len(mb.got)) || s.Dropped() != s.Lost {
		t.Errorf("%d arrived of %+v", len(mb.got), s)
	}
}

func TestJitterReordersUnlessInOrder(t *testing.T) {
	for _, c := range []struct {
		name     string
		link     Link
		overtake bool
	}{
		{"uniform", Link{Jitter: 5 * time.Millisecond}, true},
		{"exponential", Link{JitterMean: 5 * time.Millisecond}, true},
		{"in order", Link{Jitter: 5 * time.Millisecond, JitterMean: 2 * time.Millisecond, InOrder: true}, false},
		{"held", Link{InOrder: true, Reorder: 50_000, ReorderBy: 3 * time.Millisecond}, true},
	} {
		n, a, b, ma, mb := pairOf(3, c.link)
		stream(n, a, ma, b.Addr(), 500, time.Millisecond)
		n.RunFor(2 * time.Second)
		inOrder := slices.IsSortedFunc(mb.got, func(x, y string) int {
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			return strings.Compare(x, y)
		})
		if inOrder == c.overtake || len(mb.got) != 500 {
			t.Errorf("%s: %d arrived, in order %v", c.name, len(mb.got), inOrder)
		}
	}
}

func TestBandwidthSpacesAndItsQueueIsBounded(t *testing.T) {
	n, a, b, ma, mb := pairOf(1, Link{Latency: time.Millisecond, Rate: 1_000_000, Queue: 10_000})
	n.Do(a, func(machine.Time) {
		for range 50 {
			ma.send(b.Addr(), strings.Repeat("x", 1000))
		}
	})
	n.RunFor(time.Second)
	// 1000 bytes take 1 ms; 10 wait while one leaves.
	if len(mb.got) != 11 || n.Stats().QueueFull != 39 {
		t.Fatalf("%d arrived, %d dropped", len(mb.got), n.Stats().QueueFull)
	}
	for i, at := range mb.gotAt {
		if want := machine.Time(i+2) * ms; at != want {
			t.Errorf("datagram %d at %d, want %d", i, at, want)
		}
	}
	n.SetDefaultLink(Link{Latency: time.Millisecond})
	n.Do(a, func(machine.Time) { ma.send(b.Addr(), "free") })
	n.RunFor(time.Second)
	if mb.got[11] != "free" {
		t.Error("the new model does not hold")
	}
}

// Two machines of one host share its access link; a third elsewhere does not.
func TestAccessLinkIsSharedByAHost(t *testing.T) {
	n := New(Config{Seed: 1, Link: Link{Latency: time.Millisecond}})
	a1, m1 := add(n, "a1", "10.0.0.1:1", nil)
	a2, m2 := add(n, "a2", "10.0.0.1:2", nil)
	c, mc := add(n, "c", "10.0.0.3:1", nil)
	b, mb := add(n, "b", "10.0.0.2:1", nil)
	n.SetAccess(a1.Addr().Addr(), 100_000, 0)
	for _, s := range []struct {
		nd *Node
		m  *toy
	}{{a1, m1}, {a2, m2}, {c, mc}} {
		n.Do(s.nd, func(machine.Time) { s.m.send(b.Addr(), strings.Repeat("x", 1000)) })
	}
	n.RunFor(time.Second)
	if want := []machine.Time{1 * ms, 11 * ms, 21 * ms}; !slices.Equal(mb.gotAt, want) {
		t.Errorf("arrivals %v, want %v", mb.gotAt, want)
	}
	n.SetAccess(b.Addr().Addr(), 0, 100_000)
	mb.gotAt = nil
	at := n.Now()
	for range 2 {
		n.Do(c, func(machine.Time) { mc.send(b.Addr(), strings.Repeat("x", 1000)) })
	}
	n.RunFor(time.Second)
	if want := []machine.Time{at + 11*ms, at + 21*ms}; !slices.Equal(mb.gotAt, want) {
		t.Errorf("arrivals behind a slow access %v, want %v", mb.gotAt, want)
	}
}

func TestProcessorTakesItsTime(t *testing.T) {
	n := New(Config{Seed: 1, Link: Link{Latency: time.Millisecond}})
	a, ma := add(n, "a", "10.0.0.1:1", nil)
	b, mb := add(n, "b", "10.0.0.2:1", func(c *NodeConfig) {
		c.Cost = Cost{Datagram: 2 * time.Millisecond, DatagramQueue: 5 * time.Millisecond}
	})
	n.Do(a, func(machine.Time) {
		for range 8 {
			ma.send(b.Addr(), "work")
		}
	})
	n.At(4*ms, func(machine.Time) { n.Crash(b) })
	n.RunFor(time.Second)
	// Served at 3, 5, 7 ms; the crash at 4 ms takes what still waits.
	if want := []machine.Time{3 * ms}; !slices.Equal(mb.gotAt, want) || n.Stats().QueueFull != 5 || n.Stats().Unreachable != 2 {
		t.Errorf("served at %v, %+v", mb.gotAt, n.Stats())
	}
}

func TestPartitionAndHeal(t *testing.T) {
	n, a, b, ma, mb := pairOf(1, Link{Latency: 10 * time.Millisecond})
	c, mc := add(n, "c", "10.0.0.3:1", nil)
	stream(n, a, ma, b.Addr(), 10, 10*time.Millisecond)
	stream(n, c, mc, b.Addr(), 10, 10*time.Millisecond)
	n.At(25*ms, func(machine.Time) { n.Partition([]*Node{a}, []*Node{b}) })
	n.At(65*ms, func(machine.Time) { n.Heal() })
	n.RunFor(time.Second)
	byA := 0
	for _, from := range mb.from {
		if from == a.Addr() {
			byA++
		}
	}
	// Lost: the one under way at 25 ms, and those of 30 to 60 ms.
	if byA != 5 || len(mb.got) != 15 || n.Stats().Cut != 5 {
		t.Errorf("%d of a, %d in all, %d cut", byA, len(mb.got), n.Stats().Cut)
	}
}

func TestRegionsHaveLinksAndCuts(t *testing.T) {
	n := New(Config{Seed: 1})
	in := func(region string) func(*NodeConfig) { return func(c *NodeConfig) { c.Region = region } }
	a, ma := add(n, "a", "10.0.0.1:1", in("eu"))
	b, mb := add(n, "b", "10.0.0.2:1", in("us"))
	n.SetRegionLink("eu", "us", Link{Latency: 45 * time.Millisecond})
	n.CutRegions("us", "eu")
	mb.onInput = func(_ machine.Time, from netip.AddrPort, _ []byte) { mb.send(from, "back") }
	n.Do(a, func(machine.Time) { ma.send(b.Addr(), "there") })
	n.RunFor(time.Second)
	if len(mb.gotAt) != 1 || mb.gotAt[0] != 45*ms || len(ma.got) != 0 || a.Region() != "eu" {
		t.Errorf("b got at %v, a got %v", mb.gotAt, ma.got)
	}
	n.Heal()
	n.SetLink(a, b, Link{Latency: 7 * time.Millisecond})
	at := n.Now()
	n.Do(a, func(machine.Time) { ma.send(b.Addr(), "again") })
	n.RunFor(time.Second)
	if mb.gotAt[1] != at+7*ms || len(ma.got) != 1 {
		t.Errorf("after healing b got at %v, a got %v", mb.gotAt, ma.got)
	}
}

func TestCrashAndRestart(t *testing.T) {
	n := New(Config{Seed: 1})
	a, ma := add(n, "a", "10.0.0.1:1", nil)
	var lives []*toy
	var draws []uint64
	b := n.AddNode(NodeConfig{Name: "b", Addr: addr("10.0.0.2:1"), New: func(now machine.Time, rng prng.Source) machine.Machine {
		m := &toy{timer: now.Add(time.Second)}
		lives = append(lives, m)
		draws = append(draws, rng.Stream("x").Uint64())
		return m
	}})
	stream(n, a, ma, b.Addr(), 10, 10*time.Millisecond)
	n.At(35*ms, func(machine.Time) { n.Crash(b); n.Crash(b) })
	n.At(40*ms, func(machine.Time) {
		if b.Up() || b.Machine() != nil {
			t.Error("a crashed node is up")
		}
		n.Do(b, func(machine.Time) { t.Error("a crashed node was called") })
	})
	n.At(65*ms, func(machine.Time) { n.Restart(b) })
	n.RunFor(3 * time.Second)
	if len(lives) != 2 || len(lives[0].got) != 4 || len(lives[1].got) != 3 || n.Stats().Unreachable != 3 {
		t.Fatalf("%d lives, %+v", len(lives), n.Stats())
	}
	if len(lives[0].timersAt) != 0 || !slices.Equal(lives[1].timersAt, []machine.Time{1065 * ms}) {
		t.Errorf("timers %v and %v", lives[0].timersAt, lives[1].timersAt)
	}
	if draws[0] == draws[1] {
		t.Error("a restarted machine draws what the dead one drew: it would repeat nonces")
	}
	n.Restart(b)
	if len(lives) != 3 || b.Machine() != machine.Machine(lives[2]) {
		t.Error("restart of a running node")
	}
}

func TestRebindMovesANode(t *testing.T) {
	n, a, b, ma, mb := pairOf(1, Link{Latency: 10 * time.Millisecond})
	old := a.Addr()
	mb.onInput = func(_ machine.Time, from netip.AddrPort, _ []byte) { mb.send(from, "answer") }
	stream(n, a, ma, b.Addr(), 4, 10*time.Millisecond)
	n.At(15*ms, func(machine.Time) { n.Rebind(a, addr("203.0.113.9:4000")); n.Rebind(a, a.Addr()) })
	n.RunFor(time.Second)
	if mb.from[1] != old || mb.from[2] != a.Addr() || a.Addr() == old {
		t.Errorf("b saw %v", mb.from)
	}
	if len(ma.got) != 2 || n.Stats().Unreachable != 2 {
		t.Errorf("a got %d answers, %d went to the old address", len(ma.got), n.Stats().Unreachable)
	}
	if n.Node("a") != a || len(n.Nodes()) != 2 {
		t.Error("the node lost its name")
	}
}

// A timer set on a wrong clock must fire when that clock shows its time, never
// before, and at most a few nanoseconds after.
func TestClocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Clock{Offset: time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "offset")),
			DriftPPB: rapid.Int64Range(-900_000_000, 900_000_000).Draw(t, "drift")}
		if rapid.Bool().Draw(t, "small") {
			c.DriftPPB /= 100_000
		}
		n := New(Config{})
		nd, _ := add(n, "x", "10.0.0.1:1", func(cfg *NodeConfig) { cfg.Clock = c })
		at := machine.Time(rapid.Int64Range(0, int64(72*time.Hour)).Draw(t, "at"))
		g := nd.network(at)
		if g < 0 || nd.Local(g) < at {
			t.Fatalf("clock %+v: timer for %d fires when it shows %d", c, at, nd.Local(g))
		}
		if g > 0 && nd.Local(g-1) >= at {
			t.Fatalf("clock %+v: timer for %d fires late: %d shows %d", c, at, g-1, nd.Local(g-1))
		}
		if nd.Local(g+1) < nd.Local(g) || nd.network(machine.Never) != machine.Never || nd.Local(machine.Never) != machine.Never {
			t.Fatal("the clock runs backwards")
		}
	})
	n := New(Config{})
	nd, m := add(n, "slow", "10.0.0.1:1", func(cfg *NodeConfig) { cfg.Clock = Clock{Offset: time.Second, DriftPPB: -500_000_000} })
	n.Do(nd, func(now machine.Time) { m.timer = now.Add(time.Second) })
	n.RunFor(5 * time.Second)
	if !slices.Equal(m.timersAt, []machine.Time{machine.Time(2 * time.Second)}) {
		t.Errorf("timers at %v of the node's clock", m.timersAt)
	}
	if far := nd.network(machine.Never - 1); far != machine.Never {
		t.Errorf("a time past the end is %d", far)
	}
}

func TestTimersMoveBothWays(t *testing.T) {
	n, a, _, ma, _ := pairOf(1, Link{})
	set := func(at, timer machine.Time) {
		n.At(at, func(machine.Time) { n.Do(a, func(machine.Time) { ma.timer = timer }) })
	}
	set(1*ms, 10*ms)
	set(2*ms, 50*ms) // later: the event at 10 ms must not call the machine
	set(20*ms, 30*ms)
	set(40*ms, 5*ms) // past: due at once
	n.RunFor(time.Second)
	if want := []machine.Time{30 * ms, 40 * ms}; !slices.Equal(ma.timersAt, want) {
		t.Errorf("timers at %v, want %v", ma.timersAt, want)
	}
}

// job is work with a visible effect.
type job struct{ ran bool }

func (j *job) Run() { j.ran = true }

func TestJobsTakeTheirModelledTime(t *testing.T) {
	n := New(Config{})
	nd, m := add(n, "a", "10.0.0.1:1", func(c *NodeConfig) { c.Cost = Cost{Job: 10 * time.Millisecond, Workers: 2} })
	var done []machine.Time
	m.onJob = func(now machine.Time, j machine.Job) {
		if !j.(*job).ran {
			t.Error("a job came back that had not run")
		}
		done = append(done, now)
	}
	n.Do(nd, func(machine.Time) { m.jobs = []machine.Job{&job{}, &job{}, &job{}} })
	n.RunFor(time.Second)
	if want := []machine.Time{10 * ms, 10 * ms, 20 * ms}; !slices.Equal(done, want) || n.Stats().Jobs != 3 {
		t.Errorf("jobs back at %v, want %v", done, want)
	}
	done = nil
	n.Do(nd, func(machine.Time) { m.jobs = []machine.Job{&job{}} })
	n.Restart(nd)
	n.RunFor(time.Second)
	if len(done) != 0 {
		t.Error("the job of a dead machine came back to its successor")
	}
}

func TestFreeJobsComeBackInTheSameStep(t *testing.T) {
	n, a, b, ma, mb := pairOf(1, Link{})
	steps := 0
	a.OnStep(func(machine.Time) { steps++ })
	ma.onJob = func(now machine.Time, _ machine.Job) { ma.send(b.Addr(), "done") }
	n.RunFor(time.Millisecond)
	steps = 0
	n.Do(a, func(machine.Time) { ma.jobs = []machine.Job{&job{}} })
	n.RunFor(time.Millisecond)
	if len(mb.got) != 1 || steps != 2 {
		t.Errorf("%d datagrams, %d steps", len(mb.got), steps)
	}
}

// A timer that moved leaves a stale event behind; it must end there, and not
// breed another at each firing.
func TestStaleTimerEventsDieOut(t *testing.T) {
	n, a, _, ma, _ := pairOf(1, Link{})
	n.RunFor(time.Nanosecond)
	for i := range machine.Time(50) {
		n.Do(a, func(machine.Time) { ma.timer = (100 - i) * ms })
	}
	n.Do(a, func(machine.Time) { ma.timer = 500 * ms })
	before := n.Stats().Events
	n.RunFor(time.Second)
	// 50 stale or early events, one to fire at 500 ms.
	if got := n.Stats().Events - before; got != 51 || len(ma.timersAt) != 1 {
		t.Errorf("%d events for 51 settings, timers at %v", got, ma.timersAt)
	}
}
