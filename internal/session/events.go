package session

import "github.com/nyxnet/nyx/internal/stream"

// AllStreams in a Closed event means every stream of the session.
const AllStreams = ^uint64(0)

// Event tells the application side that something can be done.
type Event struct {
	Kind EventKind
	Ref  Ref
}

// EventKind says what happened to a stream.
type EventKind uint8

// Event kinds.
const (
	Opened   EventKind = iota // the peer opened the stream
	Readable                  // Read has bytes, the end, or an error
	Writable                  // Write has room again
	Datagram                  // ReadDatagram has a message
	Closed                    // the stream or its session is over
)

// Pass passes what a session has to tell on to the application side, until
// something comes up that is the owner's own (the session closed, or a path
// went silent), which it yields.
func (s *Set[O]) Pass(m *Member[O]) (stream.Event, bool) {
	for {
		ev, ok := m.Core.PollEvent()
		if !ok {
			return ev, false
		}
		switch ev.Kind {
		case stream.StreamOpened:
			s.tell(Opened, m, ev.Stream)
		case stream.Readable:
			s.tell(Readable, m, ev.Stream)
		case stream.Writable:
			s.tell(Writable, m, ev.Stream)
		case stream.DatagramReadable:
			s.tell(Datagram, m, ev.Stream)
		case stream.StreamClosed:
			s.tell(Closed, m, ev.Stream)
		case stream.PathQuiet, stream.PathSuspect, stream.TicketGiven, stream.Closed:
			return ev, true
		}
	}
}

// End forgets a session that is over and tells the application side, for all
// of its streams.
func (s *Set[O]) End(m *Member[O]) {
	s.Remove(m)
	s.tell(Closed, m, AllStreams)
}

func (s *Set[O]) tell(kind EventKind, m *Member[O], id uint64) {
	s.events = append(s.events, Event{Kind: kind, Ref: Ref{Session: m.ID, Stream: id}})
}

// EventsWait reports whether PollEvent has something to tell.
func (s *Set[O]) EventsWait() bool { return s.told < len(s.events) }

// PollEvent tells the application side what can be done.
func (s *Set[O]) PollEvent() (Event, bool) {
	if s.told == len(s.events) {
		s.events, s.told = s.events[:0], 0
		return Event{}, false
	}
	ev := s.events[s.told]
	s.told++
	return ev, true
}
