package wire

// Meeting packets between a route's client and the Stream node at its end, in
// the place of a session packet (docs/protocol.md, section 11):
//
//	LISTEN  [8][meeting id 32]            a service waits here
//	CALL    [9][meeting id 32][call 16]   a client asks for the service; the
//	                                      node passes [call 16] to it
//	ANSWER  [10][meeting id 32][call 16]  the service joins this route to the
//	                                      caller's
//	JOINED  [11]                          node to both: packets pass from now
//	REFUSED [12]                          node: nobody waits under this id
//
// The rest of the packet is zero, and checked to be.

// MeetingID names a waiting service towards one meeting point.
type MeetingID [32]byte

// CallID names one call of a client.
type CallID [16]byte

// Meeting kinds.
const (
	SessionMeetListen  SessionKind = 8
	SessionMeetCall    SessionKind = 9
	SessionMeetAnswer  SessionKind = 10
	SessionMeetJoined  SessionKind = 11
	SessionMeetRefused SessionKind = 12
)

// Meeting reports whether k is a meeting packet.
func (k SessionKind) Meeting() bool { return k >= SessionMeetListen && k <= SessionMeetRefused }

// MeetingPacket is a parsed meeting packet; fields that its kind does not have
// are zero.
type MeetingPacket struct {
	Kind    SessionKind
	Meeting MeetingID
	Call    CallID
}

// Put writes the packet into b, of SessionPacketSize bytes.
func (m *MeetingPacket) Put(b []byte) {
	clear(b)
	b[0] = byte(m.Kind)
	copy(b[1:], m.Meeting[:])
	copy(b[33:], m.Call[:])
}

// ParseMeetingPacket parses a packet of a meeting kind.
func ParseMeetingPacket(b []byte) (m MeetingPacket, ok bool) {
	if len(b) != SessionPacketSize || !SessionKind(b[0]).Meeting() {
		return m, false
	}
	m.Kind = SessionKind(b[0])
	copy(m.Meeting[:], b[1:])
	copy(m.Call[:], b[33:])
	switch m.Kind {
	case SessionMeetListen:
		ok = m.Call == CallID{}
	case SessionMeetJoined, SessionMeetRefused:
		ok = m.Call == CallID{} && m.Meeting == MeetingID{}
	default:
		ok = true
	}
	return m, ok && IsZero(b[49:])
}
