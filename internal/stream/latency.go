package stream

import (
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
)

// clocks measure how long bytes of a stream stay in its two queues, those up to one
// offset at a time: what is measured is a part of all, and the memory that of one.
type clocks struct {
	wrote machine.Time    // of the last Write
	since [2]machine.Time // when the bytes came that are measured
	end   [2]uint32       // low half of the offset of their end; 0: none are measured
}

// enter measures the bytes up to an offset in a queue, unless some are.
func (c *clocks) enter(now machine.Time, queue trace.Distribution, end uint64) {
	if q := queue - trace.StreamQueueOut; c.end[q] == 0 {
		c.since[q], c.end[q] = now, uint32(end)
	}
}

// left notes that the bytes of a stream up to an offset have left a queue. What is
// in one is far less than what half an offset tells apart.
func (s *Session) left(now machine.Time, st *stream, queue trace.Distribution, end uint64) {
	q := queue - trace.StreamQueueOut
	c := &st.clocks
	if c.end[q] == 0 || int32(uint32(end)-c.end[q]) < 0 {
		return
	}
	c.end[q] = 0
	s.cfg.Distributions.ObserveTime(queue, now.Sub(c.since[q]))
	s.cfg.Sink.Emit(now, trace.StreamQueued, uint64(now.Sub(c.since[q])), uint64(q))
}

// answered notes that bytes of a stream have come. To what this side wrote last
// they are the answer if it opened the stream, and if they come no sooner than the
// path allows: else they were on their way.
func (s *Session) answered(now machine.Time, st *stream) {
	took := now.Sub(st.clocks.wrote)
	if st.out.flags&outAsked == 0 || !s.local(st.id) || took < s.estimate().least {
		return
	}
	st.out.flags &^= outAsked
	s.cfg.Distributions.ObserveTime(trace.LatencyOf(uint8(st.out.lane)), took)
	s.cfg.Sink.Emit(now, trace.StreamAnswered, uint64(took), uint64(st.out.lane))
}
