package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

// standard is AES-256-GCM as the standard library has it.
func standard(t testing.TB, key *Key) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// own is this package's AES-256-GCM, where the processor has it.
func own(t testing.TB, key *Key) *wide {
	t.Helper()
	w := newWide(key)
	if w == nil {
		t.Skip("this processor runs the standard library's AES-GCM")
	}
	return w
}

// wantSame seals and opens with both, in place and elsewhere, and looks at the
// bytes around what they may write.
func wantSame(t *testing.T, w, std cipher.AEAD, nonce, plain, additional []byte) {
	t.Helper()
	const margin = 80
	n := len(plain)
	want := std.Seal(nil, nonce, plain, additional)
	frame := func() []byte { return bytes.Repeat([]byte{0xa5}, margin+n+Overhead+margin) }
	intact := func(b []byte, n int) bool {
		return bytes.Equal(b[:margin], frame()[:margin]) && bytes.Equal(b[margin+n:], frame()[margin+n:])
	}

	elsewhere, inPlace := frame(), frame()
	copy(inPlace[margin:], plain)
	before := bytes.Clone(plain)
	if got := w.Seal(elsewhere[:margin], nonce, plain, additional); !bytes.Equal(got[margin:], want) || !intact(elsewhere, n+Overhead) || !bytes.Equal(plain, before) {
		t.Fatalf("sealing %d bytes with %d additional differs from the standard library", n, len(additional))
	}
	if w.Seal(inPlace[margin:margin], nonce, inPlace[margin:margin+n], additional); !bytes.Equal(inPlace[margin:margin+n+Overhead], want) || !intact(inPlace, n+Overhead) {
		t.Fatalf("sealing %d bytes in place with %d additional differs from the standard library", n, len(additional))
	}

	opened := frame()
	if got, err := w.Open(opened[:margin], nonce, want, additional); err != nil || !bytes.Equal(got[margin:], plain) || !intact(opened, n) {
		t.Fatalf("opening %d bytes with %d additional: %v", n, len(additional), err)
	}
	sealed := inPlace[margin : margin+n+Overhead]
	if got, err := w.Open(sealed[:0], nonce, sealed, additional); err != nil || !bytes.Equal(got, plain) || !intact(inPlace, n+Overhead) {
		t.Fatalf("opening %d bytes in place with %d additional: %v", n, len(additional), err)
	}
}

// Published vectors: the GCM submission's test cases 13 to 16, of AES-256 with
// nonces of 12 bytes.
func TestWidePublished(t *testing.T) {
	const key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
	const text = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
	const sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
	zeros := strings.Repeat("00", 32)
	for _, c := range []struct{ key, nonce, text, additional, sealed, tag string }{
		{zeros, zeros[:24], "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{zeros, zeros[:24], zeros[:32], "", "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
		{key, "cafebabefacedbaddecaf888", text, "", sealed, "b094dac5d93471bdec1a502270e3cc6c"},
		{key, "cafebabefacedbaddecaf888", text[:120], "feedfacedeadbeeffeedfacedeadbeefabaddad2", sealed[:120], "76fc6ece0f4e1768cddf8853bb2d551b"},
	} {
		read := func(s string) []byte { b, _ := hex.DecodeString(s); return b }
		k := Key(read(c.key))
		for _, a := range []cipher.AEAD{own(t, &k), standard(t, &k)} {
			if got := a.Seal(nil, read(c.nonce), read(c.text), read(c.additional)); hex.EncodeToString(got) != c.sealed+c.tag {
				t.Errorf("%T: %x, want %s%s", a, got, c.sealed, c.tag)
			}
		}
	}
}

// Every length up to a datagram and beyond crosses each boundary of the code:
// blocks, vectors, rounds of 16 blocks.
func TestWideIsTheStandard(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{1})
	var key Key
	rng.Read(key[:])
	w, std := own(t, &key), standard(t, &key)
	text, nonce := make([]byte, 1600), make([]byte, 12)
	for n := range 1601 {
		rng.Read(text)
		rng.Read(nonce)
		wantSame(t, w, std, nonce, text[:n], text[:[]int{0, 9, 12, 16, 17, 32, 300}[n%7]])
	}
	for n := range 100 {
		wantSame(t, w, std, nonce, text[:17], text[:n])
	}
	for range 200 {
		rng.Read(key[:])
		wantSame(t, newWide(&key), standard(t, &key), nonce, text[:333], text[:12])
	}
	// Counter blocks beyond the first byte, and the second; additional data as
	// long.
	long := make([]byte, 16*70000+5)
	wantSame(t, w, std, nonce, long, nil)
	wantSame(t, w, std, nonce, text[:100], long)
}

// Keys and texts of few bits reach the carries of multiplication and reduction.
func TestWideAtTheEdges(t *testing.T) {
	for _, fill := range []byte{0, 0xff, 0x80, 1} {
		var key Key
		for i := range key {
			key[i] = fill
		}
		w, std := own(t, &key), standard(t, &key)
		for _, n := range []int{0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 512, 1243, 1252} {
			for _, b := range []byte{0, 0xff} {
				text := bytes.Repeat([]byte{b}, n)
				wantSame(t, w, std, bytes.Repeat([]byte{fill}, 12), text, text[:min(n, 40)])
			}
		}
	}
}

// Each bit of a packet, its tag, its additional data and its nonce counts, and
// what does not authenticate leaves zeros.
func TestWideOpensNothingElse(t *testing.T) {
	w := own(t, &Key{1})
	nonce, additional, plain := make([]byte, 12), make([]byte, 12), bytes.Repeat([]byte("secret"), 60)
	sealed := w.Seal(nil, nonce, plain, additional)
	out := make([]byte, len(plain))
	for _, part := range [][]byte{nonce, additional, sealed} {
		for bit := range 8 * len(part) {
			part[bit/8] ^= 1 << (bit % 8)
			copy(out, plain)
			if _, err := w.Open(out[:0], nonce, sealed, additional); err == nil {
				t.Fatalf("bit %d of %d bytes may be flipped", bit, len(part))
			}
			if !bytes.Equal(out, make([]byte, len(out))) {
				t.Fatal("what does not authenticate was left behind")
			}
			part[bit/8] ^= 1 << (bit % 8)
		}
	}
	for n := range Overhead {
		if _, err := w.Open(nil, nonce, sealed[:n], additional); err == nil {
			t.Fatalf("opened %d bytes", n)
		}
	}
	if _, err := w.Open(nil, nonce, sealed, additional); err != nil {
		t.Fatal("does not open what is whole")
	}
}

func TestForgetOverwrites(t *testing.T) {
	w := own(t, &Key{1})
	a := AEAD{cipher: w}
	a.Forget()
	if *w != (wide{}) {
		t.Error("key material is left")
	}
}

func FuzzWide(f *testing.F) {
	f.Add(make([]byte, 32), make([]byte, 12), []byte("text"), []byte("more"))
	f.Fuzz(func(t *testing.T, key, nonce, plain, additional []byte) {
		var k Key
		var n [12]byte
		copy(k[:], key)
		copy(n[:], nonce)
		wantSame(t, own(t, &k), standard(t, &k), n[:], plain, additional)
	})
}

// BenchmarkWide is one pass over a link's datagram, beside the standard
// library's, and the expansion of a key.
func BenchmarkWide(b *testing.B) {
	key := Key{1}
	buf, nonce := make([]byte, 1280), make([]byte, 12)
	for _, c := range []struct {
		name string
		aead cipher.AEAD
	}{{"wide", own(b, &key)}, {"standard", standard(b, &key)}} {
		b.Run("seal/"+c.name, func(b *testing.B) {
			for b.Loop() {
				c.aead.Seal(buf[12:12], nonce, buf[12:1264], buf[:12])
			}
		})
		b.Run("open/"+c.name, func(b *testing.B) {
			sealed := c.aead.Seal(nil, nonce, buf[12:1264], buf[:12])
			for b.Loop() {
				if _, err := c.aead.Open(buf[12:12], nonce, sealed, buf[:12]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("key/wide", func(b *testing.B) {
		for b.Loop() {
			newWide(&key)
		}
	})
	b.Run("key/standard", func(b *testing.B) {
		for b.Loop() {
			standard(b, &key)
		}
	})
}
