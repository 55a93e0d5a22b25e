package prng

import (
	"math"
	"testing"
	"time"
)

func TestStreamsAreIndependentAndRepeatable(t *testing.T) {
	a, b := FromUint64(7).Stream("node/1/slots"), FromUint64(7).Stream("node/1/slots")
	other := FromUint64(7).Stream("node/2/slots")
	same := 0
	for range 1000 {
		x := a.Uint64()
		if x != b.Uint64() {
			t.Fatal("one label gave two sequences")
		}
		if x == other.Uint64() {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d of 1000 draws equal across labels", same)
	}
	if FromUint64(7).Child("a").Stream("x").Uint64() == FromUint64(7).Child("b").Stream("x").Uint64() {
		t.Error("children share a stream")
	}
}

func TestKnownValues(t *testing.T) {
	s := FromUint64(1).Stream("golden")
	got := [3]uint64{s.Uint64(), s.Uint64(), s.Uint64()}
	want := [3]uint64{0x42949ffdd0295105, 0x906817f55d6a046d, 0xb24926162b64ea6b}
	if got != want {
		t.Errorf("stream changed: %#x", got)
	}
}

// The exponential must have its mean, its variance and its tail: truncation
// would show in the quantiles.
func TestExpMomentsAndTail(t *testing.T) {
	const n = 400_000
	mean := 10 * time.Millisecond
	s := FromUint64(3).Stream("exp")
	var sum, squares float64
	above := map[int]int{}
	for range n {
		x := float64(s.Exp(mean)) / float64(mean)
		sum += x
		squares += x * x
		for _, k := range []int{1, 3, 5, 7} {
			if x > float64(k) {
				above[k]++
			}
		}
	}
	m := sum / n
	v := squares/n - m*m
	if math.Abs(m-1) > 0.01 || math.Abs(v-1) > 0.03 {
		t.Errorf("mean %.4f variance %.4f, want 1 and 1", m, v)
	}
	for _, k := range []int{1, 3, 5, 7} {
		want := n * math.Exp(-float64(k))
		if d := math.Abs(float64(above[k]) - want); d > 5*math.Sqrt(want) {
			t.Errorf("P(x > %d): %d samples, want %.0f", k, above[k], want)
		}
	}
	if s.Exp(0) != 0 {
		t.Error("a mean of zero must give zero")
	}
}

func TestUint64NIsUniform(t *testing.T) {
	s := FromUint64(9).Stream("uniform")
	var counts [7]int
	for range 70_000 {
		counts[s.IntN(7)]++
	}
	for i, c := range counts {
		if c < 9_600 || c > 10_400 {
			t.Errorf("value %d drawn %d times of 70000", i, c)
		}
	}
}

func TestDrawsDoNotAllocate(t *testing.T) {
	s := FromUint64(9).Stream("alloc")
	if n := testing.AllocsPerRun(1000, func() { s.Exp(time.Millisecond); s.IntN(5) }); n != 0 {
		t.Errorf("%.1f allocations per draw", n)
	}
}
