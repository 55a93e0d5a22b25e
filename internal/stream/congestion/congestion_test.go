package congestion

import (
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"pgregory.net/rapid"
)

var kinds = map[string]Kind{"bbr": BBR, "cubic": Cubic, "fixed": Fixed}

func TestFixedIsExact(t *testing.T) {
	sent := func(rate uint64, spec linkSpec) int {
		_, f := bulkRun(t, spec, New(Config{Kind: Fixed, FixedRate: rate}), 1, 10*time.Second)
		return len(f.packets)
	}
	for _, spec := range []linkSpec{{rate: 12_500_000, rtt: 50 * ms, queueMax: 1 << 20}, mixedPath} {
		spec.lossPPM = 50_000
		want := 5_000_000 * 10 / packetSize
		// One burst may stand at either end.
		if got := sent(5_000_000, spec); got < want-2*BurstPackets || got > want+2*BurstPackets {
			t.Errorf("5 MB/s for 10 s sent %d packets, want %d", got, want)
		}
		if got := sent(5_100_000, spec); got <= want+2*BurstPackets {
			t.Errorf("control: 5.1 MB/s sent %d packets, as many as 5", got)
		}
	}
}

// trace hashes window and rate at every millisecond of a lossy run.
func trace(t *testing.T, k Kind, seed uint64) [32]byte {
	l := newLink(t, mixedPath, seed)
	c := New(Config{Kind: k})
	l.addFlow(c, 0, 0)
	h := sha256.New()
	for d := time.Duration(0); d < 2*time.Second; d += ms {
		l.at(d, func() {
			var b [16]byte
			binary.BigEndian.PutUint64(b[:8], uint64(c.Window()))
			binary.BigEndian.PutUint64(b[8:], c.PacingRate())
			h.Write(b[:])
		})
	}
	l.run(2 * time.Second)
	return [32]byte(h.Sum(nil))
}

func TestRunsRepeat(t *testing.T) {
	for name, k := range kinds {
		first := trace(t, k, 7)
		if trace(t, k, 7) != first {
			t.Errorf("%s: one seed, two runs", name)
		}
		if k != Fixed && trace(t, k, 8) == first {
			t.Errorf("%s: control: two seeds, one run", name)
		}
	}
}

// Whatever the caller reports, in whatever order, outputs stay in bounds.
func TestOutputsStayInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := Kind(rapid.IntRange(0, 2).Draw(t, "kind"))
		c := New(Config{Kind: k, FixedRate: rapid.Uint64().Draw(t, "rate")})
		var now machine.Time
		var packets []*Packet
		inFlight := 0
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now += machine.Time(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "gap"))
			var p *Packet
			if len(packets) > 0 {
				p = packets[rapid.IntRange(0, len(packets)-1).Draw(t, "which")]
			}
			switch what := rapid.IntRange(0, 5).Draw(t, "what"); {
			case what == 0 || p == nil:
				p = &Packet{SentAt: now, Bytes: packetSize}
				packets = append(packets, p)
				inFlight += packetSize
				c.OnSent(now, p, inFlight, rapid.Bool().Draw(t, "limited"))
			case what == 1:
				c.OnLost(now, p, inFlight)
			case what == 2:
				c.OnSpurious(now, p)
			case what == 3 && rapid.IntRange(0, 20).Draw(t, "change") == 0:
				c.OnPathChange(now)
			default:
				c.OnAcked(now, p)
				inFlight = max(inFlight-packetSize, 0)
				c.OnAckEnd(now, time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "rtt")), inFlight)
			}
			if w := c.Window(); w < minWindowPackets*packetSize || w > windowMax {
				t.Fatalf("window %d", w)
			}
			if r := c.PacingRate(); r == 0 && !isShort(c) || r > rateMax*2 {
				t.Fatalf("rate %d", r)
			}
		}
	})
}

func TestPathChangeForgets(t *testing.T) {
	for name, k := range kinds {
		l := newLink(t, mixedPath, 1)
		c := New(Config{Kind: k})
		f := l.addFlow(c, 0, 0)
		l.run(time.Second)
		if k != Fixed && c.Window() == defaultInitialWindow*packetSize {
			t.Errorf("%s: control: a second of traffic taught nothing", name)
		}
		c.OnPathChange(l.now)
		window, rate := c.Window(), c.PacingRate()
		if k != Fixed && window != defaultInitialWindow*packetSize {
			t.Errorf("%s: window %d after the change", name, window)
		}
		for i := range f.packets {
			if p := &f.packets[i]; p.state == 0 {
				c.OnAcked(l.now, &p.Packet)
			}
		}
		c.OnAckEnd(l.now, 0, 0)
		if c.Window() != window || c.PacingRate() != rate {
			t.Errorf("%s: packets of the old path moved the window to %d, rate to %d", name, c.Window(), c.PacingRate())
		}
	}
}

func TestMulDiv(t *testing.T) {
	most := new(big.Int).SetUint64(^uint64(0))
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b"), rapid.Uint64Min(1).Draw(t, "c")
		want := new(big.Int).Mul(new(big.Int).SetUint64(a), new(big.Int).SetUint64(b))
		want.Div(want, new(big.Int).SetUint64(c))
		if want.Cmp(most) > 0 {
			want = most
		}
		if got := mulDiv(a, b, c); got != want.Uint64() {
			t.Fatalf("%d × %d / %d = %d, want %v", a, b, c, got, want)
		}
	})
}

// flight is a steady flow without a simulator: 64 packets out, acknowledged
// eight at a time 10 ms after their sending.
type flight struct {
	c       Controller
	now     machine.Time
	packets [64]Packet
	head    int
}

func newFlight(k Kind) *flight {
	f := &flight{c: New(Config{Kind: k})}
	for i := range f.packets {
		f.send(i)
	}
	f.now = f.now.Add(10 * ms)
	return f
}

func (f *flight) send(i int) {
	f.packets[i] = Packet{SentAt: f.now, Bytes: packetSize}
	f.c.OnSent(f.now, &f.packets[i], 64*packetSize, false)
}

// frame acknowledges eight packets, loses one of 64, and sends as many.
func (f *flight) frame() {
	f.now = f.now.Add(10 * ms / 8)
	for i := range 8 {
		p := &f.packets[f.head+i]
		if f.head == 0 && i == 0 {
			f.c.OnLost(f.now, p, 63*packetSize)
			f.c.OnSpurious(f.now, p)
			continue
		}
		f.c.OnAcked(f.now, p)
	}
	f.c.OnAckEnd(f.now, 10*ms, 56*packetSize)
	for i := range 8 {
		f.send(f.head + i)
	}
	f.head = (f.head + 8) % 64
	sink += f.c.Window() + int(f.c.PacingRate())
}

var sink int

func TestNoAllocations(t *testing.T) {
	for name, k := range kinds {
		f := newFlight(k)
		if n := testing.AllocsPerRun(1000, f.frame); n != 0 {
			t.Errorf("%s: %v allocations per ACK frame", name, n)
		}
	}
}

// BenchmarkPacket is one packet's sending and acknowledgement, with an ACK
// frame for every eighth.
func BenchmarkPacket(b *testing.B) {
	for _, k := range []struct {
		name string
		kind Kind
	}{{"bbr", BBR}, {"cubic", Cubic}, {"fixed", Fixed}} {
		b.Run(k.name, func(b *testing.B) {
			f := newFlight(k.kind)
			b.ReportAllocs()
			for b.Loop() {
				for range 8 {
					f.frame()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/packet")
		})
	}
}
