package seal

import (
	"crypto/ecdh"
	"crypto/mlkem"
)

// KEM names the hybrid KEM of a handshake's ephemeral key on the wire. A higher
// number is the stronger one.
type KEM uint8

// KEMs of ephemeral keys.
const (
	KEM768  KEM = 1 // X25519 and ML-KEM-768
	KEM1024 KEM = 2 // X25519 and ML-KEM-1024
)

// Valid reports whether k is known here.
func (k KEM) Valid() bool { return k == KEM768 || k == KEM1024 }

// String is the name in labels and schedules.
func (k KEM) String() string {
	switch k {
	case KEM768:
		return "X25519 ML-KEM-768"
	case KEM1024:
		return "X25519 ML-KEM-1024"
	}
	return "unknown KEM"
}

// PublicSize and CiphertextSize are in bytes; 0 for a KEM that is not known.
func (k KEM) PublicSize() int {
	switch k {
	case KEM768:
		return KEMPublicSize
	case KEM1024:
		return 32 + mlkem.EncapsulationKeySize1024 // 1600
	}
	return 0
}

// CiphertextSize is the size of what EncapsulateTo returns.
func (k KEM) CiphertextSize() int {
	switch k {
	case KEM768:
		return KEMCiphertextSize
	case KEM1024:
		return 32 + mlkem.CiphertextSize1024 // 1600
	}
	return 0
}

// Ephemeral is the private key of one handshake, under the KEM that it chose.
type Ephemeral struct {
	kem    KEM
	x      *ecdh.PrivateKey
	m      decapsulator
	public []byte
}

// NewEphemeral derives the key pair of a seed: 32 bytes for X25519, 64 for
// ML-KEM. The seed may be cleared afterwards. It panics on a KEM that is not
// Valid, which callers check.
func NewEphemeral(k KEM, seed *[KEMSeedSize]byte) (*Ephemeral, error) {
	x, err := ecdh.X25519().NewPrivateKey(seed[:32])
	if err != nil {
		return nil, ErrKEM
	}
	e := &Ephemeral{kem: k, x: x, public: append(make([]byte, 0, k.PublicSize()), x.PublicKey().Bytes()...)}
	switch k {
	case KEM768:
		m, err := mlkem.NewDecapsulationKey768(seed[32:])
		if err != nil {
			return nil, ErrKEM
		}
		e.m, e.public = m, append(e.public, m.EncapsulationKey().Bytes()...)
	case KEM1024:
		m, err := mlkem.NewDecapsulationKey1024(seed[32:])
		if err != nil {
			return nil, ErrKEM
		}
		e.m, e.public = m, append(e.public, m.EncapsulationKey().Bytes()...)
	default:
		panic("seal: ephemeral key of an unknown KEM")
	}
	return e, nil
}

// Public returns the encoded public key, which the caller must not change.
func (e *Ephemeral) Public() []byte { return e.public }

// Decapsulate recovers the secret of a ciphertext. A ciphertext made for
// another key gives another secret, not an error.
func (e *Ephemeral) Decapsulate(ciphertext []byte) (secret Key, err error) {
	return decapsulate(e.kem, ciphertext, e.x, e.public[:32], e.m)
}

// EncapsulateTo is Encapsulate for an ephemeral key, as it came, under the KEM
// that its owner chose. A malformed key is ErrKEM.
func EncapsulateTo(k KEM, public []byte, seed *[32]byte) (secret Key, ciphertext []byte, err error) {
	if !k.Valid() || len(public) != k.PublicSize() {
		return secret, nil, ErrKEM
	}
	to, err := ecdh.X25519().NewPublicKey(public[:32])
	if err != nil {
		return secret, nil, ErrKEM
	}
	var m encapsulator
	if k == KEM1024 {
		m, err = mlkem.NewEncapsulationKey1024(public[32:])
	} else {
		m, err = mlkem.NewEncapsulationKey768(public[32:])
	}
	if err != nil {
		return secret, nil, ErrKEM
	}
	ciphertext = make([]byte, k.CiphertextSize())
	if secret, err = encapsulate(k, ciphertext, to, public[:32], m, seed); err != nil {
		return secret, nil, err
	}
	return secret, ciphertext, nil
}
