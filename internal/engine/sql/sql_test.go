package sql

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/nyxnet/nyx/internal/audit"
)

var start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// memoryLog is a log without files.
type memoryLog struct {
	begin     int64
	entries   []audit.Entry
	meanwhile func() // done once, after the first entry that is read
}

func (l *memoryLog) Begin() (int64, error) { return l.begin, nil }

func (l *memoryLog) Read(_ context.Context, from, before int64, each func(audit.Entry) error) error {
	for _, e := range l.entries {
		if e.Seq >= max(from, l.begin) && e.Seq < before {
			if err := each(e); err != nil {
				return err
			}
			if l.meanwhile != nil {
				l.meanwhile()
				l.meanwhile = nil
			}
		}
	}
	return nil
}

// add appends events: every third by alice, every seventh critical, and two of each
// millisecond.
func (l *memoryLog) add(many int) {
	for range many {
		n := len(l.entries)
		t := start.Add(time.Duration(n/2) * time.Millisecond)
		e := audit.Event{ID: audit.NewID(t, [10]byte{byte(n), byte(n >> 8), 1}), Time: t, Kind: audit.AdminAction, Actor: "bob", Subject: "node", Action: "drain", Org: "north", Sensitivity: uint8(n % 3), Count: 1}
		if n%3 == 0 {
			e.Actor, e.Kind, e.Org = "alice", audit.ConfigChange, ""
		}
		if n%7 == 0 {
			e.Severity, e.Outcome = audit.Critical, audit.Failed
		}
		l.entries = append(l.entries, audit.Entry{Seq: int64(n), Event: e})
	}
}

// find is what a query must find.
func (l *memoryLog) find(q Query) (seqs []int64) {
	for i := range l.entries {
		if l.entries[i].Seq >= l.begin && q.Match(&l.entries[i].Event) {
			seqs = append(seqs, l.entries[i].Seq)
		}
	}
	if q.Newest {
		slices.Reverse(seqs)
	}
	return seqs
}

func TestSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "an index?.db")
	suite(t, func() (*Index, error) { return SQLite(t.Context(), path) })
}

// What is in a database is for its owner alone.
func TestPrivateFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no modes there")
	}
	path := filepath.Join(t.TempDir(), "index.db")
	x, err := SQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v: %v", filepath.Base(name), info.Mode(), err)
		}
	}
}

func TestPostgres(t *testing.T) {
	address := startPostgres(t, "-c", "default_transaction_isolation=serializable")
	suite(t, func() (*Index, error) { return Postgres(t.Context(), address) })
}

// suite is what holds for every index.
func suite(t *testing.T, open func() (*Index, error)) {
	reopen := func(t *testing.T) *Index {
		x, err := open()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		if err := x.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		return x
	}
	t.Run("Project", func(t *testing.T) { projects(t, reopen(t), open) })
	t.Run("Compare", func(t *testing.T) { compares(t, reopen(t)) })
	t.Run("Query", func(t *testing.T) { queries(t, reopen(t)) })
	t.Run("Hostile", func(t *testing.T) { hostile(t, reopen(t)) })
	t.Run("Many", func(t *testing.T) { many(t, reopen(t)) })
	t.Run("Again", func(t *testing.T) { again(t, reopen(t)) })
	t.Run("Busy", func(t *testing.T) { busy(t, reopen(t)) })
}

func wantEqual(t *testing.T, x *Index, l *memoryLog, next int64) {
	t.Helper()
	if n, err := x.Project(t.Context(), l); n != next || err != nil {
		t.Fatalf("projected to %d, not %d: %v", n, next, err)
	}
	if err := x.Compare(t.Context(), l); err != nil {
		t.Fatal(err)
	}
}

// An index says how it finds a page: by a secondary index, as long as there is one, even
// if another connection has dropped it.
func TestExplain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	open := func() *Index {
		x, err := SQLite(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		return x
	}
	x, other := open(), open()
	l := &memoryLog{}
	l.add(1000)
	wantEqual(t, x, l, 1000)
	indexed := func() bool {
		plan, err := x.Explain(t.Context(), Query{Filter: audit.Filter{Actor: "alice", From: start}})
		if err != nil || plan == "" {
			t.Fatalf("plan %q, %v", plan, err)
		}
		return strings.Contains(plan, "USING INDEX audit_events_actor")
	}
	if !indexed() {
		t.Error("the index of actors is not used")
	}
	if err := other.do(t.Context(), func(tx *sql.Tx) error { return dropSecondary(t.Context(), tx) }); err != nil {
		t.Fatal(err)
	}
	if indexed() {
		t.Error("an index that was dropped is used")
	}
}

// projects: the index follows the log, survives a restart, is dropped and built anew
// to the same, and forgets what retention removes.
func projects(t *testing.T, x *Index, open func() (*Index, error)) {
	l := &memoryLog{}
	wantEqual(t, x, l, 0)
	l.add(5000)
	wantEqual(t, x, l, 5000)
	l.add(1)
	again, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	wantEqual(t, again, l, 5001)
	if err := again.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := x.Compare(t.Context(), l); err != nil {
		t.Fatal(err) // of no entries
	}
	wantEqual(t, x, l, 5001)
	l.begin = 1200
	wantEqual(t, x, l, 5001)
	if p, err := x.Query(t.Context(), Query{Limit: 1}); err != nil || p.Entries[0].Seq != 1200 {
		t.Errorf("the first is %+v, %v", p.Entries, err)
	}
	whole := *l
	l.meanwhile = func() { l.begin = 3000 } // while the index is compared
	if err := x.Compare(t.Context(), l); err != nil {
		t.Error(err)
	}
	if err := x.Compare(t.Context(), &whole); err != nil {
		t.Error(err)
	}
	if err := x.Forget(t.Context(), 3000); err != nil {
		t.Error(err)
	}
	if err := x.Compare(t.Context(), &whole); !errors.Is(err, ErrDiffers) {
		t.Errorf("rows of entries that are there were removed: %v", err)
	}
	wantEqual(t, x, l, 5001)
}

// TestForget: of what retention removes a file of SQLite has no bytes left.
func TestForget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	x, err := SQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	l := &memoryLog{}
	l.add(20_000)
	for i := range l.entries {
		l.entries[i].Event.Subject = [2]string{"subject-that-goes", "subject-that-stays"}[i/10_000]
	}
	wantEqual(t, x, l, 20_000)
	has := func(what string) (n int) {
		t.Helper()
		for _, name := range []string{path, path + "-wal"} {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			n += bytes.Count(b, []byte(what))
		}
		return n
	}
	if n := has("subject-that-goes"); n < 10_000 {
		t.Fatalf("the search finds %d", n)
	}
	reader, err := SQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	rows, err := reader.db.QueryContext(t.Context(), "SELECT seq FROM audit_events")
	if err != nil || !rows.Next() {
		t.Fatal(err)
	}
	x.db.SetMaxOpenConns(1) // one that does not wait for the reader
	if _, err := x.db.ExecContext(t.Context(), "PRAGMA busy_timeout = 0"); err != nil {
		t.Fatal(err)
	}
	forget := func() {
		t.Helper()
		if err := x.Forget(t.Context(), 10_000); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	if n := has("subject-that-goes"); n == 0 {
		t.Error("the reader was not in the way")
	}
	rows.Close()
	forget() // no row is left
	if n := has("subject-that-goes"); n > 0 {
		t.Errorf("what was removed is there %d times", n)
	}
	if n := has("subject-that-stays"); n < 10_000 {
		t.Errorf("what stays is there %d times", n)
	}
}

// compares: a row that is missing, changed or too many is found.
func compares(t *testing.T, x *Index) {
	l := &memoryLog{}
	l.add(50)
	for _, change := range []string{"DELETE FROM audit_events WHERE seq = 17", "UPDATE audit_events SET event = (SELECT event FROM audit_events WHERE seq = 18) WHERE seq = 17",
		"UPDATE audit_position SET next = 49", "DELETE FROM audit_events WHERE seq = 49"} {
		if err := x.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, x, l, 50)
		if _, err := x.db.ExecContext(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		if err := x.Compare(t.Context(), l); !errors.Is(err, ErrDiffers) {
			t.Errorf("%s: %v", change, err)
		}
	}
}

// queries: whatever is asked, page by page, is what a look at every event finds.
func queries(t *testing.T, x *Index) {
	l := &memoryLog{}
	l.add(1000)
	wantEqual(t, x, l, 1000)
	own, failed, public := "", audit.Failed, uint8(0)
	for name, f := range map[string]audit.Filter{
		"all":         {},
		"actor":       {Actor: "alice"},
		"kind":        {Kind: audit.AdminAction},
		"severity":    {Severity: audit.Warning},
		"time":        {From: start.Add(100*time.Millisecond + time.Microsecond), To: start.Add(300 * time.Millisecond)},
		"all of them": {From: start.Add(50 * time.Millisecond), Actor: "alice", Severity: audit.Notice, Kind: audit.ConfigChange, Subject: "node", Action: "drain", Org: &own, Outcome: &failed},
		"sensitivity": {Sensitivity: &public},
		"nobody":      {Actor: "carol"},
	} {
		for _, newest := range []bool{false, true} {
			q := Query{Filter: f, Newest: newest, Limit: 37}
			want := l.find(q)
			var got []int64
			for {
				p, err := x.Query(t.Context(), q)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				for _, e := range p.Entries {
					got = append(got, e.Seq)
				}
				if q.Cursor = p.Cursor; q.Cursor == "" {
					break
				}
			}
			slices.Sort(want) // two of a millisecond: newest first is by place too
			if newest {
				slices.Reverse(want)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, newest %v: %d found, not %d", name, newest, len(got), len(want))
			}
		}
	}
}

// hostile: what is asked for is never part of a statement.
func hostile(t *testing.T, x *Index) {
	l := &memoryLog{}
	l.add(10)
	wantEqual(t, x, l, 10)
	for _, s := range []string{"' OR '1'='1", "x'; DROP TABLE audit_events; --", "alice\x00", strings.Repeat("'", 10_000), "$1", "?1", "%"} {
		p, err := x.Query(t.Context(), Query{Filter: audit.Filter{Actor: s, Subject: s, Action: s, Org: &s}})
		if err == nil && len(p.Entries) > 0 {
			t.Errorf("%.20q finds %d", s, len(p.Entries))
		}
		if _, err := x.Query(t.Context(), Query{Cursor: s}); !errors.Is(err, ErrCursor) {
			t.Errorf("cursor %.20q: %v", s, err)
		}
	}
	if _, err := x.Query(t.Context(), Query{Limit: 1_000_000}); err == nil {
		t.Error("a page of a million")
	}
	p, err := x.Query(t.Context(), Query{Limit: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Query(t.Context(), Query{Limit: 3, Newest: true, Cursor: p.Cursor}); !errors.Is(err, ErrCursor) {
		t.Errorf("a cursor of another query: %v", err)
	}
	wantEqual(t, x, l, 10)
}

// many: several project at once, and every entry is there once. Transactions that
// meet are begun anew.
func many(t *testing.T, x *Index) {
	l := &memoryLog{}
	l.add(5000)
	var done sync.WaitGroup
	for range 3 {
		done.Go(func() {
			if n, err := x.Project(t.Context(), l); n != 5000 || err != nil {
				t.Errorf("projected to %d: %v", n, err)
			}
		})
	}
	done.Wait()
	wantEqual(t, x, l, 5000)
	if x.postgres && x.Retries() == 0 {
		t.Error("no transaction met another (40001)")
	}
}

// again: what a transaction did that met another at its very end is done anew, whole.
func again(t *testing.T, x *Index) {
	l, ends := &memoryLog{}, 0
	l.add(2*batch + 700)
	x.ending = func() error {
		if ends++; ends%2 == 0 {
			return &pgconn.PgError{Code: "40001"}
		}
		return nil
	}
	wantEqual(t, x, l, 2*batch+700)
	x.ending = nil
	if ends < 5 {
		t.Errorf("%d transactions", ends)
	}
}

// busy: who would wait behind too many others is told at once.
func busy(t *testing.T, x *Index) {
	for range connections {
		x.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan error)
	for range waitersMost + connections + 5 {
		go func() {
			_, err := x.Next(ctx)
			answers <- err
		}()
	}
	for range 5 {
		if err := <-answers; !errors.Is(err, ErrBusy) {
			t.Errorf("one too many: %v", err)
		}
	}
	cancel()
	for range waitersMost + connections {
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Errorf("who waited: %v", err)
		}
	}
	for range connections {
		<-x.slots
	}
	if _, err := x.Next(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestRetryEnds: a transaction that always meets another ends, with its error.
func TestRetryEnds(t *testing.T) {
	x, err := SQLite(t.Context(), filepath.Join(t.TempDir(), "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	tried := 0
	err = x.do(t.Context(), func(*sql.Tx) error { tried++; return &pgconn.PgError{Code: "40001"} })
	if err == nil || tried != attempts || !strings.Contains(err.Error(), "40001") {
		t.Errorf("tried %d times: %v", tried, err)
	}
	tried = 0
	if err := x.do(t.Context(), func(*sql.Tx) error { tried++; return fmt.Errorf("other") }); err == nil || tried != 1 {
		t.Errorf("tried %d times: %v", tried, err)
	}
}
