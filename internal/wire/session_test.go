package wire

import (
	"bytes"
	"testing"
)

func TestSessionPacketHeader(t *testing.T) {
	b := make([]byte, SessionPacketSize)
	PutSessionHeader(b, SessionData|SessionPhaseBit, 0x01020304, 0x1_aabbccdd)
	if !bytes.Equal(b[:9], []byte{0x84, 1, 2, 3, 4, 0xaa, 0xbb, 0xcc, 0xdd}) {
		t.Errorf("header %x", b[:9])
	}
	if SessionPacketKind(b) != SessionData || SessionPacketID(b) != 0x01020304 || SessionPacketNumber(b) != 0xaabbccdd {
		t.Error("header does not parse")
	}
	for _, bad := range []byte{0x80, 0x83, 0x85, 0xff} {
		if b[0] = bad; SessionPacketKind(b) != 255 {
			t.Errorf("kind %#x accepted", bad)
		}
	}
	if SessionPacketKind(b[:5]) != 255 || SessionPacketID(b[:5]) != 0 {
		t.Error("a short packet has a kind")
	}
}

func TestExpandNumber(t *testing.T) {
	for _, c := range []struct {
		expected uint64
		low      uint32
		want     uint64
	}{
		{0, 0, 0}, {1, 0, 0}, {100, 90, 90}, {0xfffffff0, 5, 0x1_00000005}, {0x1_00000005, 0xfffffff0, 0xfffffff0},
		{0x5_80000000, 0x80000001, 0x5_80000001}, {10, 0xfffffff0, 0xfffffff0}, {0x2_00000000, 0x7fffffff, 0x2_7fffffff},
	} {
		if got := ExpandNumber(c.expected, c.low); got != c.want {
			t.Errorf("expected %#x, low %#x: %#x, want %#x", c.expected, c.low, got, c.want)
		}
	}
}

func TestSessionParts(t *testing.T) {
	for _, size := range []int{1, 1069, 1070, 1071, 2140, 2141, MaxHelloSize} {
		message := bytes.Repeat([]byte{7}, size)
		var got []byte
		for i := range SessionParts(size) {
			b := bytes.Repeat([]byte{9}, SessionPacketSize)
			PutSessionPart(b, SessionHello, 5, message, i)
			p, ok := ParseSessionPart(b)
			if !ok || p.ID != 5 || int(p.Part) != i || int(p.Length) != size {
				t.Fatalf("size %d part %d: %+v", size, i, p)
			}
			got = append(got, p.Chunk...)
			if len(p.Chunk) < SessionChunkSize {
				b[SessionPacketSize-1] = 1
				if _, ok := ParseSessionPart(b); ok {
					t.Error("bytes after the chunk accepted")
				}
			}
		}
		if !bytes.Equal(got, message) {
			t.Errorf("size %d: parts do not join", size)
		}
	}
	for _, head := range [][]byte{{0, 0, 0, 1}, {0, 2, 0, 1}, {1, 1, 0, 1}, {0, 4, 0x10, 0}, {0, 1, 0, 0}} {
		b := make([]byte, SessionPacketSize)
		copy(b[5:], head)
		if _, ok := ParseSessionPart(b); ok {
			t.Errorf("part %x accepted", head)
		}
	}
	if _, ok := ParseSessionPart(make([]byte, 100)); ok {
		t.Error("short part accepted")
	}
}

func testHello() HelloHead {
	return HelloHead{KEM: 1, Suite: 1, ID: 2, Proposed: 3, Random: [32]byte{4}, Key: make([]byte, 1216), Ciphertext: make([]byte, kemCipherSize)}
}

func TestHelloRoundTrip(t *testing.T) {
	h := testHello()
	b := append(h.Append(nil), make([]byte, 40)...)
	got, err := ParseHello(b)
	if err != nil || got.ID != 2 || got.Proposed != 3 || got.Random != h.Random || len(got.Sealed) != 40 || len(h.Append(nil)) != HelloHeadSize(1) {
		t.Errorf("%v %+v", err, got.ID)
	}
	if again := append(got.Append(nil), got.Sealed...); !bytes.Equal(again, b) {
		t.Error("encodes differently")
	}
	for _, n := range []int{0, 1, helloFixedSize - 1, HelloHeadSize(1), HelloHeadSize(1) + TagSize - 1} {
		if _, err := ParseHello(b[:n]); err == nil {
			t.Errorf("HELLO of %d bytes accepted", n)
		}
	}
	for at, what := range []string{"version", "KEM"} { // 0 and 1
		strange := bytes.Clone(b)
		strange[at] = 9
		got, err := ParseHello(strange)
		if err != ErrVersion || got.ID != 2 || len(got.Ciphertext) != kemCipherSize || got.Key != nil || got.Sealed != nil {
			t.Errorf("unknown %s: %v %+v", what, err, got.ID)
		}
	}
	for kem, most := range map[uint8]int{1: MaxFirstFlight, 2: 3 * SessionChunkSize} {
		b := make([]byte, most+1)
		b[0], b[1] = SessionVersion, kem
		if _, err := ParseHello(b); err == nil {
			t.Errorf("too long HELLO with KEM %d accepted", kem)
		}
		if h, err := ParseHello(b[:most]); err != nil || len(h.Sealed) != h.Room()+TagSize {
			t.Errorf("greatest HELLO with KEM %d: %v", kem, err)
		}
	}
	block := HelloBlock{Time: 9, Capabilities: []byte("caps"), Frames: []byte("frames")}
	e := block.Append(nil)
	back, err := ParseHelloBlock(e)
	if err != nil || back.Time != 9 || string(back.Capabilities) != "caps" || string(back.Frames) != "frames" {
		t.Errorf("block %+v %v", back, err)
	}
	for n := range 10 {
		if _, err := ParseHelloBlock(e[:n]); err == nil {
			t.Errorf("block of %d bytes accepted", n)
		}
	}
}

func TestHelloByTicketRoundTrip(t *testing.T) {
	for kem := uint8(1); kem <= 2; kem++ {
		h := testHello()
		h.KEM, h.Key, h.Ciphertext = kem, bytes.Repeat([]byte{7}, kemSizes[kem].public), nil
		h.Ticket = bytes.Repeat([]byte{8}, TicketSize)
		b := append(h.Append(nil), make([]byte, 40)...)
		got, err := ParseHello(b)
		if err != nil || got.Suite != h.Suite || !bytes.Equal(got.Ticket, h.Ticket) || !bytes.Equal(got.Key, h.Key) || got.Ciphertext != nil || len(got.Sealed) != 40 {
			t.Errorf("KEM %d: %v", kem, err)
		}
		if again := append(got.Append(nil), got.Sealed...); !bytes.Equal(again, b) {
			t.Error("encodes differently")
		}
		for n := range h.Size() + TagSize {
			if _, err := ParseHello(b[:n]); err == nil {
				t.Fatalf("HELLO of %d bytes accepted", n)
			}
		}
	}
	r := ReplyBlock{ID: 99, Capabilities: []byte("caps"), Ticket: bytes.Repeat([]byte{8}, TicketSize)}
	e := r.Append(nil)
	if back, err := ParseReplyBlock(e); err != nil || !bytes.Equal(back.Ticket, r.Ticket) || string(back.Capabilities) != "caps" {
		t.Errorf("%+v %v", back, err)
	}
	for n := range len(e) {
		if back, err := ParseReplyBlock(e[:n]); err == nil && back.Ticket != nil {
			t.Errorf("block of %d bytes has a ticket", n)
		}
	}
}

func TestReplyRoundTrip(t *testing.T) {
	r := ReplyBlock{Status: 7, Early: true, ID: 99, Capabilities: []byte("caps")}
	e := r.Append(nil)
	back, err := ParseReplyBlock(e)
	if err != nil || back.Status != 7 || !back.Early || back.ID != 99 || string(back.Capabilities) != "caps" {
		t.Errorf("%+v %v", back, err)
	}
	for n := range len(e) {
		if _, err := ParseReplyBlock(e[:n]); err == nil {
			t.Errorf("block of %d bytes accepted", n)
		}
	}
	if _, err := ParseReplyBlock(append(e, 0)); err == nil {
		t.Error("bytes after the block accepted")
	}
	if e[1] = 2; func() bool { _, err := ParseReplyBlock(e); return err == nil }() {
		t.Error("second encoding of true accepted")
	}
	for kem, head := range map[uint8]int{1: 1120, 2: 1600} {
		for _, n := range []int{0, RefusalSize, head, head + TagSize - 1, MaxReplySize + 1} {
			if _, _, err := ParseReply(kem, make([]byte, n)); err == nil {
				t.Errorf("REPLY of %d bytes to KEM %d accepted", n, kem)
			}
		}
	}
	told := append(HelloRefusal{Version: 3, KEM: 2}.Append(nil), make([]byte, TagSize)...)
	for n := range len(told) + 2 {
		got, tag, err := ParseHelloRefusal(append(told, 0)[:n])
		if (err == nil) != (n == RefusalSize) || err == nil && (got != HelloRefusal{3, 2} || len(tag) != TagSize) {
			t.Errorf("refusal of %d bytes: %+v %v", n, got, err)
		}
	}
}

func TestCapabilitiesHaveOneEncoding(t *testing.T) {
	c := Capabilities{Required: []uint16{1}, Optional: []uint16{2, 300}, SessionWindow: 1 << 20, StreamWindow: 1 << 18, Streams: 1024, AckDelayMicros: 2000}
	b := c.Append(nil)
	back, err := ParseCapabilities(b)
	if err != nil || back.Streams != 1024 || len(back.Optional) != 2 || back.Optional[1] != 300 {
		t.Errorf("%+v %v", back, err)
	}
	for n := range len(b) {
		if _, err := ParseCapabilities(b[:n]); err == nil {
			t.Errorf("%d bytes accepted", n)
		}
	}
	for name, bad := range map[string][]byte{
		"bytes after":     append(bytes.Clone(b), 0),
		"indefinite map":  append(append([]byte{0xbf}, b[1:]...), 0xff),
		"unknown key":     {0xa5, 3, 0, 4, 0, 5, 0, 6, 0, 9, 0},
		"twice a key":     {0xa5, 3, 0, 3, 0, 4, 0, 5, 0, 6, 0},
		"key missing":     {0xa3, 3, 0, 4, 0, 5, 0},
		"out of order":    {0xa4, 4, 0, 3, 0, 5, 0, 6, 0},
		"long zero":       {0xa4, 3, 0x18, 0, 4, 0, 5, 0, 6, 0},
		"empty list":      {0xa5, 1, 0x80, 3, 0, 4, 0, 5, 0, 6, 0},
		"delay too great": {0xa4, 3, 0, 4, 0, 5, 0, 6, 0x1b, 0, 0, 0, 1, 0, 0, 0, 0},
		"too long":        make([]byte, MaxCapabilities+1),
	} {
		if _, err := ParseCapabilities(bad); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	if _, err := ParseCapabilities([]byte{0xa4, 3, 0, 4, 0, 5, 0, 6, 0}); err != nil {
		t.Errorf("control: %v", err)
	}
}

func FuzzHello(f *testing.F) {
	h := testHello()
	f.Add(append(h.Append(nil), make([]byte, 40)...), HelloBlock{Capabilities: []byte{0xa0}}.Append(nil))
	strong := HelloHead{KEM: 2, Suite: 1, ID: 2, Key: make([]byte, 1600), Ciphertext: make([]byte, kemCipherSize)}
	f.Add(append(strong.Append(nil), make([]byte, 40)...), []byte{})
	f.Fuzz(func(t *testing.T, message, block []byte) {
		if h, err := ParseHello(message); err == nil && !bytes.Equal(append(h.Append(nil), h.Sealed...), message) {
			t.Error("HELLO has two encodings")
		}
		if b, err := ParseHelloBlock(block); err == nil && !bytes.Equal(b.Append(nil), block) {
			t.Error("block has two encodings")
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add(make([]byte, 1200), ReplyBlock{ID: 1, Capabilities: []byte{0xa0}}.Append(nil))
	f.Fuzz(func(t *testing.T, message, block []byte) {
		for _, kem := range []uint8{1, 2} {
			if c, s, err := ParseReply(kem, message); err == nil && len(c)+len(s) != len(message) {
				t.Error("REPLY does not split")
			}
		}
		if b, err := ParseReplyBlock(block); err == nil && !bytes.Equal(b.Append(nil), block) {
			t.Error("block has two encodings")
		}
	})
}

func FuzzCapabilities(f *testing.F) {
	c := Capabilities{Optional: []uint16{1, 2, 3}, Streams: 5}
	f.Add(c.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCapabilities(b); err == nil && !bytes.Equal(c.Append(nil), b) {
			t.Errorf("%x has two encodings", b)
		}
	})
}

func FuzzSessionPart(f *testing.F) {
	b := make([]byte, SessionPacketSize)
	PutSessionPart(b, SessionHello, 5, make([]byte, 1200), 1)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := ParseSessionPart(b)
		if !ok {
			return
		}
		message := make([]byte, p.Length)
		copy(message[int(p.Part)*SessionChunkSize:], p.Chunk)
		again := make([]byte, SessionPacketSize)
		PutSessionPart(again, SessionKind(b[0]), p.ID, message, int(p.Part))
		if !bytes.Equal(again, b) {
			t.Error("part has two encodings")
		}
	})
}
