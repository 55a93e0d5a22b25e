package ledger

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// TestVerifyFrom: a log that is verified day by day, each from the mark of the one
// before, comes to the mark of all at once; what was changed after a mark is found, and
// hashes stand in for what was removed.
func TestVerifyFrom(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	for range 4 {
		f.record(l, 300)
		if _, err := l.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.now = f.now.Add(24 * time.Hour)
	}
	s, key := l.Store(), l.Key()
	checkpoints, err := s.Signed(&key, 300)
	if err != nil || len(checkpoints) != 3 {
		t.Fatal(checkpoints, err)
	}
	if checkpoints, err = s.Signed(&key, 0); err != nil {
		t.Fatal(err)
	}
	none := func(audit.Entry) error { return nil }
	whole, err := s.VerifyFrom(t.Context(), &audit.Mark{}, checkpoints, 1200, none)
	if err != nil || whole.Root() != checkpoints[3].Root {
		t.Fatal(err)
	}
	var mark audit.Mark
	marks := []audit.Mark{mark}
	for n := range 4 {
		seen := 0
		mark, err = s.VerifyFrom(t.Context(), &mark, checkpoints, int64(n+1)*300, func(audit.Entry) error { seen++; return nil })
		if err != nil || seen != 300 {
			t.Fatalf("day %d: %d entries, %v", n, seen, err)
		}
		marks = append(marks, mark)
	}
	if !mark.Equal(&whole) {
		t.Errorf("day by day %+v, at once %+v", mark, whole)
	}
	if c, _, err := s.Covering(&key, 301); err != nil || c.Size != 600 {
		t.Errorf("301 entries are covered by %+v (%v)", c, err)
	}
	if _, err := s.VerifyFrom(t.Context(), &marks[3], checkpoints, 1201, none); !errors.Is(err, audit.ErrBroken) {
		t.Errorf("beyond the end: %v", err)
	}
	forged := marks[2]
	forged.Last[0] ^= 1
	if _, err := s.VerifyFrom(t.Context(), &forged, checkpoints, 900, none); !errors.Is(err, audit.ErrBroken) {
		t.Errorf("from another mark: %v", err)
	}
	before, err := s.Digest(fileNames(f)[2])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Prune(t.Context(), audit.DayOf(start)+2); err != nil {
		t.Fatal(err)
	}
	if removed, err := s.VerifyFrom(t.Context(), &audit.Mark{}, checkpoints, 600, nil); err != nil || !removed.Equal(&marks[2]) {
		t.Errorf("by hashes: %v", err)
	}
	if again, err := s.Digest(fileNames(f)[0]); err != nil || again != before {
		t.Errorf("the digest of a segment has changed (%v)", err)
	}
	f.edit(f.segments()[0], func(b []byte) []byte { b[len(b)-9] ^= 1; return b })
	if again, err := s.Digest(fileNames(f)[0]); err != nil || again == before {
		t.Errorf("the digest of a segment that was changed has not (%v)", err)
	}
	if _, err := s.VerifyFrom(t.Context(), &marks[2], checkpoints, 900, none); !errors.Is(err, audit.ErrBroken) {
		t.Errorf("a bit was changed: %v", err)
	}
	if _, err := s.Digest("20200101-000000000000.seg"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no segment: %v", err)
	}
	f.close(l)
}

func fileNames(f *fixture) (names []string) {
	f.Helper()
	s := Store{f.cfg.Dir, f.cfg.Wrapper}
	all, err := s.Segments()
	if err != nil {
		f.Fatal(err)
	}
	for _, x := range all {
		names = append(names, x.Name)
	}
	return names
}
