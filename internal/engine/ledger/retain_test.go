package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/sql"
)

// fourDays makes a log of four days of 300 events each, the second in two segments, and
// the day after.
func fourDays(t *testing.T) (f *fixture, first audit.Day) {
	f = newFixture(t)
	for n := range 4 {
		l := f.open()
		f.record(l, 150)
		if n == 1 {
			f.close(l)
			l = f.open()
		}
		f.record(l, 150)
		f.close(l)
		f.now = f.now.Add(24 * time.Hour)
	}
	return f, audit.DayOf(start)
}

// TestPruneCopied: whole days go, as far as all of their entries have a copy.
func TestPruneCopied(t *testing.T) {
	for copied, want := range map[int64]Removal{
		0: {Waiting: 3}, 299: {Waiting: 3}, 300: {Days: 1, Before: 300, Segments: 1, Waiting: 2}, 450: {Days: 1, Before: 300, Segments: 1, Waiting: 2},
		599: {Days: 1, Before: 300, Segments: 1, Waiting: 2}, 600: {Days: 2, Before: 600, Segments: 3, Waiting: 1}, math.MaxInt64: {Days: 3, Before: 900, Segments: 4},
	} {
		f, first := fourDays(t)
		f.cfg.Copied = func() int64 { return copied }
		l := f.open()
		would, err := l.Store().Removable(first+30, copied)
		if err != nil {
			t.Fatal(err)
		}
		r, err := l.Prune(t.Context(), first+30)
		if err != nil || r != would {
			t.Errorf("%d copied: %+v were removed, not %+v: %v", copied, r, would, err)
		}
		if r.Days > 0 {
			want.From, want.To = first, first+audit.Day(r.Days)-1
		}
		if want.Bytes = r.Bytes; r != want {
			t.Errorf("%d copied: %+v, want %+v", copied, r, want)
		}
		if begin, err := l.Store().Begin(); err != nil || begin != want.Before || begin > copied {
			t.Errorf("%d copied: the log begins at %d, %v", copied, begin, err)
		}
		f.close(l)
		f.wantVerified()
	}
}

// TestPruneUnsigned: what cannot be signed is not removed.
func TestPruneUnsigned(t *testing.T) {
	f, first := fourDays(t)
	broken := false
	f.cfg.sync = func(file *os.File) error {
		if broken && filepath.Base(file.Name()) == "checkpoints" {
			return errors.New("no space left on device")
		}
		return datasync(file)
	}
	l := f.open()
	before := len(f.segments())
	broken = true
	if r, err := l.Prune(t.Context(), first+2); err == nil {
		t.Errorf("%+v was removed", r)
	}
	if n := len(f.segments()); n != before+1 { // with that of the event
		t.Errorf("%d segments are left of %d", n, before)
	}
	broken = false
	if r, err := l.Prune(t.Context(), first+2); err != nil || r.Entries() != 600 {
		t.Errorf("%+v, %v", r, err)
	}
	f.close(l)
	if v := f.wantVerified(); v.Removed != 600 {
		t.Errorf("%+v", v)
	}
}

// TestPruneStuck: a removal that fails again and again is said once, and what is said holds
// when it succeeds.
func TestPruneStuck(t *testing.T) {
	f, first := fourDays(t)
	l := f.open()
	stuck := f.segments()[0]
	away, removable := stuck+".away", true
	l.cfg.pruned = func(step string) {
		if step == "checkpoint" && removable { // not any more
			removable = false
			if err := errors.Join(os.Rename(stuck, away), os.MkdirAll(filepath.Join(stuck, "full"), 0o700)); err != nil {
				t.Error(err)
			}
		}
	}
	for try := range 2 {
		if _, err := l.Prune(t.Context(), first+2); (err == nil) != (try == 1) {
			t.Errorf("try %d: %v", try, err)
		}
		if try == 0 {
			if err := errors.Join(os.RemoveAll(stuck), os.Rename(away, stuck)); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.close(l)
	events := 0
	if err := l.Store().Read(t.Context(), 0, 1<<62, func(e audit.Entry) error {
		if _, _, ok := e.Event.Removed(); ok {
			events++
		}
		return nil
	}); err != nil || events != 1 {
		t.Errorf("%d events say it, %v", events, err)
	}
	if v := f.wantVerified(); v.Removed != 600 {
		t.Errorf("%+v", v)
	}
}

// pruneStep is set in a process that removes days and is killed after a step.
const pruneStep = "NYX_TEST_PRUNE"

func pruneKilled(dir, step string) error {
	keys, err := OpenFileKeys(filepath.Join(dir, "keys"), false)
	if err != nil {
		return err
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	l, err := Open(context.Background(), Config{Dir: dir, Origin: "nyx/test/audit", Node: "control-1", Signer: keys.Signer, Wrapper: keys.Wrapper, CheckpointEvery: time.Hour,
		Now: func() time.Time { return start.Add(4 * 24 * time.Hour) }, pruned: func(done string) {
			if done == step {
				self.Kill()
				select {}
			}
		}})
	if err != nil {
		return err
	}
	r, err := l.Prune(context.Background(), audit.DayOf(start)+3)
	return fmt.Errorf("it lives after %+v: %v", r, err)
}

// TestPruneKilled: wherever a removal is killed, the log verifies as it was left, an index
// follows it, and the next removal ends what this one began.
func TestPruneKilled(t *testing.T) {
	for step, left := range map[string]struct{ removed, events int64 }{"hashes": {0, 1}, "event": {0, 2}, "checkpoint": {0, 2}, "segment": {300, 2}} {
		t.Run(step, func(t *testing.T) {
			f, first := fourDays(t)
			x, err := sql.SQLite(t.Context(), filepath.Join(t.TempDir(), "index.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			follows := func() {
				t.Helper()
				s := &Store{f.cfg.Dir, f.cfg.Wrapper}
				if _, err := x.Project(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				if err := x.Compare(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
			follows()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), killDir+"="+f.cfg.Dir, pruneStep+"="+step)
			if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "failed") {
				t.Fatalf("the process was not killed: %s", out)
			}
			if v := f.wantVerified(); v.Removed != left.removed {
				t.Errorf("as it was left: %+v", v)
			}
			follows()

			l := f.open()
			r, err := l.Prune(t.Context(), first+3)
			if err != nil || r.First != left.removed || r.Before != 900 {
				t.Errorf("the next removal: %+v, %v", r, err)
			}
			f.close(l)
			events := int64(0)
			if err := l.Store().Read(t.Context(), 0, 1<<62, func(e audit.Entry) error {
				if before, _, ok := e.Event.Removed(); ok && before == 900 {
					events++
				}
				return nil
			}); err != nil || events != left.events {
				t.Errorf("%d events say it, %v", events, err)
			}
			if v := f.wantVerified(); v.Removed != 900 {
				t.Errorf("at the end: %+v", v)
			}
			follows()
		})
	}
}

// TestPruneMeanwhile: who verifies a log, or proves an event, while days go, is not
// disturbed; an export that would miss them says so, and goes when it is begun anew.
func TestPruneMeanwhile(t *testing.T) {
	f, first := fourDays(t)
	l := f.open()
	defer f.close(l)
	s, key, day := l.Store(), l.Key(), first
	prune := func() {
		t.Helper()
		day++
		if r, err := l.Prune(t.Context(), day); err != nil || r.Entries() != 300 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	export := func(dir string, done func(audit.Part)) (*audit.Manifest, error) {
		x := &Export{Dir: dir, Format: audit.JSONLines, PartRows: 100, Signer: f.cfg.Signer, Now: f.now, Done: done}
		return x.Run(t.Context(), s, &key)
	}
	parts, dir := 0, t.TempDir()
	_, err := export(dir, func(audit.Part) {
		if parts++; parts == 2 {
			prune()
		}
	})
	if !errors.Is(err, ErrShortened) || !strings.Contains(err.Error(), "200 to 299") || parts != 2 {
		t.Errorf("an export of %d parts: %v", parts, err)
	}
	if _, err := export(dir, nil); !errors.Is(err, ErrShortened) {
		t.Errorf("one that goes on: %v", err)
	}
	if m, err := export(t.TempDir(), nil); err != nil || m.First != 300 {
		t.Errorf("one that is begun anew: %+v, %v", m, err)
	}
	pruned := false
	v, _, err := s.Verify(t.Context(), &key, nil, func(e audit.Entry) error {
		if !pruned {
			pruned = true
			prune()
		}
		return nil
	})
	if err != nil || v.Removed != 600 {
		t.Errorf("verified %+v, %v", v, err)
	}
	if p, err := s.Prove(t.Context(), &key, 600); err != nil {
		t.Error(err)
	} else if _, _, err := audit.CheckProof(&key, p.Entry, p.Proof); err != nil {
		t.Error(err)
	}
	_, removed := s.Prove(t.Context(), &key, 10)
	_, unknown := s.Find(t.Context(), event(10).ID.String())
	for want, err := range map[string]error{"was removed by retention": removed, "may be one of the 600 that retention has removed": unknown} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestRetain: days go at the start and every day at ten past midnight; what waits for its
// copy, or fails, is tried again ten minutes later.
func TestRetain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now().UTC() // 2000-01-01
		type call struct {
			at     time.Duration
			before audit.Day
		}
		var mu sync.Mutex
		var calls []call
		var answer Removal
		var failure error
		answers := func(r Removal, err error) {
			mu.Lock()
			defer mu.Unlock()
			answer, failure = r, err
		}
		r := Retain(RetentionConfig{Days: 7, Prune: func(_ context.Context, before audit.Day) (Removal, error) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, call{time.Since(begun), before})
			return answer, failure
		}})
		want := func(wanted ...call) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if fmt.Sprint(calls) != fmt.Sprint(wanted) {
				t.Errorf("at %v: %v, want %v", time.Since(begun), calls, wanted)
			}
			calls = nil
		}
		today := audit.DayOf(begun)
		want(call{0, today - 7})
		answers(Removal{Days: 1, First: 100, Before: 142, Bytes: 9}, nil)
		time.Sleep(24*time.Hour + 9*time.Minute)
		want(call{10 * time.Minute, today - 7})
		time.Sleep(time.Minute)
		want(call{24*time.Hour + 10*time.Minute, today - 6})
		if f := r.Figures(); f.Events != 84 || f.Days != 2 || f.Bytes != 18 || f.Overdue != 0 {
			t.Errorf("%+v", f)
		}
		answers(Removal{Waiting: 2}, nil)
		time.Sleep(24 * time.Hour)
		want(call{48*time.Hour + 10*time.Minute, today - 5})
		if f := r.Figures(); f.Overdue != 2 {
			t.Errorf("%+v", f)
		}
		answers(Removal{Days: 3}, errors.New("read-only file system"))
		time.Sleep(10 * time.Minute)
		want(call{48*time.Hour + 20*time.Minute, today - 5})
		if f := r.Figures(); f.Overdue != 3 || f.Faults != 1 || f.Why == "" || f.Days != 2 {
			t.Errorf("%+v", f)
		}
		answers(Removal{}, nil)
		time.Sleep(10 * time.Minute)
		want(call{48*time.Hour + 30*time.Minute, today - 5})
		time.Sleep(23 * time.Hour)
		want()
		if f := r.Figures(); f.Overdue != 0 || f.Why != "" {
			t.Errorf("%+v", f)
		}
		r.Close()
		time.Sleep(48 * time.Hour)
		want()
	})
}

// TestRetainClockSetBack: after a clock that was a year ahead days go again the hour in which
// it is set right.
func TestRetainClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead, passes atomic.Int64
		ahead.Store(int64(365 * 24 * time.Hour))
		var last atomic.Int64
		r := Retain(RetentionConfig{Days: 7, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())).Round(0) }, Prune: func(_ context.Context, before audit.Day) (Removal, error) {
			passes.Add(1)
			last.Store(int64(before))
			return Removal{}, nil
		}})
		time.Sleep(30 * time.Minute)
		ahead.Store(0)
		time.Sleep(time.Hour)
		passes.Store(0)
		time.Sleep(24 * time.Hour)
		if today := audit.DayOf(time.Now()); passes.Load() != 1 || audit.Day(last.Load()) != today-7 {
			t.Errorf("%d passes in a day, the last before %v; today is %v", passes.Load(), audit.Day(last.Load()), today)
		}
		r.Close()
	})
}
