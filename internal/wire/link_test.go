package wire

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"
)

// linkForm is one message of the link in its own encoding.
type linkForm struct {
	name   string
	prefix string // hex of the first bytes
	size   int
	append func() []byte
	// again parses b and encodes what it found.
	again func(b []byte) ([]byte, int, error)
	spare []int // offsets whose change must be refused
}

func linkForms() []linkForm {
	chunk := func(n int) []byte { return bytes.Repeat([]byte{0xc5}, n) }
	return []linkForm{
		{"init", "0101010a0b0c0d" + "1100", LinkPayloadSize,
			func() []byte {
				m := LinkInit{Part: 1, Index: 0x0a0b0c0d, Nonce: [32]byte{0x11}, Cookie: [16]byte{0x22}, Chunk: chunk(LinkInitChunkSize)}
				return m.Append(nil)
			},
			func(b []byte) ([]byte, int, error) {
				m, n, err := ParseLinkInit(b)
				if err != nil {
					return nil, n, err
				}
				return m.Append(nil), n, nil
			}, []int{0, 1}},
		{"cookie", "02012233", LinkPayloadSize,
			func() []byte { m := LinkCookie{Cookie: [16]byte{0x22, 0x33}}; return m.Append(nil) },
			func(b []byte) ([]byte, int, error) {
				m, n, err := ParseLinkCookie(b)
				if err != nil {
					return nil, n, err
				}
				return m.Append(nil), n, nil
			}, []int{0, 1, 18, 700, LinkPayloadSize - 1}},
		{"resp", "0301000000007bc5", LinkPayloadSize,
			func() []byte { m := LinkResp{Index: 0x7b, Chunk: chunk(LinkRespChunkSize)}; return m.Append(nil) },
			func(b []byte) ([]byte, int, error) {
				m, n, err := ParseLinkResp(b)
				if err != nil {
					return nil, n, err
				}
				return m.Append(nil), n, nil
			}, []int{0, 1}},
		{"init block", "0102000300040000000509", LinkInitBlockSize,
			func() []byte {
				m := LinkInitBlock{Kind: LinkIdentified, Suite: 2, Capabilities: 0x00030004, Continues: 5, Identity: NodeID{9}}
				return m.Append(nil)
			},
			func(b []byte) ([]byte, int, error) {
				m, n, err := ParseLinkInitBlock(b)
				if err != nil {
					return nil, n, err
				}
				return m.Append(nil), n, nil
			}, nil},
		{"resp block", "07010000000300", LinkRespBlockSize,
			func() []byte {
				m := LinkRespBlock{Status: LinkUnsupported, Suite: 1, Capabilities: 3}
				return m.Append(nil)
			},
			func(b []byte) ([]byte, int, error) {
				m, n, err := ParseLinkRespBlock(b)
				if err != nil {
					return nil, n, err
				}
				return m.Append(nil), n, nil
			}, []int{0, 6, LinkRespBlockSize - 1}},
		{"path", "02010203040506070800", LinkPayloadSize,
			func() []byte {
				m := LinkPath{Type: FramePathResponse, Token: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
				return m.Append(nil)
			},
			func(b []byte) ([]byte, int, error) {
				m, n, err := ParseLinkPath(b)
				if err != nil {
					return nil, n, err
				}
				return m.Append(nil), n, nil
			}, []int{9, LinkPayloadSize - 1}},
		{"close", "0300", LinkPayloadSize,
			func() []byte { m := LinkBare{Type: FrameClose}; return m.Append(nil) },
			func(b []byte) ([]byte, int, error) {
				m, n, err := ParseLinkBare(b)
				if err != nil {
					return nil, n, err
				}
				return m.Append(nil), n, nil
			}, []int{0, 1, LinkPayloadSize - 1}},
		{"missing", "06000000000000001f000000004000000500", LinkPayloadSize,
			func() []byte {
				m := LinkMissing{Last: 31}
				m.Add(30)
				m.Add(28)
				m.Add(0)
				return m.Append(nil)
			},
			func(b []byte) ([]byte, int, error) {
				m, n, err := ParseLinkMissing(b)
				if err != nil {
					return nil, n, err
				}
				return m.Append(nil), n, nil
			}, []int{0, 9, 17, LinkPayloadSize - 1}},
	}
}

// What is told is what is read, from the highest counter down.
func TestMissingCounters(t *testing.T) {
	m := LinkMissing{Last: 1000}
	want := []uint64{1000}
	for _, c := range []uint64{999, 990, 936} {
		if !m.Add(c) {
			t.Fatalf("no room for %d", c)
		}
		want = append(want, c)
	}
	if m.Add(935) || m.Add(1000) {
		t.Error("what does not fit was added")
	}
	if got := slices.Collect(m.Each); !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	for c := range m.Each {
		if c != 1000 {
			t.Error("went on after the end")
		}
		break
	}
}

func TestLinkMessages(t *testing.T) {
	for _, f := range linkForms() {
		b := f.append()
		want, _ := hex.DecodeString(f.prefix)
		if len(b) != f.size || !bytes.HasPrefix(b, want) {
			t.Errorf("%s: %d bytes %x, want %d bytes %s", f.name, len(b), b[:12], f.size, f.prefix)
		}
		again, n, err := f.again(b)
		if err != nil || n != len(b) || !bytes.Equal(again, b) {
			t.Errorf("%s: parsed %d bytes, %v; encodes differently: %v", f.name, n, err, !bytes.Equal(again, b))
		}
		for n := range b {
			if _, _, err := f.again(b[:n]); err == nil {
				t.Fatalf("%s: a prefix of %d bytes was accepted", f.name, n)
			}
		}
		for _, at := range f.spare {
			b[at] ^= 0x80
			if _, _, err := f.again(b); err == nil {
				t.Errorf("%s: byte %d may have another value", f.name, at)
			}
			b[at] ^= 0x80
		}
	}
}

func TestLinkInitBlockHasOneForm(t *testing.T) {
	for _, m := range []LinkInitBlock{
		{Kind: LinkIdentified},
		{Kind: LinkAnonymous, Identity: NodeID{1}},
		{Kind: LinkAnonymous, Continues: 3, Identity: NodeID{16: 1}},
		{Kind: 2},
	} {
		if _, _, err := ParseLinkInitBlock(m.Append(nil)); err == nil {
			t.Errorf("%+v was accepted", m)
		}
	}
	if _, _, err := ParseLinkInitBlock((&LinkInitBlock{Continues: 3, Identity: NodeID{15: 1}}).Append(nil)); err != nil {
		t.Error("a client's proof was refused")
	}
}

func TestLinkHeader(t *testing.T) {
	var b [LinkHeaderSize]byte
	PutLinkHeader(b[:], 0x01020304, 0x05060708090a0b0c)
	if hex.EncodeToString(b[:]) != "0102030405060708090a0b0c" {
		t.Errorf("header %x", b)
	}
	if i, c := LinkHeader(b[:]); i != 0x01020304 || c != 0x05060708090a0b0c {
		t.Errorf("read %x %x", i, c)
	}
}

// FuzzLink: no parser of the link panics, and what one accepts encodes to the
// very same bytes.
func FuzzLink(f *testing.F) {
	for i, form := range linkForms() {
		f.Add(uint8(i), form.append())
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		forms := linkForms()
		form := forms[int(which)%len(forms)]
		again, n, err := form.again(b)
		if err == nil && !bytes.Equal(again, b[:n]) {
			t.Errorf("%s: two encodings of one value", form.name)
		}
	})
}
