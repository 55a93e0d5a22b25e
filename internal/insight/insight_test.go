package insight

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

var begin = time.Date(2026, 11, 23, 9, 59, 0, 0, time.UTC)

// memory is a log in memory.
type memory struct {
	mu      sync.Mutex
	entries []audit.Entry
	grown   chan struct{}
	read    int // entries handed out
}

// record adds an event of a kind at a time.
func (m *memory) record(at time.Time, kind audit.Kind, count uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := audit.Event{ID: audit.NewID(at, [10]byte{1}), Time: at, Kind: kind, Severity: audit.Warning, Actor: "mix-1", Action: "x", Count: count}
	m.entries = append(m.entries, audit.Entry{Seq: int64(len(m.entries)), Event: e})
	if m.grown != nil {
		close(m.grown)
		m.grown = nil
	}
}

// Read implements Log.
func (m *memory) Read(_ context.Context, from, before int64, each func(audit.Entry) error) error {
	m.mu.Lock()
	entries := slices.Clone(m.entries[min(from, int64(len(m.entries))):])
	m.mu.Unlock()
	for _, e := range entries {
		m.read++
		if e.Seq >= before {
			return nil
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

// Wait waits as a ledger does.
func (m *memory) Wait(ctx context.Context, after int64) (int64, error) {
	for {
		m.mu.Lock()
		size := int64(len(m.entries))
		if m.grown == nil {
			m.grown = make(chan struct{})
		}
		grown := m.grown
		m.mu.Unlock()
		if size > after {
			return size, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return size, ctx.Err()
		}
	}
}

func open(t *testing.T, m *memory, dir string, now *time.Time) (*Stream, *Feed) {
	t.Helper()
	f := &Feed{}
	s, err := OpenStream(Config{Log: m, Wait: m.Wait, Dir: dir, Feed: f, Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	return s, f
}

// sums are the events and things of a kind, by hour from the first on.
func sums(t *testing.T, s *Stream, kind audit.Kind, hours int) (out []Tally) {
	t.Helper()
	for n := range hours {
		a, err := s.Hours().Hour(begin.Add(time.Duration(n) * time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		tally := Tally{}
		if k := a.Of(kindKey(kind)); k != nil {
			tally = Tally{k.Count, k.Sum}
		}
		out = append(out, tally)
	}
	return out
}

// TestEachEntryIsCountedOnce: wherever a process ends between the files that a batch
// writes, the next one counts what is missing and nothing twice.
func TestEachEntryIsCountedOnce(t *testing.T) {
	m, now := &memory{}, begin
	fill := func(n int) {
		for i := range n {
			m.record(begin.Add(time.Duration(i%3)*time.Hour), audit.AdmissionRefusal, 10)
		}
	}
	dir := t.TempDir()
	fill(300)
	s, _ := open(t, m, dir, &now)
	if err := s.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, hoursDir, "*"))
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	before := map[string][]byte{}
	for _, f := range append(files, filepath.Join(dir, nextFile)) {
		if before[f], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	fill(300)
	if err := s.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []Tally{{200, 2000}, {200, 2000}, {200, 2000}}
	for crash := range 4 { // after so many hours of the second batch, and before its end
		for i, f := range files {
			if i >= crash {
				if err := os.WriteFile(f, before[f], 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, nextFile), before[filepath.Join(dir, nextFile)], 0o600); err != nil {
			t.Fatal(err)
		}
		again, _ := open(t, m, dir, &now)
		if again.Next() != 300 {
			t.Fatalf("it goes on at %d", again.Next())
		}
		if err := again.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := sums(t, again, audit.AdmissionRefusal, 3); !slices.Equal(got, want) {
			t.Errorf("a process that ended after %d of 3 hours: %v, want %v", crash, got, want)
		}
	}
}

// TestGoesOnWhereItWas: a stream that is opened again reads nothing twice, and late
// events are in the hour in which they came about.
func TestGoesOnWhereItWas(t *testing.T) {
	m, now, dir := &memory{}, begin.Add(5*time.Hour), t.TempDir()
	for range 3 * batchMost {
		m.record(now, audit.Incident, 1)
	}
	s, _ := open(t, m, dir, &now)
	if err := s.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.read = 0
	m.record(begin, audit.Incident, 3)
	m.record(begin.Add(-2*pastMost), audit.Incident, 1)
	m.record(begin.Add(1000*time.Hour), audit.Incident, 1)
	s, _ = open(t, m, dir, &now)
	if err := s.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.read != 3 || s.strange != 2 {
		t.Errorf("%d entries were read, %d are strange", m.read, s.strange)
	}
	if got := sums(t, s, audit.Incident, 6); got[0] != (Tally{1, 3}) || got[5].Events != 3*batchMost {
		t.Errorf("%v", got)
	}
}

// TestUpdateIsThereInTime: an event is in an update within ten seconds, whatever moment
// it comes at; who was away gets what there is after the last that came.
func TestUpdateIsThereInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := &memory{}, &Feed{}
		s, err := OpenStream(Config{Log: m, Wait: m.Wait, Dir: t.TempDir(), Feed: f, Turns: NewTurns(1, nil)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		last := int64(-1)
		for n := range 50 {
			time.Sleep(time.Duration(n) * 137 * time.Millisecond)
			at := time.Now()
			m.record(at, audit.Incident, 1)
			for last < int64(n)+1 {
				id, b, err := f.Next(t.Context(), max(last, 0))
				if err != nil {
					t.Fatal(err)
				}
				var u Update
				if err := json.Unmarshal(b, &u); err != nil || u.Type != "INSIGHT_UPDATE" || u.ID != id || u.Hour.Kinds["incident"].Events == 0 {
					t.Fatalf("%s: %v", b, err)
				}
				last = id
			}
			if took := time.Since(at); took > UpdateMost {
				t.Errorf("event %d was in an update after %v", n, took)
			}
		}
		end()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestFeed: an ID says after what to go on, the newest come first to who has none, and
// what is kept is bounded.
func TestFeed(t *testing.T) {
	f := &Feed{}
	for n := range 3 * updatesKept {
		f.Publish(Update{ID: int64(n)})
	}
	f.Publish(Update{ID: 3*updatesKept - 1, AgeMillis: 7})
	for after, want := range map[int64]int64{-1: 3*updatesKept - 1, 0: 2 * updatesKept, 2*updatesKept + 5: 2*updatesKept + 6} {
		if id, _, err := f.Next(t.Context(), after); err != nil || id != want {
			t.Errorf("after %d comes %d, want %d (%v)", after, id, want, err)
		}
	}
	if len(f.kept) != updatesKept {
		t.Errorf("%d updates are kept", len(f.kept))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := f.Next(ctx, 3*updatesKept); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestChoose: what may take seconds goes before what may take half an hour, in
// proportion, and nobody waits for ever.
func TestChoose(t *testing.T) {
	ago := func(d, allowed time.Duration) Turn { return Turn{begin.Add(-d), allowed} }
	for _, c := range []struct {
		what    string
		waiting []Turn
		want    int
	}{
		{"all in time: who must be done first", []Turn{ago(time.Minute, 20*time.Minute), ago(2*time.Second, 10*time.Second)}, 1},
		{"a report that is due before an export that is fresh", []Turn{ago(100*time.Millisecond, 10*time.Second), ago(19*time.Minute, 20*time.Minute)}, 1},
		{"all late: the export all the same, though reports' deadlines are older", []Turn{ago(time.Hour, 20*time.Minute), ago(time.Hour, 20*time.Minute), ago(40*time.Second, 10*time.Second)}, 2},
		{"a report that waits for very long", []Turn{ago(3*time.Hour, 20*time.Minute), ago(60*time.Second, 10*time.Second)}, 0},
		{"equals: the first", []Turn{ago(time.Second, time.Minute), ago(time.Second, time.Minute)}, 0},
	} {
		if got := Choose(c.waiting, begin); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}

// TestTurns: as many are under way as may, those who wait come in their order, and who
// gives up is passed over.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(1, nil)
		first, err := turns.Take(t.Context(), Turn{time.Now(), time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		var mu sync.Mutex
		var all sync.WaitGroup
		wait := func(name string, ctx context.Context, allowed time.Duration) {
			since := time.Now()
			all.Go(func() {
				giveBack, err := turns.Take(ctx, Turn{since, allowed})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					order = append(order, name+" gives up")
					return
				}
				order = append(order, name)
				giveBack()
			})
			synctest.Wait()
		}
		wait("report", t.Context(), 20*time.Minute)
		wait("copy", t.Context(), 5*time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		wait("none", ctx, time.Second)
		wait("export", t.Context(), 10*time.Second)
		cancel()
		synctest.Wait()
		time.Sleep(time.Second)
		first()
		all.Wait()
		if got := fmt.Sprint(order); got != "[none gives up export copy report]" {
			t.Error(got)
		}
		if turns.free != 1 || len(turns.waiting) != 0 {
			t.Errorf("%d are free, %d wait", turns.free, len(turns.waiting))
		}
	})
}
