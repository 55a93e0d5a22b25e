package ledger

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// wantFault verifies, and wants the fault to be among some entries.
func (f *fixture) wantFault(what string, first, last int64, others ...[]byte) {
	f.Helper()
	_, err := f.verify(others...)
	var fault *audit.Fault
	if !errors.As(err, &fault) || !errors.Is(err, audit.ErrBroken) {
		f.Errorf("%s: %v", what, err)
	} else if fault.First < first || fault.Last > last {
		f.Errorf("%s is found at %d to %d, not within %d to %d: %v", what, fault.First, fault.Last, first, last, err)
	}
}

// signedLog is a log of two segments with 40 entries each, signed after 40 and 80.
func signedLog(t *testing.T) *fixture {
	f := newFixture(t)
	for range 2 {
		l := f.open()
		for range 4 {
			f.record(l, 10)
		}
		f.close(l)
	}
	f.wantVerified()
	return f
}

// TestFlippedBit: without the keys no bit of a segment can be changed.
func TestFlippedBit(t *testing.T) {
	f := signedLog(t)
	for n, path := range f.segments() {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, head, err := audit.ParseHead(whole)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(whole); at += 1 + at/23 {
			changed := bytes.Clone(whole)
			changed[at] ^= 1 << (at % 8)
			f.edit(path, func([]byte) []byte { return changed })
			_, err := f.verify()
			if err == nil {
				t.Errorf("segment %d, byte %d of %d: not found", n, at, len(whole))
			}
			var fault *audit.Fault
			if at >= head && (!errors.As(err, &fault) || fault.Last < int64(40*n) || fault.Last >= int64(40*n+40)) {
				t.Errorf("segment %d, byte %d: %v", n, at, err)
			}
		}
		f.edit(path, func([]byte) []byte { return whole })
	}
	f.wantVerified()
}

// reseal is what somebody can do who has the keys: it opens a segment, changes its
// entries, and seals them again, in one frame.
func (f *fixture) reseal(path string, change func(entries [][]byte) [][]byte) {
	f.Helper()
	seg, err := readHead(path)
	if err != nil {
		f.Fatal(err)
	}
	s := Store{f.cfg.Dir, f.cfg.Wrapper}
	r, err := s.scan(f.Context(), seg)
	if err != nil {
		f.Fatal(err)
	}
	defer r.close()
	var all [][]byte
	for {
		entries, count, err := r.read()
		if err == io.EOF {
			break
		}
		if err != nil {
			f.Fatal(err)
		}
		for range count {
			var entry []byte
			if entry, entries, err = audit.CutEntry(entries); err != nil {
				f.Fatal(err)
			}
			all = append(all, bytes.Clone(entry))
		}
	}
	var plain []byte
	all = change(all)
	for _, entry := range all {
		plain = append(append(plain, byte(len(entry)>>8), byte(len(entry))), entry...)
	}
	key, err := f.cfg.Wrapper.Unwrap(f.Context(), seg.head.KeyLabel(), seg.head.Wrapped)
	if err != nil {
		f.Fatal(err)
	}
	sealed := audit.NewSealer(&seg.head, &key).Seal(seg.head.Append(nil), plain, len(all))
	f.edit(path, func([]byte) []byte { return sealed })
}

// forged is an entry with another actor.
func forged(entry []byte) []byte {
	prev, event, _ := audit.ParseEntry(entry)
	e, _ := audit.Parse(event)
	e.Actor = "somebody-else"
	return audit.Append(prev[:], &e)
}

// rechained gives entries the hashes that fit what they have become, from one on.
func rechained(entries [][]byte, from int) [][]byte {
	for i := max(from, 1); i < len(entries); i++ {
		before := audit.EntryHash(entries[i-1])
		entries[i] = append(before[:], entries[i][32:]...)
	}
	return entries
}

// TestInsider: with the keys segments can be sealed anew, and it is found where.
func TestInsider(t *testing.T) {
	for what, c := range map[string]struct {
		change      func(e [][]byte) [][]byte
		first, last int64
	}{
		"a forged event":   {func(e [][]byte) [][]byte { e[17] = forged(e[17]); return e }, 17, 18},
		"a removed event":  {func(e [][]byte) [][]byte { return slices.Delete(e, 17, 18) }, 16, 17},
		"two exchanged":    {func(e [][]byte) [][]byte { e[17], e[18] = e[18], e[17]; return e }, 16, 17},
		"an event twice":   {func(e [][]byte) [][]byte { return slices.Insert(e, 17, e[16]) }, 16, 17},
		"one put between":  {func(e [][]byte) [][]byte { return slices.Insert(e, 17, forged(e[17])) }, 17, 18},
		"the last removed": {func(e [][]byte) [][]byte { return e[:39] }, 39, 39},
		"no event":         {func(e [][]byte) [][]byte { e[17] = append(e[17][:32:32], make([]byte, 80)...); return e }, 17, 17},
		// All later hashes made to fit: what follows in the next segment does not.
		"a forged chain": {func(e [][]byte) [][]byte { e[17] = forged(e[17]); return rechained(e, 18) }, 0, 40},
	} {
		t.Run(what, func(t *testing.T) {
			f := signedLog(t)
			f.reseal(f.segments()[0], c.change)
			f.wantFault(what, c.first, c.last)
		})
	}
}

// TestForgedToTheEnd: who has the keys of segments, and not the signing key, cannot
// make a whole history fit. The fault lies after the last checkpoint that holds.
func TestForgedToTheEnd(t *testing.T) {
	f := signedLog(t)
	f.reseal(f.segments()[1], func(e [][]byte) [][]byte { e[7] = forged(e[7]); return rechained(e, 8) })
	f.wantFault("a history that fits itself", 40, 79)
	// Control: without the checkpoint the chain alone fits.
	f.edit(filepath.Join(f.cfg.Dir, "checkpoints"), func(b []byte) []byte { return b[:len(b)/2] })
	if v := f.wantVerified(); v.Unsigned != 40 {
		t.Errorf("verified %+v", v)
	}
}

// TestRemovedSegment: one from the middle, the first, and the last.
func TestRemovedSegment(t *testing.T) {
	for i, where := range [][2]int64{{0, 39}, {40, 79}, {80, 119}} {
		f := newFixture(t)
		for range 3 {
			l := f.open()
			f.record(l, 40)
			f.close(l)
		}
		os.Remove(f.segments()[i])
		if i == 0 { // not removed by retention
			if _, err := f.verify(); err == nil {
				t.Error("the first segment is missing, and it verifies")
			}
		} else {
			f.wantFault("a missing segment", where[0], where[1])
		}
		if _, err := Open(t.Context(), f.cfg); i == 2 && !errors.Is(err, audit.ErrBroken) {
			t.Errorf("opened without segment %d: %v", i, err)
		}
	}
}

// TestForkedHistory: a log that was restored from a copy and went on elsewhere has
// signed two histories. Each verifies; a checkpoint kept elsewhere shows the fork.
func TestForkedHistory(t *testing.T) {
	f := signedLog(t)
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(f.cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	l := f.open()
	f.record(l, 5)
	f.close(l)
	s := l.Store()
	one, err := s.Last()
	if err != nil {
		t.Fatal(err)
	}
	f.n = 1000 // other events
	f.cfg.Dir = copied
	l = f.open()
	f.record(l, 7)
	f.close(l)
	f.wantVerified()
	f.wantFault("another history", 80, 84, one)

	// Of equal size, the two checkpoints alone are the evidence.
	two, err := l.Store().Last()
	if err != nil {
		t.Fatal(err)
	}
	key := l.Key()
	a, err := key.Open(one)
	if err != nil {
		t.Fatal(err)
	}
	b, err := key.Open(two)
	if err != nil {
		t.Fatal(err)
	}
	if err := audit.CheckConsistency(a, b, nil); !errors.Is(err, audit.ErrForked) {
		t.Errorf("no proof: %v", err)
	}
	b.Size = a.Size
	if err := audit.CheckConsistency(a, b, nil); !errors.Is(err, audit.ErrForked) {
		t.Errorf("two roots of one size: %v", err)
	}
}

// TestCheckpointOfAnother: a checkpoint under another key is none of this log.
func TestCheckpointOfAnother(t *testing.T) {
	f, other := signedLog(t), newFixture(t)
	l := other.open()
	other.record(l, 3)
	other.close(l)
	note, err := l.Store().Last()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.verify(note); !errors.Is(err, audit.ErrCheckpoint) {
		t.Errorf("verified with the checkpoint of another: %v", err)
	}
	f.cfg.Signer = other.cfg.Signer
	if _, err := Open(t.Context(), f.cfg); err == nil {
		t.Error("opened with the key of another")
	}
}

// TestRetention: whole days go, the record of it stays, the chain verifies, and what
// is left can be proven; without the record it is a fault.
func TestRetention(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	for range 4 {
		f.record(l, 300)
		f.now = f.now.Add(24 * time.Hour)
	}
	day := audit.DayOf(start)
	if r, err := l.Prune(t.Context(), day); r.Entries() != 0 || err != nil {
		t.Errorf("%d removed, %v", r.Entries(), err)
	}
	if r, err := l.Prune(t.Context(), day+1); r.Entries() != 300 || err != nil {
		t.Errorf("%d removed, %v", r.Entries(), err)
	}
	f.record(l, 100)
	if r, err := l.Prune(t.Context(), day+3); r.Entries() != 600 || err != nil {
		t.Errorf("%d removed, %v", r.Entries(), err)
	}
	if r, err := l.Prune(t.Context(), day+30); r.Entries() != 300 || err != nil { // with the record of the first
		t.Errorf("%d removed, %v", r.Entries(), err)
	}
	f.close(l)
	l = f.open()
	f.record(l, 10)
	f.close(l)
	if v := f.wantVerified(); v.Removed != 1200 || v.Entries != 113 {
		t.Errorf("verified %+v", v)
	}
	key := l.Key()
	p, err := l.Store().Prove(t.Context(), &key, 1250)
	if err != nil {
		t.Fatal(err)
	}
	if _, e, err := audit.CheckProof(&key, p.Entry, p.Proof); err != nil || e.Kind != audit.ConfigChange {
		t.Errorf("proven: %v, %v", e, err)
	}
	if _, err := l.Store().Prove(t.Context(), &key, 100); err == nil {
		t.Error("an entry that was removed is there")
	}

	// Control: a segment that is replaced by its hashes without a record.
	all, err := l.Store().files()
	if err != nil {
		t.Fatal(err)
	}
	l = f.open()
	if _, err := l.keepHashes(t.Context(), all[0].head.First, all[1].head.First); err != nil {
		t.Fatal(err)
	}
	f.close(l)
	os.Remove(all[0].path)
	f.wantFault("a removal without a record", 0, all[1].head.First-1)
}

// TestProofs: every entry of a log has one, and it proves no other.
func TestProofs(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.record(l, 600)
	early, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.record(l, 37)
	late, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.record(l, 1)
	key, s := l.Key(), l.Store()
	defer l.Close()
	for seq := int64(0); seq < 637; seq += 1 + seq/9 {
		p, err := s.Prove(t.Context(), &key, seq)
		if err == nil {
			p, err = ParseProof(p.Encode())
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, e, err := audit.CheckProof(&key, p.Entry, p.Proof); err != nil || e.ID != event(int(seq)).ID {
			t.Errorf("entry %d: %v, %v", seq, e.ID, err)
		}
		p.Entry[len(p.Entry)-1] ^= 1
		if _, _, err := audit.CheckProof(&key, p.Entry, p.Proof); !errors.Is(err, audit.ErrProof) {
			t.Errorf("a changed entry %d: %v", seq, err)
		}
	}
	if _, err := s.Prove(t.Context(), &key, 637); !errors.Is(err, ErrUnsigned) {
		t.Errorf("an entry that is not signed: %v", err)
	}
	a, err := key.Open(early)
	if err != nil {
		t.Fatal(err)
	}
	b, err := key.Open(late)
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.Consistency(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	if err := audit.CheckConsistency(b, a, path); err != nil {
		t.Error(err)
	}
	path[0][3] ^= 1
	if err := audit.CheckConsistency(a, b, path); !errors.Is(err, audit.ErrForked) {
		t.Errorf("a changed proof: %v", err)
	}
}
