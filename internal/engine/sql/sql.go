// Package sql is the index of the audit log, for queries: SQLite in the process, or
// PostgreSQL or CockroachDB by URL. It is a projection. What it holds follows from
// the log, so that it may be dropped at any time and is built anew.
package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"modernc.org/sqlite"

	"github.com/nyxnet/nyx/internal/audit"
)

var (
	// ErrBusy means more callers than may wait for the database. Come again later.
	ErrBusy = errors.New("index: too many callers wait for the database")
	// ErrMoved means that another projection has gone on meanwhile. Nothing changed.
	ErrMoved = errors.New("index: another process has gone on with the index")
	// ErrCursor means a cursor that no page has given.
	ErrCursor = errors.New("index: not a cursor of this query")
)

const (
	// connections to the database, and callers that wait for one.
	connections = 8
	waitersMost = 64
	// rowsMost is how many rows one statement inserts: SQLite takes 32,766 values.
	rowsMost = 200
	// attempts at a transaction that meets another (40001), the first wait between
	// two, which doubles.
	attempts  = 8
	retryWait = 2 * time.Millisecond
	spread    = 7
	// Entries are added at random places of the secondary indexes: a connection keeps
	// 32 MiB of pages (2 MiB by default), and the log before the database grows to
	// 32 MiB before it is brought in (4 MiB), so that a page is written seldom.
	cachePragma      = "cache_size(-32768)"
	checkpointPragma = "wal_autocheckpoint(8192)"
)

// Index is an index in a database. Its methods are safe for concurrent use.
type Index struct {
	db       *sql.DB
	postgres bool
	slots    chan struct{}
	waiting  atomic.Int64
	retried  atomic.Uint64
	inserts  string       // of rowsMost rows
	ending   func() error // of tests: how a transaction ends, nil for well
}

// SQLite opens an index in a file, which is made if it is not there.
func SQLite(ctx context.Context, path string) (*Index, error) {
	pragmas := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(5000)", cachePragma, checkpointPragma}, "_txlock": {"immediate"}}
	return open(ctx, "sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: pragmas.Encode()}).String())
}

// Postgres opens an index at a URL (postgres://…), in PostgreSQL or CockroachDB.
func Postgres(ctx context.Context, address string) (*Index, error) { return open(ctx, "pgx", address) }

// Open opens an index in a file of SQLite, or at a URL of PostgreSQL.
func Open(ctx context.Context, where string) (*Index, error) {
	if remote(where) {
		return Postgres(ctx, where)
	}
	return SQLite(ctx, where)
}

func remote(where string) bool {
	return strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://")
}

func open(ctx context.Context, driver, source string) (*Index, error) {
	db, err := sql.Open(driver, source)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	x := &Index{db: db, postgres: driver == "pgx", slots: make(chan struct{}, connections)}
	x.inserts = x.insert(rowsMost)
	if err := x.create(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return x, nil
}

// Close ends all connections.
func (x *Index) Close() error { return x.db.Close() }

// Retries is how many transactions met another and were begun anew.
func (x *Index) Retries() uint64 { return x.retried.Load() }

// schema has %s for the types of a place and of bytes. An event's columns are those
// that queries look for, and its encoding, which holds all. audit_position says of
// which log the index is, and what of it.
const schema = `
CREATE TABLE IF NOT EXISTS audit_position (one INTEGER PRIMARY KEY, next BIGINT NOT NULL, log TEXT NOT NULL);
INSERT INTO audit_position (one, next, log) VALUES (1, 0, '') ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS audit_events (
	seq %s PRIMARY KEY, time BIGINT NOT NULL, kind SMALLINT NOT NULL, severity SMALLINT NOT NULL, outcome SMALLINT NOT NULL, sensitivity SMALLINT NOT NULL,
	actor TEXT NOT NULL, subject TEXT NOT NULL, action TEXT NOT NULL, org TEXT NOT NULL, event %s NOT NULL)`

// secondary are the indexes that queries look into.
var secondary = []struct{ name, on string }{
	{"time", "(time, seq)"},
	{"actor", "(actor, time, seq)"},
	{"subject", "(subject, time, seq)"},
	{"kind", "(kind, time, seq)"},
	{"severe", "(time, seq) WHERE severity >= 2"},
}

const columns = 11

func (x *Index) create(ctx context.Context) error {
	place, bytes := "INTEGER", "BLOB" // INTEGER is SQLite's own number of a row
	if x.postgres {
		place, bytes = "BIGINT", "BYTEA"
	}
	return x.do(ctx, func(tx *sql.Tx) error {
		if x.postgres { // two that create a table at once would meet
			if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(7021)"); err != nil {
				return err
			}
		}
		for _, statement := range strings.Split(fmt.Sprintf(schema, place, bytes), ";") {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return createSecondary(ctx, tx)
	})
}

func createSecondary(ctx context.Context, tx *sql.Tx) error {
	for _, s := range secondary {
		if _, err := tx.ExecContext(ctx, "CREATE INDEX IF NOT EXISTS audit_events_"+s.name+" ON audit_events "+s.on); err != nil {
			return err
		}
	}
	return nil
}

func dropSecondary(ctx context.Context, tx *sql.Tx) error {
	for _, s := range secondary {
		if _, err := tx.ExecContext(ctx, "DROP INDEX IF EXISTS audit_events_"+s.name); err != nil {
			return err
		}
	}
	return nil
}

// Drop empties the index.
func (x *Index) Drop(ctx context.Context) error {
	return x.do(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM audit_events"); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE audit_position SET next = 0")
		return err
	})
}

// acquire waits for a connection, if not too many do.
func (x *Index) acquire(ctx context.Context) (release func(), err error) {
	if x.waiting.Add(1) > waitersMost+connections {
		x.waiting.Add(-1)
		return nil, ErrBusy
	}
	select {
	case x.slots <- struct{}{}:
		return func() { <-x.slots; x.waiting.Add(-1) }, nil
	case <-ctx.Done():
		x.waiting.Add(-1)
		return nil, ctx.Err()
	}
}

// do runs a transaction, and runs it again if it met another.
func (x *Index) do(ctx context.Context, run func(*sql.Tx) error) error {
	release, err := x.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	wait := retryWait
	for i := 1; ; i++ {
		if err = x.try(ctx, run); err == nil || !met(err) || i == attempts {
			break
		}
		turn := x.retried.Add(1) % spread // so that those who met do not meet again
		select {
		case <-time.After(wait/2 + wait*time.Duration(turn)/spread):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait *= 2
	}
	if err != nil && !errors.Is(err, ErrMoved) && !errors.Is(err, ErrOther) {
		err = fmt.Errorf("index: %w", err)
	}
	return err
}

func (x *Index) try(ctx context.Context, run func(*sql.Tx) error) error {
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	err = run(tx)
	if err == nil && x.ending != nil {
		err = x.ending()
	}
	if err != nil {
		tx.Rollback()
		return err
	}
	return tx.Commit()
}

// met reports whether a transaction failed because of another: serialization
// failures and deadlocks of PostgreSQL and CockroachDB, a database of SQLite that is
// busy.
func met(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "40001" || pg.Code == "40P01"
	}
	var lite *sqlite.Error
	return errors.As(err, &lite) && lite.Code()&0xff == 5
}

// bind writes the n-th parameter of a statement, from 1 on, in their order. Of
// SQLite they have no numbers: those are names to it, which its driver looks up one by
// one for each value, and that took three quarters of an insertion.
func (x *Index) bind(n int) string {
	if x.postgres {
		return "$" + strconv.Itoa(n)
	}
	return "?"
}

func (x *Index) insert(rows int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO audit_events (seq, time, kind, severity, outcome, sensitivity, actor, subject, action, org, event) VALUES ")
	for n := range rows * columns {
		switch {
		case n%columns > 0:
			b.WriteString(", ")
		case n > 0:
			b.WriteString("), (")
		default:
			b.WriteByte('(')
		}
		b.WriteString(x.bind(n + 1))
	}
	return b.String() + ")"
}

// Next is the place of the first entry that is not in the index.
func (x *Index) Next(ctx context.Context) (next int64, err error) {
	release, err := x.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	if err = x.db.QueryRowContext(ctx, "SELECT next FROM audit_position").Scan(&next); err != nil {
		err = fmt.Errorf("index: %w", err)
	}
	return next, err
}

// Apply adds entries in their order and moves the index from a place to another, all
// or nothing; with ErrMoved it was not at that place.
func (x *Index) Apply(ctx context.Context, from, to int64, entries []audit.Entry) error {
	return x.do(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, "UPDATE audit_position SET next = "+x.bind(1)+" WHERE next = "+x.bind(2), to, from)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n != 1 {
			return errors.Join(ErrMoved, err)
		}
		return x.add(ctx, tx, entries)
	})
}

// add inserts the rows of entries.
func (x *Index) add(ctx context.Context, tx *sql.Tx, entries []audit.Entry) (err error) {
	var full *sql.Stmt
	if len(entries) >= rowsMost {
		if full, err = tx.PrepareContext(ctx, x.inserts); err != nil {
			return err
		}
		defer full.Close()
	}
	values := make([]any, 0, min(len(entries), rowsMost)*columns)
	var encoded []byte
	for len(entries) > 0 {
		some := entries[:min(len(entries), rowsMost)]
		entries = entries[len(some):]
		values, encoded = values[:0], encoded[:0]
		for i := range some {
			e := &some[i].Event
			at := len(encoded)
			encoded = audit.Append(encoded, e)
			values = append(values, some[i].Seq, e.Time.UnixMilli(), int64(e.Kind), int64(e.Severity), int64(e.Outcome), int64(e.Sensitivity), e.Actor, e.Subject, e.Action, e.Org, encoded[at:len(encoded):len(encoded)])
		}
		if len(some) == rowsMost {
			_, err = full.ExecContext(ctx, values...)
		} else {
			_, err = tx.ExecContext(ctx, x.insert(len(some)), values...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Forget removes the entries before one, which retention has removed from the log.
func (x *Index) Forget(ctx context.Context, before int64) error {
	return x.do(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM audit_events WHERE seq < "+x.bind(1), before)
		return err
	})
}
