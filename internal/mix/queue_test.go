package mix

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"pgregory.net/rapid"
)

func TestDelayQueueOrdersByTimeThenArrival(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q delayQueue
		var model []held
		for i, at := range rapid.SliceOf(rapid.IntRange(0, 20)).Draw(t, "times") {
			q.push(machine.Time(at), link.ID(i), nil)
			model = append(model, held{at: machine.Time(at), to: link.ID(i)})
			if rapid.IntRange(0, 3).Draw(t, "pop") == 0 {
				slices.SortStableFunc(model, func(a, b held) int { return int(a.at - b.at) })
				if got := q.pop(); got.to != model[0].to || got.at != model[0].at {
					t.Fatalf("popped %d at %d, want %d at %d", got.to, got.at, model[0].to, model[0].at)
				}
				model = model[1:]
			}
		}
		slices.SortStableFunc(model, func(a, b held) int { return int(a.at - b.at) })
		for _, want := range model {
			if q.next() != want.at {
				t.Fatalf("next is %d, want %d", q.next(), want.at)
			}
			if got := q.pop(); got.to != want.to {
				t.Fatalf("popped %d, want %d", got.to, want.to)
			}
		}
		if q.next() != machine.Never {
			t.Fatal("the queue is not empty")
		}
	})
}

func TestDelayQueueHoldsItsLimit(t *testing.T) {
	var q delayQueue
	s := prng.FromUint64(3).Stream("times")
	for i := range DefaultQueue {
		q.push(machine.Time(s.Exp(40*time.Millisecond)), link.ID(i), nil)
	}
	last := machine.Time(-1)
	for range DefaultQueue {
		h := q.pop()
		if h.at < last {
			t.Fatalf("a frame of %d came after %d", h.at, last)
		}
		last = h.at
	}
}

func TestRingKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring[int]
		in, out := 0, 0
		for _, push := range rapid.SliceOf(rapid.Bool()).Draw(t, "moves") {
			if push {
				r.push(in)
				in++
			} else if v, ok := r.pop(); ok != (out < in) || ok && v != out {
				t.Fatalf("popped %d %v, want %d", v, ok, out)
			} else if ok {
				out++
			}
		}
		if r.len != in-out {
			t.Fatalf("%d left, want %d", r.len, in-out)
		}
	})
}

func TestBucketAdmitsItsRate(t *testing.T) {
	b := newBucket(0, 10)
	admitted := 0
	for ms := range 60_000 {
		b.refill(machine.Time(ms)*machine.Time(time.Millisecond), 10)
		if b.has() {
			b.take()
			admitted++
		}
	}
	if admitted < 619 || admitted > 621 {
		t.Errorf("%d admitted in a minute at 10 a second and a burst of 20", admitted)
	}
	b.refill(machine.Time(time.Hour), 10)
	b.refill(0, 10)
	if b.level != 20*bucketToken {
		t.Errorf("an hour filled the bucket to %d", b.level)
	}
}
