package wire

import "encoding/binary"

// A session packet is the content of a cell, always 1079 bytes:
//
//	DATA, EARLY:   [kind 1][connection id 4][number 4][sealed 1054 + 16]
//	HELLO, REPLY:  [kind 1][connection id 4][part 1][parts 1][length 2][chunk 1070]
//	ROUTE_READY:   [kind 1] and zeros
//	DUMMY:         zeros
//
// The connection id was chosen by who receives the packet, except that a HELLO
// carries the client's own and EARLY packets the one that the HELLO proposes. The number is the low
// 32 bits of the packet number. The header is authenticated with the payload.
// A chunk is filled up with zeros, which are checked.

// SessionKind is the first byte of a session packet.
type SessionKind uint8

// Session packet kinds. Those from 8 on belong to meeting points (meeting.go).
const (
	SessionDummy      SessionKind = 0
	SessionRouteReady SessionKind = 1
	SessionHello      SessionKind = 2
	SessionReply      SessionKind = 3
	SessionData       SessionKind = 4
	SessionEarly      SessionKind = 5
)

// SessionPhaseBit in the kind of a DATA packet is the key phase.
const SessionPhaseBit = 0x80

// SessionPacketKind is the kind of a session packet without the phase bit of
// DATA. A packet of the wrong size, or another kind with that bit, is
// SessionKind(255).
func SessionPacketKind(b []byte) SessionKind {
	if len(b) != SessionPacketSize {
		return 255
	}
	k := SessionKind(b[0])
	if k == SessionData|SessionPhaseBit {
		return SessionData
	}
	if k >= SessionPhaseBit {
		return 255
	}
	return k
}

// SessionPacketID is the connection id of a session packet.
func SessionPacketID(b []byte) uint32 {
	if len(b) != SessionPacketSize {
		return 0
	}
	return binary.BigEndian.Uint32(b[1:])
}

// SessionPacketNumber is the low half of the packet number of DATA and EARLY.
func SessionPacketNumber(b []byte) uint32 { return binary.BigEndian.Uint32(b[5:]) }

// PutSessionHeader writes the header of a DATA or EARLY packet; kind includes
// the phase bit.
func PutSessionHeader(b []byte, kind SessionKind, id uint32, number uint64) {
	b[0] = byte(kind)
	binary.BigEndian.PutUint32(b[1:], id)
	binary.BigEndian.PutUint32(b[5:], uint32(number))
}

// ExpandNumber returns the packet number nearest to expected whose low half is
// low (RFC 9000, appendix A.3).
func ExpandNumber(expected uint64, low uint32) uint64 {
	n := expected&^0xffffffff | uint64(low)
	switch {
	case n+1<<31 <= expected && n < MaxVarint-1<<32:
		return n + 1<<32
	case n > expected+1<<31 && n >= 1<<32:
		return n - 1<<32
	}
	return n
}

// SessionChunkSize is the room of one HELLO or REPLY part.
const SessionChunkSize = SessionPacketSize - SessionHeaderSize // 1070

// MaxSessionParts is the greatest number of parts of a HELLO or REPLY.
const MaxSessionParts = 3

// SessionPart is one part of a HELLO or REPLY. Chunk aliases the packet.
type SessionPart struct {
	ID          uint32
	Part, Parts uint8
	Length      uint16 // of the whole message
	Chunk       []byte
}

// PutSessionPart writes part number part of message into b.
func PutSessionPart(b []byte, kind SessionKind, id uint32, message []byte, part int) {
	b[0] = byte(kind)
	binary.BigEndian.PutUint32(b[1:], id)
	b[5], b[6] = byte(part), byte(SessionParts(len(message)))
	binary.BigEndian.PutUint16(b[7:], uint16(len(message)))
	from := part * SessionChunkSize
	n := copy(b[SessionHeaderSize:SessionPacketSize], message[from:])
	clear(b[SessionHeaderSize+n : SessionPacketSize])
}

// SessionParts is the number of parts of a message of size bytes.
func SessionParts(size int) int { return (size + SessionChunkSize - 1) / SessionChunkSize }

// ParseSessionPart parses a HELLO or REPLY part.
func ParseSessionPart(b []byte) (p SessionPart, ok bool) {
	if len(b) != SessionPacketSize {
		return p, false
	}
	p.ID = binary.BigEndian.Uint32(b[1:])
	p.Part, p.Parts, p.Length = b[5], b[6], binary.BigEndian.Uint16(b[7:])
	if p.Length == 0 || p.Parts > MaxSessionParts || int(p.Parts) != SessionParts(int(p.Length)) || p.Part >= p.Parts {
		return p, false
	}
	n := min(SessionChunkSize, int(p.Length)-int(p.Part)*SessionChunkSize)
	p.Chunk = b[SessionHeaderSize : SessionHeaderSize+n]
	return p, IsZero(b[SessionHeaderSize+n:])
}
