package seal

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"filippo.io/mldsa"
)

// Sizes of the hybrid signature, in bytes: Ed25519 first, then ML-DSA-65.
const (
	SignSeedSize   = ed25519.SeedSize + mldsa.PrivateKeySize // 64
	SignPublicSize = ed25519.PublicKeySize + 1952            // 1984
	SignatureSize  = ed25519.SignatureSize + 3309            // 3373
)

// ErrSignature means that a signature was not made by this key for this
// message, or that one of its two halves was not.
var ErrSignature = errors.New("seal: signature does not verify")

// Signer signs with Ed25519 and ML-DSA-65 together.
type Signer struct {
	ed     ed25519.PrivateKey
	ml     *mldsa.PrivateKey
	public [SignPublicSize]byte
}

// NewSigner derives the key pair of a seed: 32 bytes for each algorithm.
func NewSigner(seed *[SignSeedSize]byte) (*Signer, error) {
	ml, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), seed[32:])
	if err != nil {
		return nil, fmt.Errorf("seal: ML-DSA seed: %w", err)
	}
	s := &Signer{ed: ed25519.NewKeyFromSeed(seed[:32]), ml: ml}
	copy(s.public[:32], s.ed.Public().(ed25519.PublicKey))
	copy(s.public[32:], ml.PublicKey().Bytes())
	return s, nil
}

// Public returns the public key's encoding.
func (s *Signer) Public() []byte { return s.public[:] }

// Sign returns the signature of message in a context, which keeps signatures
// of one kind from being taken for another.
func (s *Signer) Sign(context string, message []byte) ([]byte, error) {
	digest := Hash("sign "+context, message)
	out := append(make([]byte, 0, SignatureSize), ed25519.Sign(s.ed, digest[:])...)
	second, err := s.ml.Sign(nil, digest[:], &mldsa.Options{Context: context})
	if err != nil {
		return nil, fmt.Errorf("seal: ML-DSA: %w", err)
	}
	return append(out, second...), nil
}

// Verify checks both halves of a signature.
func Verify(public []byte, context string, message, signature []byte) error {
	if len(public) != SignPublicSize || len(signature) != SignatureSize {
		return ErrSignature
	}
	digest := Hash("sign "+context, message)
	if !ed25519.Verify(public[:32], digest[:], signature[:64]) {
		return ErrSignature
	}
	ml, err := mldsa.NewPublicKey(mldsa.MLDSA65(), public[32:])
	if err != nil {
		return ErrSignature
	}
	if mldsa.Verify(ml, digest[:], signature[64:], &mldsa.Options{Context: context}) != nil {
		return ErrSignature
	}
	return nil
}
