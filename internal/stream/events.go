package stream

// EventKind says what happened.
type EventKind uint8

// Event kinds. Readable and Writable are told once and again only after Read
// or Write has returned ErrWouldBlock.
const (
	// Established: the handshake is done.
	Established EventKind = iota
	// StreamOpened: the peer opened Stream.
	StreamOpened
	// Readable: Read of Stream has bytes, the end or an error.
	Readable
	// Writable: Write of Stream takes bytes again, or has an error.
	Writable
	// StreamClosed: both directions of Stream have ended and are forgotten.
	StreamClosed
	// DatagramReadable: a datagram of flow Stream has arrived.
	DatagramReadable
	// PathQuiet: Path, the active one, owes an answer for a while. Told at Fast
	// only, once until the path is heard again.
	PathQuiet
	// PathSuspect: Path answers no more while it should.
	PathSuspect
	// PathChanged: data now leaves by Path.
	PathChanged
	// ClassChanged: the peer told its rate class, Code.
	ClassChanged
	// TicketGiven: TakeTicket has a ticket.
	TicketGiven
	// Closed: the session has ended with Code and may be forgotten. It is the
	// last event.
	Closed
)

// Event is told by PollEvent.
type Event struct {
	Kind   EventKind
	Path   uint8
	Stream uint64
	Code   uint64
}

func (s *Session) tell(e Event) { s.events = append(s.events, e) }

// PollEvent yields the next event. The owner polls until it returns false.
func (s *Session) PollEvent() (Event, bool) {
	if int(s.eventHead) == len(s.events) {
		return Event{}, false
	}
	e := s.events[s.eventHead]
	s.eventHead++
	if int(s.eventHead) == len(s.events) {
		s.events, s.eventHead = s.events[:0], 0
	}
	return e, true
}
