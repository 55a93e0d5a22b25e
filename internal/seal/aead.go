// Package seal is the cryptographic suite of Nyx and the only importer of
// cryptographic primitives: AEAD layers, the hybrid KEM, the key schedule,
// hybrid signatures and keyed hashes.
//
// All key pairs come from explicit seed bytes. Breaking X25519 alone or
// ML-KEM-768 alone reveals no secret made here; forging needs both Ed25519 and
// ML-DSA-65 (docs/protocol.md, section 3).
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/cpu"
)

// Suite names the AEAD of a layer on the wire.
type Suite uint8

// Suites. A node accepts both; who starts chooses.
const (
	AES256GCM        Suite = 1
	ChaCha20Poly1305 Suite = 2
)

// Valid reports whether s is a suite of this version.
func (s Suite) Valid() bool { return s == AES256GCM || s == ChaCha20Poly1305 }

// Preferred is the faster suite on this processor.
func Preferred() Suite {
	if cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL || cpu.S390X.HasAESGCM {
		return AES256GCM
	}
	return ChaCha20Poly1305
}

// KeySize is the size of every symmetric key in bytes.
const KeySize = 32

// Overhead is the size of an AEAD tag in bytes.
const Overhead = 16

// Key is a symmetric key. Clear it when it is no longer needed.
type Key [KeySize]byte

// Clear overwrites the key.
func (k *Key) Clear() { clear(k[:]) }

// ErrAuth means that a sealed message was not made with this key and counter.
var ErrAuth = errors.New("seal: message does not authenticate")

// AEAD seals and opens messages under one key, each with its own 64-bit
// counter, which is the nonce and must not repeat for sealing. It belongs to
// one goroutine, except for OpenWith. It allocates nothing after NewAEAD, except
// that ChaCha20Poly1305 does once a message where package chacha20poly1305 has no
// assembly: anywhere but on amd64, and in builds with the tag purego.
type AEAD struct {
	cipher cipher.AEAD
	nonce  Nonce
}

// NewAEAD returns the AEAD of a suite and a key; the key is copied. It panics
// on an invalid suite, which callers check when they parse.
func NewAEAD(s Suite, key *Key) *AEAD {
	a := &AEAD{}
	a.Init(s, key)
	return a
}

// Init makes a, in place, the AEAD of a suite and a key.
func (a *AEAD) Init(s Suite, key *Key) {
	switch s {
	case AES256GCM:
		if w, ok := a.cipher.(*wide); ok {
			w.begin(key)
			return
		}
		if w := newWide(key); w != nil {
			a.cipher = w
			return
		}
		block, err := aes.NewCipher(key[:])
		if err != nil {
			panic("seal: AES key of 32 bytes refused: " + err.Error())
		}
		if a.cipher, err = cipher.NewGCM(block); err != nil {
			panic("seal: GCM refused AES: " + err.Error())
		}
	case ChaCha20Poly1305:
		var err error
		if a.cipher, err = chacha20poly1305.New(key[:]); err != nil {
			panic("seal: ChaCha20-Poly1305 key of 32 bytes refused: " + err.Error())
		}
	default:
		panic("seal: invalid suite")
	}
}

// Ready reports whether a has a key.
func (a *AEAD) Ready() bool { return a.cipher != nil }

// Forget drops the key schedule, overwritten where it is this package's own.
func (a *AEAD) Forget() {
	if w, ok := a.cipher.(*wide); ok {
		w.forget()
	}
	a.cipher = nil
}

// Seal appends the sealed form of plaintext to dst, which grows by
// len(plaintext)+16. plaintext and dst's spare capacity overlap exactly or not
// at all. additional is authenticated, not sealed; nil means nothing.
func (a *AEAD) Seal(dst, plaintext, additional []byte, counter uint64) []byte {
	binary.BigEndian.PutUint64(a.nonce[4:], counter)
	return a.cipher.Seal(dst, a.nonce[:], plaintext, additional)
}

// Open appends the plaintext of sealed to dst and reports whether it
// authenticates. The same overlap rule as for Seal holds; when it reports
// false, the bytes after dst are zero or unchanged.
func (a *AEAD) Open(dst, sealed, additional []byte, counter uint64) ([]byte, bool) {
	return a.OpenWith(&a.nonce, dst, sealed, additional, counter)
}

// Nonce is what one goroutine needs of its own to open under a shared AEAD.
type Nonce [12]byte

// OpenWith is Open for several goroutines at once, each with a Nonce of its own,
// which holds nothing between two calls. Nobody may call another method of a
// meanwhile.
func (a *AEAD) OpenWith(n *Nonce, dst, sealed, additional []byte, counter uint64) ([]byte, bool) {
	binary.BigEndian.PutUint64(n[4:], counter)
	out, err := a.cipher.Open(dst, n[:], sealed, additional)
	return out, err == nil
}

// Once seals and opens single messages, each under a key of its own. Between
// two it holds no key. Where AES-GCM is this package's own it keeps the memory
// of one expanded key, so that what wakes for a message leaves nothing behind
// and allocates nothing. It belongs to one goroutine; the zero Once is ready.
type Once struct{ aead AEAD }

// Seal is AEAD.Seal under key.
func (o *Once) Seal(s Suite, key *Key, dst, plaintext, additional []byte, counter uint64) []byte {
	o.aead.Init(s, key)
	out := o.aead.Seal(dst, plaintext, additional, counter)
	o.wipe()
	return out
}

// Open is AEAD.Open under key.
func (o *Once) Open(s Suite, key *Key, dst, sealed, additional []byte, counter uint64) ([]byte, bool) {
	o.aead.Init(s, key)
	out, ok := o.aead.Open(dst, sealed, additional, counter)
	o.wipe()
	return out, ok
}

func (o *Once) wipe() {
	if w, ok := o.aead.cipher.(*wide); ok {
		w.forget()
	} else {
		o.aead.cipher = nil
	}
}

// XORKeyStream encrypts or decrypts b in place with the AES-256-CTR key stream
// of key, which must be used for one message only.
func XORKeyStream(key *Key, b []byte) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("seal: AES key of 32 bytes refused: " + err.Error())
	}
	var iv [aes.BlockSize]byte
	cipher.NewCTR(block, iv[:]).XORKeyStream(b, b)
}
