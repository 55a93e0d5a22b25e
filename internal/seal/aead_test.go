package seal

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestAEADOpensOnlyWhatWasSealed(t *testing.T) {
	for _, suite := range []Suite{AES256GCM, ChaCha20Poly1305} {
		key := Key{1}
		a := NewAEAD(suite, &key)
		plain, additional := count(0, 40), count(5, 12)
		sealed := a.Seal(nil, plain, additional, 7)
		if len(sealed) != len(plain)+Overhead {
			t.Fatalf("suite %d: sealed size %d", suite, len(sealed))
		}
		if out, ok := a.Open(nil, sealed, additional, 7); !ok || !bytes.Equal(out, plain) {
			t.Fatalf("suite %d does not open its own", suite)
		}
		for bit := range 8 * len(sealed) {
			sealed[bit/8] ^= 1 << (bit % 8)
			if _, ok := a.Open(nil, sealed, additional, 7); ok {
				t.Fatalf("suite %d: bit %d may be flipped", suite, bit)
			}
			sealed[bit/8] ^= 1 << (bit % 8)
		}
		other := NewAEAD(suite, &Key{2})
		if _, ok := a.Open(nil, sealed, additional, 8); ok {
			t.Error("opened under another counter")
		}
		if _, ok := a.Open(nil, sealed, nil, 7); ok {
			t.Error("opened without its additional data")
		}
		if _, ok := other.Open(nil, sealed, additional, 7); ok {
			t.Error("opened under another key")
		}
		if _, ok := a.Open(nil, sealed[:Overhead-1], additional, 7); ok {
			t.Error("opened less than a tag")
		}
	}
}

func TestAEADInPlaceWithoutAllocation(t *testing.T) {
	for suite, allowed := range map[Suite]float64{AES256GCM: 0, ChaCha20Poly1305: 2 * chachaAllocations} {
		a := NewAEAD(suite, &Key{3})
		b := make([]byte, 1280)
		copy(b[12:], "in place")
		n := testing.AllocsPerRun(100, func() {
			a.Seal(b[12:12], b[12:1264], b[:12], 5)
			if _, ok := a.Open(b[12:12], b[12:], b[:12], 5); !ok {
				t.Fatal("does not open")
			}
		})
		if n > allowed || string(b[12:20]) != "in place" {
			t.Errorf("suite %d: %.1f allocations of %.0f allowed, %q", suite, n, allowed, b[12:20])
		}
	}
}

// A failed Open leaves zero or the sealed bytes behind, never plaintext.
func TestFailedOpenReveals(t *testing.T) {
	for _, suite := range []Suite{AES256GCM, ChaCha20Poly1305} {
		a := NewAEAD(suite, &Key{3})
		plain := bytes.Repeat([]byte("secret"), 50)
		sealed := a.Seal(nil, plain, nil, 1)
		sealed[len(sealed)-1] ^= 1
		if a.Open(sealed[:0], sealed, nil, 1); bytes.Contains(sealed, []byte("secret")) {
			t.Errorf("suite %d left plaintext behind", suite)
		}
	}
}

func TestSuitesAndForget(t *testing.T) {
	if !Preferred().Valid() || Suite(0).Valid() || Suite(3).Valid() {
		t.Error("suites")
	}
	var a AEAD
	if a.Ready() {
		t.Error("ready without a key")
	}
	a.Init(AES256GCM, &Key{})
	if !a.Ready() {
		t.Error("not ready with a key")
	}
	if a.Forget(); a.Ready() {
		t.Error("ready after Forget")
	}
	defer func() {
		if recover() == nil {
			t.Error("an invalid suite was accepted")
		}
	}()
	NewAEAD(9, &Key{})
}

func TestXORKeyStreamIsItsOwnInverse(t *testing.T) {
	b := count(0, 1000)
	XORKeyStream(&Key{1}, b)
	if bytes.Equal(b, count(0, 1000)) {
		t.Error("nothing changed")
	}
	other := append([]byte(nil), b...)
	XORKeyStream(&Key{2}, other)
	XORKeyStream(&Key{1}, b)
	if !bytes.Equal(b, count(0, 1000)) || bytes.Equal(other, b) {
		t.Error("not an inverse")
	}
}

func BenchmarkAEAD(b *testing.B) {
	for _, c := range []struct {
		name  string
		suite Suite
	}{{"aes", AES256GCM}, {"chacha", ChaCha20Poly1305}} {
		b.Run(c.name, func(b *testing.B) {
			a := NewAEAD(c.suite, &Key{})
			buf := make([]byte, 1280)
			b.ReportAllocs()
			for b.Loop() {
				a.Seal(buf[12:12], buf[12:1264], nil, 1)
			}
		})
	}
}

// Published vectors whose nonces have our form (four zero bytes, counter).
func TestAEADPublished(t *testing.T) {
	// NIST GCM, test case 14: AES-256, everything zero.
	got := NewAEAD(AES256GCM, &Key{}).Seal(nil, make([]byte, 16), nil, 0)
	if hex.EncodeToString(got) != "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919" {
		t.Errorf("AES-256-GCM: %x", got)
	}
	// RFC 8439, appendix A.5.
	key, _ := hex.DecodeString("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0")
	additional, _ := hex.DecodeString("f33388860000000000004e91")
	text := "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, or obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference material or to cite them other than as /“work in progress./”"
	got = NewAEAD(ChaCha20Poly1305, (*Key)(key)).Seal(nil, []byte(text), additional, 0x0102030405060708)
	if tag := hex.EncodeToString(got[len(got)-Overhead:]); tag != "eead9d67890cbb22392336fea1851f38" || hex.EncodeToString(got[:8]) != "64a0861575861af4" {
		t.Errorf("ChaCha20-Poly1305: %x, tag %s", got[:8], tag)
	}
}

// Once gives what an AEAD gives, for keys in any order, allocates nothing where
// the suite is this package's own, and keeps no key.
func TestOnce(t *testing.T) {
	var once Once
	for i := range byte(20) {
		suite, key := []Suite{AES256GCM, ChaCha20Poly1305}[i%3/2], Key{i % 5}
		plain, additional := count(0, 100), count(3, 12)
		want := NewAEAD(suite, &key).Seal(nil, plain, additional, uint64(i))
		got := once.Seal(suite, &key, nil, plain, additional, uint64(i))
		if !bytes.Equal(got, want) {
			t.Fatalf("suite %d, key %d: another result than that of an AEAD", suite, key[0])
		}
		if out, ok := once.Open(suite, &key, nil, got, additional, uint64(i)); !ok || !bytes.Equal(out, plain) {
			t.Fatalf("suite %d, key %d: does not open its own", suite, key[0])
		}
		if w, ok := once.aead.cipher.(*wide); ok && *w != (wide{}) || !ok && once.aead.Ready() {
			t.Fatal("a key is kept")
		}
	}
	if newWide(&Key{}) == nil {
		return
	}
	b, key := make([]byte, 1280), Key{7}
	once.Seal(AES256GCM, &key, b[:0], b[:100], nil, 1)
	if n := testing.AllocsPerRun(100, func() { once.Seal(AES256GCM, &key, b[:0], b[:1264], nil, 1) }); n != 0 {
		t.Errorf("%.1f allocations a message", n)
	}
}
