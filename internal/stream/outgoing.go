package stream

import (
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// outgoing is the sending direction of a stream. Bytes [base, end) are in buf;
// [base, next) were sent at least once; of these, acked lie above base and
// have arrived, lost are to be sent again. sent ≤ limit.
type outgoing struct {
	buf             ring
	base, next, end uint64
	limit           uint64 // MAX_STREAM_DATA of the peer
	acked, lost     spans
	code            uint64 // of the peer's STOP
	resetCode       uint64
	flags           outFlags
	lane            Lane
	turn            int16  // bytes left of its turn in the lane
	laneVersion     uint32 // of lane
}

type outFlags uint8

const (
	outFin     outFlags = 1 << iota // CloseWrite was called
	outFinDue                       // the end is to be sent (again)
	outReset                        // Reset was called
	outStopped                      // the peer reads no more
	outBlocked                      // Write found no room
	outDone                         // the peer has everything, or the reset
	outFinAcked
	outAsked // bytes were written, and none has come since
)

// sendLimits is what this side may send.
type sendLimits struct {
	opened, ended uint64 // own streams
	maxStreams    uint64
	streamWindow  uint64 // first limit of each stream
	max, used     uint64 // bytes of all streams
	buffered      uint64 // bytes in send buffers
	backlog       uint64 // of these, waiting to be sent (again)
}

// Bounds of send buffers: a stream's follows twice the congestion window, so
// that a writer that is woken in time never starves the route. Where a window of
// the peer's is used up, half of it still waits for the peer's reader when it
// moves on, and the writer is held back after sendBufferHeld bytes: that is 50 ms
// at 320 KiB/s.
const (
	sendBufferHeld  = 16 << 10
	sendBufferMin   = 256 << 10
	sendBufferMax   = 16 << 20
	sendBufferTotal = 48 << 20
)

// writeRoom is how many bytes the stream may buffer more.
func (s *Session) writeRoom(st *stream) int {
	size := uint64(sendBufferMin)
	if s.work != nil {
		size = min(max(size, 2*uint64(s.windows())), sendBufferMax)
	}
	used := st.out.end - st.out.base
	if used >= size {
		return 0
	}
	if s.send.buffered >= sendBufferTotal && used >= sendBufferMin/4 {
		return 0
	}
	room := int(size - used)
	if o := &st.out; o.next >= o.limit || st.list == listBlocked {
		room = min(room, sendBufferHeld-int(o.end-o.next))
	}
	return room
}

// sendable reports what keeps a stream in the sending queue: lost or new bytes
// within the stream's limit, or the end.
func (o *outgoing) sendable() bool {
	if o.flags&(outReset|outDone) != 0 {
		return false
	}
	return len(o.lost) > 0 || o.next < min(o.end, o.limit) || o.flags&outFinDue != 0 && o.next == o.end
}

// appendStream appends one STREAM frame of the stream within room bytes and
// reports whether it did. blocked means that only the session's limits stand
// in the way.
func (s *Session) appendStream(now machine.Time, st *stream, b []byte, limit int) (out []byte, sent, blocked bool) {
	o := &st.out
	var from, to uint64
	again := len(o.lost) > 0
	if again {
		from, to = o.lost[0].lo, o.lost[0].hi
	} else {
		from, to = o.next, min(o.end, o.limit)
		if to > from && !s.mayOpen(st) {
			return b, false, true
		}
		if credit := s.credit(from); to-from > credit {
			if to = from + credit; credit == 0 {
				return b, false, true
			}
		}
	}
	size := wire.StreamRoom(st.id, from, int(min(to-from, wire.SessionPayloadSize)), limit-len(b))
	if size < 0 || size == 0 && to > from {
		return b, false, false
	}
	end := from + uint64(size)
	fin := o.flags&outFin != 0 && end == o.end
	if size == 0 && !(fin && o.flags&outFinDue != 0) {
		return b, false, false
	}
	if size == 0 && !s.mayOpen(st) {
		return b, false, true
	}
	b = wire.AppendStreamHeader(b, st.id, from, size, fin)
	if size > 0 {
		n := len(b)
		b = b[:n+size]
		o.buf.get(from, b[n:])
	}
	kind := wire.SFrameStream
	if fin {
		kind = wire.SFrameStreamFin
		o.flags &^= outFinDue
	}
	s.work.sent.addChunk(chunk{st, from, uint16(size), kind})
	s.counts[trace.ContentOut]++
	s.send.backlog -= uint64(size)
	if again {
		o.lost.remove(from, end)
	} else {
		o.next = end
		s.left(now, st, trace.StreamQueueOut, end)
		s.send.used += uint64(size)
		s.stats.BytesSent += uint64(size)
	}
	return b, true, false
}

// The last of the session's window is for the first bytes of streams, so that a
// stream's answer comes whatever lies unread beside it. It is the quarter of the
// least window at which a receiver opens it again (window.arrive).
const (
	creditReserve = windowMin / 4
	creditFirst   = 2 << 10
)

// credit is how much of the session's window a stream may use from an offset on.
func (s *Session) credit(from uint64) uint64 {
	credit := s.send.max - s.send.used
	if from < creditFirst {
		return min(credit, max(creditFirst-from, credit-min(credit, creditReserve)))
	}
	return credit - min(credit, creditReserve)
}

// mayOpen reports whether the peer allows this stream yet.
func (s *Session) mayOpen(st *stream) bool {
	return !s.local(st.id) || st.id>>1 < s.send.maxStreams
}

// streamArrived notes that the peer has a piece of the stream.
func (s *Session) streamArrived(now machine.Time, st *stream, lo, hi uint64, fin bool) {
	o := &st.out
	if st.dead || o.flags&(outReset|outDone) != 0 {
		return
	}
	if fin {
		o.flags |= outFinAcked
		o.flags &^= outFinDue
	}
	if len(o.lost) > 0 {
		s.send.backlog -= o.lost.remove(lo, hi)
	}
	if lo <= o.base {
		before := o.base
		o.base = max(o.base, hi)
		for len(o.acked) > 0 && o.acked[0].lo <= o.base {
			o.base = max(o.base, o.acked[0].hi)
			o.acked = append(o.acked[:0], o.acked[1:]...)
		}
		s.send.buffered -= o.base - before
	} else {
		o.acked.add(lo, hi)
	}
	if o.flags&outFinAcked != 0 && o.base == o.end {
		o.flags |= outDone
		s.dequeue(st)
		s.finish(now, st)
		return
	}
	s.wakeWriter(st)
}

// wakeWriter tells a writer that found no room that there is some again.
func (s *Session) wakeWriter(st *stream) {
	if st.out.flags&outBlocked != 0 && s.writeRoom(st) >= sendBufferMin/4 {
		st.out.flags &^= outBlocked
		s.tell(Event{Kind: Writable, Stream: st.id})
	}
}

// streamLost queues a piece of the stream again, except what has arrived by
// another packet, and reports whether anything was queued.
func (s *Session) streamLost(st *stream, lo, hi uint64, fin bool) bool {
	o := &st.out
	if st.dead || o.flags&(outReset|outDone) != 0 {
		return false
	}
	added := uint64(0)
	if lo = max(lo, o.base); lo < hi {
		added = o.lost.addExcept(lo, hi, o.acked)
		s.send.backlog += added
	}
	if fin && o.flags&outFinAcked == 0 {
		o.flags |= outFinDue
	} else if added == 0 {
		return false
	}
	s.enqueueFirst(st)
	return true
}

// dropOutgoing forgets the bytes that were not acknowledged.
func (s *Session) dropOutgoing(st *stream) {
	o := &st.out
	s.send.buffered -= o.end - o.base
	waiting := o.end - o.next
	for _, l := range o.lost {
		waiting += l.hi - l.lo
	}
	s.send.backlog -= waiting
	if s.work != nil {
		o.buf.release(&s.work.rings)
	}
	o.base, o.end, o.lost, o.acked = o.next, o.next, nil, nil
	s.dequeue(st)
}
