package seal

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"math/big"
)

// A pass is a token of Privacy Pass (RFC 9578) of type 2: blindly signed RSA of 2048
// bits, PSS with SHA-384 and a salt of 48 bytes (RFC 9474,
// RSABSSA-SHA384-PSS-Deterministic). Whoever knows the issuer's public key verifies
// it, as here; package blind makes it.
const (
	PassModulusSize   = 256
	PassSignatureSize = 256
)

const (
	passExponent = 1<<16 + 1
	passSaltSize = sha512.Size384
)

// ErrPassKey means that a modulus is not one of 2048 bits.
var ErrPassKey = errors.New("seal: not a modulus of a pass key")

// passSPKI begins the SubjectPublicKeyInfo of a pass key (RFC 9578, section 6.5:
// id-RSASSA-PSS with its parameters), up to the modulus, and passSPKIEnd is what
// follows it: the exponent.
const (
	passSPKI = "\x30\x82\x01\x52\x30\x3d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x30\xa0\x0d\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02" +
		"\xa1\x1a\x30\x18\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\xa2\x03\x02\x01\x30" +
		"\x03\x82\x01\x0f\x00\x30\x82\x01\x0a\x02\x82\x01\x01\x00"
	passSPKIEnd = "\x02\x03\x01\x00\x01"
)

// PassPublic is an issuer's public key of one period.
type PassPublic struct {
	key     rsa.PublicKey
	modulus [PassModulusSize]byte
	id      [32]byte
}

// ParsePassPublic takes a modulus: 2048 bits, odd. The exponent is 65537.
func ParsePassPublic(modulus *[PassModulusSize]byte) (*PassPublic, error) {
	if modulus[0] < 0x80 || modulus[PassModulusSize-1]&1 == 0 {
		return nil, ErrPassKey
	}
	p := &PassPublic{modulus: *modulus}
	p.key = rsa.PublicKey{N: new(big.Int).SetBytes(modulus[:]), E: passExponent}
	p.id = sha256.Sum256(p.SPKI())
	return p, nil
}

// SPKI is the key's SubjectPublicKeyInfo.
func (p *PassPublic) SPKI() []byte {
	return append(append([]byte(passSPKI), p.modulus[:]...), passSPKIEnd...)
}

// ID names the key in passes: the hash of its SubjectPublicKeyInfo.
func (p *PassPublic) ID() [32]byte { return p.id }

// Modulus is the key's encoding.
func (p *PassPublic) Modulus() *[PassModulusSize]byte { return &p.modulus }

// Verify reports whether a signature is the issuer's on a message.
func (p *PassPublic) Verify(message, signature []byte) bool {
	digest := sha512.Sum384(message)
	return rsa.VerifyPSS(&p.key, crypto.SHA384, digest[:], signature, &rsa.PSSOptions{SaltLength: passSaltSize}) == nil
}
