package sim

import (
	"math/bits"

	"github.com/nyxnet/nyx/internal/machine"
)

// event is one thing to do at a time: 16 bytes without pointers, so that
// millions of them cost the collector nothing.
type event struct {
	at machine.Time
	// what is the kind (upper 4 bits) and the index of the node (lower 28).
	what uint32
	// ref is the index of the packet, call or job that the event carries.
	ref uint32
}

// Event kinds.
const (
	eventArrive  uint32 = iota // a datagram reached the host of its destination
	eventDeliver               // a datagram passed the access link and the processor
	eventTimer                 // the timer of a node
	eventCall                  // a function of the load generator
	eventJob                   // a job is done
	eventBatch                 // a node takes in what has come
)

const (
	kindShift = 28
	nodeMask  = 1<<kindShift - 1
)

// queue is a radix heap (Ahuja, Mehlhorn, Orlin, Tarjan 1990): a priority
// queue for times that never go back, which a simulation's never do. An event
// lies in the bucket of the highest bit in which its time differs from the
// last time popped, so equal times always share a bucket, and buckets are
// emptied in order: events of one instant leave in the order in which they
// were pushed, without a sequence number. All memory is walked forwards.
type queue struct {
	last    machine.Time
	len     int
	head    int    // events of buckets[0] already popped
	filled  uint64 // bit b: buckets[b] is not empty
	buckets [64][]event
	least   [64]machine.Time // earliest time in each bucket that is not empty
}

// push adds an event; its time must not lie before the last one popped.
func (q *queue) push(e event) {
	b := bits.Len64(uint64(e.at ^ q.last))
	if q.filled&(1<<b) == 0 || e.at < q.least[b] {
		q.least[b] = e.at
		q.filled |= 1 << b
	}
	q.buckets[b] = append(q.buckets[b], e)
	q.len++
}

// pop removes the earliest event if it is due at limit or before.
func (q *queue) pop(limit machine.Time) (event, bool) {
	if q.len == 0 {
		return event{}, false
	}
	if q.filled&1 == 0 {
		b := bits.TrailingZeros64(q.filled)
		if q.least[b] > limit {
			return event{}, false
		}
		q.spread(b)
	} else if q.last > limit {
		return event{}, false
	}
	e := q.buckets[0][q.head]
	q.head++
	if q.head == len(q.buckets[0]) {
		q.buckets[0] = q.buckets[0][:0]
		q.head = 0
		q.filled &^= 1
	}
	q.len--
	return e, true
}

// spread moves time to the earliest event of bucket b, the lowest that is not
// empty, and its events into the buckets below.
func (q *queue) spread(b int) {
	q.last = q.least[b]
	moved := q.buckets[b]
	q.buckets[b] = moved[:0]
	q.filled &^= 1 << b
	q.len -= len(moved)
	for _, e := range moved {
		q.push(e)
	}
}
