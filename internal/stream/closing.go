package stream

import (
	"unicode/utf8"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// closing is the end of a session. Who closes sends CLOSE up to closeTries
// times, a probe timeout apart, until the peer's CLOSE answers; who is told
// answers once and once more for every repetition while it is still there.
type closing struct {
	code   wire.Code
	reason string
	at     machine.Time
	tries  uint8
	due    bool
	remote bool // the peer said it first
}

const closeTries = 3

// Close ends the session. What was not delivered is lost; a second call does
// nothing. Closed is told when the peer knows or was told often enough.
func (s *Session) Close(now machine.Time, code wire.Code, reason string) {
	s.fail(now, code, reason)
}

func (s *Session) fail(now machine.Time, code wire.Code, reason string) {
	if s.state >= stateClosing {
		return
	}
	if len(reason) > wire.MaxCloseReason {
		reason = reason[:wire.MaxCloseReason]
	}
	for len(reason) > 0 && !utf8.ValidString(reason) {
		reason = reason[:len(reason)-1]
	}
	s.end(now, &closing{code: code, reason: reason, at: now.Add(s.pto()), due: true})
}

// end enters the closing state and drops what the session held.
func (s *Session) end(now machine.Time, c *closing) {
	if s.state == stateHello {
		s.closing = c
		s.finished(now)
		return
	}
	s.state, s.closing = stateClosing, c
	s.streams, s.sched = table{}, schedule{}
	s.send.buffered, s.send.backlog = 0, 0
	if s.hs != nil && !s.hs.refusing {
		s.dropHandshake()
	}
	s.dropWork()
}

// finished is the last step: Closed is told, the keys are overwritten.
func (s *Session) finished(now machine.Time) {
	s.state = stateClosed
	s.streams, s.sched = table{}, schedule{}
	s.dropWork()
	s.dropHandshake()
	s.clearKeys()
	s.arrived = arrivals{}
	s.tell(Event{Kind: Closed, Code: uint64(s.closing.code)})
	s.cfg.Sink.Emit(now, trace.SessionDown, uint64(s.closing.code), 0)
}

// closedError is what calls return after the end.
func (s *Session) closedError() error {
	if s.state < stateClosing {
		return nil
	}
	return &ClosedError{s.closing.code, s.closing.reason}
}

// handleClose takes the peer's CLOSE.
func (s *Session) handleClose(now machine.Time, f wire.CloseFrame) {
	reason := ""
	if utf8.Valid(f.Reason) {
		reason = string(f.Reason)
	}
	s.end(now, &closing{code: f.Code, reason: reason, at: now.Add(s.pto()), due: true, remote: true})
}

// handleWhileClosing looks for the peer's CLOSE in a packet; everything else is
// answered with ours.
func (s *Session) handleWhileClosing(now machine.Time, b []byte) {
	if len(b) > 0 && wire.SessionFrameType(b[0]) == wire.SFrameClose && !s.closing.remote {
		s.finished(now)
		return
	}
	s.closing.due = true
}

// pollClose sends CLOSE, alone in its packet.
func (s *Session) pollClose(now machine.Time, id uint8, b []byte) bool {
	c := s.closing
	if s.hs != nil && s.hs.refusing {
		return s.pollReply(now, id, b)
	}
	if !c.due || id != s.active || c.tries >= closeTries {
		return false
	}
	c.due = false
	c.tries++
	c.at = now.Add(s.pto() << (c.tries - 1))
	body := wire.CloseFrame{Code: c.code, Reason: []byte(c.reason)}.Append(b[wire.SessionHeaderSize:wire.SessionHeaderSize])
	clear(body[len(body):wire.SessionPayloadSize])
	s.out.next++
	s.sealPacket(now, b)
	s.countSent(now)
	if c.remote {
		s.finished(now)
	}
	return true
}

// tickClosing repeats CLOSE or ends the wait for an answer.
func (s *Session) tickClosing(now machine.Time) {
	c := s.closing
	if s.hs != nil && s.hs.refusing {
		s.tickHandshake(now)
		return
	}
	if now < c.at {
		return
	}
	if c.tries >= closeTries || c.due {
		s.finished(now)
		return
	}
	c.due, c.at = true, now.Add(s.pto())
}
