package blind

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/nyxnet/nyx/internal/seal"
)

// vectors are those of RFC 9578.
type vectors struct {
	Private string `json:"private"`
	Public  string `json:"public"`
	Vectors []map[string]string
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// loadVectors returns the vectors and the issuer that they have.
var loadVectors = sync.OnceValues(func() (v vectors, err error) {
	b, err := os.ReadFile("testdata/rfc9578.json")
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	return v, err
})

func issuer(t testing.TB) (*Signer, vectors) {
	t.Helper()
	v, err := loadVectors()
	if err != nil {
		t.Fatal(err)
	}
	der, err := base64.StdEncoding.DecodeString(v.Private)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

// TestVectors: what is asked for, what is answered and what comes of it are those of
// the RFC, byte for byte, and its key is named as it names it.
func TestVectors(t *testing.T) {
	s, all := issuer(t)
	if got := hex.EncodeToString(s.Public().SPKI()); got != all.Public {
		t.Errorf("the key is %s", got)
	}
	id := s.Public().ID()
	for i, v := range all.Vectors {
		challenge, token := seal.SHA256(unhex(t, v["challenge"])), unhex(t, v["token"])
		input := append([]byte{0, 2}, unhex(t, v["nonce"])...)
		input = append(append(input, challenge[:]...), id[:]...)
		if !bytes.Equal(input, token[:len(input)]) {
			t.Fatalf("vector %d: the input is %x", i+1, input)
		}
		drawn := io.MultiReader(bytes.NewReader(unhex(t, v["salt"])), bytes.NewReader(unhex(t, v["blind"])))
		m, err := Blind(drawn, s.Public(), input)
		if err != nil {
			t.Fatal(err)
		}
		if want := unhex(t, v["request"]); !bytes.Equal(m.Blinded(), want[3:]) || want[2] != id[31] {
			t.Errorf("vector %d: blinded to %x", i+1, m.Blinded())
		}
		answer, err := s.Sign(m.Blinded())
		if err != nil || !bytes.Equal(answer, unhex(t, v["response"])) {
			t.Fatalf("vector %d: answered %x, %v", i+1, answer, err)
		}
		signature, err := m.Finalize(answer)
		if err != nil || !bytes.Equal(signature, token[len(input):]) {
			t.Fatalf("vector %d: signature %x, %v", i+1, signature, err)
		}
		if !s.Public().Verify(input, signature) {
			t.Errorf("vector %d does not verify", i+1)
		}
		for _, at := range []int{0, 40, 97} {
			input[at] ^= 1
			if s.Public().Verify(input, signature) {
				t.Errorf("vector %d verifies with another byte %d", i+1, at)
			}
			input[at] ^= 1
		}
		if signature[9] ^= 1; s.Public().Verify(input, signature) {
			t.Errorf("vector %d verifies with another signature", i+1)
		}
	}
}

// What two blindings of one message give the issuer differs in every respect.
func TestBlindedMessagesDiffer(t *testing.T) {
	s, _ := issuer(t)
	var seen [][]byte
	for range 4 {
		m, err := Blind(rand.Reader, s.Public(), []byte("one message"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := s.Sign(m.Blinded())
		if err != nil {
			t.Fatal(err)
		}
		signature, err := m.Finalize(answer)
		if err != nil || !s.Public().Verify([]byte("one message"), signature) {
			t.Fatalf("it does not verify: %v", err)
		}
		seen = append(seen, m.Blinded(), answer, signature)
	}
	for i, a := range seen {
		for j, b := range seen {
			if i != j && share(a, b, 8) {
				t.Errorf("%d and %d have 8 bytes in common", i, j)
			}
		}
	}
}

// share reports whether n bytes in a row of a stand in b.
func share(a, b []byte, n int) bool {
	for i := range len(a) - n {
		if bytes.Contains(b, a[i:i+n]) {
			return true
		}
	}
	return false
}

func TestKeysComeBack(t *testing.T) {
	made, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(made.Bytes())
	if err != nil || again.Public().ID() != made.Public().ID() {
		t.Fatalf("%v", err)
	}
	if _, err := Parse(made.Bytes()[:100]); !errors.Is(err, ErrKey) {
		t.Errorf("half a key: %v", err)
	}
	if _, err := seal.ParsePassPublic(&[seal.PassModulusSize]byte{}); !errors.Is(err, seal.ErrPassKey) {
		t.Errorf("no modulus: %v", err)
	}
}

// An issuer that answers with anything else is found out, and what is no blinded
// message is not signed.
func TestWrongAnswers(t *testing.T) {
	s, _ := issuer(t)
	m, err := Blind(rand.Reader, s.Public(), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := Blind(rand.Reader, s.Public(), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.Sign(other.Blinded())
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"another's": answer, "short": answer[:255], "none": make([]byte, 256)} {
		if _, err := m.Finalize(bad); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string][]byte{"short": m.Blinded()[1:], "too great": bytes.Repeat([]byte{0xff}, 256)} {
		if _, err := s.Sign(bad); !errors.Is(err, ErrBlinded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkBlind(b *testing.B) {
	s, _ := issuer(b)
	for b.Loop() {
		if _, err := Blind(rand.Reader, s.Public(), make([]byte, 98)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	s, _ := issuer(b)
	m, err := Blind(rand.Reader, s.Public(), make([]byte, 98))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Sign(m.Blinded()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	s, all := issuer(b)
	token := unhex(b, all.Vectors[0]["token"])
	for b.Loop() {
		if !s.Public().Verify(token[:98], token[98:]) {
			b.Fatal("it does not verify")
		}
	}
}
