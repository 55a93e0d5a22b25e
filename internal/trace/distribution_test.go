package trace

import (
	"testing"
	"time"
)

// Classes follow one another without a gap, and none is wider than a quarter of
// what is in it.
func TestClasses(t *testing.T) {
	if classOf(0) != 0 {
		t.Fatal("0 has no class of its own")
	}
	for c := range classes - 1 {
		end := classEnd(c)
		if classOf(end-1) != c || classOf(end) != c+1 {
			t.Fatalf("class %d ends at %d, where classes are %d and %d", c, end, classOf(end-1), classOf(end))
		}
		if c > 4 && 4*(end-classEnd(c-1)) > classEnd(c-1) {
			t.Fatalf("class %d is [%d, %d)", c, classEnd(c-1), end)
		}
	}
	if minute := uint64(time.Minute / time.Microsecond); classEnd(classes-2) < minute {
		t.Errorf("the last class begins at %d", classEnd(classes-2))
	}
	if classOf(1<<63) != classes-1 {
		t.Error("a great value has no class")
	}
}

func TestValues(t *testing.T) {
	var d Distributions
	if v := &d[MetadataSize]; v.Quantile(0.95) != 0 || v.Under(1<<10) != 0 {
		t.Error("values before the first")
	}
	for i := range 1000 {
		d.Observe(MetadataSize, uint64(i))
		d.ObserveTime(DropDetect, time.Duration(i)*time.Millisecond)
	}
	v := &d[MetadataSize]
	if v.Count != 1000 || v.Sum != 499_500 || v.Under(1<<2) != 4 || v.Under(1<<8) != 256 || v.Under(1<<10) != 1000 || v.Under(1<<60) != 1000 {
		t.Errorf("%d values, sum %d, %d below 4, %d below 256", v.Count, v.Sum, v.Under(1<<2), v.Under(1<<8))
	}
	for q, want := range map[float64]uint64{0.5: 499, 0.95: 949, 1: 999} {
		if got := v.Quantile(q); got < want || got > want*5/4 {
			t.Errorf("quantile %v is %d, want %d or little more", q, got, want)
		}
	}
	if got := d[DropDetect].Quantile(0.5); got < 499_000 || got > 624_000 {
		t.Errorf("median %d µs", got)
	}
	(*Distributions)(nil).Observe(FECEncode, 1)
	if LatencyOf(0) != StreamLatency || LatencyOf(3) != LatencyOf(7) || LatencyOf(7)+1 != StreamQueueOut {
		t.Error("lanes and their latencies do not agree")
	}
}

func TestObservingAllocatesNothing(t *testing.T) {
	var d Distributions
	if n := testing.AllocsPerRun(100, func() { d.ObserveTime(StreamQueueIn, time.Second) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
