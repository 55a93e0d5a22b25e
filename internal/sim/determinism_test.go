package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"pgregory.net/rapid"
)

// hostile is a network with every fault of the model.
var hostile = Link{Latency: 5 * time.Millisecond, Jitter: 3 * time.Millisecond, JitterMean: time.Millisecond,
	Loss: 20_000, Duplicate: 10_000, Reorder: 30_000, ReorderBy: 7 * time.Millisecond, Rate: 2_000_000}

// storm runs flooders and echoes through faults and returns the network.
func storm(seed uint64, link Link) *Network {
	n := New(Config{Seed: seed, Link: link})
	var peers []netip.AddrPort
	for i := range 6 {
		at := addr(fmt.Sprintf("10.0.%d.1:900%d", i/2, i))
		peers = append(peers, at)
		n.AddNode(NodeConfig{Name: fmt.Sprint("echo", i), Addr: at, Region: fmt.Sprint(i % 2),
			New: func(machine.Time, prng.Source) machine.Machine { return &echo{left: -1} }})
	}
	for i := range 4 {
		n.AddNode(NodeConfig{Name: fmt.Sprint("flooder", i), Addr: addr(fmt.Sprintf("10.1.0.%d:1", i)), Region: "0",
			Clock: Clock{Offset: time.Duration(i) * time.Minute, DriftPPB: int64(i) * 40_000},
			New: func(now machine.Time, rng prng.Source) machine.Machine {
				return &flooder{peers: peers, interval: time.Millisecond, rng: rng.Stream("flood"), next: now}
			}})
	}
	n.SetRegionLink("0", "1", Link{Latency: 40 * time.Millisecond, Loss: 5000})
	n.At(machine.Time(300*time.Millisecond), func(machine.Time) { n.Crash(n.Node("echo1")) })
	n.At(machine.Time(500*time.Millisecond), func(machine.Time) { n.Restart(n.Node("echo1")) })
	n.At(machine.Time(600*time.Millisecond), func(machine.Time) { n.Rebind(n.Node("flooder2"), addr("10.9.9.9:4")) })
	n.At(machine.Time(700*time.Millisecond), func(machine.Time) { n.CutRegions("0", "1") })
	n.At(machine.Time(800*time.Millisecond), func(machine.Time) { n.Heal() })
	return n
}

func TestSameSeedSameTraceOtherSeedOther(t *testing.T) {
	hashes := map[string]uint64{}
	for _, seed := range []uint64{1, 2, 3} {
		a, b := storm(seed, hostile), storm(seed, hostile)
		a.RunUntil(machine.Time(time.Second))
		for b.Now() < machine.Time(time.Second) {
			b.RunFor(777 * time.Microsecond) // the steps of the runner must not show
			if b.Now() > machine.Time(time.Second)-777_000 {
				b.RunUntil(machine.Time(time.Second))
			}
		}
		if a.TraceHash() != b.TraceHash() || a.Stats() != b.Stats() {
			t.Fatalf("seed %d: two runs differ: %+v and %+v", seed, a.Stats(), b.Stats())
		}
		if other, ok := hashes[a.TraceHash()]; ok {
			t.Errorf("seeds %d and %d give one trace", seed, other)
		}
		hashes[a.TraceHash()] = seed
		if s := a.Stats(); s.Lost == 0 || s.Duplicated == 0 || s.Cut == 0 || s.Unreachable == 0 || s.Timers == 0 {
			t.Errorf("the storm misses a fault: %+v", s)
		}
	}
}

// The hash must see one datagram, one byte of size and one nanosecond more.
func TestTraceHashSeesEverything(t *testing.T) {
	run := func(at time.Duration, text string, count int) string {
		n, a, b, ma, _ := pairOf(1, Link{})
		n.At(machine.Time(at), func(machine.Time) {
			n.Do(a, func(machine.Time) {
				for range count {
					ma.send(b.Addr(), text)
				}
			})
		})
		n.RunFor(time.Second)
		return n.TraceHash()
	}
	base := run(time.Millisecond, "four", 1)
	if base != run(time.Millisecond, "FOUR", 1) {
		t.Error("content is part of the hash: ciphertexts would make it differ")
	}
	for name, h := range map[string]string{
		"time": run(time.Millisecond+1, "four", 1), "size": run(time.Millisecond, "five5", 1),
		"count": run(time.Millisecond, "four", 2)} {
		if h == base {
			t.Errorf("the hash does not see %s", name)
		}
	}
	n, a, _, _, _ := pairOf(1, Link{})
	before := n.TraceHash()
	var passed []trace.Event
	n.Sink(a, func(e trace.Event) { passed = append(passed, e) }).Emit(4, trace.LinkUp, 1, 2)
	if n.TraceHash() == before || len(passed) != 1 {
		t.Error("an event of a machine does not reach the hash or the next sink")
	}
}

// A draw on one link must not move the fate of datagrams on another: the
// adversary's view of a link would depend on traffic elsewhere.
func TestTrafficElsewhereMovesNothing(t *testing.T) {
	run := func(busy bool) *View {
		n, a, b, ma, _ := pairOf(5, hostile)
		c, mc := add(n, "c", "10.0.0.3:1", nil)
		v := n.Tap(a.Addr(), b.Addr(), Arrival)
		stream(n, a, ma, b.Addr(), 2000, time.Millisecond)
		if busy {
			stream(n, c, mc, b.Addr(), 3000, 700*time.Microsecond)
			stream(n, a, ma, c.Addr(), 1000, 900*time.Microsecond)
		}
		n.RunFor(3 * time.Second)
		return v
	}
	idle, busy := run(false), run(true)
	if d := idle.Diff(busy); d != "" || idle.Len() < 1000 {
		t.Errorf("view of %d datagrams changed: %s", idle.Len(), d)
	}
}

// Negative control of the test above: through one shared queue, traffic
// elsewhere does show, and the comparison finds it.
func TestSharedAccessDoesShow(t *testing.T) {
	run := func(busy bool) *View {
		n, a, b, ma, _ := pairOf(5, Link{})
		c, _ := add(n, "c", "10.0.0.3:1", nil)
		n.SetAccess(a.Addr().Addr(), 1_500, 0)
		v := n.Tap(a.Addr(), b.Addr(), Arrival)
		stream(n, a, ma, b.Addr(), 100, time.Millisecond)
		if busy {
			stream(n, a, ma, c.Addr(), 100, time.Millisecond)
		}
		n.RunFor(time.Second)
		return v
	}
	if run(false).Equal(run(true)) {
		t.Error("a shared bottleneck left no trace: the comparison sees nothing")
	}
}

func TestPartsDrawIndependently(t *testing.T) {
	n := New(Config{Seed: 3})
	first, again := n.Rand("x").Uint64(), n.Rand("x").Uint64()
	if n.Seed() != 3 || first != again || first == n.Rand("y").Uint64() {
		t.Error("load streams are not labelled")
	}
	if n.Source("x").Stream("a").Uint64() == n.Source("y").Stream("a").Uint64() {
		t.Error("two parts share a stream")
	}
}

// The queue must give what a stable sort by time gives, whatever is pushed in
// between and wherever limits fall.
func TestQueueIsStableAndOrdered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		type item struct {
			at  machine.Time
			ref uint32
		}
		var want []item
		now, ref := machine.Time(0), uint32(0)
		push := func(spread int64) {
			at := now + machine.Time(rapid.Int64Range(0, spread).Draw(t, "ahead"))
			q.push(event{at: at, ref: ref})
			want = append(want, item{at, ref})
			ref++
		}
		for range rapid.IntRange(1, 60).Draw(t, "rounds") {
			spread := rapid.SampledFrom([]int64{0, 1, 3, 1000, 1 << 40}).Draw(t, "spread")
			for range rapid.IntRange(0, 8).Draw(t, "pushes") {
				push(spread)
			}
			limit := now + machine.Time(rapid.Int64Range(0, spread+1).Draw(t, "limit"))
			for range rapid.IntRange(0, 8).Draw(t, "pops") {
				slices.SortStableFunc(want, func(a, b item) int { return int(min(1, max(-1, a.at-b.at))) })
				e, ok := q.pop(limit)
				if due := len(want) > 0 && want[0].at <= limit; ok != due {
					t.Fatalf("pop at limit %d is %v, want %v", limit, ok, due)
				}
				if !ok {
					break
				}
				if want[0] != (item{e.at, e.ref}) {
					t.Fatalf("popped %d/%d, want %v", e.at, e.ref, want[0])
				}
				want = want[1:]
				now = e.at
			}
			if q.len != len(want) {
				t.Fatalf("length %d, want %d", q.len, len(want))
			}
		}
	})
}

func TestDatagramsDoNotAllocate(t *testing.T) {
	n := New(Config{Seed: 1, Link: hostile})
	n.SetDefaultLink(Link{Latency: time.Millisecond, Jitter: time.Millisecond})
	for i := range 8 {
		n.AddNode(NodeConfig{Addr: addr(fmt.Sprintf("10.0.0.%d:1", i)),
			New: func(machine.Time, prng.Source) machine.Machine {
				return &echo{left: -1, n: packetMax, to: addr(fmt.Sprintf("10.0.0.%d:1", i^1))}
			}})
	}
	n.RunFor(10 * time.Second)
	before := n.Stats().Delivered
	if allocs := testing.AllocsPerRun(100, func() { n.RunFor(100 * time.Millisecond) }); allocs > 0 {
		t.Errorf("%.1f allocations per %d datagrams", allocs, (n.Stats().Delivered-before)/100)
	}
}

func BenchmarkQueue(b *testing.B) {
	for _, size := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			ahead := make([]machine.Time, 1<<12)
			for i := range ahead {
				ahead[i] = machine.Time(r.Int64N(int64(100 * time.Millisecond)))
			}
			var q queue
			for i := range size {
				q.push(event{at: ahead[i&(1<<12-1)] + machine.Time(i)})
			}
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				e, _ := q.pop(machine.Never)
				e.at += ahead[i&(1<<12-1)]
				q.push(e)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkDatagrams measures a network of trivial machines: 64 echoes that
// bounce datagrams of 1280 bytes, and 64 flooders among 64 peers.
func BenchmarkDatagrams(b *testing.B) {
	for _, c := range []struct {
		name string
		link Link
	}{{"plain", Link{Latency: 20 * time.Millisecond}}, {"hostile", hostile}} {
		c.link.Rate = 0
		b.Run("echo/"+c.name, func(b *testing.B) {
			c.link.Loss = 0 // an echo that loses its datagram is silent for ever
			n := New(Config{Seed: 1, Link: c.link})
			for i := range 64 {
				n.AddNode(NodeConfig{Addr: addr(fmt.Sprintf("10.0.0.%d:1", i)),
					New: func(machine.Time, prng.Source) machine.Machine {
						return &echo{left: -1, n: packetMax, to: addr(fmt.Sprintf("10.0.0.%d:1", i^1))}
					}})
			}
			b.ReportAllocs()
			measure(b, n)
		})
		b.Run("mesh/"+c.name, func(b *testing.B) {
			n := New(Config{Seed: 1, Link: c.link})
			var peers []netip.AddrPort
			for i := range 64 {
				peers = append(peers, addr(fmt.Sprintf("10.0.0.%d:1", i)))
			}
			for _, p := range peers {
				n.AddNode(NodeConfig{Addr: p, New: func(now machine.Time, rng prng.Source) machine.Machine {
					return &flooder{peers: peers, interval: 100 * time.Microsecond, rng: rng.Stream("f"), next: now}
				}})
			}
			b.ReportAllocs()
			measure(b, n)
		})
	}
}

func measure(b *testing.B, n *Network) {
	b.ResetTimer()
	goal := uint64(b.N)
	n.RunWhile(machine.Never, func() bool { return n.stats.Delivered < goal })
	b.ReportMetric(float64(n.stats.Delivered)/b.Elapsed().Seconds(), "datagrams/s")
}
