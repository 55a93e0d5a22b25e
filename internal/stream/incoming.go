package stream

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// incoming is the receiving direction of a stream. Bytes [read, have) are in
// buf in order; early are the pieces above have; top is the greatest offset
// seen, which counts against the session's window.
type incoming struct {
	buf             ring
	read, have, top uint64
	final           uint64
	early           spans
	win             window
	resetCode       uint64
	stopCode        uint64
	flags           inFlags
}

type inFlags uint8

const (
	inFin     inFlags = 1 << iota // final is known
	inReset                       // the peer reset it
	inStopped                     // StopReading was called
	inTold                        // Readable was told and not used up
	inDone                        // the end or the reset was read, or it is not wanted
)

// recvLimits is what the peer may send.
type recvLimits struct {
	opened, ended uint64 // the peer's streams
	maxStreams    uint64
	used          uint64 // greatest offsets of all streams
	win           window
}

// window is one flow-control window: the peer may send up to max, which moves
// on as the application reads. Its size follows the reader (adapt).
type window struct {
	max, size uint64
	eaten     uint64 // bytes read
	marked    uint64 // eaten at the last change
	markedAt  machine.Time
}

// Bounds of windows. A window is a promise and not memory: as long as the
// reader keeps up it may always have windowEasy, since on a short route the
// product of rate and round trip is a few packets, and a window of that size
// would end every batch of packets after those few. A window whose bytes lie
// unread shrinks to what the reader takes, down to windowMin.
const (
	windowMin    = 64 << 10
	windowEasy   = 1 << 20
	windowRounds = 6
	// windowRTTMax bounds the round trip in the product: 2^28 bytes × 6 × 4 s
	// is below 2^63.
	windowRTTMax = 4 * time.Second
)

func (w *window) start(size uint64) { w.max, w.size = size, size }

// eat notes n bytes read, and reports whether half the window is used up: then
// renew it.
func (w *window) eat(n uint64) bool {
	w.eaten += n
	return w.max-w.eaten <= w.size/2
}

// renew sets a size of at most most bytes, with unread bytes that wait, and
// reports whether the peer should be told of a new limit.
func (w *window) renew(now machine.Time, unread uint64, rtt time.Duration, most uint64) bool {
	w.adapt(now, unread, rtt, most)
	if next := w.eaten + w.size; next > w.max {
		w.max = next
		return true
	}
	return false
}

// arrive notes that used bytes have come in all, read or not, and reports whether
// the peer should be told of a new limit. The session's window leaves bytes that
// lie unread to the windows of their streams, so that streams which are read go on
// beside them, until most bytes lie there: when no more than a quarter is left, it
// is opened again above what has come.
func (w *window) arrive(now machine.Time, used, unread uint64, rtt time.Duration, most uint64) bool {
	if w.max-used > w.size/4 {
		return false
	}
	if w.eaten-w.marked >= w.size/2 {
		w.adapt(now, unread, rtt, most)
	}
	if next := min(used+w.size, w.eaten+most); next > w.max {
		w.max = next
		return true
	}
	return false
}

// adapt sets the size to what the reader takes in six round trips, at most
// doubling or halving at a time: what follows a lost packet waits here until that
// has come again, lost more than once perhaps, and the route must not run dry
// meanwhile. What was granted is never taken back: a window shrinks as it is read.
func (w *window) adapt(now machine.Time, unread uint64, rtt time.Duration, most uint64) {
	took := max(now.Sub(w.markedAt), time.Microsecond)
	n := w.eaten - w.marked
	first := w.marked == 0
	w.marked, w.markedAt = w.eaten, now
	if first {
		return
	}
	want := n * windowRounds * uint64(min(rtt, windowRTTMax)) / uint64(took)
	if unread <= w.size/4 {
		want = max(want, windowEasy)
	}
	switch {
	case want > w.size:
		w.size = min(2*w.size, want, most)
	case want < w.size/2:
		w.size = max(w.size/2, want, windowMin)
	}
	w.size = max(min(w.size, most), windowMin)
}

// piecesMax bounds the pieces of a stream that wait for what comes before them:
// the greatest window in full packets, every second one missing. Only a peer
// that cuts its bytes small on purpose has more.
const piecesMax = 16384

// handleStream takes a STREAM frame. It reports false if the session failed.
func (s *Session) handleStream(now machine.Time, f *wire.StreamFrame) bool {
	st, ok := s.peerStream(now, f.Stream)
	if st == nil {
		return ok || s.failFrame(now, "stream of ours that was never opened")
	}
	i := &st.in
	end := f.Offset + uint64(len(f.Data))
	if !s.account(now, st, end, f.Fin) {
		return false
	}
	if f.Fin {
		i.flags |= inFin
		i.final = end
	}
	if i.flags&(inReset|inStopped|inDone) != 0 {
		if i.flags&inStopped != 0 {
			s.discardIncoming(now, st)
			s.finish(now, st)
		}
		return true
	}
	lo := max(f.Offset, i.have)
	s.stats.Frames++
	if lo > i.have && lo < end {
		s.stats.EarlyFrames++
	}
	if lo < end {
		data := f.Data[lo-f.Offset:]
		kept := i.have
		if n := len(i.early); n > 0 {
			kept = i.early[n-1].hi
		}
		i.buf.grow(&s.busy().rings, i.read, kept, end)
		i.buf.put(lo, data)
		if lo == i.have {
			i.have = end
			for len(i.early) > 0 && i.early[0].lo <= i.have {
				i.have = max(i.have, i.early[0].hi)
				i.early = append(i.early[:0], i.early[1:]...)
			}
			st.clocks.enter(now, trace.StreamQueueIn, i.have)
			s.answered(now, st)
		} else {
			if i.early.add(lo, end) == 0 {
				s.counts[trace.LaneDuplicate]++
			}
			if len(i.early) > piecesMax {
				return s.failFrame(now, "a stream in too many pieces")
			}
			return true
		}
	} else if !f.Fin {
		s.counts[trace.LaneDuplicate]++
		return true
	}
	if i.have > i.read || i.flags&inFin != 0 && i.have == i.final {
		s.tellReadable(st)
	}
	return true
}

func (s *Session) tellReadable(st *stream) {
	if st.in.flags&inTold == 0 {
		st.in.flags |= inTold
		s.tell(Event{Kind: Readable, Stream: st.id})
	}
}

// account checks an end offset against the final size and both windows, and
// charges the session's.
func (s *Session) account(now machine.Time, st *stream, end uint64, final bool) bool {
	i := &st.in
	if i.flags&inFin != 0 && (end > i.final || final && end != i.final) || final && end < i.top {
		return s.failFrame(now, "bytes after the end of a stream")
	}
	if end <= i.top {
		return true
	}
	more := end - i.top
	if end > i.win.max || s.recv.used+more > s.recv.win.max {
		s.fail(now, wire.CodeFlow, "more bytes than the window allows")
		return false
	}
	unread := i.have - i.read
	i.top = end
	s.recv.used += more
	s.stats.BytesReceived += more
	since := s.recv.win.markedAt
	if s.recv.win.arrive(now, s.recv.used, unread, s.reach(), s.cfg.SessionWindowMax) {
		s.soundAll(since)
		s.pending |= pendMaxData
	}
	return true
}

// consumed moves both windows on after n bytes were read.
func (s *Session) consumed(now machine.Time, st *stream, n uint64) {
	i := &st.in
	unread := i.have - i.read
	s.eatSession(now, n, unread)
	if i.win.eat(n) && i.flags&inFin == 0 && i.win.renew(now, unread, s.reach(), s.streamWindowMost(st)) {
		s.stats.StreamWindow = i.win.size
		s.control(st, ctlWindow)
	}
}

// streamWindowMost is how large a stream's window may become: of what the session
// may hold unread, half is for windows that grow, less what others have there; the
// other half is for first windows.
func (s *Session) streamWindowMost(st *stream) uint64 {
	others := s.recv.used - s.recv.win.eaten - (st.in.top - st.in.read)
	room := s.cfg.SessionWindowMax / 2
	return min(max(room-min(room, others), firstStreamWindow), s.cfg.StreamWindowMax)
}

// eatSession moves the session's window on; unread bytes of the stream that was
// read speak for all.
func (s *Session) eatSession(now machine.Time, n, unread uint64) {
	since := s.recv.win.markedAt
	if s.recv.win.eat(n) && s.recv.win.renew(now, unread, s.reach(), s.cfg.SessionWindowMax) {
		s.soundAll(since)
		s.pending |= pendMaxData
	}
}

// discardIncoming gives up what is buffered and credits the session for it.
func (s *Session) discardIncoming(now machine.Time, st *stream) {
	i := &st.in
	if rest := i.top - i.read; rest > 0 {
		s.eatSession(now, rest, 0)
	}
	i.read, i.have, i.early = i.top, i.top, nil
	if s.work != nil {
		i.buf.release(&s.work.rings)
	}
	if i.flags&(inFin|inReset) != 0 {
		i.flags |= inDone
	}
}

// handleReset takes a RESET frame.
func (s *Session) handleReset(now machine.Time, f wire.ResetFrame) bool {
	st, ok := s.peerStream(now, f.Stream)
	if st == nil {
		return ok || s.failFrame(now, "reset of a stream that was never opened")
	}
	if !s.account(now, st, f.Final, true) {
		return false
	}
	i := &st.in
	if i.flags&(inReset|inDone) != 0 {
		return true
	}
	if i.flags&inFin != 0 && i.have == i.final {
		return true // everything is here: deliver it
	}
	i.flags |= inReset | inFin
	i.final, i.resetCode = f.Final, f.Code
	stopped := i.flags&inStopped != 0
	s.discardIncoming(now, st)
	if !stopped {
		i.flags &^= inDone // until the reset was read
		s.tellReadable(st)
	}
	s.finish(now, st)
	return true
}

// handleStop takes a STOP frame: this direction is reset in answer.
func (s *Session) handleStop(now machine.Time, f wire.StopFrame) bool {
	st, ok := s.peerStream(now, f.Stream)
	if st == nil {
		return ok || s.failFrame(now, "stop of a stream that was never opened")
	}
	o := &st.out
	if o.flags&(outReset|outDone) != 0 {
		return true
	}
	blocked := o.flags&outBlocked != 0
	o.flags |= outStopped
	o.flags &^= outBlocked
	o.code = f.Code
	s.reset(now, st, f.Code)
	if blocked {
		s.tell(Event{Kind: Writable, Stream: st.id})
	}
	return true
}
