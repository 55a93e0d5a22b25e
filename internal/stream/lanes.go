package stream

import (
	"math"
	"math/bits"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Lane is a scheduling class of streams inside a session, with a weight. While
// streams of several lanes have something to send, lanes get bytes in the ratio
// of their weights; within a lane streams take turns of equal bytes.
//
// Which lane a stream is in, and which weight a lane has, both ends know, and
// either may change at any time: each of these values has a version, of which
// the greatest counts, and of equal versions the greater value. So the order in
// which changes come, and how often, does not matter.
type Lane uint8

// Lanes that every session begins with, and the bound of those that there can
// be: what a packet's choice looks at, and what a peer can make this side hold.
const (
	PriorityNormal Lane = iota
	PriorityHigh
	PriorityLow
	MaxLanes = wire.MaxLanes
)

// firstWeights are the weights at version 0. A lane of weight 0 is not there:
// its streams are served in PriorityNormal, which always is.
var firstWeights = [MaxLanes]uint8{PriorityNormal: 4, PriorityHigh: 8, PriorityLow: 1}

// lanes shares the packets of a session out, by start-time fair queueing (Goyal,
// Vin and Cheng, 1996): each lane has an account of the bytes that it was served
// over its weight, the least account is next, and a lane that had nothing to
// send begins at the account that was served last, so that it has no claim on
// the past. A lane so waits for at most one frame of every other one beyond what
// the weights give.
type lanes struct {
	queue   [MaxLanes]queue
	account [MaxLanes]uint64 // bytes << accountShift / weight
	clock   uint64           // the account that was served last
	waiting uint8            // bit i: queue i has streams

	unsent   uint8 // bit i: the peer has to be told of lane i
	weights  [MaxLanes]uint8
	versions [MaxLanes]uint32
}

// accountShift is the precision of accounts: 2^56 bytes at weight 1 fill one,
// some twenty years at 100 MB/s.
const accountShift = 8

func newLanes() *lanes { return &lanes{weights: firstWeights} }

// lane returns where streams of l stand.
func (c *lanes) lane(l Lane) Lane {
	if c.weights[l] == 0 {
		return PriorityNormal
	}
	return l
}

// weight is that of the streams in a queue. Those that still wait in a lane
// which was removed move on with their next turn.
func (c *lanes) weight(l Lane) uint64 { return uint64(c.weights[c.lane(l)]) }

// push adds a stream that has something to send to the queue of its lane.
func (c *lanes) push(st *stream, first bool) {
	if st.out.turn <= 0 {
		st.out.turn += turnBytes
	}
	l := c.lane(st.out.lane)
	st.list, st.queued = listSend, l
	q := &c.queue[l]
	if first {
		q.pushFront(st)
	} else {
		q.pushBack(st)
	}
	if c.waiting>>l&1 == 0 {
		c.waiting |= 1 << l
		c.account[l] = max(c.account[l], c.clock)
	}
}

func (c *lanes) remove(st *stream) {
	q := &c.queue[st.queued]
	if q.remove(st); q.head == nil {
		c.waiting &^= 1 << st.queued
	}
}

// pick returns the stream whose turn it is, or nil.
func (c *lanes) pick() *stream {
	if c == nil || c.waiting == 0 {
		return nil
	}
	best := Lane(bits.TrailingZeros8(c.waiting))
	for m := c.waiting & (c.waiting - 1); m != 0; m &= m - 1 {
		l := Lane(bits.TrailingZeros8(m))
		if c.account[l] < c.account[best] || c.account[l] == c.account[best] && c.weight(l) > c.weight(best) {
			best = l
		}
	}
	return c.queue[best].head
}

// charge notes n bytes served from the queue of a lane.
func (c *lanes) charge(l Lane, n int) {
	c.clock = c.account[l]
	c.account[l] += uint64(n) << accountShift / c.weight(l)
}

// plain reports whether nothing is lost when the lanes are made anew.
func (c *lanes) plain() bool {
	return c.waiting == 0 && c.unsent == 0 && c.weights == firstWeights && c.versions == [MaxLanes]uint32{}
}

// later reports whether a value at a version comes after another.
func later(version uint32, value uint8, than uint32, thanValue uint8) bool {
	return version > than || version == than && value > thanValue
}

// next is the version after v. After the last there is none, and nothing changes
// any more but by the rule for equal versions.
func next(v uint32) uint32 { return v + min(1, math.MaxUint32-v) }

// Weight returns the weight of a lane, 0 if it is not there, and its version.
func (s *Session) Weight(l Lane) (weight uint8, version uint32) {
	if l >= MaxLanes {
		return 0, 0
	}
	if c := s.sched.lanes; c != nil {
		return c.weights[l], c.versions[l]
	}
	return firstWeights[l], 0
}

// SetWeight gives a lane a weight, at both ends: one that it did not have adds
// the lane, 0 removes it, and its streams are then served in PriorityNormal
// until it is there again. A version of 0 means the next. ErrLaneVersion means
// that a later change is in force, and ErrLane that there can be no such lane.
func (s *Session) SetWeight(now machine.Time, l Lane, weight uint8, version uint32) error {
	if err := s.closedError(); err != nil {
		return err
	}
	if l >= MaxLanes || l == PriorityNormal && weight == 0 {
		return ErrLane
	}
	c := s.sched.made()
	if version == 0 {
		version = next(c.versions[l])
	}
	if !s.applyWeight(l, weight, version) {
		return ErrLaneVersion
	}
	s.lastUse = now
	s.tellWeight(l)
	return nil
}

// applyWeight takes a change, and reports whether it is in force.
func (s *Session) applyWeight(l Lane, weight uint8, version uint32) bool {
	c := s.sched.made()
	if weight == c.weights[l] && version == c.versions[l] {
		return true
	}
	if version <= c.versions[l] {
		s.counts[trace.PriorityConflict]++
	}
	if !later(version, weight, c.versions[l], c.weights[l]) {
		return false
	}
	c.weights[l], c.versions[l] = weight, version
	return true
}

// tellWeight has the peer told of a lane, if it can be.
func (s *Session) tellWeight(l Lane) {
	if s.common.has(wire.CapPriorities) {
		s.sched.made().unsent |= 1 << l
		s.pending |= pendLanes
	}
}

// handleLane takes a LANE frame.
func (s *Session) handleLane(now machine.Time, f wire.LaneFrame) bool {
	s.lastUse = now
	s.applyWeight(Lane(f.Lane), f.Weight, f.Version)
	return true
}

// Lane returns the lane of a stream and its version.
func (s *Session) Lane(id uint64) (l Lane, version uint32, err error) {
	st, err := s.find(id)
	if err != nil {
		return 0, 0, err
	}
	return st.out.lane, st.out.laneVersion, nil
}

// SetLane moves a stream to a lane, at both ends. A version of 0 means the next.
// ErrLaneVersion means that a later change is in force, and ErrLane that there
// can be no such lane. Streams of a lane that is not there yet wait for it in
// PriorityNormal.
func (s *Session) SetLane(now machine.Time, id uint64, l Lane, version uint32) error {
	st, err := s.find(id)
	if err != nil {
		return err
	}
	if l >= MaxLanes {
		return ErrLane
	}
	if version == 0 {
		version = next(st.out.laneVersion)
	}
	if !s.applyLane(st, l, version) {
		return ErrLaneVersion
	}
	s.lastUse = now
	s.tellLane(st)
	return nil
}

// applyLane takes a change, and reports whether it is in force.
func (s *Session) applyLane(st *stream, l Lane, version uint32) bool {
	if l == st.out.lane && version == st.out.laneVersion {
		return true
	}
	if version <= st.out.laneVersion {
		s.counts[trace.PriorityConflict]++
	}
	if !later(version, uint8(l), st.out.laneVersion, uint8(st.out.lane)) {
		return false
	}
	st.out.lane, st.out.laneVersion = l, version
	if st.list == listSend {
		s.dequeue(st)
		s.enqueue(st)
	}
	return true
}

// tellLane has the peer told of a stream's lane, if it can be.
func (s *Session) tellLane(st *stream) {
	if s.common.has(wire.CapPriorities) {
		s.control(st, ctlPriority)
	}
}

// handlePriority takes a PRIORITY frame. It may come before the stream's first
// byte, and after its end.
func (s *Session) handlePriority(now machine.Time, f wire.PriorityFrame) bool {
	st, ok := s.peerStream(now, f.Stream)
	if st == nil {
		return ok || s.failFrame(now, "lane of a stream that was never opened")
	}
	s.lastUse = now
	s.applyLane(st, Lane(f.Lane), f.Version)
	return true
}

// meetLanes begins to tell the peer of lanes, once it is known to understand.
func (s *Session) meetLanes() {
	for _, st := range s.streams.slots {
		if st != nil && st.out.laneVersion > 0 {
			s.tellLane(st)
		}
	}
	for l := range Lane(MaxLanes) {
		if _, version := s.Weight(l); version > 0 {
			s.tellWeight(l)
		}
	}
}

// fillLanes appends what the peer has to be told of lanes.
func (s *Session) fillLanes(b []byte, limit int) []byte {
	c := s.sched.lanes
	for ; c.unsent != 0 && limit-len(b) >= controlReserve; c.unsent &= c.unsent - 1 {
		l := bits.TrailingZeros8(c.unsent)
		b = wire.LaneFrame{Lane: uint8(l), Weight: c.weights[l], Version: c.versions[l]}.Append(b)
		s.work.sent.addChunk(chunk{kind: wire.SFrameLane, at: uint64(l)})
	}
	if c.unsent == 0 {
		s.pending &^= pendLanes
	}
	return b
}
