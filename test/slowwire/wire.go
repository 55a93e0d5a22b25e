//go:build linux

package main

import (
	"container/heap"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
)

// wire is one direction: packets that are under way, by when they arrive.
type wire struct {
	out func([]byte)

	mu     sync.Mutex
	tally  tally
	rng    *prng.Stream
	free   time.Time // when the last packet has left for the wire
	held   arrivals
	count  uint64
	sooner chan struct{} // the next arrival has changed
}

// tally counts packets.
type tally struct{ in, lost, full int }

type packet struct {
	due   time.Time
	turn  uint64 // keeps the order of packets that are due at once
	bytes []byte
}

func newWire(rng *prng.Stream, out func([]byte)) *wire {
	return &wire{out: out, rng: rng, sooner: make(chan struct{}, 1)}
}

// put takes a copy of a packet in, or loses it.
func (w *wire) put(b []byte, f *Faults) {
	w.mu.Lock()
	defer w.mu.Unlock()
	due, ok := w.admit(time.Now(), len(b), f)
	if !ok {
		return
	}
	w.count++
	heap.Push(&w.held, packet{due, w.count, append([]byte(nil), b...)})
	if w.held[0].turn == w.count {
		select {
		case w.sooner <- struct{}{}:
		default:
		}
	}
}

// admit decides over a packet of n bytes: when it arrives, and whether at all.
// What is lost on the wire has taken its place in it.
func (w *wire) admit(now time.Time, n int, f *Faults) (due time.Time, ok bool) {
	w.tally.in++
	if len(w.held) >= f.Limit {
		w.tally.full++
		return due, false
	}
	due = now
	if f.Rate > 0 {
		if w.free.Before(now) {
			w.free = now
		}
		w.free = w.free.Add(time.Duration(int64(n) * 8 * int64(time.Second) / f.Rate))
		due = w.free
	}
	due = due.Add(f.Delay - f.Jitter)
	if f.Jitter > 0 {
		due = due.Add(time.Duration(w.rng.Uint64N(uint64(2 * f.Jitter))))
	}
	if f.Loss > 0 && w.rng.Chance(f.Loss) {
		w.tally.lost++
		return due, false
	}
	return due, true
}

// take returns the tally and begins a new one.
func (w *wire) take() (t tally) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, w.tally = w.tally, t
	return t
}

// deliver lets packets out when they are due, until sooner is closed.
func (w *wire) deliver() {
	timer := time.NewTimer(0)
	for {
		w.mu.Lock()
		wait := time.Hour
		for len(w.held) > 0 {
			if wait = time.Until(w.held[0].due); wait > 0 {
				break
			}
			p := heap.Pop(&w.held).(packet)
			w.mu.Unlock()
			w.out(p.bytes)
			w.mu.Lock()
			wait = time.Hour
		}
		w.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case _, ok := <-w.sooner:
			if !ok {
				return
			}
		}
	}
}

// arrivals is a heap by due and turn.
type arrivals []packet

func (a arrivals) Len() int { return len(a) }

func (a arrivals) Less(i, j int) bool {
	if a[i].due.Equal(a[j].due) {
		return a[i].turn < a[j].turn
	}
	return a[i].due.Before(a[j].due)
}

func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push adds a packet.
func (a *arrivals) Push(x any) { *a = append(*a, x.(packet)) }

// Pop takes the last one.
func (a *arrivals) Pop() any {
	last := len(*a) - 1
	p := (*a)[last]
	(*a)[last] = packet{}
	*a = (*a)[:last]
	return p
}
