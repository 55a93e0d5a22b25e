package stream

import (
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
)

// wait measures how long bytes of a stream stay in a queue, those up to one offset
// at a time: what is measured is a part of all, and the memory is that of one.
type wait struct {
	end   uint64 // the offset; 0: nothing is measured
	since machine.Time
}

// begin measures the bytes up to an offset, unless it measures some.
func (w *wait) begin(now machine.Time, end uint64) {
	if w.end == 0 {
		w.end, w.since = end, now
	}
}

// waited notes that the bytes up to an offset have left the queue.
func (s *Session) waited(now machine.Time, w *wait, end uint64, queue trace.Distribution) {
	if w.end == 0 || end < w.end {
		return
	}
	w.end = 0
	s.cfg.Distributions.ObserveTime(queue, now.Sub(w.since))
	s.cfg.Sink.Emit(now, trace.StreamQueued, uint64(now.Sub(w.since)), uint64(queue-trace.StreamQueueOut))
}

// answered notes that bytes of a stream have come. To what this side wrote last
// they are the answer if it opened the stream, and if they come no sooner than the
// path allows: else they were on their way.
func (s *Session) answered(now machine.Time, st *stream) {
	took := now.Sub(st.out.wrote)
	if st.out.flags&outAsked == 0 || !s.local(st.id) || took < s.rtt.least {
		return
	}
	st.out.flags &^= outAsked
	s.cfg.Distributions.ObserveTime(trace.LatencyOf(uint8(st.out.lane)), took)
	s.cfg.Sink.Emit(now, trace.StreamAnswered, uint64(took), uint64(st.out.lane))
}
