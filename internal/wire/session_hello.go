package wire

import (
	"encoding/binary"
	"errors"
)

// The two messages of the session handshake:
//
//	HELLO  [version 1][suite 1][client's connection id 4][proposed id 4][random 32]
//	       [ephemeral KEM key 1216][ciphertext to the static key 1120][sealed block]
//	block  [time u32, unix seconds / 10, 0 unknown][length 2][capabilities][frames]
//
//	REPLY  [ciphertext to the ephemeral key 1120][sealed block]
//	block  [status 1][early 1][responder's connection id 4][length 2][capabilities]
//
// The proposed id is the connection id that the client uses in EARLY packets
// and would like the responder to choose; the REPLY's id counts afterwards.
// status is 0 or the code with which the responder refuses; early is 1 if the
// frames of the HELLO and EARLY packets were taken, else 0.

// Sizes of the session handshake.
const (
	SessionVersion = 1
	kemPublicSize  = 1216
	kemCipherSize  = 1120
	// HelloHeadSize is what stands before the sealed block of a HELLO.
	HelloHeadSize = 2 + 4 + 4 + 32 + kemPublicSize + kemCipherSize // 2378
	// MaxHelloSize is the greatest HELLO: what a route's set-up carries.
	MaxHelloSize = 2812
	// MaxHelloBlock is the room in the block of a HELLO.
	MaxHelloBlock = MaxHelloSize - HelloHeadSize - TagSize // 418
	// ReplyHeadSize is what stands before the sealed block of a REPLY.
	ReplyHeadSize = kemCipherSize
	// MaxReplySize is the greatest REPLY: two parts.
	MaxReplySize = 2 * SessionChunkSize
	// MaxCapabilities bounds the encoded capabilities of either side.
	MaxCapabilities = 256
)

// ErrHandshake means that a handshake message is malformed.
var ErrHandshake = errors.New("wire: malformed session handshake message")

// HelloHead is the part of a HELLO before the sealed block.
type HelloHead struct {
	Suite    uint8
	ID       uint32
	Proposed uint32
	Random   [32]byte
	// Key and Ciphertext alias the message.
	Key, Ciphertext []byte
	// Sealed is the block, sealed; it aliases the message.
	Sealed []byte
}

// Append appends the head; the sealed block follows.
func (h *HelloHead) Append(b []byte) []byte {
	b = append(b, SessionVersion, h.Suite)
	b = binary.BigEndian.AppendUint32(b, h.ID)
	b = binary.BigEndian.AppendUint32(b, h.Proposed)
	b = append(b, h.Random[:]...)
	return append(append(b, h.Key...), h.Ciphertext...)
}

// ParseHello parses a whole HELLO.
func ParseHello(b []byte) (h HelloHead, err error) {
	if len(b) < HelloHeadSize+TagSize || len(b) > MaxHelloSize || b[0] != SessionVersion {
		return h, ErrHandshake
	}
	h.Suite, h.ID, h.Proposed = b[1], binary.BigEndian.Uint32(b[2:]), binary.BigEndian.Uint32(b[6:])
	copy(h.Random[:], b[10:])
	h.Key = b[42 : 42+kemPublicSize]
	h.Ciphertext = b[42+kemPublicSize : HelloHeadSize]
	h.Sealed = b[HelloHeadSize:]
	return h, nil
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
	if len(b) < 6 || len(b) > MaxHelloBlock {
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
}

// Append appends the block.
func (r ReplyBlock) Append(b []byte) []byte {
	early := byte(0)
	if r.Early {
		early = 1
	}
	b = binary.BigEndian.AppendUint32(append(b, byte(r.Status), early), r.ID)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Capabilities)))
	return append(b, r.Capabilities...)
}

// ParseReply splits a REPLY into ciphertext and sealed block.
func ParseReply(b []byte) (ciphertext, sealed []byte, err error) {
	if len(b) < ReplyHeadSize+TagSize || len(b) > MaxReplySize {
		return nil, nil, ErrHandshake
	}
	return b[:ReplyHeadSize], b[ReplyHeadSize:], nil
}

// ParseReplyBlock parses the opened block.
func ParseReplyBlock(b []byte) (r ReplyBlock, err error) {
	if len(b) < 8 || b[1] > 1 {
		return r, ErrHandshake
	}
	size := int(binary.BigEndian.Uint16(b[6:]))
	if size > MaxCapabilities || size != len(b)-8 {
		return r, ErrHandshake
	}
	return ReplyBlock{Code(b[0]), b[1] == 1, binary.BigEndian.Uint32(b[2:]), b[8:]}, nil
}
