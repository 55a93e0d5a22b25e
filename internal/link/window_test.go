package link

import (
	"testing"

	"pgregory.net/rapid"
)

// What is behind the next counter agrees with a set, whatever the order, and a
// window that goes on from it refuses nothing that it would take.
func TestRecentIsASet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.Uint64Range(0, 100).Draw(rt, "first")
		recent, next, seen := Rested, first, map[uint64]bool{}
		for range rapid.IntRange(1, 100).Draw(rt, "n") {
			step := rapid.SampledFrom([]int64{1, 1, 2, 5, 16, -1, -3, -16, -31, -32, -33}).Draw(rt, "step")
			c := uint64(max(0, int64(next)+step-1))
			want := c >= first && !seen[c] && (c >= next || next-c <= recentSize)
			if recent.Fresh(next, c) != want {
				rt.Fatalf("counter %d of %d fresh: %v, want %v", c, next, !want, want)
			}
			if want {
				next = recent.Mark(next, c)
				seen[c] = true
			}
		}
		var w window
		w.begin(next, recent)
		for c := uint64(0); c < next; c++ {
			if w.fresh(next, c) != recent.Fresh(next, c) {
				rt.Fatalf("counter %d of %d: the window takes it: %v", c, next, w.fresh(next, c))
			}
		}
	})
}

// The window agrees with a set, whatever the order.
func TestWindowIsASet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, next, seen := window{}, uint64(0), map[uint64]bool{}
		w.floor = rapid.Uint64Range(0, 10).Draw(rt, "floor")
		next = w.floor
		for range rapid.IntRange(1, 400).Draw(rt, "n") {
			step := rapid.SampledFrom([]int64{1, 1, 2, -1, -3, 63, 64, -64, -4095, -4096, -4097, 4095, 4096, 9000}).Draw(rt, "step")
			c := uint64(max(0, int64(next)+step-1))
			fresh := c >= next || w.fresh(next, c)
			want := c >= w.floor && !seen[c] && (c >= next || next-c <= windowSize)
			if fresh != want {
				rt.Fatalf("counter %d, next %d: fresh %v, want %v", c, next, fresh, want)
			}
			if fresh {
				next = w.mark(next, c)
				seen[c] = true
			}
		}
	})
}
