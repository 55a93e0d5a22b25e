package mix

import (
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// held is a frame on its way to a link, and when it may leave.
type held struct {
	at    machine.Time
	order uint64
	frame *wire.Frame
	to    link.ID
}

func (h *held) before(o *held) bool {
	return h.at < o.at || h.at == o.at && h.order < o.order
}

// delayQueue is a 4-ary heap of frames by release time, then by arrival. Four
// children lie in two cache lines, and the heap is half as deep as a binary one.
type delayQueue struct {
	heap  []held
	order uint64
}

func (q *delayQueue) push(at machine.Time, to link.ID, f *wire.Frame) {
	h := held{at: at, order: q.order, frame: f, to: to}
	q.order++
	q.heap = append(q.heap, h)
	i := len(q.heap) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !h.before(&q.heap[parent]) {
			break
		}
		q.heap[i] = q.heap[parent]
		i = parent
	}
	q.heap[i] = h
}

// next is when the first frame is due, or Never.
func (q *delayQueue) next() machine.Time {
	if len(q.heap) == 0 {
		return machine.Never
	}
	return q.heap[0].at
}

// pop removes the first frame; the queue must not be empty.
func (q *delayQueue) pop() held {
	first, n := q.heap[0], len(q.heap)-1
	last := q.heap[n]
	q.heap[n] = held{}
	q.heap = q.heap[:n]
	if n == 0 {
		return first
	}
	i := 0
	for {
		least := 4*i + 1
		if least >= n {
			break
		}
		for c := least + 1; c < min(4*i+5, n); c++ {
			if q.heap[c].before(&q.heap[least]) {
				least = c
			}
		}
		if !q.heap[least].before(&last) {
			break
		}
		q.heap[i] = q.heap[least]
		i = least
	}
	q.heap[i] = last
	return first
}

// ring is a first-in first-out queue that keeps its memory.
type ring[T any] struct {
	items     []T
	head, len int
}

func (r *ring[T]) push(v T) {
	if r.len == len(r.items) {
		grown := make([]T, max(16, 2*len(r.items)))
		n := copy(grown, r.items[r.head:])
		copy(grown[n:], r.items[:r.head])
		r.items, r.head = grown, 0
	}
	r.items[(r.head+r.len)&(len(r.items)-1)] = v
	r.len++
}

func (r *ring[T]) pop() (v T, ok bool) {
	if r.len == 0 {
		return v, false
	}
	var none T
	v, r.items[r.head] = r.items[r.head], none
	r.head = (r.head + 1) & (len(r.items) - 1)
	r.len--
	return v, true
}

// bucket is a token bucket in integers: a token is a second of nanoseconds, so
// that it fills by rate nanoseconds each nanosecond.
type bucket struct {
	level int64
	at    machine.Time
}

const bucketToken = int64(1e9)

// bucketBurst is how many seconds' worth of tokens a bucket holds.
const bucketBurst = 2

func newBucket(now machine.Time, rate int) bucket {
	return bucket{level: int64(rate) * bucketBurst * bucketToken, at: now}
}

func (b *bucket) refill(now machine.Time, rate int) {
	full := int64(rate) * bucketBurst * bucketToken
	passed := int64(now - b.at)
	if passed >= bucketBurst*bucketToken {
		b.level = full
	} else if passed > 0 {
		b.level = min(full, b.level+passed*int64(rate))
	}
	b.at = max(b.at, now)
}

func (b *bucket) has() bool { return b.level >= bucketToken }
func (b *bucket) take()     { b.level -= bucketToken }
