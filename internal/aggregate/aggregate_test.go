package aggregate

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/nyxnet/nyx/internal/prng"
)

func TestBinsFollowWithoutGap(t *testing.T) {
	for bin := range binsMax {
		start, width := binStart(bin)
		last := start + width - 1
		if binOf(start) != bin || binOf(last) != bin || last != math.MaxUint64 && binOf(last+1) != bin+1 {
			t.Fatalf("bin %d is %d to %d, which lie in %d and %d", bin, start, last, binOf(start), binOf(last))
		}
		if float64(width)/2 > RelativeError*float64(start)+0.5 {
			t.Fatalf("bin %d of %d values begins at %d", bin, width, start)
		}
	}
	if binOf(math.MaxUint64) != binsMax-1 {
		t.Errorf("the greatest value lies in bin %d of %d", binOf(math.MaxUint64), binsMax)
	}
}

// some are values as latencies are, over five decades.
func some(n int, seed uint64) []uint64 {
	draw := prng.FromUint64(seed).Stream("values")
	out := make([]uint64, n)
	for i := range out {
		out[i] = uint64(math.Exp(float64(draw.IntN(12_000)) / 1000))
	}
	return out
}

func TestQuantilesAreWithinTheirError(t *testing.T) {
	values := some(20_000, 1)
	var s Sketch
	for _, v := range values {
		s.Observe(v)
	}
	slices.Sort(values)
	for _, q := range []float64{0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1} {
		want := float64(values[max(int(math.Ceil(q*float64(len(values))))-1, 0)])
		if got := float64(s.Quantile(q)); math.Abs(got-want) > RelativeError*want+0.5 {
			t.Errorf("quantile %v is %v, not %v", q, got, want)
		}
	}
	if n := s.Above(1024); int(n) != len(values)-slices.IndexFunc(values, func(v uint64) bool { return v >= 1024 }) {
		t.Errorf("%d values of 1024 and more", n)
	}
	var none Sketch
	if none.Quantile(0.5) != 0 || none.Mean() != 0 || none.Above(0) != 0 {
		t.Error("no values have a quantile")
	}
}

// parts are aggregates of one hour, from several processes.
func parts() (out []*Aggregate) {
	for i := range 6 {
		a := New(Span{Start: 7200, Seconds: Hour})
		for j, v := range some(500, uint64(i)) {
			a.Observe(Key{Name: "latency_ms", Region: []string{"ap", "eu", ""}[(i+j)%3], Class: uint16(j % 2)}, v, uint64(1+j%10))
		}
		out = append(out, a)
	}
	return out
}

// Any order and any grouping of parts make one result, byte for byte.
func TestMergingHasOneResult(t *testing.T) {
	whole := func(order []int, grouped bool) []byte {
		all, in := New(Span{0, Day}), parts()
		group := New(Span{7200, Hour})
		for _, i := range order {
			to := all
			if grouped && i%2 == 0 {
				to = group
			}
			if err := to.Merge(in[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := all.Merge(group); err != nil {
			t.Fatal(err)
		}
		return all.Append(nil)
	}
	want := whole([]int{0, 1, 2, 3, 4, 5}, false)
	for _, order := range [][]int{{5, 4, 3, 2, 1, 0}, {2, 0, 5, 1, 4, 3}} {
		if !bytes.Equal(whole(order, false), want) || !bytes.Equal(whole(order, true), want) {
			t.Errorf("order %v makes another day", order)
		}
	}
	if bytes.Equal(whole([]int{0, 1, 2, 3, 4}, false), want) {
		t.Error("control: a part that is missing is not seen")
	}
	if err := New(Span{0, Hour}).Merge(parts()[0]); err == nil {
		t.Error("an hour takes another hour in")
	}
}

// A sum that is too great stays so, whatever the order.
func TestSumsDoNotWrap(t *testing.T) {
	var s, o Sketch
	s.ObserveN(math.MaxUint64, 3)
	o.Observe(5)
	s.Merge(&o)
	o.Merge(&s)
	if s.Sum != math.MaxUint64 || o.Sum != math.MaxUint64 || s.Count != 4 || s.Min != 5 || s.Max != math.MaxUint64 {
		t.Errorf("%+v and %+v", s, o)
	}
}

func TestEncodingIsOne(t *testing.T) {
	a := New(Span{Start: 3600, Seconds: Hour})
	a.Observe(Key{Name: "q", Region: "eu", Class: 100}, 1000, 2)
	a.Observe(Key{Name: "q", Region: "eu", Class: 100}, 1017, 1)
	b := a.Append(nil)
	want := "\x01" + "\x00\x00\x00\x00\x00\x00\x0e\x10" + "\x00\x00\x0e\x10" + "\x00\x01" + "\x01q\x02eu\x00\x64" +
		"\x00\x00\x00\x00\x00\x00\x0b\xc9" + "\xe8\x07" + "\x11" + "\xbd\x02" + "\x03" + "\x02\x00\x01"
	if string(b) != want {
		t.Fatalf("%x", b)
	}
	again, err := Parse(b)
	if err != nil || !bytes.Equal(again.Append(nil), b) || again.Of(Key{"q", "eu", 100}).Count != 3 {
		t.Fatalf("read back %v, %v", again, err)
	}
	for n := range b {
		if _, err := Parse(b[:n]); err == nil {
			t.Fatalf("%d bytes accepted", n)
		}
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"a byte more":             func(b []byte) []byte { return append(b, 0) },
		"another version":         func(b []byte) []byte { b[0]++; return b },
		"a longer number":         func(b []byte) []byte { return slices.Replace(b, 13, 14, 0x80, 0) },
		"an empty last bin":       func(b []byte) []byte { b[len(b)-1] = 0; return b },
		"a least of another bin":  func(b []byte) []byte { b[len(b)-6]++; return b },
		"more bins than there is": func(b []byte) []byte { b[len(b)-4] = 200; return b },
	} {
		if _, err := Parse(spoil(bytes.Clone(b))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestKeysAreBounded(t *testing.T) {
	a := New(Span{0, Hour})
	for i := range KeysMax + 7 {
		a.Observe(Key{Name: "n", Region: string(rune('a' + i/4096)), Class: uint16(i)}, 1, 1)
	}
	if len(a.Keys()) != KeysMax || a.Refused != 7 {
		t.Errorf("%d keys, %d refused", len(a.Keys()), a.Refused)
	}
}

func TestCalendarKeepsHoursAndDays(t *testing.T) {
	k := Key{Name: "load"}
	c := NewCalendar(100 * Day)
	for h := range int64(24) {
		at := 100*Day + h*Hour
		for _, a := range c.Turn(at) {
			if a.Of(k).Count != 1 {
				t.Errorf("hour %d has %d values", a.Start/Hour, a.Of(k).Count)
			}
		}
		c.Observe(at, k, uint64(h), 1)
	}
	c.Observe(100*Day, k, 9, 1) // long over
	c.Observe(102*Day, k, 9, 1) // far ahead
	other := New(Span{100*Day + 23*Hour, Hour})
	other.Observe(k, 50, 4)
	if err := c.Merge(other); err != nil || c.Late != 2 {
		t.Errorf("%v, %d late", err, c.Late)
	}
	day := c.Take(100*Day + 5)
	if s := day.Of(k); s.Count != 28 || s.Max != 50 || s.Sum != 23*12+200 {
		t.Errorf("the day: %+v", s)
	}
	if c.Take(100*Day) != nil {
		t.Error("a day is there after it was taken")
	}
	c.Observe(101*Day-1, k, 1, 1)
	if c.Turn(101*Day + 2*Hour - 1); len(c.Over(101*Day+2*Hour-1)) != 0 {
		t.Error("a day is over while its last hour is open")
	}
	if c.Turn(101*Day + 2*Hour); len(c.Over(101*Day+2*Hour)) != 1 || len(c.Over(101*Day+2*Hour)) != 0 {
		t.Error("a day is not over, or twice")
	}
}

func FuzzParse(f *testing.F) {
	for _, a := range parts()[:2] {
		f.Add(a.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Parse(b)
		if err == nil && !bytes.Equal(a.Append(nil), b) {
			t.Fatal("two encodings of one aggregate")
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	values := some(4096, 3)
	var s Sketch
	for i := range b.N {
		s.Observe(values[i%len(values)])
	}
}

func BenchmarkMerge(b *testing.B) {
	in, all := parts()[0], New(Span{0, Day})
	for range b.N {
		all.Merge(in)
	}
}
