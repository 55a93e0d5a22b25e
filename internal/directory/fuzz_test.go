package directory

import (
	"bytes"
	"testing"
)

// Whatever parses encodes to the very bytes that were parsed.

func seeds(f *testing.F, names ...string) {
	vectors := readVectors(f)
	for _, name := range names {
		f.Add(vectors[name])
	}
	f.Add([]byte{})
	f.Add([]byte{0xa0})
	f.Add([]byte{0xbf, 0xff})
	f.Add([]byte{0xa1, 0x01, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0xa1, 0x02, 0x9b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
}

func FuzzDocument(f *testing.F) {
	seeds(f, "document")
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDocument(b)
		if err == nil && !bytes.Equal(d.Encode(), b) {
			t.Fatal("encodes otherwise")
		}
		if err == nil {
			NewView(d)
		}
	})
}

func FuzzHeader(f *testing.F) {
	seeds(f, "header")
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHeader(b); err == nil && !bytes.Equal(h.encode(), b) {
			t.Fatal("encodes otherwise")
		}
	})
}

func FuzzEntry(f *testing.F) {
	seeds(f, "entry")
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := ParseEntry(b); err == nil && !bytes.Equal(n.Entry(), b) {
			t.Fatal("encodes otherwise")
		}
	})
}

func FuzzDescriptor(f *testing.F) {
	seeds(f, "descriptor")
	f.Fuzz(func(t *testing.T, b []byte) {
		d, w, err := parseUnverified(b)
		if err != nil {
			return
		}
		facts := factsOf(&d.Node)
		body := marshal(&bodyWire{Format: facts.format(), Identity: d.Identity, facts: facts, Network: d.Network})
		if !bytes.Equal(marshal(&signedWire{Body: body, Signature: w.Signature}), b) {
			t.Fatal("encodes otherwise")
		}
	})
}

func FuzzTable(f *testing.F) {
	seeds(f, "table")
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := ParseTable(b); err == nil && !bytes.Equal(d.Table(), b) {
			t.Fatal("encodes otherwise")
		}
	})
}

// A bucket that parses has the one encoding, or there are two for one root.
func FuzzBucket(f *testing.F) {
	seeds(f, "bucket")
	header, err := parseHeader(readVectors(f)["header"])
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ParseBucket(b, &header); err == nil && !bytes.Equal(k.Encode(), b) {
			t.Fatal("encodes otherwise")
		}
	})
}

func FuzzBulletin(f *testing.F) {
	seeds(f, "bulletin body")
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseBulletinBody(b); err == nil && !bytes.Equal(m.body(), b) {
			t.Fatal("encodes otherwise")
		}
	})
}

func FuzzReport(f *testing.F) {
	seeds(f, "report")
	f.Fuzz(func(t *testing.T, b []byte) {
		r, s, err := parseReport(b)
		if err == nil && !bytes.Equal(marshal(&signedWire{Body: r.body(), Signature: s.Signature}), b) {
			t.Fatal("encodes otherwise")
		}
	})
}
