package mix

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"pgregory.net/rapid"
)

// Against a model that remembers everything: a counter is never accepted
// twice, and one that is younger than the horizon is never refused.
func TestWindowAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Uint32Range(1, 1<<30).Draw(t, "start")
		w := window{top: start - 1, floor: start}
		seen := map[uint32]bool{}
		top, now := start-1, machine.Time(0)
		for range rapid.IntRange(1, 400).Draw(t, "cells") {
			now = now.Add(time.Duration(rapid.IntRange(0, 10_000).Draw(t, "µs")) * time.Microsecond)
			var c uint32
			if rapid.Bool().Draw(t, "forward") {
				c = top + uint32(rapid.IntRange(1, 300).Draw(t, "step"))
			} else {
				c = top - uint32(rapid.IntRange(0, 4000).Draw(t, "back"))
			}
			fresh := w.fresh(c)
			if fresh && seen[c] {
				t.Fatalf("counter %d was accepted twice", c)
			}
			if fresh && int64(c) < int64(start) {
				t.Fatalf("counter %d from before the start %d was accepted", c, start)
			}
			// All of this takes less than the horizon: all is remembered that
			// the number of cells allows for.
			if !fresh && !seen[c] && c >= start && top-c < max(windowFree, windowPerCell*uint32(len(seen))/2) {
				t.Fatalf("counter %d, %d below the top, was refused", c, top-c)
			}
			if fresh {
				w.mark(now, c)
				seen[c] = true
				top = max(top, c)
			}
			if w.fresh(c) {
				t.Fatalf("counter %d is fresh after it was marked", c)
			}
		}
	})
}

// steady advances a window by 2 a cell at a rate.
func steady(w *window, now machine.Time, cells int, gap time.Duration) machine.Time {
	for range cells {
		now = now.Add(gap)
		w.mark(now, w.top+2)
	}
	return now
}

func TestWindowGrowsWithUseOnly(t *testing.T) {
	slow := window{floor: 1}
	steady(&slow, 0, 10_000, 100*time.Millisecond)
	if slow.size() != windowMin {
		t.Errorf("ten cells a second made a window of %d", slow.size())
	}
	fast := window{}
	steady(&fast, 0, 2_000_000, 5*time.Microsecond)
	if fast.size() != windowMax {
		t.Errorf("200,000 cells a second made a window of %d", fast.size())
	}
}

// While it grows, a window forgets nothing: every second counter was left out,
// and all of them are still accepted, once.
func TestWindowForgetsNothingWhileItGrows(t *testing.T) {
	w := window{top: 76, floor: 77}
	steady(&w, 0, 200_000, 10*time.Microsecond)
	for c := uint32(77); c < w.top; c += 2 {
		if !w.fresh(c) || w.fresh(c+1) {
			t.Fatalf("counter %d: fresh %v, its neighbour %v", c, w.fresh(c), w.fresh(c+1))
		}
		w.mark(0, c)
		if w.fresh(c) {
			t.Fatalf("counter %d is fresh after it was marked", c)
		}
	}
}

func TestWindowJumpsAndForgets(t *testing.T) {
	w := window{}
	if w.fresh(0) || !w.fresh(1) {
		t.Error("the zero window does not begin at 1")
	}
	w.mark(0, 5)
	w.mark(0, 1<<31)
	if w.size() != windowFree {
		t.Errorf("one leap made a window of %d", w.size())
	}
	w.mark(0, ^uint32(0))
	if w.fresh(5) || w.fresh(1<<31) || !w.fresh(^uint32(0)-1) || w.fresh(^uint32(0)) {
		t.Error("a jump to the end of counters left the window wrong")
	}
	w = window{}
	w.mark(0, 100)
	if !w.fresh(99) || !w.fresh(1) {
		t.Error("the first counter seen was taken for the first sent")
	}
	r := w.rest()
	w = r.widen(0)
	if w.ring != nil || w.fresh(99) || w.fresh(100) || !w.fresh(101) {
		t.Error("a window that forgot accepts old counters, or refuses new ones")
	}
	w.mark(0, 110)
	if w.fresh(100) || !w.fresh(105) {
		t.Error("a window that forgot does not keep its floor")
	}
}

// The first cell of a burst to arrive may be any of it: none is refused.
func TestWindowTakesABurstInAnyOrder(t *testing.T) {
	for _, start := range []uint32{0, 1000} {
		s := prng.FromUint64(uint64(start)).Stream("order")
		burst := make([]uint32, 4000)
		for i := range burst {
			burst[i] = 1000 + 2*uint32(i)
		}
		s.Shuffle(len(burst), func(i, j int) { burst[i], burst[j] = burst[j], burst[i] })
		w := window{floor: start, top: max(start, 1) - 1}
		for i, c := range burst {
			if !w.fresh(c) {
				t.Fatalf("start %d: cell %d of the burst, %d below the top, was refused", start, i, w.top-c)
			}
			w.mark(0, c)
		}
		for _, c := range burst {
			if w.fresh(c) {
				t.Fatalf("counter %d is fresh after it was marked", c)
			}
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200, 1, 130})
	f.Fuzz(func(t *testing.T, moves []byte) {
		w, seen, now := window{}, map[uint32]bool{}, machine.Time(0)
		for _, m := range moves {
			now = now.Add(time.Millisecond)
			c := w.top + uint32(m&127)*uint32(m&127)
			if m >= 128 {
				c = w.top - uint32(m&127)*uint32(m&127)
			}
			if w.fresh(c) {
				if seen[c] {
					t.Fatalf("counter %d twice", c)
				}
				w.mark(now, c)
				seen[c] = true
			}
		}
	})
}
