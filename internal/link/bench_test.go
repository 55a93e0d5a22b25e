package link

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// relayBench is a node between two neighbours, all links up and in use.
type relayBench struct {
	w        *world
	up       *host // sends to relay
	relay    *host
	in, out  ID // relay's links
	upLink   ID
	batch    [][]byte
	scratch  [wire.DatagramSize]byte
	sealBody [wire.LinkPayloadSize]byte
}

func newRelayBench(t testing.TB) *relayBench {
	w := newWorld(t)
	r := &relayBench{w: w, up: w.node(1), relay: w.node(2)}
	down := w.node(3)
	r.upLink = r.up.dial(r.relay)
	w.run(time.Second)
	r.in = r.relay.upLink()
	r.out = r.relay.dial(down)
	w.run(time.Second)
	r.relay.wantUp(r.out)
	for range 64 {
		r.batch = append(r.batch, make([]byte, wire.DatagramSize))
	}
	r.fill()
	r.forward()
	return r
}

// fill seals a batch of datagrams for the relay.
func (r *relayBench) fill() {
	for _, b := range r.batch {
		r.up.push(r.upLink, "cell")
		if _, n, ok := r.up.PollTransmit(r.w.now, b); !ok || n != wire.DatagramSize {
			r.w.t.Fatal("nothing to send")
		}
	}
}

// forward passes the batch through the relay, 64 in and 64 out as drive does.
func (r *relayBench) forward() {
	e := r.relay.Endpoint
	for _, b := range r.batch {
		_, frame, ok := e.HandleDatagram(r.w.now, r.up.addr, b)
		if !ok {
			r.w.t.Fatalf("datagram dropped: %v", r.relay.drops())
		}
		f := r.relay.pool.Get()
		copy(f.B[:], frame)
		e.Push(r.out, f)
	}
	for range r.batch {
		if _, _, ok := e.PollTransmit(r.w.now, r.scratch[:]); !ok {
			r.w.t.Fatal("nothing to send")
		}
	}
}

// passes is the floor: as many AEAD passes over as many bytes, and nothing else.
func passes(a, b *seal.AEAD, batch [][]byte, out []byte, counter uint64) {
	for i, d := range batch {
		a.Open(d[12:12], d[12:], d[:12], counter+uint64(i))
	}
	for i, d := range batch {
		b.Seal(out[12:12], d[12:12+wire.LinkPayloadSize], d[:12], counter+uint64(i))
	}
}

func TestForwardAllocatesNothing(t *testing.T) {
	r := newRelayBench(t)
	const rounds = 20
	var before, after runtime.MemStats
	total := uint64(0)
	for range rounds {
		r.fill()
		runtime.ReadMemStats(&before)
		r.forward()
		runtime.ReadMemStats(&after)
		total += after.Mallocs - before.Mallocs
	}
	// ReadMemStats itself may allocate a little; one per datagram would be 1280.
	if total > rounds {
		t.Errorf("%d allocations for %d datagrams", total, rounds*len(r.batch))
	}
}

// BenchmarkForward is a relay's share of the link layer: one datagram in, one
// out, the frame copied between. x-floor is the median of its time over that of
// two bare AEAD passes, measured in turn in the same run.
func BenchmarkForward(b *testing.B) {
	r := newRelayBench(b)
	var key seal.Key
	one, two := seal.NewAEAD(seal.Preferred(), &key), seal.NewAEAD(seal.Preferred(), &key)
	floorBatch := make([][]byte, len(r.batch))
	for i := range floorBatch {
		floorBatch[i] = make([]byte, wire.DatagramSize)
	}
	var spent, floor []time.Duration // of each batch
	n := 0
	b.ReportAllocs()
	b.ResetTimer()
	for ; n < b.N; n += len(r.batch) {
		b.StopTimer()
		r.fill()
		for i, d := range floorBatch {
			one.Seal(d[12:12], r.sealBody[:], d[:12], uint64(n+i))
		}
		t0 := time.Now()
		passes(one, two, floorBatch, r.scratch[:], uint64(n))
		floor = append(floor, time.Since(t0))
		b.StartTimer()
		t0 = time.Now()
		r.forward()
		spent = append(spent, time.Since(t0))
	}
	slices.Sort(spent)
	slices.Sort(floor)
	ours, bare := spent[len(spent)/2], floor[len(floor)/2] // medians: the machine is shared
	b.ReportMetric(float64(ours.Nanoseconds())/float64(len(r.batch)), "ns/datagram")
	b.ReportMetric(float64(bare.Nanoseconds())/float64(len(r.batch)), "floor-ns/datagram")
	b.ReportMetric(float64(ours)/float64(bare), "x-floor")
}
