//go:build linux

package main

import (
	"container/heap"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
)

const lost = -1

// pass sends packets of 1000 bytes at a steady gap and returns how long each
// took, by its number.
func pass(t *testing.T, words string, packets int, gap time.Duration) []time.Duration {
	t.Helper()
	f, err := parseFaults(strings.Fields(words))
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(prng.FromUint64(1).Stream("there"), nil)
	took := make([]time.Duration, packets)
	for i := range took {
		now := time.Unix(0, int64(i)*int64(gap))
		for len(w.held) > 0 && !w.held[0].due.After(now) {
			heap.Pop(&w.held)
		}
		took[i] = lost
		if due, ok := w.admit(now, 1000, &f); ok {
			heap.Push(&w.held, packet{due: due})
			took[i] = due.Sub(now)
		}
	}
	return took
}

func TestWire(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		words            string
		gap              time.Duration
		lostMin, lostMax int // of 10,000
		least, most      time.Duration
	}{
		{"delay 50ms", ms, 0, 0, 50 * ms, 50 * ms},
		{"delay 50ms 20ms", ms, 0, 0, 30 * ms, 70 * ms},
		{"loss 5%", ms, 430, 570, 0, 0},
		{"rate 8mbit", ms, 0, 0, ms, ms},
		// Twice what the rate carries: half is lost, and the queue is full.
		{"rate 8mbit limit 100", ms / 2, 4800, 5000, ms, 101 * ms},
	} {
		n, least, most := 0, time.Hour, time.Duration(0)
		for _, d := range pass(t, tt.words, 10_000, tt.gap) {
			if d == lost {
				n++
				continue
			}
			least, most = min(least, d), max(most, d)
		}
		if n < tt.lostMin || n > tt.lostMax || least < tt.least || most > tt.most {
			t.Errorf("%s: %d lost, %v to %v", tt.words, n, least, most)
		}
	}
	for _, words := range []string{"delay", "delay fast", "rate 5kbit", "speed 5", "delay 1ms 2ms", "loss 101%", "limit 0"} {
		if f, err := parseFaults(strings.Fields(words)); err == nil {
			t.Errorf("%s is read as %+v", words, f)
		}
	}
}

// Packets come out when they are due, also those that overtake others, and
// faults change while packets are under way.
func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		type arrival struct {
			text string
			at   time.Duration
		}
		got := make(chan arrival, 8)
		w := newWire(prng.FromUint64(1).Stream("there"), func(b []byte) { got <- arrival{string(b), time.Since(begun)} })
		go w.deliver()
		w.put([]byte("slow"), &Faults{Delay: time.Second, Limit: 10})
		w.put([]byte("fast"), &Faults{Delay: time.Millisecond, Limit: 10})
		w.put([]byte("none"), &Faults{Loss: 1e6, Limit: 10})
		w.put([]byte("full"), &Faults{Limit: 2})
		if a := <-got; a != (arrival{"fast", time.Millisecond}) {
			t.Error(a)
		}
		if a := <-got; a != (arrival{"slow", time.Second}) {
			t.Error(a)
		}
		close(w.sooner)
	})
}
