package wire

import (
	"bytes"

	"github.com/fxamacker/cbor/v2"
)

// Capabilities is what one side of a session can do and wants, as a CBOR map
// with integer keys in core deterministic encoding (RFC 8949, section 4.2.1).
// Exactly that encoding is accepted.
type Capabilities struct {
	// Required are capabilities without which the sender cannot go on: a
	// receiver that does not know one closes with CodeCapability.
	Required []uint16 `cbor:"1,keyasint,omitempty"`
	// Optional are capabilities that the sender would use; unknown ones are
	// ignored.
	Optional []uint16 `cbor:"2,keyasint,omitempty"`
	// SessionWindow, StreamWindow and Streams are the first limits that the
	// sender grants: bytes of all streams, bytes of each stream, streams.
	SessionWindow uint64 `cbor:"3,keyasint"`
	StreamWindow  uint64 `cbor:"4,keyasint"`
	Streams       uint64 `cbor:"5,keyasint"`
	// AckDelayMicros is how long the sender may delay an acknowledgement.
	AckDelayMicros uint64 `cbor:"6,keyasint"`
}

// Capability numbers of this version. All are optional; none is assumed.
const (
	CapDatagrams  uint16 = 1 // DATAGRAM frames
	CapPaths      uint16 = 2 // more than one path, PATH frames
	CapHeartbeats uint16 = 3 // HEARTBEAT frames
	CapRepair     uint16 = 4 // takes REPAIR frames
	CapPriorities uint16 = 5 // PRIORITY and LANE frames
	CapKEM1024    uint16 = 6 // ephemeral keys of KEM 2
	CapCompressed uint16 = 7 // understands requests for compressed streams
	CapTickets    uint16 = 8 // takes a ticket in the REPLY
	CapMessages   uint16 = 9 // takes MESSAGE frames
)

// maxListed bounds each list of capabilities.
const maxListed = 64

var capsEncoding, capsDecoding = capsModes()

func capsModes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic("wire: CBOR encoding options refused: " + err.Error())
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		TagsMd: cbor.TagsForbidden, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxArrayElements: maxListed, MaxMapPairs: 16, MaxNestedLevels: 4,
	}.DecMode()
	if err != nil {
		panic("wire: CBOR decoding options refused: " + err.Error())
	}
	return enc, dec
}

// Append appends the encoding. It panics if a list is longer than 64, which is
// for the caller's configuration check to prevent.
func (c *Capabilities) Append(b []byte) []byte {
	out, err := capsEncoding.Marshal(c)
	if err != nil || len(out) > MaxCapabilities {
		panic("wire: capabilities do not encode into 256 bytes")
	}
	return append(b, out...)
}

// ParseCapabilities parses and checks an encoding.
func ParseCapabilities(b []byte) (c Capabilities, err error) {
	if len(b) > MaxCapabilities || capsDecoding.Unmarshal(b, &c) != nil {
		return Capabilities{}, ErrHandshake
	}
	again, err := capsEncoding.Marshal(&c)
	if err != nil || !bytes.Equal(again, b) {
		return Capabilities{}, ErrHandshake
	}
	if c.SessionWindow > MaxVarint || c.StreamWindow > MaxVarint || c.Streams > MaxStreamCount || c.AckDelayMicros > maxAckDelayMicros {
		return Capabilities{}, ErrHandshake
	}
	return c, nil
}

// maxAckDelayMicros bounds the acknowledgement delay that a peer may claim, 10
// s, so that it cannot stop our timers.
const maxAckDelayMicros = 10_000_000
