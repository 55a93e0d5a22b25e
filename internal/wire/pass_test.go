package wire

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func somePass() Pass {
	return Pass{Nonce: [32]byte{1, 31: 2}, Challenge: [32]byte{3, 31: 4}, Key: [32]byte{5, 31: 6}, Authenticator: [PassSignatureSize]byte{7, 255: 8}}
}

func someKeys() PassKeys {
	k := PassKeys{Network: "net", Life: 86400, Issued: 1_700_000_000}
	for i := range PassKeysMax {
		k.Keys = append(k.Keys, PassKey{Begins: int64(1_700_000_000 + i*86400), Modulus: [PassModulusSize]byte{0x80, 255: byte(2*i + 1)}})
	}
	return k
}

// The layouts, with what repeats left out.
func TestPassLayouts(t *testing.T) {
	p, r, k := somePass(), PassRequest{Key: 9, Blinded: [PassSignatureSize]byte{7, 255: 8}}, someKeys()
	zeros := func(n int) string { return hex.EncodeToString(make([]byte, n)) }
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"pass", p.Append(nil), "0002" + "01" + zeros(30) + "02" + "03" + zeros(30) + "04" + "05" + zeros(30) + "06" + "07" + zeros(254) + "08"},
		{"request", r.Append(nil), "0002" + "09" + "07" + zeros(254) + "08"},
		{"challenge", AppendPassChallenge(nil, "net", &[32]byte{1, 31: 2}), "0002" + "0003" + "6e6574" + "20" + "01" + zeros(30) + "02" + "0000"},
		{"keys", k.Append(nil)[:2+3+4+8+1+8+2], "01" + "03" + "6e6574" + "00015180" + "000000006553f100" + "03" + "000000006553f100" + "8000"},
	} {
		if got := hex.EncodeToString(c.b); got != c.want {
			t.Errorf("%s is\n%s, want\n%s", c.name, got, c.want)
		}
	}
	if len(p.Append(nil)) != PassSize || PassSize != 354 || len(r.Append(nil)) != PassRequestSize || PassRequestSize != 259 {
		t.Errorf("a pass has %d bytes, a request %d", PassSize, PassRequestSize)
	}
}

func TestPassesHaveOneEncoding(t *testing.T) {
	p := somePass()
	b := p.Append(nil)
	if got, ok := ParsePass(b); !ok || got != p {
		t.Error("a pass does not come back")
	}
	requests := []PassRequest{{Key: 1, Blinded: [PassSignatureSize]byte{1}}, {Key: 2, Blinded: [PassSignatureSize]byte{2}}}
	batch := requests[1].Append(requests[0].Append(nil))
	if got, ok := ParsePassRequests(batch); !ok || len(got) != 2 || got[0] != requests[0] || got[1] != requests[1] {
		t.Error("a batch does not come back")
	}
	keys := someKeys()
	said := keys.Append(nil)
	got, ok := ParsePassKeys(said)
	if !ok || got.Network != "net" || !bytes.Equal(got.Append(nil), said) {
		t.Error("keys do not come back")
	}
	for i := range b {
		if _, ok := ParsePass(b[:i]); ok {
			t.Errorf("%d bytes of a pass were accepted", i)
		}
	}
	for i := range batch {
		if _, ok := ParsePassRequests(batch[:i]); ok && i != PassRequestSize {
			t.Errorf("%d bytes of a batch were accepted", i)
		}
	}
	for i := range said {
		if _, ok := ParsePassKeys(said[:i]); ok {
			t.Errorf("%d bytes of keys were accepted", i)
		}
	}
	for name, bad := range map[string][]byte{
		"a pass and a byte": append(b, 0), "another type": append([]byte{0, 1}, b[2:]...),
	} {
		if _, ok := ParsePass(bad); ok {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, ok := ParsePassRequests(bytes.Repeat(requests[0].Append(nil), PassBatchMax+1)); ok {
		t.Error("a batch of more than there may be was accepted")
	}
	if _, ok := ParsePassKeys(append(said, 0)); ok {
		t.Error("keys and a byte were accepted")
	}
}

// Keys that overlap, and a life or a time that is none, are no list.
func TestPassKeysAreInOrder(t *testing.T) {
	for name, change := range map[string]func(*PassKeys){
		"no network":   func(k *PassKeys) { k.Network = "" },
		"no life":      func(k *PassKeys) { k.Life = 0 },
		"before 1970":  func(k *PassKeys) { k.Issued = -1 },
		"no key":       func(k *PassKeys) { k.Keys = nil },
		"too many":     func(k *PassKeys) { k.Keys = append(k.Keys, PassKey{Begins: 1 << 40}) },
		"overlap":      func(k *PassKeys) { k.Keys[1].Begins-- },
		"out of order": func(k *PassKeys) { k.Keys[0], k.Keys[1] = k.Keys[1], k.Keys[0] },
	} {
		k := someKeys()
		change(&k)
		if _, ok := ParsePassKeys(k.Append(nil)); ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParsePass(f *testing.F) {
	p, k, r := somePass(), someKeys(), PassRequest{Key: 1}
	f.Add(p.Append(nil))
	f.Add(k.Append(nil))
	f.Add(r.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := ParsePass(b); ok && !bytes.Equal(p.Append(nil), b) {
			t.Error("a pass has two encodings")
		}
		if k, ok := ParsePassKeys(b); ok && !bytes.Equal(k.Append(nil), b) {
			t.Error("keys have two encodings")
		}
		if all, ok := ParsePassRequests(b); ok {
			var again []byte
			for i := range all {
				again = all[i].Append(again)
			}
			if !bytes.Equal(again, b) {
				t.Error("a batch has two encodings")
			}
		}
	})
}
