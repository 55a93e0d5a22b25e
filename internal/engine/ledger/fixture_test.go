package ledger

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// start is the time at which the logs of the tests begin.
var start = time.Date(2026, 11, 23, 23, 0, 0, 0, time.UTC)

// fixture is a log in a directory of its own, on a clock that the test sets.
type fixture struct {
	*testing.T
	cfg Config
	now time.Time
	n   int // events made
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{T: t, now: start}
	f.cfg = Config{Dir: filepath.Join(t.TempDir(), "log"), Origin: "nyx/test/audit", Node: "control-1", CheckpointEvery: time.Hour, Now: func() time.Time { return f.now }}
	keys, err := OpenFileKeys(filepath.Join(f.cfg.Dir, "keys"), true)
	if err != nil {
		t.Fatal(err)
	}
	f.cfg.Signer, f.cfg.Wrapper = keys.Signer, keys.Wrapper
	return f
}

func (f *fixture) open() *Log {
	f.Helper()
	l, err := Open(f.Context(), f.cfg)
	if err != nil {
		f.Fatal(err)
	}
	return l
}

func (f *fixture) close(l *Log) {
	f.Helper()
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
}

// event makes the n-th event.
func event(n int) audit.Event {
	t := start.Add(time.Duration(n) * time.Millisecond)
	return audit.Event{ID: audit.NewID(t, [10]byte{byte(n), byte(n >> 8), byte(n >> 16), 1}), Time: t, Kind: audit.ConfigChange, Severity: audit.Severity(n % 4),
		Actor: fmt.Sprint("operator-", n%3), Subject: "mix.queue_limit", Action: "set", Count: 1, Details: []audit.Detail{{Key: "revision", Value: fmt.Sprint(n)}}}
}

// record records so many new events, in one call.
func (f *fixture) record(l *Log, many int) {
	f.Helper()
	var events []audit.Event
	for range many {
		events = append(events, event(f.n))
		f.n++
	}
	if err := l.Record(f.Context(), events...); err != nil {
		f.Fatal(err)
	}
}

// read returns the revisions of the configuration changes in the log.
func (f *fixture) read() (seen []string) {
	f.Helper()
	s := Store{f.cfg.Dir, f.cfg.Wrapper}
	next := int64(-1)
	err := s.Read(f.Context(), 0, 1<<62, func(e audit.Entry) error {
		if next >= 0 && e.Seq != next {
			f.Errorf("entry %d follows %d", e.Seq, next-1)
		}
		next = e.Seq + 1
		if e.Event.Kind == audit.ConfigChange {
			seen = append(seen, e.Event.Detail("revision"))
		}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return seen
}

// want compares what is in the log with the first so many events.
func (f *fixture) want(many int) {
	f.Helper()
	seen := f.read()
	for i, revision := range seen {
		if revision != fmt.Sprint(i) {
			f.Fatalf("event %d has revision %s", i, revision)
		}
	}
	if len(seen) != many {
		f.Fatalf("%d events are in the log, not %d", len(seen), many)
	}
}

func (f *fixture) verify(others ...[]byte) (audit.Verified, error) {
	f.Helper()
	key, err := ReadKey(filepath.Join(f.cfg.Dir, "log.key"))
	if err != nil {
		f.Fatal(err)
	}
	s := Store{f.cfg.Dir, f.cfg.Wrapper}
	v, _, err := s.Verify(context.Background(), key, others, nil)
	return v, err
}

func (f *fixture) wantVerified() audit.Verified {
	f.Helper()
	v, err := f.verify()
	if err != nil {
		f.Fatal(err)
	}
	return v
}

// segments lists the files of the segments.
func (f *fixture) segments() []string {
	f.Helper()
	names, err := filepath.Glob(filepath.Join(f.cfg.Dir, segmentsDir, "*"))
	if err != nil {
		f.Fatal(err)
	}
	return names
}

func (f *fixture) edit(path string, change func([]byte) []byte) {
	f.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		os.Chmod(path, 0o600)
		err = os.WriteFile(path, change(b), 0o600)
	}
	if err != nil {
		f.Fatal(err)
	}
}
