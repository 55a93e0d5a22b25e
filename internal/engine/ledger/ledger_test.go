package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// TestStory: what is recorded is there after a restart, verifies, and is there once.
func TestStory(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.record(l, 1)
	f.record(l, 700)
	if err := l.Record(t.Context(), event(3), event(700), event(701), event(701)); err != nil {
		t.Fatal(err)
	}
	f.n++
	if c := l.Counts(); c.Events != 702 || c.Duplicates != 3 || l.Size() != 702 {
		t.Errorf("counts %+v, size %d", c, l.Size())
	}
	f.close(l)
	f.want(702)
	if v := f.wantVerified(); v.Entries != 702 || v.Unsigned != 0 || v.Checkpoints != 1 {
		t.Errorf("verified %+v", v)
	}

	l = f.open()
	if err := l.Record(t.Context(), event(5), event(700)); err != nil || l.Size() != 702 {
		t.Errorf("duplicates after a restart: size %d, %v", l.Size(), err)
	}
	f.record(l, 10)
	f.close(l)
	f.want(712)
	if v := f.wantVerified(); v.Entries != 712 || v.Segments != 2 || v.Checkpoints != 2 {
		t.Errorf("verified %+v", v)
	}
	if err := l.Record(t.Context(), event(800)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestWindow: beyond the window an old event is recorded anew, within it never, also
// after a restart.
func TestWindow(t *testing.T) {
	f := newFixture(t)
	f.cfg.Window = 300
	l := f.open()
	f.record(l, 1000)
	f.close(l)
	l = f.open()
	defer l.Close()
	if err := l.Record(t.Context(), event(999), event(700)); err != nil || l.Size() != 1000 {
		t.Errorf("known events: size %d, %v", l.Size(), err)
	}
	if err := l.Record(t.Context(), event(600)); err != nil || l.Size() != 1001 {
		t.Errorf("an event that is forgotten: size %d, %v", l.Size(), err)
	}
}

// TestRefusedCall: one invalid event, and nothing of the call is recorded.
func TestRefusedCall(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	defer l.Close()
	bad := event(1)
	bad.Actor = "192.0.2.1"
	if err := l.Record(t.Context(), event(0), bad); !errors.Is(err, audit.ErrEvent) || l.Size() != 0 {
		t.Errorf("size %d, %v", l.Size(), err)
	}
}

// TestManyWriters: all that was acknowledged is there, and writers share commits.
func TestManyWriters(t *testing.T) {
	f := newFixture(t)
	f.cfg.SegmentBytes = 32 << 10
	l := f.open()
	const writers, each = 32, 50
	var done sync.WaitGroup
	for w := range writers {
		done.Go(func() {
			for i := range each {
				if err := l.Record(t.Context(), event(w*each+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done.Wait()
	f.close(l)
	seen := map[string]bool{}
	for _, revision := range f.read() {
		seen[revision] = true
	}
	for i := range writers * each {
		if !seen[fmt.Sprint(i)] {
			t.Errorf("event %d is missing", i)
		}
	}
	if v := f.wantVerified(); v.Entries != writers*each || v.Segments < 3 {
		t.Errorf("verified %+v", v)
	}
}

// TestDays: a day begins a segment, and those that ended are never written again.
func TestDays(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.record(l, 10)
	f.now = f.now.Add(2 * time.Hour)
	f.record(l, 10)
	if s := f.segments(); len(s) != 2 || filepath.Base(s[1]) != "20261124-000000000010.seg" {
		t.Errorf("segments %v", s)
	}
	if info, err := os.Stat(f.segments()[0]); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("the first has mode %v, %v", info.Mode(), err)
	}
	f.close(l)
	f.want(20)
	f.wantVerified()
}

// TestOneWriter: a second one is told who is in its way.
func TestOneWriter(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	if _, err := Open(t.Context(), f.cfg); !errors.Is(err, ErrLocked) {
		t.Errorf("a second writer: %v", err)
	}
	f.close(l)
	f.close(f.open())
}

// TestFailedWrite: what was not written is not acknowledged, and nothing is after it,
// until the log is opened anew.
func TestFailedWrite(t *testing.T) {
	f := newFixture(t)
	full := errors.New("no space left")
	var failing bool
	f.cfg.sync = func(file *os.File) error {
		if failing {
			return full
		}
		return datasync(file)
	}
	l := f.open()
	f.record(l, 10)
	failing = true
	for range 2 {
		if err := l.Record(t.Context(), event(10)); !errors.Is(err, ErrFailed) || !errors.Is(err, full) {
			t.Errorf("a write that fails: %v", err)
		}
	}
	if _, err := l.Wait(t.Context(), 10); !errors.Is(err, ErrFailed) {
		t.Errorf("who waits: %v", err)
	}
	if err := l.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("Close: %v", err)
	}
	failing = false
	l = f.open()
	f.n = int(l.Size()) // the event that failed may be there
	f.record(l, 5)
	f.close(l)
	f.want(f.n)
	f.wantVerified()
}

// TestTorn: a crash within a write leaves what of it came to the disk. It is cut off
// at any length, and the log says so.
func TestTorn(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.record(l, 20)
	f.close(l)
	l = f.open()
	f.record(l, 20)
	newest := f.segments()[1]
	before, err := os.Stat(newest)
	if err != nil {
		t.Fatal(err)
	}
	f.record(l, 20)
	f.close(l)
	os.Remove(filepath.Join(f.cfg.Dir, "checkpoints")) // the crash came before they were signed
	whole, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int64{before.Size() + 1, before.Size() + 7, before.Size() + 8, before.Size() + 100, int64(len(whole)) - 1} {
		for _, name := range f.segments()[2:] {
			os.Remove(name)
		}
		os.Remove(filepath.Join(f.cfg.Dir, "checkpoints"))
		os.Chmod(newest, 0o600)
		if err := os.WriteFile(newest, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		f.want(40)
		l := f.open()
		if c := l.Counts(); c.Cut != cut-before.Size() {
			t.Errorf("%d bytes were cut off, not %d", c.Cut, cut-before.Size())
		}
		if l.Size() != 41 { // with the incident
			t.Errorf("%d entries after a cut at %d", l.Size(), cut)
		}
		f.close(l)
		f.want(40)
		f.wantVerified()
	}
}

// TestLostTiles: what is in the file of tiles follows from the log.
func TestLostTiles(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.record(l, 1000)
	f.close(l)
	tiles := filepath.Join(f.cfg.Dir, "tiles")
	good, err := os.ReadFile(tiles)
	if err != nil || len(good) != 3*32 {
		t.Fatalf("%d bytes of tiles, %v", len(good), err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"lost":    func(b []byte) []byte { return nil },
		"torn":    func(b []byte) []byte { return b[:50] },
		"changed": func(b []byte) []byte { b[5] ^= 1; return b },
	} {
		f.edit(tiles, change)
		f.cfg.Window = 10
		f.close(f.open())
		if b, err := os.ReadFile(tiles); err != nil || string(b) != string(good) {
			t.Errorf("%s: %d bytes are not those of before, %v", name, len(b), err)
		}
	}
	f.want(1000)
}

// TestClockSetBack: a log whose clock was a day ahead goes on when it is set right, after a
// restart and when a segment is full, and opens again.
func TestClockSetBack(t *testing.T) {
	f := newFixture(t)
	f.now = start.Add(36 * time.Hour)
	l := f.open()
	f.record(l, 10)
	f.close(l)
	f.now = start
	f.cfg.SegmentBytes = 1 // each call has a segment
	l = f.open()
	f.record(l, 10)
	f.record(l, 10)
	f.close(l)
	f.now = start.Add(72 * time.Hour)
	l = f.open()
	f.record(l, 10)
	f.close(l)
	f.want(40)
	f.wantVerified()
	if day, err := readHead(f.segments()[len(f.segments())-1]); err != nil || day.head.Day != audit.DayOf(f.now) {
		t.Errorf("the newest segment is of %v, %v", day.head.Day, err)
	}
}
