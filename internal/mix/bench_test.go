package mix

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// benchCells is how many cells a benchmark repeats: few enough for the cache,
// as a batch from a socket is.
const benchCells = 256

// benchHop is the middle hop of a route at Fast, with cells for it.
type benchHop struct {
	node    *testNode
	route   *route
	forward [][]byte
	back    [][]byte
}

func newBenchHop(tb testing.TB) *benchHop {
	n := newNet(tb, 5, Limits{})
	r := n.open(wire.Fast, nil, 1)
	h := &benchHop{node: n.nodes[2]}
	h.route = h.node.forward[keyOf(toward(2), onlyID(h.node))]
	n.tap = func(at int, out bool, frame []byte) bool {
		if out && at == 2 {
			h.forward = append(h.forward, append([]byte(nil), frame...))
			return false
		}
		if !out && at == 3 {
			h.back = append(h.back, append([]byte(nil), frame...))
			return false
		}
		return true
	}
	for i := range uint64(benchCells) {
		n.send(r, packetOf(i))
		n.end().SendBack(n.now, n.lastEnd(), packetOf(i))
	}
	n.run()
	h.node.heat(0, h.route)
	return h
}

func onlyID(n *testNode) uint32 {
	for k := range n.Table.forward {
		return uint32(k)
	}
	return 0
}

// rewind makes the hop accept the same cells again.
func (h *benchHop) rewind(w *window) {
	ring := w.ring
	clear(ring)
	*w = window{ring: ring, floor: 1}
}

func (h *benchHop) drain(b testing.TB) {
	_, f, ok := h.node.PollSend(0)
	if !ok {
		b.Fatal("the hop did not pass the cell on")
	}
	h.node.pool.Put(f)
}

// against runs work and its floor in turn, a block of each, so that both meet
// the same machine, and reports the time of work and the median of the ratios.
func against(b *testing.B, name string, block int, work, floor func(i int)) {
	b.ReportAllocs()
	b.ResetTimer()
	var ratios []float64
	var took time.Duration
	for from := 0; from < b.N; from += block {
		to := min(from+block, b.N)
		start := time.Now()
		for i := from; i < to; i++ {
			work(i)
		}
		middle := time.Now()
		for i := from; i < to; i++ {
			floor(i)
		}
		took += middle.Sub(start)
		ratios = append(ratios, float64(middle.Sub(start))/float64(time.Since(middle)))
	}
	slices.Sort(ratios)
	b.ReportMetric(float64(took)/float64(b.N), "ns/op")
	b.ReportMetric(ratios[len(ratios)/2], name)
}

func BenchmarkHopForward(b *testing.B) {
	h := newBenchHop(b)
	var f wire.Frame
	a := seal.NewAEAD(h.route.suite, &h.route.keys.forward)
	against(b, "x-aead", benchCells, func(i int) {
		if i%benchCells == 0 {
			h.rewind(&h.route.hot.out)
		}
		h.node.HandleFrame(0, toward(2), h.forward[i%benchCells])
		h.drain(b)
	}, func(i int) {
		c := h.forward[i%benchCells]
		if _, ok := a.Open(f.B[1:1], wire.CellLayer(c, 2), nil, uint64(wire.CellCounter(c))); !ok {
			b.Fatal("the floor does not open")
		}
	})
}

func BenchmarkHopBack(b *testing.B) {
	h := newBenchHop(b)
	var f wire.Frame
	a := seal.NewAEAD(h.route.suite, &h.route.keys.back)
	against(b, "x-aead", benchCells, func(i int) {
		if i%benchCells == 0 {
			h.rewind(&h.route.hot.home)
			h.route.backCounter = 1
		}
		// The hop wrote its layer header over the route id.
		c := h.back[i%benchCells]
		wire.PutFrameHeader(c, wire.FrameBack, h.route.nextID)
		h.node.HandleFrame(0, toward(3), c)
		h.drain(b)
	}, func(i int) {
		a.Seal(f.B[9:9], h.back[i%benchCells][1:wire.CellOffset+wire.LayerSize(3)], nil, uint64(i))
	})
}

func BenchmarkClientSeal(b *testing.B) {
	n := newNet(b, 5, Limits{})
	r := n.open(wire.Standard, nil, 1)
	p := packetOf(1)
	var f wire.Frame
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		r.Seal(&f, p, 0)
	}
}

func BenchmarkBuild(b *testing.B) {
	n := newNet(b, 5, Limits{})
	specs := n.specs(0)
	rng := prng.FromUint64(1)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if _, _, err := Build(specs, wire.Fast, time.Minute, nil, rng.Child(string(rune(i)))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSetupHop is a whole set-up at a middle hop: nine frames in, the job,
// twelve frames out, against the X25519 and ML-KEM-768 decapsulation that it
// cannot do without.
func BenchmarkSetupHop(b *testing.B) {
	n := newNet(b, 5, Limits{Setups: 1 << 30, SetupsPerLink: 1 << 30})
	node := n.nodes[0]
	const kinds = 64
	var trains [kinds]*Train
	for i := range trains {
		_, trains[i], _ = Build(n.specs(0), wire.Fast, time.Minute, nil, prng.FromUint64(uint64(i)))
	}
	const now = machine.Time(0)
	fresh := func() {
		node.LinkDown(now, toward(0))
		clear(node.onions[0].tags)
		node.unsaved, node.trains = ring[ReplayTag]{}, trainList{}
		drainAll(node, now)
	}
	against(b, "x-kem", kinds, func(i int) {
		if i%kinds == 0 {
			fresh()
		}
		f := node.pool.Get()
		for k := range wire.TrainData {
			trains[i%kinds].Frame(k, f)
			node.HandleFrame(now, toward(0), f.B[:])
		}
		node.pool.Put(f)
		j, ok := node.PollJob()
		if !ok {
			b.Fatalf("no job: %v", node.counts)
		}
		j.Run()
		node.HandleJob(now, j)
		if sent := drainAll(node, now); sent != wire.TrainFrames {
			b.Fatalf("%d frames sent on: %v", sent, node.counts)
		}
	}, func(i int) {
		if _, err := node.private.Decapsulate(trains[i%kinds].onion[alphaAt:gammaAt]); err != nil {
			b.Fatal(err)
		}
	})
}

func drainAll(n *testNode, now machine.Time) (sent int) {
	for {
		_, f, ok := n.PollSend(now)
		if !ok {
			return sent
		}
		sent++
		n.pool.Put(f)
	}
}

// BenchmarkDelayQueue is one cell in and one out of a queue of 200,000.
func BenchmarkDelayQueue(b *testing.B) {
	var q delayQueue
	s := prng.FromUint64(1).Stream("delay")
	var f wire.Frame
	now := machine.Time(0)
	for range DefaultQueue {
		q.push(now.Add(s.Exp(40*time.Millisecond)), link.ID(1), &f)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		now = q.pop().at
		q.push(now.Add(s.Exp(40*time.Millisecond)), link.ID(1), &f)
	}
}
