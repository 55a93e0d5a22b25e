package link

import "github.com/nyxnet/nyx/internal/wire"

// EventKind says what happened to a link.
type EventKind uint8

// Event kinds.
const (
	// Up: keys are established; the peer holds its static key.
	Up EventKind = iota + 1
	// Down: the link and its ID are gone.
	Down
)

// Reason says why a link went down.
type Reason uint8

// Reasons.
const (
	// Closed: we closed it.
	Closed Reason = iota + 1
	// PeerClosed: the peer closed it.
	PeerClosed
	// Unanswered: the handshake had no answer for 10 s.
	Unanswered
	// Silent: nothing was received for 35 s.
	Silent
	// Idle: nothing but pads for 5 min.
	Idle
	// Replaced: the peer opened a new link, it has lost the old one's keys.
	Replaced
	// Refused: the peer does not know a suite or capability that we require
	// (code 0x07).
	Refused
	// Displaced: a client that was not admitted made room for others.
	Displaced
)

var reasonNames = [...]string{"", "closed", "closed by the peer", "no answer", "silent", "idle", "replaced by the peer", "refused: unsupported capability", "displaced before admission"}

// String returns the reason for people.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// Event is one change of a link.
type Event struct {
	Kind       EventKind
	Link       ID
	Peer       wire.NodeID
	Identified bool   // Peer is known and proven; false for anonymous clients
	Reason     Reason // of Down
}

// eventsUnbounded: every event belongs to a link that was, and a link has two;
// the owner polls them after each call.
const eventsUnbounded = 1 << 30

// PollEvent returns the next event. When the datagram that brings a link up
// also carries a frame, HandleDatagram has returned that frame already.
func (e *Endpoint) PollEvent() (Event, bool) { return e.events.pop() }

// fifo is a ring that grows up to max items.
type fifo[T any] struct {
	ring    []T // length is a power of two, or zero
	head, n int
	max     int
}

// push appends v, or reports false when max items wait.
func (q *fifo[T]) push(v T) bool {
	if q.n >= q.max {
		return false
	}
	if q.n == len(q.ring) {
		grown := make([]T, max(8, 2*len(q.ring)))
		for i := range q.n {
			grown[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
		}
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = v
	q.n++
	return true
}

func (q *fifo[T]) pop() (v T, ok bool) {
	if q.n == 0 {
		return v, false
	}
	var zero T
	v, q.ring[q.head] = q.ring[q.head], zero
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	return v, true
}

// front returns the oldest item; the queue must not be empty.
func (q *fifo[T]) front() T { return q.ring[q.head] }
