package wire

import (
	"encoding/binary"
	"errors"
)

// ErrLink means that a link message is not of this version, or not in its one
// encoding.
var ErrLink = errors.New("wire: malformed link message")

// LinkVersion is the version of the link handshake.
const LinkVersion = 1

// LinkMessage is the first byte of the body of a handshake datagram.
type LinkMessage uint8

// Handshake messages.
const (
	LinkMessageInit   LinkMessage = 1
	LinkMessageCookie LinkMessage = 2
	LinkMessageResp   LinkMessage = 3
)

// Sizes of the handshake, in bytes. Each message is cut into LinkParts chunks
// that fill their datagrams to the last byte.
const (
	LinkNonceSize  = 32
	LinkCookieSize = 16
	LinkParts      = 2

	linkInitHeader    = 3 + 4 + LinkNonceSize + LinkCookieSize // 55
	LinkInitChunkSize = LinkPayloadSize - linkInitHeader       // 1197
	LinkInitSize      = LinkParts * LinkInitChunkSize          // 2394
	linkRespHeader    = 3 + 4                                  // 7
	LinkRespChunkSize = LinkPayloadSize - linkRespHeader       // 1245
	LinkRespSize      = LinkParts * LinkRespChunkSize          // 2490
)

// LinkInit is one part of the initiator's message:
//
//	[type 1][version 1][part 1][initiator index 4][nonce 32][cookie 16][chunk 1197]
//
// The two chunks together are: ephemeral public key 1216, ciphertext to the
// responder's static key 1120, sealed LinkInitBlock 58.
type LinkInit struct {
	Part   uint8
	Index  uint32
	Nonce  [LinkNonceSize]byte
	Cookie [LinkCookieSize]byte // zero: none yet
	Chunk  []byte               // LinkInitChunkSize bytes; aliases the parsed input
}

// Append appends the body, LinkPayloadSize bytes.
func (m *LinkInit) Append(b []byte) []byte {
	b = append(b, byte(LinkMessageInit), LinkVersion, m.Part)
	b = binary.BigEndian.AppendUint32(b, m.Index)
	b = append(b, m.Nonce[:]...)
	b = append(b, m.Cookie[:]...)
	return append(b, m.Chunk[:LinkInitChunkSize]...)
}

// ParseLinkInit parses a body.
func ParseLinkInit(b []byte) (m LinkInit, n int, err error) {
	if len(b) < LinkPayloadSize || b[0] != byte(LinkMessageInit) || b[1] != LinkVersion || b[2] >= LinkParts {
		return m, 0, ErrLink
	}
	m.Part = b[2]
	m.Index = binary.BigEndian.Uint32(b[3:])
	copy(m.Nonce[:], b[7:])
	copy(m.Cookie[:], b[7+LinkNonceSize:])
	m.Chunk = b[linkInitHeader:LinkPayloadSize]
	return m, LinkPayloadSize, nil
}

// LinkCookie is the responder's answer to an address that is not proven:
//
//	[type 1][version 1][cookie 16][zero 1234]
type LinkCookie struct {
	Cookie [LinkCookieSize]byte
}

// Append appends the body, LinkPayloadSize bytes.
func (m *LinkCookie) Append(b []byte) []byte {
	start := len(b)
	b = append(b, byte(LinkMessageCookie), LinkVersion)
	b = append(b, m.Cookie[:]...)
	return appendZero(b, LinkPayloadSize-(len(b)-start))
}

// ParseLinkCookie parses a body.
func ParseLinkCookie(b []byte) (m LinkCookie, n int, err error) {
	if len(b) < LinkPayloadSize || b[0] != byte(LinkMessageCookie) || b[1] != LinkVersion ||
		!IsZero(b[2+LinkCookieSize:LinkPayloadSize]) {
		return m, 0, ErrLink
	}
	copy(m.Cookie[:], b[2:])
	return m, LinkPayloadSize, nil
}

// LinkResp is one part of the responder's message:
//
//	[type 1][version 1][part 1][responder index 4][chunk 1245]
//
// The two chunks together are: ciphertext to the ephemeral key 1120, sealed
// ciphertext to the initiator's static key 1136, sealed LinkRespBlock 234.
type LinkResp struct {
	Part  uint8
	Index uint32
	Chunk []byte // LinkRespChunkSize bytes; aliases the parsed input
}

// Append appends the body, LinkPayloadSize bytes.
func (m *LinkResp) Append(b []byte) []byte {
	b = append(b, byte(LinkMessageResp), LinkVersion, m.Part)
	b = binary.BigEndian.AppendUint32(b, m.Index)
	return append(b, m.Chunk[:LinkRespChunkSize]...)
}

// ParseLinkResp parses a body.
func ParseLinkResp(b []byte) (m LinkResp, n int, err error) {
	if len(b) < LinkPayloadSize || b[0] != byte(LinkMessageResp) || b[1] != LinkVersion || b[2] >= LinkParts {
		return m, 0, ErrLink
	}
	m.Part = b[2]
	m.Index = binary.BigEndian.Uint32(b[3:])
	m.Chunk = b[linkRespHeader:LinkPayloadSize]
	return m, LinkPayloadSize, nil
}

// LinkIdentity says who the initiator is.
type LinkIdentity uint8

// Identities of an initiator.
const (
	LinkAnonymous  LinkIdentity = 0
	LinkIdentified LinkIdentity = 1
)

// Capability bits of a link. The upper half is required of the peer: one that
// does not know such a bit refuses with CloseUnsupported. The lower half is
// optional: unknown bits are ignored.
const (
	LinkRequiredMask uint32 = 0xffff0000
	// LinkKnownRequired are the required bits of this version: none.
	LinkKnownRequired uint32 = 0
	// LinkWantsMissing is the bit of a client that wants to be told at once which
	// of its datagrams did not come (LinkMissing).
	LinkWantsMissing uint32 = 1
)

// LinkStatus is the responder's verdict on an INIT.
type LinkStatus uint8

// Verdicts. A refusal is authenticated like an acceptance.
const (
	LinkAccepted LinkStatus = 0
	// LinkUnsupported refuses an unknown suite or required capability.
	LinkUnsupported LinkStatus = 0x07
)

// Sizes of the sealed blocks' plaintexts, in bytes.
const (
	LinkInitBlockSize = 42
	LinkRespBlockSize = 218
	linkProofSize     = 16
)

// LinkInitBlock is what the initiator seals into its message:
//
//	[identity kind 1][suite 1][capabilities 4][continues 4][identity 32]
//
// An anonymous initiator that continues a link fills the first 16 bytes of the
// identity with a proof that it holds the link's keys; the rest is zero. One
// that opens a new link leaves all of it zero.
type LinkInitBlock struct {
	Kind         LinkIdentity
	Suite        uint8 // checked by the link, which refuses what it does not know
	Capabilities uint32
	Continues    uint32 // the responder's index of the link that is rekeyed; 0: a new link
	Identity     NodeID
}

// Append appends LinkInitBlockSize bytes.
func (m *LinkInitBlock) Append(b []byte) []byte {
	b = append(b, byte(m.Kind), m.Suite)
	b = binary.BigEndian.AppendUint32(b, m.Capabilities)
	b = binary.BigEndian.AppendUint32(b, m.Continues)
	return append(b, m.Identity[:]...)
}

// ParseLinkInitBlock parses the block.
func ParseLinkInitBlock(b []byte) (m LinkInitBlock, n int, err error) {
	if len(b) < LinkInitBlockSize || b[0] > byte(LinkIdentified) {
		return m, 0, ErrLink
	}
	m.Kind, m.Suite = LinkIdentity(b[0]), b[1]
	m.Capabilities = binary.BigEndian.Uint32(b[2:])
	m.Continues = binary.BigEndian.Uint32(b[6:])
	copy(m.Identity[:], b[10:])
	switch {
	case m.Kind == LinkIdentified && IsZero(m.Identity[:]),
		m.Kind == LinkAnonymous && m.Continues == 0 && !IsZero(m.Identity[:]),
		m.Kind == LinkAnonymous && !IsZero(m.Identity[linkProofSize:]):
		return LinkInitBlock{}, 0, ErrLink
	}
	return m, LinkInitBlockSize, nil
}

// LinkRespBlock is what the responder seals at the end of its message:
//
//	[status 1][suite 1][capabilities 4][zero 212]
type LinkRespBlock struct {
	Status       LinkStatus
	Suite        uint8
	Capabilities uint32
}

// Append appends LinkRespBlockSize bytes.
func (m *LinkRespBlock) Append(b []byte) []byte {
	b = append(b, byte(m.Status), m.Suite)
	b = binary.BigEndian.AppendUint32(b, m.Capabilities)
	return appendZero(b, LinkRespBlockSize-6)
}

// ParseLinkRespBlock parses the block.
func ParseLinkRespBlock(b []byte) (m LinkRespBlock, n int, err error) {
	if len(b) < LinkRespBlockSize || !IsZero(b[6:LinkRespBlockSize]) ||
		LinkStatus(b[0]) != LinkAccepted && LinkStatus(b[0]) != LinkUnsupported {
		return m, 0, ErrLink
	}
	m.Status, m.Suite = LinkStatus(b[0]), b[1]
	m.Capabilities = binary.BigEndian.Uint32(b[2:])
	return m, LinkRespBlockSize, nil
}

func appendZero(b []byte, n int) []byte {
	return append(b, make([]byte, n)...)
}
