package seal

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"errors"
	"fmt"
)

// Sizes of the hybrid KEM, in bytes: X25519 first, then ML-KEM-768. It is the
// one of static, link and onion keys; that of ephemeral keys is negotiated
// (ephemeral.go).
const (
	KEMPublicSize     = 32 + mlkem.EncapsulationKeySize768 // 1216
	KEMCiphertextSize = 32 + mlkem.CiphertextSize768       // 1120
	KEMSeedSize       = 32 + mlkem.SeedSize                // 96
)

// ErrKEM means that a public key or a ciphertext is malformed, or that its
// X25519 part is a point of low order.
var ErrKEM = errors.New("seal: malformed or low-order key")

// KEMPublic is the public key of the hybrid KEM, parsed and ready for use.
type KEMPublic struct {
	encoded [KEMPublicSize]byte
	x       *ecdh.PublicKey
	m       *mlkem.EncapsulationKey768
}

// ParseKEMPublic checks and parses a public key of KEMPublicSize bytes.
func ParseKEMPublic(b []byte) (*KEMPublic, error) {
	if len(b) != KEMPublicSize {
		return nil, ErrKEM
	}
	p := &KEMPublic{}
	copy(p.encoded[:], b)
	var err error
	if p.x, err = ecdh.X25519().NewPublicKey(p.encoded[:32]); err != nil {
		return nil, ErrKEM
	}
	if p.m, err = mlkem.NewEncapsulationKey768(p.encoded[32:]); err != nil {
		return nil, ErrKEM
	}
	return p, nil
}

// Bytes returns the encoding, which the caller must not change.
func (p *KEMPublic) Bytes() []byte { return p.encoded[:] }

// KEMPrivate is a private key of the hybrid KEM.
type KEMPrivate struct {
	x      *ecdh.PrivateKey
	m      *mlkem.DecapsulationKey768
	public *KEMPublic
}

// NewKEMPrivate derives the key pair of a seed: 32 bytes for X25519, 64 for
// ML-KEM-768. The seed may be cleared afterwards.
func NewKEMPrivate(seed *[KEMSeedSize]byte) (*KEMPrivate, error) {
	x, err := ecdh.X25519().NewPrivateKey(seed[:32])
	if err != nil {
		return nil, fmt.Errorf("seal: X25519 seed: %w", err)
	}
	m, err := mlkem.NewDecapsulationKey768(seed[32:])
	if err != nil {
		return nil, fmt.Errorf("seal: ML-KEM seed: %w", err)
	}
	public := &KEMPublic{x: x.PublicKey(), m: m.EncapsulationKey()}
	copy(public.encoded[:32], x.PublicKey().Bytes())
	copy(public.encoded[32:], public.m.Bytes())
	return &KEMPrivate{x: x, m: m, public: public}, nil
}

// Public returns the public key.
func (k *KEMPrivate) Public() *KEMPublic { return k.public }

// Encapsulate makes a secret that only the holder of to can recover, and the
// ciphertext that carries it. seed is the fresh ephemeral X25519 scalar; the
// ML-KEM part draws its own randomness from the operating system, because the
// standard library takes none from a caller. The secret depends on both parts
// and on the ciphertext and key (as in X-Wing, draft-connolly-cfrg-xwing-kem).
func Encapsulate(to *KEMPublic, seed *[32]byte) (secret Key, ciphertext [KEMCiphertextSize]byte, err error) {
	secret, err = encapsulate(KEM768, ciphertext[:], to.x, to.encoded[:32], to.m, seed)
	return secret, ciphertext, err
}

// Decapsulate recovers the secret of a ciphertext of KEMCiphertextSize bytes.
// A ciphertext made for another key gives another secret, not an error.
func (k *KEMPrivate) Decapsulate(ciphertext []byte) (secret Key, err error) {
	return decapsulate(KEM768, ciphertext, k.x, k.public.encoded[:32], k.m)
}

// The ML-KEM halves of mlkem's keys of every size.
type (
	encapsulator interface {
		Encapsulate() (sharedKey, ciphertext []byte)
	}
	decapsulator interface {
		Decapsulate(ciphertext []byte) ([]byte, error)
	}
)

// encapsulate writes a ciphertext to both halves of a public key, and returns its
// secret. xPublic is x as it is encoded.
func encapsulate(k KEM, ciphertext []byte, x *ecdh.PublicKey, xPublic []byte, m encapsulator, seed *[32]byte) (secret Key, err error) {
	ephemeral, err := ecdh.X25519().NewPrivateKey(seed[:])
	if err != nil {
		return secret, ErrKEM
	}
	sx, err := ephemeral.ECDH(x)
	if err != nil {
		return secret, ErrKEM
	}
	sm, cm := m.Encapsulate()
	copy(ciphertext, ephemeral.PublicKey().Bytes())
	copy(ciphertext[32:], cm)
	secret = combine(k, sx, sm, ciphertext, xPublic)
	clear(sx)
	clear(sm)
	return secret, nil
}

// decapsulate recovers the secret of a ciphertext with both halves of a private
// key. xPublic is the public key of x as it is encoded.
func decapsulate(k KEM, ciphertext []byte, x *ecdh.PrivateKey, xPublic []byte, m decapsulator) (secret Key, err error) {
	if len(ciphertext) != k.CiphertextSize() {
		return secret, ErrKEM
	}
	ephemeral, err := ecdh.X25519().NewPublicKey(ciphertext[:32])
	if err != nil {
		return secret, ErrKEM
	}
	sx, err := x.ECDH(ephemeral)
	if err != nil {
		return secret, ErrKEM
	}
	sm, err := m.Decapsulate(ciphertext[32:])
	if err != nil {
		return secret, ErrKEM
	}
	secret = combine(k, sx, sm, ciphertext, xPublic)
	clear(sx)
	clear(sm)
	return secret, nil
}

// combine makes the secret of both parts; it clears neither.
func combine(k KEM, sx, sm, ciphertext, xPublic []byte) Key {
	return Hash("hybrid kem "+k.String(), sm, sx, ciphertext, xPublic)
}
