package link

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// tripsKept is how many round trips of a link are remembered: the shortest of
// them was made when the queues on the way and at both ends were short.
const tripsKept = 4

// trip is what is known of the round trip to a node. The token is random, so
// that an answer cannot come before its challenge has: a neighbour makes the way
// longer than it is, and never shorter.
type trip struct {
	token [wire.PathTokenSize]byte
	asked machine.Time // Never: no challenge is out
	last  [tripsKept]time.Duration
	count int // of measurements
}

// Measure sends a challenge to the next of the nodes with a link that is up, in
// the order of their links. The caller does so at times that do not depend on
// traffic; a link that carries much and one that carries nothing are challenged
// alike.
func (e *Endpoint) Measure() {
	var least, next *link // of all, and of those after the last
	for _, l := range e.byPeer {
		if l.cur == nil {
			continue
		}
		if least == nil || l.id < least.id {
			least = l
		}
		if l.id > e.measured && (next == nil || l.id < next.id) {
			next = l
		}
	}
	if next == nil {
		next = least
	}
	if next == nil {
		return
	}
	e.measured = next.id
	e.flag(next, flagMeasure)
}

// measure makes the challenge that goes out at now.
func (e *Endpoint) measure(now machine.Time, l *link) wire.LinkPath {
	if l.remote.trip == nil {
		l.remote.trip = &trip{}
	}
	t := l.remote.trip
	t.asked = now
	e.draw.path.Read(t.token[:])
	return wire.LinkPath{Type: wire.FramePathChallenge, Token: t.token}
}

// answered takes the answer to the challenge that is out.
func (t *trip) answered(now machine.Time, token [wire.PathTokenSize]byte) {
	if t == nil || t.asked == machine.Never || t.token != token {
		return
	}
	t.last[t.count%tripsKept] = now.Sub(t.asked)
	t.count, t.asked = t.count+1, machine.Never
}

// RoundTrips are the shortest of the last round trips to each node with a link
// of which one was measured.
func (e *Endpoint) RoundTrips() map[wire.NodeID]time.Duration {
	all := map[wire.NodeID]time.Duration{}
	for id, l := range e.byPeer {
		if t := l.remote.trip; t != nil && t.count > 0 {
			all[id] = slices.Min(t.last[:min(t.count, tripsKept)])
		}
	}
	return all
}
