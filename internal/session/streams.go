package session

import (
	"errors"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/stream"
)

// ErrGone means that the session of a ref has ended.
var ErrGone = errors.New("session: the session has ended")

// Streams is what the application side may do with the streams of a machine.
// Every call is made by the machine's owner.
type Streams interface {
	// Read reads what has arrived; stream.ErrWouldBlock means nothing yet and
	// io.EOF the end.
	Read(now machine.Time, r Ref, p []byte) (int, error)
	// Write takes as much as the stream's buffer holds; 0 and
	// stream.ErrWouldBlock mean that it is full.
	Write(now machine.Time, r Ref, p []byte) (int, error)
	// CloseWrite ends this direction after what was written.
	CloseWrite(now machine.Time, r Ref) error
	// StopReading gives up what the peer still sends.
	StopReading(now machine.Time, r Ref, code uint64)
	// Abort ends both directions at once.
	Abort(now machine.Time, r Ref, code uint64)
	// SetLane moves a stream to another lane, at both ends. A version of 0 means
	// the next; with one of their own, writers that do not know of each other
	// have one outcome (stream.Session.SetLane).
	SetLane(now machine.Time, r Ref, l stream.Lane, version uint32) error
	// SendDatagram sends an unreliable message that fits one packet.
	SendDatagram(now machine.Time, r Ref, p []byte) error
	// SendMessage sends a message of up to wire.MaxMessageSize bytes, of which
	// what is lost is sent again for a while. stream.ErrWouldBlock means that
	// it was not taken.
	SendMessage(now machine.Time, r Ref, p []byte) error
	// ReadDatagram takes the oldest datagram or message that arrived. If p is
	// too small, the size that it needs comes with io.ErrShortBuffer.
	ReadDatagram(now machine.Time, r Ref, p []byte) (int, error)
}

func (s *Set[O]) member(r Ref) (*Member[O], error) {
	m := s.members[r.Session]
	if m == nil {
		return nil, ErrGone
	}
	return m, nil
}

// Read implements Streams.
func (s *Set[O]) Read(now machine.Time, r Ref, p []byte) (int, error) {
	m, err := s.member(r)
	if err != nil {
		return 0, err
	}
	n, err := m.Core.Read(now, r.Stream, p)
	if n > 0 {
		s.Touch(m) // flow control may have moved
	}
	return n, err
}

// Write implements Streams.
func (s *Set[O]) Write(now machine.Time, r Ref, p []byte) (int, error) {
	m, err := s.member(r)
	if err != nil {
		return 0, err
	}
	n, err := m.Core.Write(now, r.Stream, p)
	if n > 0 {
		s.Touch(m)
	}
	return n, err
}

// CloseWrite implements Streams.
func (s *Set[O]) CloseWrite(now machine.Time, r Ref) error {
	m, err := s.member(r)
	if err != nil {
		return err
	}
	s.Touch(m)
	return m.Core.CloseWrite(now, r.Stream)
}

// StopReading implements Streams.
func (s *Set[O]) StopReading(now machine.Time, r Ref, code uint64) {
	if m, err := s.member(r); err == nil {
		m.Core.StopReading(now, r.Stream, code)
		s.Touch(m)
	}
}

// Abort implements Streams.
func (s *Set[O]) Abort(now machine.Time, r Ref, code uint64) {
	if m, err := s.member(r); err == nil {
		m.Core.Reset(now, r.Stream, code)
		m.Core.StopReading(now, r.Stream, code)
		s.Touch(m)
	}
}

// SetLane implements Streams.
func (s *Set[O]) SetLane(now machine.Time, r Ref, l stream.Lane, version uint32) error {
	m, err := s.member(r)
	if err != nil {
		return err
	}
	s.Touch(m)
	return m.Core.SetLane(now, r.Stream, l, version)
}

// SetWeight gives a lane of a session a weight, at both ends: adds it, changes it
// or, with 0, removes it (stream.Session.SetWeight).
func (s *Set[O]) SetWeight(now machine.Time, session uint32, l stream.Lane, weight uint8, version uint32) error {
	m, err := s.member(Ref{Session: session})
	if err != nil {
		return err
	}
	s.Touch(m)
	return m.Core.SetWeight(now, l, weight, version)
}

// SendDatagram implements Streams.
func (s *Set[O]) SendDatagram(now machine.Time, r Ref, p []byte) error {
	m, err := s.member(r)
	if err != nil {
		return err
	}
	s.Touch(m)
	return m.Core.SendDatagram(now, r.Stream, p)
}

// SendMessage implements Streams.
func (s *Set[O]) SendMessage(now machine.Time, r Ref, p []byte) error {
	m, err := s.member(r)
	if err != nil {
		return err
	}
	s.Touch(m)
	return m.Core.SendMessage(now, r.Stream, p)
}

// ReadDatagram implements Streams.
func (s *Set[O]) ReadDatagram(now machine.Time, r Ref, p []byte) (int, error) {
	m, err := s.member(r)
	if err != nil {
		return 0, err
	}
	return m.Core.ReadDatagram(now, r.Stream, p)
}
