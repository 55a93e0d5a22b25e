package wire

import (
	"encoding/binary"
	"errors"
)

// The two messages of the session handshake:
//
//	HELLO  [version 1][KEM 1][suite 1][client's connection id 4][proposed id 4][random 32]
//	       [ciphertext to the static key 1120][ephemeral key 1216 or 1600][sealed block]
//	block  [time u32, unix seconds / 10, 0 unknown][length 2][capabilities][frames]
//
//	REPLY  [ciphertext to the ephemeral key 1120 or 1600][sealed block]
//	block  [status 1][early 1][responder's connection id 4][length 2][capabilities]
//	       and, if one is given, [ticket 64]
//
// In a HELLO by ticket bit 7 of the suite is set, and the ticket (64) stands in
// place of the ciphertext. One byte, zero, in place of the REPLY says that the
// ticket is not taken.
//
// KEM is that of the ephemeral key: 1 for X25519 and ML-KEM-768, 2 for X25519
// and ML-KEM-1024. What stands up to the ciphertext, that included, has its
// place in every version and with every KEM, so that whoever knows neither can
// say in an authentic way what it knows. It does in the place of a REPLY:
//
//	refusal [version 1][KEM 1][tag 16]
//
// The proposed id is the connection id that the client uses in EARLY packets
// and would like the responder to choose; the REPLY's id counts afterwards.
// status is 0 or the code with which the responder refuses; early is 1 if the
// frames of the HELLO and EARLY packets were taken, else 0.

// Sizes of the session handshake.
const (
	SessionVersion = 1
	kemCipherSize  = 1120
	// helloFixedSize is what has its place in every version.
	helloFixedSize = 3 + 4 + 4 + 32 + kemCipherSize // 1163
	// TicketSize is the size of a ticket.
	TicketSize    = 64
	helloByTicket = 0x80
	// MaxHelloSize is the greatest HELLO of all: three parts. One with KEM 1
	// ends at MaxFirstFlight, so that it can travel in a route's set-up.
	MaxHelloSize = MaxSessionParts * SessionChunkSize // 3210
	// RefusalSize is the size of a refusal, which no REPLY has.
	RefusalSize = 2 + TagSize
	// MaxReplySize is the greatest REPLY: two parts.
	MaxReplySize = 2 * SessionChunkSize
	// MaxCapabilities bounds the encoded capabilities of either side.
	MaxCapabilities = 256
)

var (
	// ErrHandshake means that a handshake message is malformed.
	ErrHandshake = errors.New("wire: malformed session handshake message")
	// ErrVersion means that a HELLO is of a version, or with a KEM, that is not
	// known here.
	ErrVersion = errors.New("wire: session handshake of an unknown version or KEM")
)

// kemSizes are of an ephemeral key's encoding and of a ciphertext to it, by KEM.
var kemSizes = [...]struct{ public, ciphertext int }{1: {1216, 1120}, 2: {1600, 1600}}

func kemKnown(kem uint8) bool { return kem != 0 && int(kem) < len(kemSizes) }

// HelloHeadSize is what stands before the sealed block of a HELLO with a KEM
// that is known, and without a ticket.
func HelloHeadSize(kem uint8) int { return helloFixedSize + kemSizes[kem].public }

func helloMax(kem uint8) int {
	if kem == 1 {
		return MaxFirstFlight
	}
	return MaxHelloSize
}

// Ticket is a ticket: opaque to the client, sealed under the fleet's key.
type Ticket [TicketSize]byte

// TicketRefused is what answers a HELLO whose ticket is not taken.
var TicketRefused = []byte{0}

// HelloHead is the part of a HELLO before the sealed block.
type HelloHead struct {
	KEM      uint8
	Suite    uint8
	ID       uint32
	Proposed uint32
	Random   [32]byte
	// Ciphertext and Key alias the message, as does Ticket, which stands in place
	// of the ciphertext if it is not nil.
	Ciphertext, Ticket, Key []byte
	// Sealed is the block, sealed; it aliases the message.
	Sealed []byte
}

// Size is the size of the head, whose KEM is known.
func (h *HelloHead) Size() int {
	if h.Ticket != nil {
		return HelloHeadSize(h.KEM) - kemCipherSize + TicketSize
	}
	return HelloHeadSize(h.KEM)
}

// Room is the room in the block that follows.
func (h *HelloHead) Room() int { return helloMax(h.KEM) - h.Size() - TagSize }

// Append appends the head; the sealed block follows.
func (h *HelloHead) Append(b []byte) []byte {
	suite, proof := h.Suite, h.Ciphertext
	if h.Ticket != nil {
		suite, proof = suite|helloByTicket, h.Ticket
	}
	b = append(b, SessionVersion, h.KEM, suite)
	b = binary.BigEndian.AppendUint32(b, h.ID)
	b = binary.BigEndian.AppendUint32(b, h.Proposed)
	b = append(b, h.Random[:]...)
	return append(append(b, proof...), h.Key...)
}

// ParseHello parses a whole HELLO. With ErrVersion, Key and Sealed are nil and
// the other fields hold nevertheless.
func ParseHello(b []byte) (h HelloHead, err error) {
	if len(b) < helloFixedSize || len(b) > MaxHelloSize {
		return h, ErrHandshake
	}
	h.KEM, h.Suite = b[1], b[2]&^helloByTicket
	h.ID, h.Proposed = binary.BigEndian.Uint32(b[3:]), binary.BigEndian.Uint32(b[7:])
	copy(h.Random[:], b[11:])
	proofAt := helloFixedSize - kemCipherSize
	if b[0] == SessionVersion && b[2] != h.Suite {
		h.Ticket = b[proofAt : proofAt+TicketSize]
	} else {
		h.Ciphertext = b[proofAt:helloFixedSize]
	}
	if b[0] != SessionVersion || !kemKnown(h.KEM) {
		return h, ErrVersion
	}
	head := h.Size()
	if len(b) < head+TagSize || len(b) > helloMax(h.KEM) {
		return HelloHead{}, ErrHandshake
	}
	h.Key, h.Sealed = b[head-kemSizes[h.KEM].public:head], b[head:]
	return h, nil
}

// HelloRefusal says what a responder takes instead of a HELLO's version or KEM.
type HelloRefusal struct {
	Version uint8 // the greatest that it knows
	KEM     uint8 // with which it asks for another HELLO
}

// Append appends what the tag of a refusal is over.
func (r HelloRefusal) Append(b []byte) []byte { return append(b, r.Version, r.KEM) }

// ParseHelloRefusal parses a refusal. A message of another size is none.
func ParseHelloRefusal(b []byte) (r HelloRefusal, tag []byte, err error) {
	if len(b) != RefusalSize {
		return r, nil, ErrHandshake
	}
	return HelloRefusal{b[0], b[1]}, b[2:], nil
}

// HelloBlock is the sealed content of a HELLO.
type HelloBlock struct {
	// Time is unix seconds / 10, or 0 if the client does not know.
	Time uint32
	// Capabilities are encoded (session_caps.go). Frames are session frames.
	Capabilities, Frames []byte
}

// Append appends the block.
func (h HelloBlock) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, h.Time)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.Capabilities)))
	return append(append(b, h.Capabilities...), h.Frames...)
}

// ParseHelloBlock parses the opened block.
func ParseHelloBlock(b []byte) (h HelloBlock, err error) {
	if len(b) < 6 || len(b) > MaxHelloSize {
		return h, ErrHandshake
	}
	size := int(binary.BigEndian.Uint16(b[4:]))
	if size > MaxCapabilities || size > len(b)-6 {
		return h, ErrHandshake
	}
	return HelloBlock{binary.BigEndian.Uint32(b), b[6 : 6+size], b[6+size:]}, nil
}

// ReplyBlock is the sealed content of a REPLY.
type ReplyBlock struct {
	Status       Code
	Early        bool
	ID           uint32
	Capabilities []byte
	Ticket       []byte // nil: none is given
}

// Append appends the block.
func (r ReplyBlock) Append(b []byte) []byte {
	early := byte(0)
	if r.Early {
		early = 1
	}
	b = binary.BigEndian.AppendUint32(append(b, byte(r.Status), early), r.ID)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Capabilities)))
	return append(append(b, r.Capabilities...), r.Ticket...)
}

// ParseReply splits the REPLY to a HELLO with a KEM that is known into
// ciphertext and sealed block.
func ParseReply(kem uint8, b []byte) (ciphertext, sealed []byte, err error) {
	head := kemSizes[kem].ciphertext
	if len(b) < head+TagSize || len(b) > MaxReplySize {
		return nil, nil, ErrHandshake
	}
	return b[:head], b[head:], nil
}

// ParseReplyBlock parses the opened block.
func ParseReplyBlock(b []byte) (r ReplyBlock, err error) {
	if len(b) < 8 || b[1] > 1 {
		return r, ErrHandshake
	}
	size := int(binary.BigEndian.Uint16(b[6:]))
	if size > MaxCapabilities || size > len(b)-8 {
		return r, ErrHandshake
	}
	r = ReplyBlock{Code(b[0]), b[1] == 1, binary.BigEndian.Uint32(b[2:]), b[8 : 8+size], nil}
	if rest := b[8+size:]; len(rest) == TicketSize {
		r.Ticket = rest
	} else if len(rest) > 0 {
		return ReplyBlock{}, ErrHandshake
	}
	return r, nil
}
