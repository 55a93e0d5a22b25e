package seal

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew from what the code computes")

// hexBytes stands in a vector file as hexadecimal text.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// golden compares what the code computes with a vector file, or writes it.
func golden[T any](t *testing.T, name string, computed []T) []T {
	t.Helper()
	path := filepath.Join("testdata", name)
	got, err := json.MarshalIndent(computed, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what the code computes; if the protocol was meant to change, run go test ./internal/seal -rewrite", name)
	}
	var stored []T
	if err := json.Unmarshal(want, &stored); err != nil {
		t.Fatal(err)
	}
	return stored
}

// count returns n bytes from, from+1, …
func count(from byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

type aeadVector struct {
	Suite      Suite
	Key        hexBytes
	Counter    uint64
	Additional hexBytes
	Plaintext  hexBytes
	Sealed     hexBytes
}

func TestAEADVectors(t *testing.T) {
	var computed []aeadVector
	for _, suite := range []Suite{AES256GCM, ChaCha20Poly1305} {
		for i, v := range []aeadVector{
			{Counter: 0, Plaintext: hexBytes{}},
			{Counter: 1, Plaintext: []byte("nyx"), Additional: count(9, 12)},
			{Counter: 1<<63 + 5, Plaintext: count(0, 100), Additional: []byte{7}},
		} {
			v.Suite, v.Key = suite, count(byte(16*i), KeySize)
			v.Sealed = NewAEAD(suite, (*Key)(v.Key)).Seal(nil, v.Plaintext, v.Additional, v.Counter)
			computed = append(computed, v)
		}
	}
	for i, v := range golden(t, "aead.json", computed) {
		out, ok := NewAEAD(v.Suite, (*Key)(v.Key)).Open(nil, v.Sealed, v.Additional, v.Counter)
		if !ok || !bytes.Equal(out, v.Plaintext) {
			t.Errorf("vector %d does not open", i)
		}
	}
}

type kdfVector struct {
	Function string
	Label    string
	Key      hexBytes   `json:",omitempty"`
	Parts    []hexBytes `json:",omitempty"`
	Out      hexBytes
}

func TestKDFVectors(t *testing.T) {
	key := (*Key)(count(0x40, KeySize))
	a, b := hexBytes("first"), hexBytes(count(0, 70))
	var computed []kdfVector
	add := func(function, label string, key hexBytes, out []byte, parts ...hexBytes) {
		computed = append(computed, kdfVector{function, label, key, parts, bytes.Clone(out)})
	}
	h := Hash("label")
	add("Hash", "label", nil, h[:])
	h = Hash("label", a, b)
	add("Hash", "label", nil, h[:], a, b)
	d := Derive(key, "purpose")
	add("Derive", "purpose", key[:], d[:])
	m := MAC(key, a, b)
	add("MAC", "", key[:], m[:], a, b)
	s := NewSchedule("vector 1")
	s.MixHash(a)
	s.MixKey(key[:])
	k := s.Key("out")
	add("Schedule: MixHash, MixKey, Key", "vector 1/out", key[:], k[:], a)
	add("Schedule: SealNext", "vector 1", key[:], s.SealNext(nil, b), b)
	k = s.Key("out")
	add("Schedule: Key after SealNext", "vector 1/out", key[:], k[:], a, b)
	stream := append([]byte(nil), make([]byte, 48)...)
	XORKeyStream(key, stream)
	add("XORKeyStream over 48 zero bytes", "", key[:], stream)
	golden(t, "kdf.json", computed)
}

type kemVector struct {
	Seed       hexBytes
	Public     hexBytes
	Ciphertext hexBytes
	Secret     hexBytes
}

// Ciphertexts cannot be made again, because the standard library draws ML-KEM's
// randomness itself: they stand in the file, and only -rewrite makes new ones.
func TestDecapsulationVectors(t *testing.T) {
	path := filepath.Join("testdata", "kem.json")
	if *rewrite {
		writeKEMVectors(t, path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []kemVector
	if err := json.Unmarshal(raw, &vectors); err != nil || len(vectors) == 0 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for i, v := range vectors {
		k, err := NewKEMPrivate((*[KEMSeedSize]byte)(v.Seed))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(k.Public().Bytes(), v.Public) {
			t.Errorf("vector %d: public key differs", i)
		}
		secret, err := k.Decapsulate(v.Ciphertext)
		if err != nil || !bytes.Equal(secret[:], v.Secret) {
			t.Errorf("vector %d: secret %x, %v", i, secret[:8], err)
		}
		if plain := plainDecapsulation(t, KEM768, v.Seed, v.Ciphertext); !bytes.Equal(plain, v.Secret) {
			t.Errorf("vector %d: the definition gives %x", i, plain[:8])
		}
	}
}

// plainDecapsulation is either KEM as docs/protocol.md defines it, written once
// more on the bare primitives.
func plainDecapsulation(t *testing.T, k KEM, seed, ciphertext []byte) []byte {
	x, err := ecdh.X25519().NewPrivateKey(seed[:32])
	if err != nil {
		t.Fatal(err)
	}
	remote, err := ecdh.X25519().NewPublicKey(ciphertext[:32])
	if err != nil {
		t.Fatal(err)
	}
	sx, err := x.ECDH(remote)
	if err != nil {
		t.Fatal(err)
	}
	var m interface{ Decapsulate([]byte) ([]byte, error) }
	label := "hybrid kem X25519 ML-KEM-768"
	if k == KEM1024 {
		label = "hybrid kem X25519 ML-KEM-1024"
		m, err = mlkem.NewDecapsulationKey1024(seed[32:])
	} else {
		m, err = mlkem.NewDecapsulationKey768(seed[32:])
	}
	if err != nil {
		t.Fatal(err)
	}
	sm, err := m.Decapsulate(ciphertext[32:])
	if err != nil {
		t.Fatal(err)
	}
	in := append([]byte{'n', 'y', 'x', 1, byte(len(label))}, label...)
	for _, part := range [][]byte{sm, sx, ciphertext, x.PublicKey().Bytes()} {
		in = append(in, 0, 0, byte(len(part)>>8), byte(len(part)))
		in = append(in, part...)
	}
	out := sha256.Sum256(in)
	return out[:]
}

func writeKEMVectors(t *testing.T, path string) {
	var vectors []kemVector
	for i := range 3 {
		v := kemVector{Seed: count(byte(50*i), KEMSeedSize)}
		k, err := NewKEMPrivate((*[KEMSeedSize]byte)(v.Seed))
		if err != nil {
			t.Fatal(err)
		}
		v.Public = k.Public().Bytes()
		secret, ciphertext, err := Encapsulate(k.Public(), (*[32]byte)(count(byte(90+i), 32)))
		if err != nil {
			t.Fatal(err)
		}
		if i == 2 { // implicit rejection: a damaged ML-KEM part gives another secret
			ciphertext[600] ^= 1
			if secret, err = k.Decapsulate(ciphertext[:]); err != nil {
				t.Fatal(err)
			}
		}
		v.Ciphertext, v.Secret = ciphertext[:], secret[:]
		vectors = append(vectors, v)
	}
	b, err := json.MarshalIndent(vectors, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
