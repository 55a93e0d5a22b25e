package seal

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func newEphemeral(t testing.TB, k KEM, from byte) *Ephemeral {
	t.Helper()
	e, err := NewEphemeral(k, (*[KEMSeedSize]byte)(count(from, KEMSeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The secret of either KEM is what docs/protocol.md defines, needs both halves
// of the key, and depends on every part of the ciphertext.
func TestEphemeralKEMs(t *testing.T) {
	for _, k := range []KEM{KEM768, KEM1024} {
		e := newEphemeral(t, k, 1)
		secret, ciphertext, err := EncapsulateTo(k, e.Public(), (*[32]byte)(count(9, 32)))
		if err != nil || len(ciphertext) != k.CiphertextSize() || len(e.Public()) != k.PublicSize() {
			t.Fatalf("%v: %v", k, err)
		}
		got, err := e.Decapsulate(ciphertext)
		if err != nil || got != secret || got != Key(plainDecapsulation(t, k, count(1, KEMSeedSize), ciphertext)) {
			t.Errorf("%v: secrets differ, %v", k, err)
		}
		for _, at := range []int{0, 31, 32, 700, len(ciphertext) - 1} {
			bad := bytes.Clone(ciphertext)
			bad[at] ^= 1
			if got, err := e.Decapsulate(bad); err == nil && got == secret {
				t.Errorf("%v: byte %d of the ciphertext is not bound", k, at)
			}
		}
		for _, half := range []int{0, 40} {
			seed := count(1, KEMSeedSize)
			seed[half] ^= 8
			other, err := NewEphemeral(k, (*[KEMSeedSize]byte)(seed))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := other.Decapsulate(ciphertext); err == nil && got == secret {
				t.Errorf("%v: the half at %d of the private key is not needed", k, half)
			}
		}
	}
}

func TestMalformedEphemeralInput(t *testing.T) {
	seed := (*[32]byte)(count(9, 32))
	for _, k := range []KEM{KEM768, KEM1024} {
		e := newEphemeral(t, k, 1)
		_, ciphertext, err := EncapsulateTo(k, e.Public(), seed)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 32, len(ciphertext) - 1} {
			if _, err := e.Decapsulate(ciphertext[:n]); err != ErrKEM {
				t.Errorf("%v: ciphertext of %d bytes: %v", k, n, err)
			}
			if _, _, err := EncapsulateTo(k, e.Public()[:n], seed); err != ErrKEM {
				t.Errorf("%v: key of %d bytes: %v", k, n, err)
			}
		}
		point, _ := hex.DecodeString(lowOrder[0])
		bad, low := bytes.Clone(e.Public()), bytes.Clone(ciphertext)
		copy(bad, point)
		copy(low, point)
		if _, _, err := EncapsulateTo(k, bad, seed); err != ErrKEM {
			t.Errorf("%v: low-order key: %v", k, err)
		}
		if _, err := e.Decapsulate(low); err != ErrKEM {
			t.Errorf("%v: low-order ciphertext: %v", k, err)
		}
		bad = bytes.Clone(e.Public())
		bad[32], bad[33], bad[34] = 0xff, 0xff, 0xff // a coefficient above the modulus
		if _, _, err := EncapsulateTo(k, bad, seed); err != ErrKEM {
			t.Errorf("%v: ML-KEM key out of range: %v", k, err)
		}
	}
	if _, _, err := EncapsulateTo(3, make([]byte, 1600), seed); err != ErrKEM || KEM(3).Valid() || KEM(0).Valid() {
		t.Errorf("unknown KEM: %v", err)
	}
}
