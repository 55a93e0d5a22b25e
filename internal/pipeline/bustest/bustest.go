// Package bustest is what holds for every pipeline.Bus.
package bustest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/pipeline"
)

// Patience bounds the wait for what must come.
const Patience = time.Minute

// Open opens an empty bus of its own, which ends with the test.
type Open func(t *testing.T, l pipeline.Limits) pipeline.Bus

// Run tests buses.
func Run(t *testing.T, open Open) {
	t.Run("Lanes", func(t *testing.T) { lanes(t, open(t, pipeline.Limits{})) })
	t.Run("Duplicates", func(t *testing.T) { duplicates(t, open(t, pipeline.Limits{})) })
	t.Run("Full", func(t *testing.T) { full(t, open(t, pipeline.Limits{Messages: 10})) })
	t.Run("Return", func(t *testing.T) { back(t, open(t, pipeline.Limits{})) })
	t.Run("Silence", func(t *testing.T) { silence(t, open(t, pipeline.Limits{Patience: 300 * time.Millisecond})) })
	t.Run("Dead", func(t *testing.T) { dead(t, open(t, pipeline.Limits{Tries: 3})) })
	t.Run("Together", func(t *testing.T) { together(t, open(t, pipeline.Limits{})) })
}

// Messages makes messages n of each of which the payload tells its number.
func Messages(first, n int) (out []pipeline.Message) {
	for i := first; i < first+n; i++ {
		m := pipeline.Message{Payload: fmt.Appendf(nil, "message %d", i)}
		binary.BigEndian.PutUint64(m.ID[:], uint64(i)+1)
		out = append(out, m)
	}
	return out
}

// Number is the number of a message that Messages has made.
func Number(m *pipeline.Message) int { return int(binary.BigEndian.Uint64(m.ID[:])) - 1 }

// Publish publishes, and fails the test if it cannot.
func Publish(t *testing.T, b pipeline.Bus, lane pipeline.Lane, messages ...pipeline.Message) (duplicates int) {
	t.Helper()
	n, err := b.Publish(t.Context(), lane, messages...)
	if err != nil {
		t.Fatalf("publish %d messages: %v", len(messages), err)
	}
	return n
}

// Receive waits for exactly n messages of a lane and checks that each is whole.
func Receive(t *testing.T, b pipeline.Bus, lane pipeline.Lane, n int) (out []pipeline.Delivery) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	for len(out) < n {
		got, err := b.Receive(ctx, lane, n-len(out))
		if err != nil {
			t.Fatalf("%d of %d messages came: %v", len(out), n, err)
		}
		out = append(out, got...)
	}
	for _, d := range out {
		if want := fmt.Sprintf("message %d", Number(&d.Message)); string(d.Payload) != want || d.Lane != lane || d.Tries < 1 || time.Since(d.Taken) > Patience {
			t.Fatalf("delivery %q of lane %v, try %d, taken at %v; want %q of %v", d.Payload, d.Lane, d.Tries, d.Taken, want, lane)
		}
	}
	return out
}

func check(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// WantDepth waits until so much waits: in a cluster, what was settled is gone a
// moment later.
func WantDepth(t *testing.T, b pipeline.Bus, incidents, ordinary, dead uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	want := pipeline.Depth{Waiting: [pipeline.NumLanes]uint64{incidents, ordinary}, Dead: dead}
	for {
		d, err := b.Depth(t.Context())
		if err == nil && d == want {
			return
		}
		if err != nil || ctx.Err() != nil {
			t.Fatalf("depth %+v, %v; want %+v", d, err, want)
		}
	}
}

// lanes: one does not wait for the other, each is in order.
func lanes(t *testing.T, b pipeline.Bus) {
	Publish(t, b, pipeline.Ordinary, Messages(0, 50)...)
	Publish(t, b, pipeline.Ordinary, Messages(50, 1)...)
	Publish(t, b, pipeline.Incidents, Messages(100, 1)...)
	WantDepth(t, b, 1, 51, 0)
	check(t, "settle", b.Settle(t.Context(), Receive(t, b, pipeline.Incidents, 1)...))
	got := Receive(t, b, pipeline.Ordinary, 51)
	for i := range got {
		if Number(&got[i].Message) != i || got[i].Tries != 1 {
			t.Fatalf("message %d comes at place %d, try %d", Number(&got[i].Message), i, got[i].Tries)
		}
	}
	check(t, "hold", b.Hold(t.Context(), got...))
	check(t, "settle", b.Settle(t.Context(), got...))
	WantDepth(t, b, 0, 0, 0)
	if none, err := b.Receive(t.Context(), pipeline.Ordinary, 8); err != nil || len(none) != 0 {
		t.Fatalf("%d messages of an empty lane, %v", len(none), err)
	}
}

// duplicates: what is published again is delivered once, alone, within a batch, and
// after it was settled.
func duplicates(t *testing.T, b pipeline.Bus) {
	if n := Publish(t, b, pipeline.Ordinary, Messages(0, 3)...); n != 0 {
		t.Errorf("%d duplicates of 3 new messages", n)
	}
	if n := Publish(t, b, pipeline.Ordinary, Messages(1, 1)...); n != 1 {
		t.Errorf("%d duplicates, want 1", n)
	}
	if n := Publish(t, b, pipeline.Ordinary, Messages(0, 5)...); n != 3 {
		t.Errorf("%d duplicates, want 3", n)
	}
	check(t, "settle", b.Settle(t.Context(), Receive(t, b, pipeline.Ordinary, 5)...))
	if n := Publish(t, b, pipeline.Ordinary, Messages(4, 2)...); n != 1 {
		t.Errorf("%d duplicates, want 1", n)
	}
	WantDepth(t, b, 0, 1, 0)
}

// full: the publisher is told, what is there stays, and settling makes room.
func full(t *testing.T, b pipeline.Bus) {
	Publish(t, b, pipeline.Ordinary, Messages(0, 10)...)
	for _, n := range []int{1, 3} {
		if _, err := b.Publish(t.Context(), pipeline.Ordinary, Messages(10, n)...); !errors.Is(err, pipeline.ErrFull) {
			t.Fatalf("%d messages for a full lane: %v, want ErrFull", n, err)
		}
	}
	Publish(t, b, pipeline.Incidents, Messages(20, 10)...)
	WantDepth(t, b, 10, 10, 0)
	check(t, "settle", b.Settle(t.Context(), Receive(t, b, pipeline.Ordinary, 10)[:3]...))
	WantDepth(t, b, 10, 7, 0)
	Publish(t, b, pipeline.Ordinary, Messages(10, 3)...)
	if _, err := b.Publish(t.Context(), pipeline.Ordinary, pipeline.Message{ID: [16]byte{9}, Payload: make([]byte, pipeline.PayloadMost+1)}); !errors.Is(err, pipeline.ErrSize) {
		t.Errorf("a message that is too large: %v, want ErrSize", err)
	}
}

// back: what is returned comes again at once.
func back(t *testing.T, b pipeline.Bus) {
	Publish(t, b, pipeline.Ordinary, Messages(0, 2)...)
	got := Receive(t, b, pipeline.Ordinary, 2)
	check(t, "settle", b.Settle(t.Context(), got[0]))
	check(t, "return", b.Return(t.Context(), got[1]))
	again := Receive(t, b, pipeline.Ordinary, 1)
	if Number(&again[0].Message) != 1 || again[0].Tries != 2 {
		t.Errorf("message %d in try %d, want 1 in 2", Number(&again[0].Message), again[0].Tries)
	}
}

// silence: what nobody speaks for comes again, what is held does not.
func silence(t *testing.T, b pipeline.Bus) {
	Publish(t, b, pipeline.Ordinary, Messages(0, 2)...)
	got := Receive(t, b, pipeline.Ordinary, 2)
	ctx, cancel := context.WithCancel(t.Context())
	var holding sync.WaitGroup
	holding.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				b.Hold(ctx, got[0])
			}
		}
	})
	again := Receive(t, b, pipeline.Ordinary, 1)
	cancel()
	holding.Wait()
	if Number(&again[0].Message) != 1 || again[0].Tries != 2 {
		t.Errorf("message %d in try %d, want 1 in 2", Number(&again[0].Message), again[0].Tries)
	}
}

// dead: what is buried, or was not processed in its last try, is delivered no more,
// until it is requeued.
func dead(t *testing.T, b pipeline.Bus) {
	Publish(t, b, pipeline.Incidents, Messages(0, 1)...)
	check(t, "bury", b.Bury(t.Context(), Receive(t, b, pipeline.Incidents, 1)[0], "no event"))
	Publish(t, b, pipeline.Ordinary, Messages(1, 1)...)
	for range 3 {
		check(t, "return", b.Return(t.Context(), Receive(t, b, pipeline.Ordinary, 1)...))
	}
	if got, err := b.Receive(t.Context(), pipeline.Ordinary, 1); err != nil || len(got) > 0 {
		t.Fatalf("%d deliveries after the last, %v", len(got), err)
	}
	WantDepth(t, b, 0, 0, 2)
	found, err := b.Dead(t.Context(), 10)
	if err != nil || len(found) != 2 || found[0].Reason != "no event" || found[0].Lane != pipeline.Incidents || found[1].Lane != pipeline.Ordinary || found[1].Reason == "" {
		t.Fatalf("dead messages %+v, %v", found, err)
	}
	if one, err := b.Dead(t.Context(), 1); err != nil || len(one) != 1 {
		t.Errorf("%d dead messages, want the first, %v", len(one), err)
	}
	if n, err := b.Requeue(t.Context(), found[0].ID, found[1].ID, [16]byte{77}); err != nil || n != 2 {
		t.Fatalf("%d requeued, %v", n, err)
	}
	check(t, "settle", b.Settle(t.Context(), Receive(t, b, pipeline.Incidents, 1)...))
	again := Receive(t, b, pipeline.Ordinary, 1)
	if again[0].Tries != 1 {
		t.Errorf("try %d of a message requeued, want 1", again[0].Tries)
	}
	check(t, "bury", b.Bury(t.Context(), again[0], "again"))
	WantDepth(t, b, 0, 0, 1)
}

// together: of those who publish and those who process at once, each message is
// processed by one.
func together(t *testing.T, b pipeline.Bus) {
	const publishers, each, slots = 8, 64, 4
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for i := 0; i < each; i += 8 {
				if _, err := b.Publish(t.Context(), pipeline.Ordinary, Messages(p*each+i, 8)...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	ctx, enough := context.WithTimeout(t.Context(), Patience)
	defer enough()
	var mu sync.Mutex
	seen := map[int]int{}
	var processing sync.WaitGroup
	for range slots {
		processing.Go(func() {
			for ctx.Err() == nil {
				got, err := b.Receive(ctx, pipeline.Ordinary, 16)
				if err != nil {
					return
				}
				if err := b.Settle(t.Context(), got...); err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, d := range got {
					seen[Number(&d.Message)]++
				}
				if len(seen) == publishers*each {
					enough()
				}
				mu.Unlock()
			}
		})
	}
	publishing.Wait()
	processing.Wait()
	if len(seen) != publishers*each {
		t.Fatalf("%d messages of %d came", len(seen), publishers*each)
	}
	for i, n := range seen {
		if n != 1 {
			t.Errorf("message %d was processed %d times", i, n)
		}
	}
	WantDepth(t, b, 0, 0, 0)
}
