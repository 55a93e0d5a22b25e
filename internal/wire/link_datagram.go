package wire

import "encoding/binary"

// A datagram on a link (docs/protocol.md, section 4):
//
//	[receiver index 4][counter 8][sealed body 1252 + tag 16]
//
// The twelve header bytes are the additional data of the seal.

// PutLinkHeader writes the header of a datagram into the first
// LinkHeaderSize bytes of b.
func PutLinkHeader(b []byte, index uint32, counter uint64) {
	_ = b[LinkHeaderSize-1]
	binary.BigEndian.PutUint32(b, index)
	binary.BigEndian.PutUint64(b[4:], counter)
}

// LinkHeader reads the header of a datagram of at least LinkHeaderSize bytes.
func LinkHeader(b []byte) (index uint32, counter uint64) {
	_ = b[LinkHeaderSize-1]
	return binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:])
}
