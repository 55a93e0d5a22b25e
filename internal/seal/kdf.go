package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"hash"

	"golang.org/x/crypto/blake2s"
)

// HashSize is the size of every hash in bytes.
const HashSize = 32

// Hash returns the SHA-256 of the parts under a label. Each part is preceded
// by its length, so that no two lists of parts give one input.
func Hash(label string, parts ...[]byte) (out [HashSize]byte) {
	h := sha256.New()
	h.Write(prefix(label))
	h.Write([]byte(label))
	for _, p := range parts {
		n := len(p)
		h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

// SHA256 is the plain hash of the joined parts, for formats that are not ours.
func SHA256(parts ...[]byte) (out [HashSize]byte) {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

func prefix(label string) []byte {
	return []byte{'n', 'y', 'x', 1, byte(len(label))}
}

// MACSize is the size of a message authentication code in bytes.
const MACSize = 16

// MAC is one pass of keyed BLAKE2s-128 over the concatenated parts. Callers use
// parts of fixed length.
func MAC(key *Key, parts ...[]byte) (out [MACSize]byte) {
	h, err := blake2s.New128(key[:])
	if err != nil {
		panic("seal: BLAKE2s key of 32 bytes refused: " + err.Error())
	}
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

// MACState is MAC under one key for those who compute many: it allocates
// nothing after NewMACState. It belongs to one goroutine.
type MACState struct {
	h   hash.Hash
	in  [64]byte // parts pass through here, so that the caller's stay on its stack
	out [MACSize]byte
}

// NewMACState returns the state of a key; the key is copied.
func NewMACState(key *Key) *MACState {
	h, err := blake2s.New128(key[:])
	if err != nil {
		panic("seal: BLAKE2s key of 32 bytes refused: " + err.Error())
	}
	return &MACState{h: h}
}

// Sum returns what MAC returns for the same key and parts.
func (m *MACState) Sum(parts ...[]byte) [MACSize]byte {
	m.h.Reset()
	for _, p := range parts {
		for len(p) > 0 {
			n := copy(m.in[:], p)
			m.h.Write(m.in[:n])
			p = p[n:]
		}
	}
	m.h.Sum(m.out[:0])
	return m.out
}

// Equal compares in constant time.
func Equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// Derive expands secret into a key for one purpose: HKDF-Expand (RFC 5869)
// with SHA-256 and the label as info, of one block. secret is uniform already.
func Derive(secret *Key, label string) (out Key) {
	h := hmac.New(sha256.New, secret[:])
	h.Write(prefix(label))
	h.Write([]byte(label))
	h.Write([]byte{1})
	h.Sum(out[:0])
	return out
}

// Schedule is the running state of a handshake: a chaining key that has
// absorbed every secret and a hash that has absorbed every message, as the
// symmetric state of the Noise framework (revision 34, section 5.2).
type Schedule struct {
	chain Key
	hash  [HashSize]byte
}

// NewSchedule starts the schedule of a protocol.
func NewSchedule(protocol string) *Schedule {
	s := &Schedule{hash: Hash(protocol)}
	s.chain = s.hash
	return s
}

// MixHash absorbs public data.
func (s *Schedule) MixHash(data []byte) { s.hash = Hash("mix hash", s.hash[:], data) }

// MixKey absorbs a secret.
func (s *Schedule) MixKey(secret []byte) {
	extract := hmac.New(sha256.New, s.chain[:])
	extract.Write(secret)
	var prk Key
	extract.Sum(prk[:0])
	s.chain = Derive(&prk, "chain")
	prk.Clear()
}

// Key returns a key for one purpose, bound to everything absorbed so far.
func (s *Schedule) Key(label string) Key {
	bound := hmac.New(sha256.New, s.chain[:])
	bound.Write(s.hash[:])
	var prk Key
	bound.Sum(prk[:0])
	out := Derive(&prk, label)
	prk.Clear()
	return out
}

// SealNext appends plaintext sealed under a key of this moment and absorbs the
// result. Each call must follow a different history, which MixKey or MixHash
// with fresh data gives.
func (s *Schedule) SealNext(dst, plaintext []byte) []byte {
	key := s.Key("seal")
	start := len(dst)
	dst = NewAEAD(AES256GCM, &key).Seal(dst, plaintext, s.hash[:], 0)
	key.Clear()
	s.MixHash(dst[start:])
	return dst
}

// OpenNext is the other side of SealNext. After a failure the schedule must be
// thrown away.
func (s *Schedule) OpenNext(dst, sealed []byte) ([]byte, error) {
	key := s.Key("seal")
	defer key.Clear()
	out, ok := NewAEAD(AES256GCM, &key).Open(dst, sealed, s.hash[:], 0)
	if !ok {
		return nil, ErrAuth
	}
	s.MixHash(sealed)
	return out, nil
}

// Clone returns an independent copy.
func (s *Schedule) Clone() *Schedule { c := *s; return &c }

// Clear overwrites the secrets.
func (s *Schedule) Clear() { s.chain.Clear(); clear(s.hash[:]) }
