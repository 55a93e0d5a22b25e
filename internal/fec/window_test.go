package fec

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"pgregory.net/rapid"
)

func symbolOf(n uint64, size int) []byte {
	b := make([]byte, size)
	prng.FromUint64(n).Stream("symbol").Read(b)
	return b
}

// The vector fixes the coefficients: another implementation must give these
// bytes.
func TestRepairIsTheOneOfTheSpecification(t *testing.T) {
	e := NewEncoder(8)
	for n := uint64(100); n < 104; n++ {
		b := make([]byte, 8)
		for k := range b {
			b[k] = byte(n*31 + uint64(k)*7 + 1)
		}
		e.Source(n, b)
	}
	got := make([]byte, 8)
	e.Repair(105, 0b11110, got)
	if s := hex.EncodeToString(got); s != "143c4b76900a3978" {
		t.Errorf("repair 105 of 100 to 103 is %s", s)
	}
	if Coefficient(0, 0) != 27 || Coefficient(105, 103) != Coefficient(105+128, 103+128) {
		t.Error("coefficients differ")
	}
}

// Any k repairs of the same sources rebuild any k of them.
func TestEveryPatternOfLossOfAWindow(t *testing.T) {
	const sources, repairs, size = 9, 3, 40
	for have := range 1 << (sources + repairs) {
		e, d := NewEncoder(size), NewDecoder(size)
		lost := 0
		for n := range uint64(sources + repairs) {
			arrives := have>>n&1 != 0
			if !arrives {
				lost++
			}
			b := symbolOf(n, size)
			if n < sources {
				e.Source(n, b)
				if arrives {
					d.Source(n, b)
				}
				continue
			}
			e.Repair(n, (1<<sources-1)<<(n-sources), b)
			if arrives {
				d.Repair(n, (1<<sources-1)<<(n-sources), b)
			}
		}
		if lost > repairs {
			continue
		}
		for {
			n, b, ok := d.Poll()
			if !ok {
				break
			}
			if !bytes.Equal(b, symbolOf(n, size)) {
				t.Fatalf("pattern %#x: source %d is wrong", have, n)
			}
		}
		for n := range uint64(sources) {
			if !d.Has(n) {
				t.Fatalf("pattern %#x: source %d is missing", have, n)
			}
		}
	}
}

// Whatever is lost, late or repeated, what is rebuilt is what was sent, and
// what is held stays within bounds.
func TestModelWindow(t *testing.T) {
	const size = 24
	rapid.Check(t, func(t *rapid.T) {
		type packet struct {
			n, mask uint64
			at      int
			b       []byte
		}
		e, d := NewEncoder(size), NewDecoder(size)
		loss := rapid.IntRange(0, 60).Draw(t, "loss")
		late := rapid.IntRange(0, 300).Draw(t, "late")
		r := prng.FromUint64(rapid.Uint64().Draw(t, "seed")).Stream("line")
		var line []packet
		for n := range uint64(600) {
			p := packet{n: n, at: int(n) + int(r.Uint64N(uint64(late+1))), b: make([]byte, size)}
			if r.Uint64N(4) == 0 {
				for i := uint64(0); i < min(n, Reach); i++ {
					if e.Has(n-1-i) && r.Uint64N(3) > 0 {
						p.mask |= 1 << i
					}
				}
			}
			if p.mask != 0 {
				e.Repair(n, p.mask, p.b)
			} else {
				p.b = symbolOf(n, size)[:r.Uint64N(size+1)]
				e.Source(n, p.b)
			}
			for range 1 + r.Uint64N(2) {
				if r.Uint64N(100) >= uint64(loss) {
					line = append(line, p)
				}
			}
		}
		slices.SortStableFunc(line, func(a, b packet) int { return a.at - b.at })
		got := map[uint64]bool{}
		for _, p := range line {
			if p.mask == 0 {
				d.Source(p.n, p.b)
				got[p.n] = true
			} else {
				known := true // as a session does: what came and is held no more cannot be used
				for i := range uint64(Reach) {
					known = known && (p.mask>>i&1 == 0 || !got[p.n-1-i] || d.Has(p.n-1-i))
				}
				if known {
					d.Repair(p.n, p.mask, p.b)
				}
			}
			for {
				n, b, ok := d.Poll()
				if !ok {
					break
				}
				if got[n] {
					t.Fatalf("source %d was rebuilt and had arrived", n)
				}
				got[n] = true
				if want := symbolOf(n, size); !bytes.Equal(bytes.TrimRight(b, "\x00"), bytes.TrimRight(want[:len(bytes.TrimRight(b, "\x00"))], "\x00")) {
					t.Fatalf("source %d is wrong", n)
				}
			}
			if len(d.rows) > rowsMax || cap(d.rows) > 2*rowsMax || len(d.rebuilt) > Keep {
				t.Fatalf("%d equations held, room for %d", len(d.rows), cap(d.rows))
			}
		}
	})
}

// line is a sender of a steady rate and what comes of it: every packet takes
// one slot, of sources and repairs alike.
type line struct {
	loss  float64
	burst float64 // mean length of a loss
	ratio float64 // repairs per source
	block int     // sources of a block; 0: sliding
	span  int     // sources that a sliding repair covers
}

type outcome struct {
	residual, success, overhead float64
	mean, p95                   float64 // slots from a source's own time to its rebuilding
}

func (l line) run(slots int) outcome {
	const size = 8
	r := prng.FromUint64(uint64(l.loss*1e6) + uint64(l.block)<<20 + uint64(l.span)<<32).Stream("line")
	draw := func(p float64) bool { return float64(r.Uint64N(1<<40)) < p*(1<<40) }
	e, d := NewEncoder(size), NewDecoder(size)
	bad := false
	lost := func() bool { // Gilbert: losses of mean length burst
		if bad {
			bad = !draw(1 / l.burst)
		} else {
			bad = draw(l.loss / l.burst / (1 - l.loss))
		}
		return bad
	}
	var delays []float64
	var b [size]byte
	sources, missing, repairs, credit, filled, due := 0, 0, 0, 0.0, 0, 0
	for n := uint64(0); n < uint64(slots); n++ {
		if l.block == 0 && credit >= 1 || due > 0 {
			mask, want := uint64(0), l.span
			if l.block > 0 {
				want = l.block
				due--
			} else {
				credit--
			}
			for i := uint64(0); i < min(n, Reach) && want > 0; i++ {
				if e.Has(n - 1 - i) {
					mask |= 1 << i
					want--
				}
			}
			e.Repair(n, mask, b[:])
			repairs++
			if !lost() {
				d.Repair(n, mask, b[:])
			}
		} else {
			sources++
			credit += l.ratio
			e.Source(n, b[:])
			if filled++; filled == l.block {
				filled, due = 0, int(credit)
				credit -= float64(due)
			}
			if lost() {
				missing++
			} else {
				d.Source(n, b[:])
			}
		}
		for {
			k, _, ok := d.Poll()
			if !ok {
				break
			}
			delays = append(delays, float64(n-k))
		}
	}
	slices.Sort(delays)
	o := outcome{overhead: float64(repairs) / float64(sources), residual: float64(missing-len(delays)) / float64(sources)}
	for _, v := range delays {
		o.mean += v / float64(len(delays))
	}
	if len(delays) > 0 {
		o.p95, o.success = delays[len(delays)*95/100], float64(len(delays))/float64(missing)
	}
	return o
}

// Sliding repairs rebuild sooner than blocks of the same redundancy that rebuild
// nearly as many, and always more (docs/performance.md holds the table that this prints).
func TestSlidingRebuildsSoonerThanBlocks(t *testing.T) {
	for _, c := range []struct{ loss, burst, ratio float64 }{
		{0.01, 1, 0.045}, {0.05, 1, 0.125}, {0.15, 1, 0.25}, {0.15, 1, 0.325}, {0.05, 4, 0.125}, {0.15, 4, 0.325},
	} {
		best := map[string]outcome{}
		for _, l := range []line{{block: 10}, {block: 20}, {block: 40}, {span: 14}, {span: 32}, {span: Reach}} {
			l.loss, l.burst, l.ratio = c.loss, c.burst, c.ratio
			o := l.run(30_000)
			name := fmt.Sprintf("block of %d", l.block)
			if l.block == 0 {
				name = fmt.Sprintf("sliding, %d", l.span)
			}
			best[name] = o
			at := func(slots, rate float64) time.Duration {
				return time.Duration(slots / rate * 1e9).Round(10 * time.Microsecond)
			}
			const fast = 50e6 / 1079
			t.Logf("loss %4.1f %% in %.0f, +%4.1f %%: %-12s left %6.3f %%, rebuilt %5.1f %%, delay mean %4.1f p95 %3.0f slots: 70/s %v %v, 50 MB/s %v %v",
				100*c.loss, c.burst, 100*o.overhead, name, 100*o.residual, 100*o.success, o.mean, o.p95,
				at(o.mean, 70), at(o.p95, 70), at(o.mean, fast), at(o.p95, fast))
		}
		// Bursts beyond a block are rebuilt by sliding repairs alone, late.
		if s, b := best["sliding, 64"], best["block of 40"]; s.residual > b.residual || c.burst == 1 && s.mean >= b.mean {
			t.Errorf("loss %v in %v: sliding %+v, blocks %+v", c.loss, c.burst, s, b)
		}
	}
}

func TestWindowDoesNotAllocate(t *testing.T) {
	const size = 1045
	e, d := NewEncoder(size), NewDecoder(size)
	b := make([]byte, size)
	n := uint64(0)
	turn := func() {
		for range 40 {
			e.Source(n, b)
			if n%9 != 3 {
				d.Source(n, b)
			}
			if n++; n%5 == 0 {
				mask := uint64(0)
				for i := range uint64(Reach) {
					if n > i && e.Has(n-1-i) {
						mask |= 1 << i
					}
				}
				e.Repair(n, mask, b)
				d.Repair(n, mask, b)
				n++
			}
			for ok := true; ok; {
				_, _, ok = d.Poll()
			}
		}
	}
	for range 100 {
		turn()
	}
	if a := testing.AllocsPerRun(100, turn); a > 0 {
		t.Errorf("%.2f allocations", a)
	}
}

// BenchmarkRepair makes one repair of a full reach; the specification allows
// 3 ms for encoding (SCL-044).
func BenchmarkRepair(b *testing.B) {
	const size = 1045
	e := NewEncoder(size)
	symbol := make([]byte, size)
	for n := range uint64(Reach) {
		e.Source(n, symbol)
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Repair(Reach, ^uint64(0), symbol)
	}
}

// FuzzDecoder gives a decoder any numbers, masks and symbols, as a faulty peer
// would: it ends, and what it holds stays bounded.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte{1, 0, 0, 2, 7, 1, 9, 255, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		d := NewDecoder(4)
		n := uint64(1000)
		for ; len(b) >= 3; b = b[3:] {
			n += uint64(b[0]) - 100
			if n > 1<<20 {
				n = 1000
			}
			if b[1]&1 == 0 {
				d.Source(n, b[:3])
			} else if n > Reach {
				d.Repair(n, uint64(b[1])*0x0101_0101_0101_0101>>1, append(b[:3:3], 0))
			}
			for ok := true; ok; {
				_, _, ok = d.Poll()
			}
			if len(d.rows) > rowsMax {
				t.Fatal("too many equations")
			}
		}
	})
}
