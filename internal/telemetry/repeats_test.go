package telemetry

import (
	"testing"
	"time"
)

// None of a flood is left out: what is told at once and what is told as a count sum up
// to all of them, and each of the counts comes a minute after what was told before.
func TestRepeats(t *testing.T) {
	var r Repeats[int]
	now := time.Unix(0, 0)
	told, sum := 0, uint64(0)
	const steps = 600 // of half a second
	for range steps {
		now = now.Add(500 * time.Millisecond)
		for _, n := range r.Due(now, false) {
			told, sum = told+1, sum+n
		}
		if _, first := r.Add(1, 0, now); first {
			told, sum = told+1, sum+1
		}
	}
	for _, n := range r.Due(now, true) {
		told, sum = told+1, sum+n
	}
	if sum != steps {
		t.Errorf("%d of %d were told", sum, steps)
	}
	if most := 2 * (steps/2/60 + 1); told > most {
		t.Errorf("they were told %d times, not %d at most", told, most)
	}
}

// Beyond so many kinds the others are one.
func TestRepeatsAreBounded(t *testing.T) {
	var r Repeats[int]
	now := time.Unix(0, 0)
	for n := range 3 * RepeatsMost {
		if as, _ := r.Add(n+1, 0, now); (as == 0) != (n >= RepeatsMost) {
			t.Fatalf("kind %d is counted as %d", n+1, as)
		}
	}
	if r.Kinds() != RepeatsMost+1 {
		t.Errorf("%d kinds are counted apart", r.Kinds())
	}
	if n := r.Due(now, true)[0]; n != 2*RepeatsMost-1 {
		t.Errorf("%d are told as others", n)
	}
}
