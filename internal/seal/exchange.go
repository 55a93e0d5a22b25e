package seal

import "crypto/ecdh"

// PointSize is the size of an X25519 point, its u coordinate.
const PointSize = 32

// Point is a point of X25519 without its sign.
type Point [PointSize]byte

// Scalar is a secret multiplier, any 32 random bytes; X25519 clamps it.
type Scalar [32]byte

// BaseMult returns s times the base point.
func BaseMult(s *Scalar) (p Point) {
	k, err := ecdh.X25519().NewPrivateKey(s[:])
	if err != nil {
		panic("seal: X25519 refused a scalar of 32 bytes")
	}
	copy(p[:], k.PublicKey().Bytes())
	return p
}

// Mult returns s times p. Multiplications by several scalars give the same
// point in any order. A point of low order is ErrKEM.
func Mult(s *Scalar, p *Point) (out Point, err error) {
	k, err := ecdh.X25519().NewPrivateKey(s[:])
	if err != nil {
		return out, ErrKEM
	}
	q, err := ecdh.X25519().NewPublicKey(p[:])
	if err != nil {
		return out, ErrKEM
	}
	b, err := k.ECDH(q)
	if err != nil {
		return out, ErrKEM
	}
	copy(out[:], b)
	return out, nil
}
