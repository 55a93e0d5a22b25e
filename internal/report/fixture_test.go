package report

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/seal"
)

// begin is when the logs of the tests begin: the morning of their first day.
var begin = time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)

var first = audit.DayOf(begin)

// fixture is a log in a directory of its own, on a clock that the test sets, and what
// makes reports of it.
type fixture struct {
	testing.TB
	log     *ledger.Log
	dir     string
	keys    ledger.FileKeys
	key     audit.LogKey
	now     time.Time
	made    int
	unwraps int // of keys of segments: one for each that was read
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{TB: t, dir: filepath.Join(t.TempDir(), "log"), now: begin}
	var err error
	if f.keys, err = ledger.OpenFileKeys(filepath.Join(f.dir, "keys"), true); err != nil {
		t.Fatal(err)
	}
	var seed [seal.SignSeedSize]byte // one that is always the same: roots are in golden files
	if f.keys.Signer, err = seal.NewSigner(&seed); err != nil {
		t.Fatal(err)
	}
	f.log, err = ledger.Open(t.Context(), ledger.Config{Dir: f.dir, Origin: "nyx/test/audit", Node: "control-1", Signer: f.keys.Signer, Wrapper: f.keys.Wrapper,
		CheckpointEvery: time.Hour, Now: func() time.Time { return f.now }})
	if err != nil {
		t.Fatal(err)
	}
	f.key = f.log.Key()
	t.Cleanup(func() { f.log.Close() }) // of a log that was changed it may fail
	return f
}

// counting is a wrapper that counts.
type counting struct {
	audit.KeyWrapper
	n *int
}

func (c counting) Unwrap(ctx context.Context, label string, wrapped []byte) (seal.Key, error) {
	*c.n++
	return c.KeyWrapper.Unwrap(ctx, label, wrapped)
}

// config makes reports as a new process does.
func (f *fixture) config() *Config {
	store := &ledger.Store{Dir: f.dir, Wrapper: counting{f.keys.Wrapper, &f.unwraps}}
	return &Config{Days: &Days{Store: store, Key: &f.key, Signer: f.keys.Signer}}
}

// record records events at the present time, which have an ID after it if they have
// none, and signs them.
func (f *fixture) record(events ...audit.Event) {
	f.Helper()
	for i := range events {
		e := &events[i]
		f.made++
		if e.Time.IsZero() {
			e.Time = f.now
		}
		e.ID = audit.NewID(e.Time, [10]byte{byte(f.made), byte(f.made >> 8), 1})
		e.Count = max(e.Count, 1)
	}
	if err := f.log.Record(f.Context(), events...); err != nil {
		f.Fatal(err)
	}
	f.sign()
}

func (f *fixture) sign() {
	f.Helper()
	if _, err := f.log.Checkpoint(f.Context()); err != nil {
		f.Fatal(err)
	}
}

// day records what a day brings, and goes on to the next.
func (f *fixture) day() {
	f.Helper()
	f.record(
		audit.Event{Kind: audit.AdminAction, Actor: "alice", Subject: "mix-7", Action: "drain", Sensitivity: 1},
		audit.Event{Kind: audit.ConfigChange, Severity: audit.Notice, Actor: "alice", Subject: "mix.queue_limit", Action: "set"},
		audit.Event{Kind: audit.ConfigChange, Severity: audit.Warning, Actor: "control-1", Subject: "mix.queue_limit", Action: "rollback"},
		audit.Event{Kind: audit.KeyEvent, Actor: "mix-7", Subject: "onion", Action: "rotate"},
		audit.Event{Kind: audit.AdmissionRefusal, Actor: "stream-1", Subject: "sessions", Action: "refuse", Outcome: audit.Refused, Reason: "rate", Count: 40},
		audit.Event{Kind: audit.AuditAccess, Actor: "auditor-1", Subject: "audit-events", Action: "read", Sensitivity: 1},
		audit.Event{Kind: audit.AuditExport, Severity: audit.Notice, Actor: "auditor-1", Subject: "export/1", Action: "complete", Sensitivity: 2},
		audit.Event{Kind: audit.SessionTerminate, Actor: "stream-1", Subject: "sessions", Action: "count", Reason: "time-out", Count: 7},
	)
	f.now = f.now.Add(30 * time.Second)
	f.record(audit.Event{Kind: audit.Incident, Severity: audit.Critical, Actor: "stream-1", Subject: "mix-7", Action: "neighbour.lost", Time: f.now.Add(-12 * time.Second),
		Details: []audit.Detail{{Key: "summary", Value: "it does not answer"}}})
	f.now = f.now.Add(24*time.Hour - 30*time.Second)
}

// make makes a report with a new process.
func (f *fixture) make(p Period) *Report {
	f.Helper()
	r, _, err := f.config().Make(f.Context(), p)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// days is the period of some days, counted from the first.
func days(from, to int) Period {
	return Period{From: first + audit.Day(from), To: first + audit.Day(to), Sensitivity: audit.SensitivityMax}
}

// row is what a table of a report has for some texts.
func (f *fixture) row(r *Report, table string, key ...string) (events, count uint64) {
	for _, t := range r.Tables {
		for _, row := range t.Rows {
			if t.Name == table && fmt.Sprint(row.Key) == fmt.Sprint(key) {
				return row.Events, row.Count
			}
		}
	}
	return 0, 0
}

func (f *fixture) bytes(r *Report, format audit.Format) string {
	f.Helper()
	b, err := r.Bytes(format)
	if err != nil {
		f.Fatal(err)
	}
	return string(b)
}

// segments lists the files of the segments.
func (f *fixture) segments() []string {
	f.Helper()
	names, err := filepath.Glob(filepath.Join(f.dir, "segments", "*.seg"))
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

func flip(b []byte) []byte {
	b[len(b)/2] ^= 1
	return b
}
