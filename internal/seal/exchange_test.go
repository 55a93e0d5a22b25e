package seal

import (
	"encoding/hex"
	"errors"
	"testing"
)

// RFC 7748, sections 5.2 and 6.1.
func TestMultVectors(t *testing.T) {
	read := func(s string) (b [32]byte) { hex.Decode(b[:], []byte(s)); return b }
	k, u := Scalar(read("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")), Point(read("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"))
	p, err := Mult(&k, &u)
	if want := Point(read("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")); err != nil || p != want {
		t.Errorf("%x, want %x, %v", p, want, err)
	}
	bob := Scalar(read("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
	if p, want := BaseMult(&bob), Point(read("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")); p != want {
		t.Errorf("%x, want %x", p, want)
	}
}

func TestMultCommutesAndRefusesLowOrder(t *testing.T) {
	x, y, z := Scalar{1, 2}, Scalar{3, 4, 31: 0xff}, Scalar{5, 6}
	p := BaseMult(&x)
	yz, _ := Mult(&y, &p)
	yz, _ = Mult(&z, &yz)
	zy, _ := Mult(&z, &p)
	zy, _ = Mult(&y, &zy)
	if yz != zy || yz == p {
		t.Error("the order of scalars matters")
	}
	for _, low := range []Point{{}, {1}} {
		if _, err := Mult(&x, &low); !errors.Is(err, ErrKEM) {
			t.Errorf("point %x: %v", low[:1], err)
		}
	}
}
