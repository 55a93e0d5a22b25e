package wire

import (
	"bytes"
	"testing"
)

func repairPayload(mask uint64) []byte {
	b := AppendRepairHeader(nil, mask)
	return append(b, bytes.Repeat([]byte{0xab}, SymbolSize)...)
}

func TestRepairFillsItsPacket(t *testing.T) {
	b := repairPayload(0x8000000000000005)
	if len(b) != SessionPayloadSize || !bytes.Equal(b[:10], unhexFrame(t, "0e 8000000000000005 ab")) {
		t.Fatalf("%d bytes, %x", len(b), b[:10])
	}
	f, err := ParseRepair(64, b)
	if err != nil || f.Mask != 0x8000000000000005 || len(f.Symbol) != SymbolSize {
		t.Fatalf("%+v, %v", f.Mask, err)
	}
	for n := range b {
		if _, err := ParseRepair(64, b[:n]); err == nil {
			t.Errorf("%d bytes of a REPAIR accepted", n)
		}
	}
	for _, c := range []struct {
		own, mask uint64
		ok        bool
	}{{0, 1, false}, {1, 1, true}, {1, 2, false}, {3, 7, true}, {3, 8, false}, {63, 1 << 63, false}, {64, 1 << 63, true}, {9, 0, false}} {
		if _, err := ParseRepair(c.own, repairPayload(c.mask)); (err == nil) != c.ok {
			t.Errorf("mask %#x in packet %d: %v", c.mask, c.own, err)
		}
	}
	b[0] = byte(SFrameRebuilt)
	if _, err := ParseRepair(64, b); err == nil {
		t.Error("another type accepted")
	}
}

func FuzzRepair(f *testing.F) {
	f.Add(uint64(5), repairPayload(3))
	f.Fuzz(func(t *testing.T, own uint64, b []byte) {
		r, err := ParseRepair(own, b)
		if err == nil && !bytes.Equal(append(AppendRepairHeader(nil, r.Mask), r.Symbol...), b) {
			t.Error("another encoding is accepted")
		}
	})
}
