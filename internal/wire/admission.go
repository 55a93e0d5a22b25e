package wire

import "encoding/binary"

// Admission frames between a client and its entry, in the body of a link frame
// of type FrameAdmission (docs/protocol.md, section 9):
//
//	SESSION_INIT       [1][client id 16][nonce 16][version 1][level 1][proof 16]
//	SESSION_READY      [2][nonce 16][version 4][lifetime s 4][token 64]
//	SESSION_REFUSED    [3][nonce 16][reason 1]
//	SESSION_TERMINATE  [4][token 64]
//
// The rest of the frame is zero, and checked to be.

// AdmissionKind is the first byte of an admission frame's body.
type AdmissionKind uint8

// Admission kinds.
const (
	AdmissionInit      AdmissionKind = 1
	AdmissionReady     AdmissionKind = 2
	AdmissionRefused   AdmissionKind = 3
	AdmissionTerminate AdmissionKind = 4
)

// TokenSize is the size of a session_token in bytes.
const TokenSize = 64

// Token is a session_token: opaque to the client, sealed by the entry under
// the fleet key.
type Token [TokenSize]byte

// AdmissionVersion is the version of the admission exchange.
const AdmissionVersion = 1

// SessionInit asks an entry for admission. ClientID and Nonce together make
// the request idempotent.
type SessionInit struct {
	ClientID [16]byte // a client's pseudonym towards this entry only
	Nonce    [16]byte
	Version  uint8
	Level    Level
	Proof    [16]byte // keyed hash under the network's key, or zero
}

// SessionReady admits.
type SessionReady struct {
	Nonce    [16]byte
	Version  uint32 // of the session record
	Lifetime uint32 // seconds for which the token is good
	Token    Token
}

// SessionRefused refuses with a reason.
type SessionRefused struct {
	Nonce  [16]byte
	Reason Refusal
}

// Refusal is why a session was not admitted.
type Refusal uint8

// Refusals.
const (
	RefusedPolicy  Refusal = 1 // policy or credentials
	RefusedRate    Refusal = 2 // too many requests from this client
	RefusedFull    Refusal = 3 // the node has no room
	RefusedVersion Refusal = 4 // version not spoken here
	RefusedDrain   Refusal = 5 // the node is shutting down
)

var refusalNames = [...]string{"unknown", "not permitted by policy", "rate limit", "node is full", "version not supported", "node is draining"}

// String says the refusal in words.
func (r Refusal) String() string {
	if int(r) < len(refusalNames) {
		return refusalNames[r]
	}
	return refusalNames[0]
}

// Put writes the frame.
func (m *SessionInit) Put(f *Frame) {
	b := startAdmission(f, AdmissionInit)
	b = b[copy(b, m.ClientID[:]):]
	b = b[copy(b, m.Nonce[:]):]
	b[0], b[1] = m.Version, byte(m.Level)
	copy(b[2:], m.Proof[:])
}

// Put writes the frame.
func (m *SessionReady) Put(f *Frame) {
	b := startAdmission(f, AdmissionReady)
	b = b[copy(b, m.Nonce[:]):]
	binary.BigEndian.PutUint32(b, m.Version)
	binary.BigEndian.PutUint32(b[4:], m.Lifetime)
	copy(b[8:], m.Token[:])
}

// Put writes the frame.
func (m *SessionRefused) Put(f *Frame) {
	b := startAdmission(f, AdmissionRefused)
	b[copy(b, m.Nonce[:])] = byte(m.Reason)
}

// PutTerminate writes a SESSION_TERMINATE frame.
func PutTerminate(f *Frame, token *Token) { copy(startAdmission(f, AdmissionTerminate), token[:]) }

func startAdmission(f *Frame, k AdmissionKind) []byte {
	clear(f.B[:])
	f.B[0] = byte(FrameAdmission)
	f.B[FrameHeaderSize] = byte(k)
	return f.B[FrameHeaderSize+1:]
}

// Admission is a parsed admission frame: Kind says which field is set.
type Admission struct {
	Kind    AdmissionKind
	Init    SessionInit
	Ready   SessionReady
	Refused SessionRefused
	Token   Token
}

// ParseAdmission parses a link frame of type FrameAdmission.
func ParseAdmission(frame []byte) (m Admission, ok bool) {
	if len(frame) != LinkPayloadSize || FrameType(frame[0]) != FrameAdmission || !IsZero(frame[1:FrameHeaderSize]) {
		return m, false
	}
	m.Kind = AdmissionKind(frame[FrameHeaderSize])
	b := frame[FrameHeaderSize+1:]
	switch m.Kind {
	case AdmissionInit:
		b = b[copy(m.Init.ClientID[:], b):]
		b = b[copy(m.Init.Nonce[:], b):]
		m.Init.Version, m.Init.Level = b[0], Level(b[1])
		b = b[2:]
		b = b[copy(m.Init.Proof[:], b):]
		ok = m.Init.Level.Valid()
	case AdmissionReady:
		b = b[copy(m.Ready.Nonce[:], b):]
		m.Ready.Version = binary.BigEndian.Uint32(b)
		m.Ready.Lifetime = binary.BigEndian.Uint32(b[4:])
		b = b[8:]
		b = b[copy(m.Ready.Token[:], b):]
		ok = true
	case AdmissionRefused:
		b = b[copy(m.Refused.Nonce[:], b):]
		m.Refused.Reason = Refusal(b[0])
		b = b[1:]
		ok = true
	case AdmissionTerminate:
		b = b[copy(m.Token[:], b):]
		ok = true
	}
	return m, ok && IsZero(b)
}

// IsZero reports whether b holds only zeros.
func IsZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
