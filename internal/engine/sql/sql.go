// Package sql is what Nyx keeps in SQL: SQLite in the process, or PostgreSQL or
// CockroachDB by URL. There is the index of the audit log, for queries, which is a
// projection: what it holds follows from the log, so that it may be dropped at any
// time and is built anew. And there are the session records of a fleet.
package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/nyxnet/nyx/internal/audit"
)

var (
	// ErrMoved means that another projection has gone on meanwhile. Nothing changed.
	ErrMoved = errors.New("index: another process has gone on with the index")
	// ErrCursor means a cursor that no page has given.
	ErrCursor = errors.New("index: not a cursor of this query")
)

// rowsMost is how many rows one statement inserts: SQLite takes 32,766 values.
const rowsMost = 200

// Index is the index of the audit log in a database. Its methods are safe for
// concurrent use.
type Index struct {
	*database
	inserts string // of rowsMost rows
	// owed is that SQLite's log before the database may have bytes of what was forgotten: a
	// process before this one was killed, or a reader was in the way.
	owed atomic.Bool
}

// SQLite opens an index in a file, which is made if it is not there.
func SQLite(ctx context.Context, path string) (*Index, error) { return Open(ctx, path) }

// Postgres opens an index at a URL (postgres://…), in PostgreSQL or CockroachDB.
func Postgres(ctx context.Context, address string) (*Index, error) { return Open(ctx, address) }

// Open opens an index in a file of SQLite, or at a URL of PostgreSQL.
func Open(ctx context.Context, where string) (*Index, error) {
	d, err := openDatabase(ctx, "index", where, schema)
	if err != nil {
		return nil, err
	}
	x := &Index{database: d}
	x.inserts = x.insert(rowsMost)
	x.owed.Store(!d.postgres)
	err = x.do(ctx, func(tx *sql.Tx) error {
		if err := d.alone(ctx, tx); err != nil {
			return err
		}
		return createSecondary(ctx, tx)
	})
	if err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// Close ends all connections.
func (x *Index) Close() error { return x.db.Close() }

// Retries is how many transactions met another and were begun anew.
func (x *Index) Retries() uint64 { return x.retried.Load() }

// schema has PLACE for the type of a place and BYTES for that of bytes. An event's columns are those
// that queries look for, and its encoding, which holds all. audit_position says of
// which log the index is, and what of it.
const schema = `
CREATE TABLE IF NOT EXISTS audit_position (one INTEGER PRIMARY KEY, next BIGINT NOT NULL, log TEXT NOT NULL);
INSERT INTO audit_position (one, next, log) VALUES (1, 0, '') ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS audit_events (
	seq PLACE PRIMARY KEY, time BIGINT NOT NULL, kind SMALLINT NOT NULL, severity SMALLINT NOT NULL, outcome SMALLINT NOT NULL, sensitivity SMALLINT NOT NULL,
	actor TEXT NOT NULL, subject TEXT NOT NULL, action TEXT NOT NULL, org TEXT NOT NULL, event BYTES NOT NULL)`

// secondary are the indexes that queries look into.
var secondary = []struct{ name, on string }{
	{"time", "(time, seq)"},
	{"actor", "(actor, time, seq)"},
	{"subject", "(subject, time, seq)"},
	{"kind", "(kind, time, seq)"},
	{"severe", "(time, seq) WHERE severity >= 2"},
}

const columns = 11

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

func (x *Index) insert(rows int) string {
	return "INSERT INTO audit_events (seq, time, kind, severity, outcome, sensitivity, actor, subject, action, org, event) VALUES " + x.rows(rows, columns, 1)
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

// Forget removes the entries before one, which retention has removed from the log, some at
// a time, so that nobody waits long for it. In SQLite their bytes are overwritten: those in
// the log before the database by a later call, if somebody reads meanwhile.
func (x *Index) Forget(ctx context.Context, before int64) error {
	for {
		_, first, err := x.place(ctx)
		if err != nil {
			return err
		}
		if first >= before {
			return x.settle(ctx)
		}
		upTo := min(before, first+batch)
		_, err = x.exec(ctx, "DELETE FROM audit_events WHERE seq < "+x.bind(1), upTo)
		if err != nil {
			return err
		}
		x.owed.Store(!x.postgres)
	}
}

// settle empties SQLite's log before the database, if that is owed and nobody reads.
func (x *Index) settle(ctx context.Context) error {
	if !x.owed.Load() {
		return nil
	}
	var busy, frames, moved int // that it was blocked is no error of SQLite's
	err := x.again(ctx, func() error {
		return x.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved)
	})
	if err == nil && busy == 0 {
		x.owed.Store(false)
	}
	return err
}
