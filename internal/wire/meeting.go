package wire

// Meeting packets between a route's client and the Stream node at its end, in
// the place of a session packet (docs/protocol.md, section 11):
//
//	LISTEN  [8][meeting secret 32]        a service waits here, under the id that
//	                                      follows from the secret
//	CALL    [9][meeting id 32][call 16]   a client asks for the service; the
//	                                      node passes [call 16] to it
//	ANSWER  [10][meeting id 32][call 16]  the service joins this route to the
//	                                      caller's
//	JOINED  [11]                          node to both: packets pass from now
//	REFUSED [12]                          node: nobody waits under this id
//
// The rest of the packet is zero, and checked to be.

// MeetingID names a waiting service towards one meeting point. It is a hash of
// the meeting's secret (service.MeetingOf).
type MeetingID [32]byte

// MeetingSecret is what a service shows to wait under an id. Callers, who know
// the id, cannot compute it.
type MeetingSecret [32]byte

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
	Secret  MeetingSecret // LISTEN
	Meeting MeetingID     // CALL, ANSWER
	Call    CallID
}

// Put writes the packet into b, of SessionPacketSize bytes.
func (m *MeetingPacket) Put(b []byte) {
	clear(b)
	b[0] = byte(m.Kind)
	if m.Kind == SessionMeetListen {
		copy(b[1:], m.Secret[:])
		return
	}
	copy(b[1:], m.Meeting[:])
	copy(b[33:], m.Call[:])
}

// ParseMeetingPacket parses a packet of a meeting kind.
func ParseMeetingPacket(b []byte) (m MeetingPacket, ok bool) {
	if len(b) != SessionPacketSize || !SessionKind(b[0]).Meeting() {
		return m, false
	}
	m.Kind = SessionKind(b[0])
	used := 1
	switch m.Kind {
	case SessionMeetListen:
		used += copy(m.Secret[:], b[used:])
	case SessionMeetCall, SessionMeetAnswer:
		used += copy(m.Meeting[:], b[used:])
		used += copy(m.Call[:], b[used:])
	}
	return m, IsZero(b[used:])
}
