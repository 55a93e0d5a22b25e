package stream

import (
	"io"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// stream is one byte channel. Ids are number × 2, plus 1 if the responder
// opened it.
type stream struct {
	id   uint64
	out  outgoing
	in   incoming
	mail *mail // datagrams of this flow

	clocks     clocks
	next, prev *stream // in the queue that list names
	list       listID
	queued     Lane // whose queue listSend is
	ctl        ctlFlags
	dead       bool
	ctlNext    *stream
}

// ctlFlags are control frames that a stream has to send.
type ctlFlags uint8

const (
	ctlReset ctlFlags = 1 << iota
	ctlStop
	ctlWindow
	ctlPriority
	ctlQueued // the stream is in the control queue
)

// local reports whether this side opened the stream of an id.
func (s *Session) local(id uint64) bool { return id&1 == 0 == s.client }

func (s *Session) ownBit() uint64 {
	if s.client {
		return 0
	}
	return 1
}

// OpenStream opens a stream in a lane, of which the peer learns. It can be
// written to at once; where the peer does not allow it yet, its bytes wait.
func (s *Session) OpenStream(now machine.Time, l Lane) (id uint64, err error) {
	if err := s.closedError(); err != nil {
		return 0, err
	}
	if s.send.opened-s.send.ended >= uint64(s.cfg.MaxStreams) || s.send.opened >= wire.MaxStreamCount {
		return 0, ErrStreamLimit
	}
	if l >= MaxLanes {
		return 0, ErrLane
	}
	st := s.newStream(s.send.opened*2 + s.ownBit())
	s.send.opened++
	s.lastUse = now
	if l != PriorityNormal {
		st.out.lane, st.out.laneVersion = l, 1
		s.tellLane(st)
	}
	s.cfg.Sink.Emit(now, trace.StreamUp, st.id, 0)
	return st.id, nil
}

func (s *Session) newStream(id uint64) *stream {
	st := &stream{id: id}
	st.out.limit = s.send.streamWindow
	st.in.win.start(firstStreamWindow)
	s.streams.put(st)
	s.idleSweep = 0
	return st
}

// peerStream returns the stream that the peer speaks of, opening it and those
// below it if it is new. ok is false if the peer may not speak of it; a nil
// stream with ok has ended.
func (s *Session) peerStream(now machine.Time, id uint64) (st *stream, ok bool) {
	if st = s.streams.get(id); st != nil {
		return st, true
	}
	number := id >> 1
	if s.local(id) {
		return nil, number < s.send.opened
	}
	if number < s.recv.opened {
		return nil, true
	}
	if number >= s.recv.maxStreams {
		s.fail(now, wire.CodeStreams, "more streams than were allowed")
		return nil, false
	}
	for s.recv.opened <= number {
		st = s.newStream(s.recv.opened*2 + (1 - s.ownBit()))
		s.recv.opened++
		s.tell(Event{Kind: StreamOpened, Stream: st.id})
		s.cfg.Sink.Emit(now, trace.StreamUp, st.id, 0)
	}
	return st, true
}

// find returns a stream for an application's call.
func (s *Session) find(id uint64) (*stream, error) {
	if err := s.closedError(); err != nil {
		return nil, err
	}
	if st := s.streams.get(id); st != nil {
		return st, nil
	}
	return nil, ErrStreamUnknown
}

// Write takes as much of p as the stream's buffer holds. 0 and ErrWouldBlock
// mean that it is full; Writable tells when it is not.
func (s *Session) Write(now machine.Time, id uint64, p []byte) (int, error) {
	st, err := s.find(id)
	if err != nil {
		return 0, err
	}
	o := &st.out
	switch {
	case o.flags&outStopped != 0:
		return 0, &ResetError{o.code}
	case o.flags&(outFin|outReset) != 0:
		return 0, ErrWriteClosed
	case len(p) == 0:
		return 0, nil
	}
	room := s.writeRoom(st)
	if room <= 0 {
		o.flags |= outBlocked
		return 0, ErrWouldBlock
	}
	p = p[:min(len(p), room)]
	end := o.end + uint64(len(p))
	w := s.busy()
	o.buf.grow(&w.rings, o.base, o.end, end)
	o.buf.put(o.end, p)
	o.end = end
	st.clocks.enter(now, trace.StreamQueueOut, end)
	st.clocks.wrote = now
	o.flags |= outAsked
	s.send.buffered += uint64(len(p))
	s.send.backlog += uint64(len(p))
	s.lastUse = now
	s.enqueue(st)
	return len(p), nil
}

// CloseWrite ends this direction after what was written. The end travels with
// the last bytes if these have not left yet.
func (s *Session) CloseWrite(now machine.Time, id uint64) error {
	st, err := s.find(id)
	if err != nil {
		return err
	}
	if st.out.flags&(outFin|outReset) == 0 {
		st.out.flags |= outFin | outFinDue
		s.lastUse = now
		s.enqueue(st)
	}
	return nil
}

// Reset ends this direction without delivering what the peer has not read.
func (s *Session) Reset(now machine.Time, id uint64, code uint64) error {
	st, err := s.find(id)
	if err != nil {
		return err
	}
	s.reset(now, st, min(code, wire.MaxVarint))
	s.finish(now, st)
	return nil
}

func (s *Session) reset(now machine.Time, st *stream, code uint64) {
	o := &st.out
	if o.flags&(outReset|outDone) != 0 {
		return
	}
	o.flags |= outReset
	o.resetCode = code
	s.dropOutgoing(st)
	s.control(st, ctlReset)
	s.lastUse = now
}

// StopReading says that nothing more will be read; the peer is asked to stop.
func (s *Session) StopReading(now machine.Time, id uint64, code uint64) error {
	st, err := s.find(id)
	if err != nil {
		return err
	}
	i := &st.in
	if i.flags&(inStopped|inDone) != 0 {
		return nil
	}
	i.flags |= inStopped
	i.stopCode = min(code, wire.MaxVarint)
	s.discardIncoming(now, st)
	if i.flags&inDone == 0 {
		s.control(st, ctlStop)
	}
	s.finish(now, st)
	return nil
}

// Read copies what has arrived in order into p: io.EOF at the end of the
// stream, ErrWouldBlock if there is nothing yet. After a Readable event the
// caller reads until ErrWouldBlock, an error or the end.
func (s *Session) Read(now machine.Time, id uint64, p []byte) (int, error) {
	st := s.streams.get(id)
	if st == nil {
		if err := s.closedError(); err != nil {
			return 0, err
		}
		return 0, ErrStreamUnknown
	}
	i := &st.in
	switch n := i.have - i.read; {
	case i.flags&inReset != 0:
		i.flags |= inDone
		err := &ResetError{i.resetCode}
		s.finish(now, st)
		return 0, err
	case i.flags&inStopped != 0:
		return 0, ErrStreamUnknown
	case n > 0:
		p = p[:min(uint64(len(p)), n)]
		i.buf.get(i.read, p)
		i.read += uint64(len(p))
		s.left(now, st, trace.StreamQueueIn, i.read)
		s.consumed(now, st, uint64(len(p)))
		return len(p), nil
	case i.flags&inFin != 0 && i.read == i.final:
		i.flags |= inDone
		s.finish(now, st)
		return 0, io.EOF
	}
	if err := s.closedError(); err != nil {
		return 0, err
	}
	i.flags &^= inTold
	return 0, ErrWouldBlock
}

// finish forgets the stream if both directions have ended.
func (s *Session) finish(now machine.Time, st *stream) {
	if st.dead || st.in.flags&inDone == 0 || st.out.flags&outDone == 0 {
		return
	}
	st.dead = true
	s.dequeue(st)
	s.dropOutgoing(st)
	if s.work != nil {
		st.in.buf.release(&s.work.rings)
	}
	s.streams.remove(st)
	if s.local(st.id) {
		s.send.ended++
	} else {
		s.recv.ended++
		if free := s.recv.ended + uint64(s.cfg.MaxStreams); free-s.recv.maxStreams >= uint64(s.cfg.MaxStreams)/8 {
			s.recv.maxStreams = free
			s.pending |= pendMaxStreams
		}
	}
	s.tell(Event{Kind: StreamClosed, Stream: st.id})
	s.cfg.Sink.Emit(now, trace.StreamDown, st.id, max(st.in.resetCode, st.out.code))
}
