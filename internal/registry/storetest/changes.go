package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/changes"
)

// RunChanges tests the configuration of a network on a store that has none yet.
func RunChanges(t *testing.T, s registry.Store) {
	t.Run("Order", func(t *testing.T) { order(t, s) })
	t.Run("Guards", func(t *testing.T) { guards(t, s) })
	t.Run("Rollback", func(t *testing.T) { rollback(t, s) })
	t.Run("DeadLetters", func(t *testing.T) { deadLetters(t, s) })
	t.Run("Told", func(t *testing.T) { told(t, s) })
}

func openLog(t *testing.T, s registry.Store) *changes.Log {
	t.Helper()
	l, err := changes.Open(t.Context(), changes.Config{Store: s, Schema: settings.Network(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// newChange is one of a test's, by two numbers.
func newChange(test, n int, key, value string) settings.Change {
	return settings.Change{ID: settings.ID{byte(test), byte(n >> 8), byte(n)}, Set: map[string]string{key: value}, Actor: "alice"}
}

func submit(t *testing.T, l *changes.Log, c settings.Change) settings.Change {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	got, err := l.Submit(ctx, changes.Submission{Change: c})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// await waits until a log has a revision.
func await(t *testing.T, l *changes.Log, revision uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	for l.Revision() < revision {
		if _, err := l.After(ctx, l.Revision()); err != nil {
			t.Fatalf("revision %d does not come: %v", revision, err)
		}
	}
}

// order: many who change at two processes have one order, which both have, and
// which is the same read from the first change on, and after a restart.
func order(t *testing.T, s registry.Store) {
	one, two := openLog(t, s), openLog(t, s)
	const writers, each = 8, 30
	var writing sync.WaitGroup
	var mu sync.Mutex
	revisions := map[uint64]bool{}
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				log := []*changes.Log{one, two}[w%2]
				n := w*each + i
				got := submit(t, log, newChange(1, n, settings.AdmissionPerMinute, fmt.Sprint(1+n)))
				mu.Lock()
				if revisions[got.Revision] {
					t.Errorf("revision %d twice", got.Revision)
				}
				revisions[got.Revision] = true
				mu.Unlock()
			}
		})
	}
	writing.Wait()
	const all = writers * each
	for n := uint64(1); n <= all; n++ {
		if !revisions[n] {
			t.Fatalf("no change has revision %d", n)
		}
	}
	await(t, one, all)
	await(t, two, all)
	replayed, err := one.Replay(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	again := openLog(t, s)
	for name, l := range map[string]*changes.Log{"one": one, "two": two, "again": again} {
		if l.State().Hash() != replayed.Hash() {
			t.Errorf("the state of %s is not the replay's", name)
		}
	}
	b, err := again.After(t.Context(), all-3)
	if err != nil || b.State != nil || len(b.Changes) != 3 || b.Changes[2].Revision != all {
		t.Errorf("after revision %d: %d changes, %v", all-3, len(b.Changes), err)
	}
	if _, err := one.Replay(t.Context(), all+1); err == nil {
		t.Error("a revision that is not there was replayed")
	}
}

// guards: a change is accepted once, and not over one that its submitter has not
// seen; what the schema refuses is not accepted.
func guards(t *testing.T, s registry.Store) {
	one, two := openLog(t, s), openLog(t, s)
	first := submit(t, one, newChange(2, 1, settings.LogLevel, "debug"))
	for _, l := range []*changes.Log{one, two} {
		if again := submit(t, l, newChange(2, 1, settings.LogLevel, "warn")); again.Revision != first.Revision || again.Set[settings.LogLevel] != "debug" {
			t.Errorf("the same id again: revision %d after %d, %v", again.Revision, first.Revision, again.Set)
		}
	}
	seen := changes.Submission{Change: newChange(2, 2, settings.LogLevel, "warn"), Seen: first.Revision - 1}
	if _, err := two.Submit(t.Context(), seen); !errors.Is(err, changes.ErrStale) {
		t.Errorf("over a change that was not seen: %v", err)
	}
	seen.Seen = first.Revision
	if c, err := two.Submit(t.Context(), seen); err != nil || c.Revision != first.Revision+1 {
		t.Errorf("over one that was: %+v, %v", c, err)
	}
	seen.Change, seen.Seen = newChange(2, 4, settings.LogLevel, "error"), first.Revision+2
	if _, err := two.Submit(t.Context(), seen); err == nil || !strings.Contains(err.Error(), "the newest is") {
		t.Errorf("in sight of a revision that is not there: %v", err)
	}
	seen.Change = newChange(2, 5, settings.LogLevel, "error")
	seen.Seen = submit(t, one, newChange(2, 6, settings.ExitPorts, "80")).Revision
	if _, err := two.Submit(t.Context(), seen); err != nil {
		t.Errorf("in sight of another process's newest: %v", err)
	}
	ahead := changes.Submission{Change: newChange(2, 7, settings.LogLevel, "warn")}
	for _, days := range []int{400, 365} {
		ahead.Change.Effective = time.Now().UTC().Truncate(time.Millisecond).AddDate(0, 0, days)
		if _, err := one.Submit(t.Context(), ahead); (err == nil) != (days == 365) || err != nil && !strings.Contains(err.Error(), "at most 366 days ahead") {
			t.Errorf("%d days ahead: %v", days, err)
		}
	}
	if _, err := one.Submit(t.Context(), changes.Submission{Change: newChange(2, 3, settings.LogLevel, "loud")}); err == nil {
		t.Error("a value out of bounds was accepted")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := one.After(ended, 1<<40); !errors.Is(err, context.Canceled) {
		t.Errorf("a wait for what never comes ends with %v", err)
	}
}

// rollback: a change that has all as it was.
func rollback(t *testing.T, s registry.Store) {
	l := openLog(t, s)
	was := submit(t, l, newChange(3, 1, settings.ExitPorts, "80,443"))
	hash := l.State().Hash()
	submit(t, l, newChange(3, 2, settings.ExitPorts, "22"))
	submit(t, l, newChange(3, 3, settings.RelayDrain, "90s"))
	back, err := l.Rollback(t.Context(), settings.ID{3, 9}, "bob", was.Revision)
	if err != nil || back.Revision != was.Revision+3 || l.State().Hash() != hash {
		t.Errorf("%+v, %v; %v", back, err, l.State().All())
	}
	if again, err := l.Rollback(t.Context(), settings.ID{3, 10}, "bob", was.Revision); err != nil || again.Revision != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
}

// deadLetters: a change that cannot be had is kept and told of, and goes through when
// it is corrected, at another process than the one that tends to it.
func deadLetters(t *testing.T, s registry.Store) {
	leader, other := openLog(t, s), openLog(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	alerts, ended := make(chan settings.Letter, 4), make(chan error, 1)
	go func() { ended <- leader.Tend(ctx, func(l settings.Letter, _ bool) { alerts <- l }) }()
	bad := newChange(4, 1, settings.AdmissionPerMinute, "many")
	if _, why, err := other.Post(ctx, changes.Submission{Change: bad}); why == nil || err != nil {
		t.Fatalf("%v, %v", why, err)
	}
	told := <-alerts
	if told.Change.ID != bad.ID || told.Why == "" {
		t.Errorf("told of %+v", told)
	}
	before := leader.Revision()
	if err := other.Correct(ctx, bad.ID, map[string]string{settings.AdmissionPerMinute: "lots"}); err == nil {
		t.Error("corrected into another fault")
	}
	if err := other.Correct(ctx, bad.ID, map[string]string{settings.AdmissionPerMinute: "77"}); err != nil {
		t.Fatal(err)
	}
	await(t, other, before+1)
	if value := other.State().Value(settings.AdmissionPerMinute); value != "77" {
		t.Errorf("corrected, and %q", value)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if count, _ := leader.DeadCount(); count != 1 || len(alerts) != 0 {
		t.Errorf("%d dead letters, %d more alerts", count, len(alerts))
	}
}

// told: every change is told, in order, also those that were accepted while nobody told
// and those whose teller died before it was done; what was told is told no more.
func told(t *testing.T, s registry.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	one, two := openLog(t, s), openLog(t, s)
	died := errors.New("it died")
	// hear tells of changes until after, which is called with each batch, dies.
	hear := func(l *changes.Log, after func(last uint64) error) (heard []uint64) {
		err := l.Tell(ctx, func(_ context.Context, some []settings.Change) error {
			for _, c := range some {
				heard = append(heard, c.Revision)
			}
			return after(heard[len(heard)-1])
		})
		if !errors.Is(err, died) {
			t.Fatalf("told of %v: %v", heard, err)
		}
		for i := range heard {
			if i > 0 && heard[i] != heard[i-1]+1 {
				t.Fatalf("told of %v", heard)
			}
		}
		return heard
	}
	dieAt := func(revision uint64) func(uint64) error {
		return func(last uint64) error {
			if last < revision {
				return nil
			}
			return died
		}
	}
	first := submit(t, one, newChange(9, 0, settings.LogLevel, "warn")).Revision
	if heard := hear(one, dieAt(first)); heard[0] != 1 {
		t.Errorf("the first teller begins with %d", heard[0])
	}
	second := submit(t, two, newChange(9, 1, settings.LogLevel, "info")).Revision
	third := uint64(0)
	heard := hear(two, func(last uint64) error {
		if last == second {
			third = submit(t, one, newChange(9, 2, settings.LogLevel, "debug")).Revision
			return nil
		}
		return dieAt(second + 1)(last)
	})
	if heard[0] > first || heard[len(heard)-1] != third {
		t.Errorf("who leads after a teller that died at %d tells of %d to %d", first, heard[0], heard[len(heard)-1])
	}
	if heard := hear(one, dieAt(third)); len(heard) != 1 || heard[0] != third {
		t.Errorf("what was told is told again: %v, %d was to be", heard, third)
	}
}
