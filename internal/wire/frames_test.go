package wire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"testing"
)

// reencodeFrame parses one frame and encodes it again.
func reencodeFrame(b []byte) (again []byte, n int, err error) {
	switch t := SessionFrameType(b[0]); t {
	case SFrameReset:
		f, n, err := ParseReset(b)
		return f.Append(nil), n, err
	case SFrameStop:
		f, n, err := ParseStop(b)
		return f.Append(nil), n, err
	case SFrameMaxStreamData:
		stream, limit, n, err := ParseMaxStreamData(b)
		return AppendMaxStreamData(nil, stream, limit), n, err
	case SFrameNack:
		f, n, err := ParseNackFrame(b)
		return f.Append(nil), n, err
	case SFrameRebuilt:
		f, n, err := ParseRebuilt(b)
		return f.Append(nil), n, err
	case SFrameClose:
		f, n, err := ParseClose(b)
		if err != nil {
			return nil, 0, err
		}
		return f.Append(nil), n, nil
	case SFrameDatagram:
		f, n, err := ParseDatagram(b)
		return f.Append(nil), n, err
	case SFrameStream, SFrameStreamFin:
		f, n, err := ParseStream(b)
		return append(AppendStreamHeader(nil, f.Stream, f.Offset, len(f.Data), f.Fin), f.Data...), n, err
	case SFramePriority:
		f, n, err := ParsePriority(b)
		return f.Append(nil), n, err
	case SFrameLane:
		f, n, err := ParseLane(b)
		return f.Append(nil), n, err
	case SFrameMessage, SFrameMessageEnd:
		f, n, err := ParseMessage(b)
		return append(AppendMessageHeader(nil, f.Flow, f.Number, f.Offset, len(f.Data), f.End), f.Data...), n, err
	case SFrameAck:
		var f AckFrame
		n, err := f.Parse(b)
		if err != nil {
			return nil, 0, err
		}
		return writeAck(&f), n, nil
	case SFrameMaxData, SFrameMaxStreams, SFrameHeartbeat, SFramePath, SFrameClass:
		v, n, err := ParseValue(b)
		return AppendValue(nil, t, v), n, err
	}
	return nil, 0, ErrFrame
}

func writeAck(f *AckFrame) []byte {
	var w AckWriter
	w.Begin(nil, f.Ranges[0], f.DelayMicros)
	for _, r := range f.Ranges[1:f.N] {
		if !w.Add(r, math.MaxInt) {
			panic("ack writer refused a range")
		}
	}
	return w.End()
}

var frameTable = []struct{ name, hex string }{
	{"reset", "03 05 3f 4400"},
	{"stop", "04 40ff 2a"},
	{"max data", "05 c000000100000000"},
	{"max stream data", "06 04 80010000"},
	{"max streams", "07 4401"},
	{"datagram", "08 03 05 68656c6c6f"},
	{"empty datagram", "08 00 00"},
	{"heartbeat", "09 07"},
	{"path", "0a 01"},
	{"nack", "0b 01 09"},
	{"class", "0c 4064"},
	{"close", "0d 07 03 627965"},
	{"close without words", "0d 00 00"},
	{"rebuilt", "0f 4400 8000000000000001"},
	{"rebuilt of the first", "0f 00 0000000000000001"},
	{"stream", "10 04 4400 03 616263"},
	{"stream end", "11 04 00 00"},
	{"priority", "12 4400 03 09"},
	{"lane", "13 05 ff 01"},
	{"lane removed", "13 07 00 80010000"},
	{"message", "16 04 4400 4401 03 616263"},
	{"message end", "17 04 00 80010000 01 61"},
	{"ack of one", "02 00 00 00 00"},
	{"ack of two ranges", "02 0a 19 01 02 03 01"},
}

func unhexFrame(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	if err != nil {
		t.Fatal(s, err)
	}
	return b
}

func TestFramesHaveOneEncoding(t *testing.T) {
	for _, c := range frameTable {
		b := unhexFrame(t, c.hex)
		again, n, err := reencodeFrame(append(bytes.Clone(b), 0xff, 0xff))
		if err != nil || n != len(b) || !bytes.Equal(again, b) {
			t.Errorf("%s: %x parsed to %x, %d bytes, %v", c.name, b, again, n, err)
		}
		for cut := 1; cut < len(b); cut++ {
			if _, _, err := reencodeFrame(b[:cut]); err == nil {
				t.Errorf("%s: %x accepted", c.name, b[:cut])
			}
		}
	}
}

func TestMalformedFrames(t *testing.T) {
	for _, s := range []string{
		"05 4001",                      // 1 in two bytes
		"05 80000001",                  // 1 in four
		"05 c000000000000001",          // 1 in eight
		"12 00 08 01",                  // lane 8
		"13 08 01 01",                  // weight of lane 8
		"13 00 00 01",                  // lane 0 removed
		"12 00 01 c000000100000000",    // version of 33 bits
		"07 d000000000000001",          // more streams than ids
		"0d 01 c9",                     // reason of 201 bytes
		"02 05 00 40 00",               // 65 ranges
		"02 05 00 00 06",               // range below 0
		"02 05 00 01 02 02 00",         // second range below 0
		"02 05 00 01 02 00 02",         // second range reaches below 0
		"10 00 ffffffffffffffff 01 61", // offset past the end
		"08 00 4414",                   // datagram of 1044 bytes, cut
		"0f 05 0000000000000000",       // nothing rebuilt
		"0f 05 0000000000000040",       // rebuilt below 0
		"0e 0000000000000001",          // REPAIR is no frame among others
		"16 00 00 00 00",               // fragment without data
		"17 00 00 80010100 01 61",      // message past its greatest size
		"16 00 00 ffffffffffffffff 01 61",
	} {
		if _, _, err := reencodeFrame(unhexFrame(t, s)); err == nil {
			t.Errorf("%s accepted", s)
		}
	}
	big := append(AppendVarint([]byte{byte(SFrameDatagram), 0}, MaxDatagramSize+1), make([]byte, MaxDatagramSize+1)...)
	if _, _, err := ParseDatagram(big); err == nil {
		t.Error("datagram larger than the greatest accepted")
	}
}

func TestVarint(t *testing.T) {
	for _, v := range []uint64{0, 1, 63, 64, 16383, 16384, 1<<30 - 1, 1 << 30, MaxVarint} {
		b := AppendVarint(nil, v)
		if got, n := ParseVarint(b); got != v || n != len(b) || n != VarintLen(v) {
			t.Errorf("%d: %x parsed to %d, %d bytes", v, b, got, n)
		}
		if _, n := ParseVarint(b[:len(b)-1]); n != 0 {
			t.Errorf("%d: cut encoding accepted", v)
		}
	}
}

func TestAckFrameOfManyRanges(t *testing.T) {
	var f, g AckFrame
	f.DelayMicros, f.N = 77, MaxAckRanges
	for i := range f.N {
		f.Ranges[i] = AckRange{Lo: uint64(10_000 - i*100), Hi: uint64(10_000 - i*100 + i)}
	}
	b := writeAck(&f)
	if n, err := g.Parse(b); err != nil || n != len(b) || g != f || n > MaxAckSize {
		t.Errorf("%d bytes, %v", n, err)
	}
	var w AckWriter
	w.Begin(nil, f.Ranges[0], 0)
	if w.Add(f.Ranges[1], len(w.End())) {
		t.Error("a range was added past the limit")
	}
	if n := testing.AllocsPerRun(100, func() { g.Parse(b) }); n != 0 {
		t.Errorf("%.0f allocations", n)
	}
}

func TestStreamRoomIsExact(t *testing.T) {
	for _, offset := range []uint64{0, 100, 1 << 20, 1 << 40} {
		for room := range 200 {
			for _, size := range []int{0, 1, 50, 62, 63, 64, 65, 66, 150, 1000} {
				n := StreamRoom(5, offset, size, room)
				if n < 0 {
					if StreamHeaderLen(5, offset, 0) <= room {
						t.Fatalf("room %d: header fits", room)
					}
					continue
				}
				if used := StreamHeaderLen(5, offset, n) + n; used > room {
					t.Fatalf("room %d, size %d: %d bytes make %d", room, size, n, used)
				}
				if n < size && StreamHeaderLen(5, offset, n+1)+n+1 <= room {
					t.Fatalf("room %d, size %d: only %d", room, size, n)
				}
			}
		}
	}
}

func TestCodesHaveNames(t *testing.T) {
	for c := CodeNone; c <= CodeKeys; c++ {
		if c.String() == CodeApplication.String() {
			t.Errorf("code %#x has no name", uint8(c))
		}
	}
	if CodeCapability != 0x07 {
		t.Error("an unknown required capability must close with 0x07")
	}
}

// FuzzSessionFrame parses any frame; what is accepted has that one encoding.
func FuzzSessionFrame(f *testing.F) {
	for _, c := range frameTable {
		f.Add(unhexFrame(f, c.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		if again, n, err := reencodeFrame(b); err == nil && !bytes.Equal(again, b[:n]) {
			t.Errorf("%x parsed and became %x", b[:n], again)
		}
	})
}

func ExampleAppendVarint() {
	fmt.Printf("%x %x\n", AppendVarint(nil, 37), AppendVarint(nil, 15293))
	// Output: 25 7bbd
}
