package translog

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/nyxnet/nyx/internal/directory"
)

func (w *world) verify(entry, proof []byte) error {
	p, err := ParseProof(proof)
	if err != nil {
		return err
	}
	_, err = w.policy.Verify(entry, p)
	return err
}

// A document in a log that enough witnesses have seen is believed; one that is in
// none is not, whatever proof comes with it.
func TestDocumentsMustBeInALog(t *testing.T) {
	w := newWorld(t)
	l := w.log(7, 7)
	c, note := w.cosigned(l, 0, 0, 2)
	proof := w.prove(l, 4, c, note)
	if err := w.verify(l.Entry(4), proof); err != nil {
		t.Fatal(err)
	}
	t.Logf("proof of %d bytes, checkpoint of %d", len(proof), len(note))

	for name, entry := range map[string][]byte{"another document": w.entry(testEpoch+4, 9), "its neighbour": l.Entry(3)} {
		if err := w.verify(entry, proof); !errors.Is(err, ErrNotLogged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.Prove(directory.Mark{Epoch: 1}, c, note); !errors.Is(err, ErrNotLogged) {
		t.Errorf("a proof of what is not there: %v", err)
	}
	// The log's owner alone, or one witness, is not enough.
	for _, by := range [][]int{nil, {0}} {
		c, note := w.cosigned(l, 0, by...)
		if err := w.verify(l.Entry(4), w.prove(l, 4, c, note)); !errors.Is(err, ErrNotLogged) || !errors.Is(err, ErrWitnesses) {
			t.Errorf("with %d witnesses: %v", len(by), err)
		}
	}
	// Nor is the same witness twice.
	twice := slices.Concat(w.prove(l, 4, c, cosignedBy(t, w, l, 0)), lastLine(cosignedBy(t, w, l, 0)))
	if err := w.verify(l.Entry(4), twice); !errors.Is(err, ErrWitnesses) {
		t.Errorf("one witness twice: %v", err)
	}
	// A stranger's log is nobody's.
	stranger := *w.policy
	stranger.Authorities = w.policy.Authorities[1:]
	p, _ := ParseProof(proof)
	if _, err := stranger.Verify(l.Entry(4), p); !errors.Is(err, ErrOrigin) {
		t.Errorf("a log that is none of the network's: %v", err)
	}
}

func cosignedBy(t *testing.T, w *world, l *Log, i int) []byte {
	t.Helper()
	_, note := w.cosigned(l, 0, i)
	return note
}

func lastLine(note []byte) []byte {
	i := bytes.LastIndexByte(note[:len(note)-1], '\n')
	return note[i+1:]
}

// No byte of a proof can be changed: each is either refused or, in a signature's
// base64, refused with it.
func TestEveryByteOfAProofCounts(t *testing.T) {
	w := newWorld(t)
	l := w.log(5, 5)
	c, note := w.cosigned(l, 0, 0, 1)
	proof := w.prove(l, 2, c, note)
	step := 1
	if testing.Short() {
		step = 37
	}
	text := bytes.Index(proof, []byte("\n— "))
	for i := 0; i < len(proof); i++ {
		if i > text && i%(step*101) != 0 {
			continue // signatures are checked as a whole
		}
		bad := slices.Clone(proof)
		bad[i] ^= 1
		if err := w.verify(l.Entry(2), bad); err == nil {
			t.Fatalf("byte %d of %d changed, and believed", i, len(proof))
		}
	}
}

// Every pair of sizes up to 40: inclusion and consistency hold, and neither
// survives a wrong leaf.
func TestProofsOfAllSizes(t *testing.T) {
	w := newWorld(t)
	l := w.log(40, 40)
	for n := int64(1); n <= l.Size(); n++ {
		root, err := l.Root(n)
		if err != nil {
			t.Fatal(err)
		}
		to := Checkpoint{"x", n, root}
		for m := int64(1); m <= n; m++ {
			path, err := l.Inclusion(m-1, n)
			if err != nil || tlog.CheckRecord(path, n, root, m-1, tlog.RecordHash(l.Entry(m-1))) != nil {
				t.Fatalf("entry %d of %d: %v", m-1, n, err)
			}
			first, _ := l.Root(m)
			proof, err := l.Consistency(m, n)
			if err != nil || goesOn(Checkpoint{"x", m, first}, to, proof) != nil {
				t.Fatalf("from %d to %d: %v", m, n, err)
			}
			first[0] ^= 1
			if goesOn(Checkpoint{"x", m, first}, to, proof) == nil {
				t.Fatalf("from another root of %d to %d entries", m, n)
			}
		}
	}
}

// What the log serves as tiles is the same tree.
func TestTiles(t *testing.T) {
	w := newWorld(t)
	l := &Log{}
	head := w.entry(testEpoch, 0)
	for range 300 {
		if _, err := l.Append(head); err != nil {
			t.Fatal(err)
		}
	}
	for path, size := range map[string]int{
		"tile/0/000": 256 * 32, "tile/0/001.p/44": 44 * 32, "tile/1/000.p/1": 32,
		"tile/entries/000": 256 * (2 + len(head)), "tile/entries/001.p/44": 44 * (2 + len(head)),
	} {
		if b, err := l.Tile(path); err != nil || len(b) != size {
			t.Errorf("%s has %d bytes, want %d: %v", path, len(b), size, err)
		}
	}
	if a, b := BundlePath(0, 300), BundlePath(1, 300); a != "tile/entries/000" || b != "tile/entries/001.p/44" {
		t.Errorf("bundles %s and %s", a, b)
	}
	for _, path := range []string{"", "tile", "tile/8/000", "tile/-1/000", "tile/data/000", "tile/0/001", "tile/entries/001", "tile/entries/x", "tile/8/0/000", "tile/0/000.p/999"} {
		if _, err := l.Tile(path); err == nil {
			t.Errorf("%q is a tile", path)
		}
	}
	bundle, _ := l.Tile("tile/entries/001.p/44")
	entries, rest := ParseEntries(bundle)
	if len(entries) != 44 || len(rest) != 0 {
		t.Errorf("%d entries, %d bytes over", len(entries), len(rest))
	}
	if entries, rest = ParseEntries(bundle[:len(bundle)-1]); len(entries) != 43 || len(rest) == 0 {
		t.Errorf("cut: %d entries, %d bytes over", len(entries), len(rest))
	}
}

func TestPolicyCheck(t *testing.T) {
	w := newWorld(t)
	keys := w.policy.Witnesses
	for _, c := range []struct {
		name      string
		witnesses [][]byte
		threshold int
		ok        bool
	}{
		{"none", nil, 0, true},
		{"2 of 3", keys, 2, true},
		{"1 of 1", keys[:1], 1, true},
		{"half", keys[:2], 1, false},
		{"none of 3", keys, 0, false},
		{"too many", keys, 4, false},
		{"twice", [][]byte{keys[0], keys[0]}, 2, false},
		{"an authority", [][]byte{w.policy.Authorities[0]}, 1, false},
		{"short", [][]byte{keys[0][:100]}, 1, false},
		{"17", slices.Repeat(keys[:1], 17), 9, false},
	} {
		p := Policy{Network: testNetwork, Authorities: w.policy.Authorities, Witnesses: c.witnesses, Threshold: c.threshold}
		if err := p.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if p.Demanded() != (c.threshold > 0) {
			t.Errorf("%s: demanded %v", c.name, p.Demanded())
		}
	}
}

func FuzzParse(f *testing.F) {
	w := newWorld(f)
	l := w.log(3, 3)
	c, note := w.head(l, 0)
	f.Add(w.prove(l, 1, c, note))
	f.Add((&Request{Old: 1, Proof: make([]tlog.Hash, 2), Note: note}).Encode())
	f.Add((&Evidence{Kind: KindLog, Network: testNetwork, Checkpoints: []string{string(note), string(note)}}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParseProof(b); err == nil && !bytes.Equal(p.Encode(), b) {
			t.Error("a proof of two forms")
		}
		if r, err := ParseRequest(b); err == nil {
			w.witnesses[0].Cosign(r, 0)
		}
		if e, err := ParseEvidence(b); err == nil {
			e.Judge(w.policy, w.trust)
		}
		ParseEntries(b)
		l.Tile(string(b))
	})
}

func BenchmarkEpoch(b *testing.B) {
	w := newWorld(b)
	l := &Log{}
	entry := w.entry(testEpoch, 0)
	for range 10_000 {
		if _, err := l.Append(entry); err != nil {
			b.Fatal(err)
		}
	}
	_, first := w.cosigned(l, 0, 0, 1, 2)
	b.Run("Append", func(b *testing.B) {
		for b.Loop() {
			l.Append(entry)
		}
	})
	b.Run("Sign", func(b *testing.B) {
		for b.Loop() {
			w.head(l, 0)
		}
	})
	b.Run("Verify", func(b *testing.B) {
		c, _, _ := w.policy.Open(first)
		path, _ := l.Inclusion(5_000, c.Size)
		note, _ := w.policy.Trim(first)
		p := &Proof{Index: 5_000, Path: path, Note: note}
		for b.Loop() {
			if _, err := w.policy.Verify(entry, p); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(p.Encode())), "proof-bytes")
		b.ReportMetric(float64(len(entry)), "entry-bytes")
	})
	b.Run("Cosign", func(b *testing.B) {
		c, note := w.head(l, 0)
		last, _ := w.witnesses[0].Newest(c.Origin)
		proof, _ := l.Consistency(last.Size, c.Size)
		r := &Request{Old: last.Size, Proof: proof, Note: note}
		for b.Loop() {
			if _, _, err := w.witnesses[0].Cosign(r, 0); err != nil {
				b.Fatal(err)
			}
			r.Old, r.Proof = c.Size, nil // asked again
		}
		b.ReportMetric(float64(len(r.Encode())), "request-bytes")
	})
}
