package seal

import (
	"bytes"
	"testing"
)

func TestBox(t *testing.T) {
	key, salt := Key{1}, [BoxSaltSize]byte{2}
	plain, additional := []byte("a secret"), []byte("its name")
	box := SealBox(&key, &salt, []byte("head"), plain, additional)[4:]
	if len(box) != len(plain)+BoxOverhead {
		t.Fatalf("%d bytes", len(box))
	}
	if out, ok := OpenBox(&key, nil, box, additional); !ok || !bytes.Equal(out, plain) {
		t.Fatalf("opened %q, %v", out, ok)
	}
	other := Key{2}
	if _, ok := OpenBox(&other, nil, box, additional); ok {
		t.Error("opened with another key")
	}
	if _, ok := OpenBox(&key, nil, box, []byte("another")); ok {
		t.Error("opened under another name")
	}
	for i := range box {
		bad := bytes.Clone(box)
		bad[i] ^= 1
		if _, ok := OpenBox(&key, nil, bad, additional); ok {
			t.Errorf("opened with byte %d changed", i)
		}
		if _, ok := OpenBox(&key, nil, box[:i], additional); ok {
			t.Errorf("opened %d bytes of it", i)
		}
	}
	if again := SealBox(&key, &[BoxSaltSize]byte{3}, nil, plain, additional); bytes.Equal(again[BoxSaltSize:], box[BoxSaltSize:]) {
		t.Error("another salt gives the same box")
	}
}
