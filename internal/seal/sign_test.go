package seal

import "testing"

func newSigner(t testing.TB, from byte) *Signer {
	t.Helper()
	s, err := NewSigner((*[SignSeedSize]byte)(count(from, SignSeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignature(t *testing.T) {
	s := newSigner(t, 1)
	message := []byte("document")
	sig, err := s.Sign("nyx test 1", message)
	if err != nil || len(sig) != SignatureSize || len(s.Public()) != SignPublicSize {
		t.Fatalf("%d bytes, %v", len(sig), err)
	}
	if err := Verify(s.Public(), "nyx test 1", message, sig); err != nil {
		t.Fatal(err)
	}
	if Verify(s.Public(), "nyx test 2", message, sig) != ErrSignature ||
		Verify(s.Public(), "nyx test 1", []byte("documenT"), sig) != ErrSignature ||
		Verify(newSigner(t, 2).Public(), "nyx test 1", message, sig) != ErrSignature ||
		Verify(s.Public()[1:], "nyx test 1", message, sig) != ErrSignature ||
		Verify(s.Public(), "nyx test 1", message, sig[1:]) != ErrSignature {
		t.Error("a signature was taken for another")
	}
	if newSigner(t, 1).public != s.public {
		t.Error("one seed gave two keys")
	}
}

// Both halves are needed: neither algorithm's signature alone verifies.
func TestSignatureNeedsBothHalves(t *testing.T) {
	a, b := newSigner(t, 1), newSigner(t, 2)
	message := []byte("document")
	sigA, _ := a.Sign("nyx test 1", message)
	sigB, _ := b.Sign("nyx test 1", message)
	const edSig, edKey = 64, 32
	for name, sig := range map[string][]byte{
		"Ed25519 of a, ML-DSA of b": append(append([]byte(nil), sigA[:edSig]...), sigB[edSig:]...),
		"Ed25519 of b, ML-DSA of a": append(append([]byte(nil), sigB[:edSig]...), sigA[edSig:]...),
	} {
		if Verify(a.Public(), "nyx test 1", message, sig) == nil {
			t.Errorf("%s verifies under a", name)
		}
	}
	for _, at := range []int{0, 63, 64, 2000, SignatureSize - 1} {
		sigA[at] ^= 1
		if Verify(a.Public(), "nyx test 1", message, sigA) == nil {
			t.Errorf("byte %d may be altered", at)
		}
		sigA[at] ^= 1
	}
	mixed := append(append([]byte(nil), a.Public()[:edKey]...), b.Public()[edKey:]...)
	if Verify(mixed, "nyx test 1", message, sigA) == nil {
		t.Error("verifies under a mixed key")
	}
}

func FuzzVerify(f *testing.F) {
	s := newSigner(f, 1)
	sig, _ := s.Sign("c", []byte("m"))
	f.Add(s.Public(), []byte("m"), sig)
	f.Fuzz(func(t *testing.T, public, message, sig []byte) { Verify(public, "c", message, sig) })
}
