// Package blind makes passes: an issuer signs what it does not see (RFC 9474,
// RSABSSA-SHA384-PSS-Deterministic, as RFC 9578 has it for tokens of type 2). What it
// has seen and the signature that comes of it have nothing in common that it could
// compute. Verifying is package seal's.
package blind

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/cloudflare/circl/blindsign/blindrsa"

	"github.com/nyxnet/nyx/internal/seal"
)

// Errors. Each is wrapped with what is wrong; test with errors.Is.
var (
	// ErrKey means that what should be a private key is none.
	ErrKey = errors.New("blind: not a private key of passes")
	// ErrBlinded means that a blinded message has another size than the modulus, or is
	// not below it.
	ErrBlinded = errors.New("blind: not a blinded message")
	// ErrSignature means that a blind signature is not the issuer's on this message.
	ErrSignature = errors.New("blind: not the issuer's signature on what was asked for")
)

const keyBits = 8 * seal.PassModulusSize

// Signer is an issuer's private key of one period.
type Signer struct {
	key    *rsa.PrivateKey
	signer blindrsa.Signer
	public *seal.PassPublic
}

// Generate makes a key. Its randomness is the operating system's: the standard library
// makes no RSA key from a seed.
func Generate() (*Signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("blind: %w", err)
	}
	return newSigner(key)
}

// Parse reads what Bytes returns.
func Parse(b []byte) (*Signer, error) {
	key, err := x509.ParsePKCS1PrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return newSigner(key)
}

func newSigner(key *rsa.PrivateKey) (*Signer, error) {
	var modulus [seal.PassModulusSize]byte
	if key.N.BitLen() != keyBits || key.E != 1<<16+1 {
		return nil, fmt.Errorf("%w: %d bits with the exponent %d", ErrKey, key.N.BitLen(), key.E)
	}
	public, err := seal.ParsePassPublic((*[seal.PassModulusSize]byte)(key.N.FillBytes(modulus[:])))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return &Signer{key: key, signer: blindrsa.NewSigner(key), public: public}, nil
}

// Bytes is the key's encoding (PKCS #1), which the caller overwrites after use.
func (s *Signer) Bytes() []byte { return x509.MarshalPKCS1PrivateKey(s.key) }

// Public returns the public key.
func (s *Signer) Public() *seal.PassPublic { return s.public }

// Sign signs a blinded message. It takes some milliseconds, and its time tells nothing
// of the key: what is raised to it is blinded once more.
func (s *Signer) Sign(blinded []byte) ([]byte, error) {
	out, err := s.signer.BlindSign(blinded)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBlinded, err)
	}
	return out, nil
}

// Message is a message that waits for its blind signature. Only who has it can make the
// signature of that.
type Message struct {
	client  blindrsa.Client
	state   blindrsa.State
	blinded []byte
}

// Blind blinds a message for the issuer's key, with fresh randomness.
func Blind(random io.Reader, key *seal.PassPublic, message []byte) (*Message, error) {
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(key.Modulus()[:]), E: 1<<16 + 1}
	client, err := blindrsa.NewClient(blindrsa.SHA384PSSDeterministic, public)
	if err != nil {
		return nil, fmt.Errorf("blind: %w", err)
	}
	m := &Message{client: client}
	if m.blinded, m.state, err = client.Blind(random, message); err != nil {
		return nil, fmt.Errorf("blind: %w", err)
	}
	return m, nil
}

// Blinded is what the issuer is given.
func (m *Message) Blinded() []byte { return m.blinded }

// Finalize makes the signature on the message of the one that came back, and checks it.
func (m *Message) Finalize(signature []byte) ([]byte, error) {
	out, err := m.client.Finalize(m.state, signature)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return out, nil
}
