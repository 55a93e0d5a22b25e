package wire

import "encoding/binary"

// Admission frames between a client and its entry, in the body of a link frame
// of type FrameAdmission (docs/protocol.md, section 9):
//
//	SESSION_INIT       [1][client id 16][nonce 16][version 1][level 1][proof 16][worked 1][work 8][passed 1][pass 354]
//	SESSION_READY      [2][nonce 16][version 4][lifetime s 4][token 64]
//	SESSION_REFUSED    [3][nonce 16][reason 1][bits 1][seed 16]
//	SESSION_TERMINATE  [4][token 64]
//
// The rest of the frame is zero, and checked to be. Version 1 ends before the work
// and before the bits, version 2 before the pass: a frame of a later version without
// them is one of an earlier version but for its number.

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

// Versions of the admission exchange: the present one, and the oldest that is
// spoken.
const (
	AdmissionVersion      = 3
	AdmissionVersionLeast = 1
)

// SessionInit asks an entry for admission. ClientID and Nonce together make
// the request idempotent.
type SessionInit struct {
	ClientID [16]byte // a client's pseudonym towards this entry only
	Nonce    [16]byte
	Version  uint8
	Level    Level
	Proof    [16]byte // keyed hash under the network's key, or zero
	// Work answers a Challenge, if Worked.
	Worked bool
	Work   uint64
	// Pass is an unlinkable token, if Passed.
	Passed bool
	Pass   Pass
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
	// Challenge is what to answer, where Reason is RefusedWork.
	Challenge Challenge
}

// Challenge asks for a proof of work: an answer whose hash with the seed, the client
// id and the nonce begins with so many zero bits.
type Challenge struct {
	Bits uint8
	Seed [16]byte
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
	RefusedWork    Refusal = 6 // a proof of work is to be shown: see Challenge
	RefusedBusy    Refusal = 7 // it waited for its turn, or for a decision, for too long
	RefusedPass    Refusal = 8 // a pass is to be shown, or the one shown is not good, or no more
)

var refusalNames = [...]string{"unknown", "not permitted by policy", "rate limit", "node is full", "version not supported", "node is draining", "a proof of work is asked for", "node is busy", "an unlinkable token is asked for that is good and not spent"}

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
	b = b[2+copy(b[2:], m.Proof[:]):]
	if m.Worked {
		b[0] = 1
		binary.BigEndian.PutUint64(b[1:], m.Work)
	}
	if b = b[9:]; m.Passed {
		b[0] = 1
		m.Pass.Append(b[1:1])
	}
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
	b = b[copy(b, m.Nonce[:]):]
	b[0] = byte(m.Reason)
	if m.Reason == RefusedWork {
		b[1] = m.Challenge.Bits
		copy(b[2:], m.Challenge.Seed[:])
	}
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
		b, ok = m.Init.parseShown(b)
		ok = ok && m.Init.Level.Valid()
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
		if m.Refused.Reason == RefusedWork {
			m.Refused.Challenge.Bits = b[0]
			b = b[1:]
			b = b[copy(m.Refused.Challenge.Seed[:], b):]
		}
		ok = true
	case AdmissionTerminate:
		b = b[copy(m.Token[:], b):]
		ok = true
	}
	return m, ok && IsZero(b)
}

// parseShown parses what a SESSION_INIT shows beside its proof, as far as its version
// has it, and returns what follows, which is zero.
func (m *SessionInit) parseShown(b []byte) (rest []byte, ok bool) {
	if m.Worked = m.Version > 1 && b[0] == 1; m.Worked {
		m.Work = binary.BigEndian.Uint64(b[1:])
	} else if !IsZero(b[:9]) {
		return b, false
	}
	if b = b[9:]; m.Version > 2 && b[0] == 1 {
		m.Pass, m.Passed = ParsePass(b[1 : 1+PassSize])
		return b[1+PassSize:], m.Passed
	}
	return b, true
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
