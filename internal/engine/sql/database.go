package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"modernc.org/sqlite"
)

// ErrBusy means more callers than may wait for the database. Come again later.
var ErrBusy = errors.New("too many callers wait for the database")

const (
	// connections to the database, and callers that wait for one.
	connections = 8
	waitersMost = 64
	// attempts at a transaction that meets another (40001), the first wait between
	// two, which doubles.
	attempts  = 8
	retryWait = 2 * time.Millisecond
	spread    = 7
	// Rows are added at random places of indexes: a connection keeps 32 MiB of pages
	// (2 MiB by default), and the log before the database grows to 32 MiB before it is
	// brought in (4 MiB), so that a page is written seldom.
	cachePragma      = "cache_size(-32768)"
	checkpointPragma = "wal_autocheckpoint(8192)"
	// What is deleted is overwritten: retention, and the end of a session, mean it.
	deletePragma = "secure_delete(1)"
)

// database is SQLite in a file, or a server that speaks PostgreSQL's protocol: a
// bounded number of connections and of callers that wait for one, and transactions
// that are begun anew when they met another. It is safe for concurrent use.
type database struct {
	db       *sql.DB
	name     string // of what is in it, for errors
	postgres bool
	slots    chan struct{}
	waiting  atomic.Int64
	retried  atomic.Uint64
	ending   func() error // of tests: how a transaction ends, nil for well
}

// sqliteFile is the source of a file of SQLite, which is made if it is not there.
func sqliteFile(path string) string {
	pragmas := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(5000)", cachePragma, checkpointPragma, deletePragma}, "_txlock": {"immediate"}}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: pragmas.Encode()}).String()
}

// private makes a file of SQLite, if it is not there, for its owner alone. Files that
// SQLite makes beside it have the same mode.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// isPostgres reports whether a place is a URL of PostgreSQL and not a file.
func isPostgres(where string) bool {
	return strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://")
}

// openDatabase opens what is at a URL of PostgreSQL, or in a file of SQLite, and
// brings its tables about.
func openDatabase(ctx context.Context, name, where, schema string) (*database, error) {
	driver, source := "sqlite", where
	if isPostgres(where) {
		driver = "pgx"
	} else {
		source = sqliteFile(where)
		if err := private(where); err != nil {
			return nil, fmt.Errorf("%s: cannot open its file: %w", name, err)
		}
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	d := &database{db: db, name: name, postgres: driver == "pgx", slots: make(chan struct{}, connections)}
	if err := d.create(ctx, schema); err != nil {
		db.Close()
		return nil, err
	}
	return d, nil
}

// create brings the tables of a schema about, which has BYTES for the type of bytes, and
// PLACE for that of a place in the log.
func (d *database) create(ctx context.Context, schema string) error {
	types := strings.NewReplacer("BYTES", "BLOB", "PLACE", "INTEGER") // SQLite's own number of a row
	if d.postgres {
		types = strings.NewReplacer("BYTES", "BYTEA", "PLACE", "BIGINT")
	}
	return d.do(ctx, func(tx *sql.Tx) error {
		if err := d.alone(ctx, tx); err != nil {
			return err
		}
		for statement := range strings.SplitSeq(types.Replace(schema), ";") {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// alone keeps others that create tables or indexes waiting until a transaction ends:
// two that create one at once would meet.
func (d *database) alone(ctx context.Context, tx *sql.Tx) (err error) {
	if d.postgres {
		_, err = tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(7021)")
	}
	return err
}

// Close ends all connections.
func (d *database) Close() error { return d.db.Close() }

// Retries is how many transactions met another and were begun anew.
func (d *database) Retries() uint64 { return d.retried.Load() }

// acquire waits for a connection, if not too many do.
func (d *database) acquire(ctx context.Context) (release func(), err error) {
	if d.waiting.Add(1) > waitersMost+connections {
		d.waiting.Add(-1)
		return nil, fmt.Errorf("%s: %w", d.name, ErrBusy)
	}
	select {
	case d.slots <- struct{}{}:
		return func() { <-d.slots; d.waiting.Add(-1) }, nil
	case <-ctx.Done():
		d.waiting.Add(-1)
		return nil, ctx.Err()
	}
}

// do runs a transaction, and runs it again if it met another.
func (d *database) do(ctx context.Context, run func(*sql.Tx) error) error {
	return d.again(ctx, func() error { return d.try(ctx, run) })
}

// exec runs one statement, which is a transaction of its own, and says how many rows
// it has changed.
func (d *database) exec(ctx context.Context, statement string, values ...any) (rows int64, err error) {
	err = d.again(ctx, func() error {
		r, err := d.db.ExecContext(ctx, statement, values...)
		if err == nil {
			rows, err = r.RowsAffected()
		}
		return err
	})
	return rows, err
}

// again runs what is whole or not at all, and runs it again if it met another.
func (d *database) again(ctx context.Context, run func() error) error {
	release, err := d.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	wait := retryWait
	for i := 1; ; i++ {
		if err = run(); err == nil || !met(err) || i == attempts {
			break
		}
		turn := d.retried.Add(1) % spread // so that those who met do not meet again
		select {
		case <-time.After(wait/2 + wait*time.Duration(turn)/spread):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait *= 2
	}
	if err != nil && !errors.Is(err, ErrMoved) && !errors.Is(err, ErrOther) {
		err = fmt.Errorf("%s: %w", d.name, err)
	}
	return err
}

func (d *database) try(ctx context.Context, run func(*sql.Tx) error) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	err = run(tx)
	if err == nil && d.ending != nil {
		err = d.ending()
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

// bind writes the n-th parameter of a statement, from 1 on.
func (d *database) bind(n int) string {
	if d.postgres {
		return "$" + strconv.Itoa(n)
	}
	return "?" + strconv.Itoa(n)
}

// rows writes the parameters of so many rows of so many columns, as VALUES has them,
// from the first-th on. Of SQLite they have no numbers: those are names to it, which its
// driver looks up one by one for each value, and that took three quarters of an
// insertion.
func (d *database) rows(rows, columns, first int) string {
	var b strings.Builder
	for n := range rows * columns {
		switch {
		case n%columns > 0:
			b.WriteString(", ")
		case n > 0:
			b.WriteString("), (")
		default:
			b.WriteByte('(')
		}
		if d.postgres {
			b.WriteString(d.bind(first + n))
		} else {
			b.WriteByte('?')
		}
	}
	return b.String() + ")"
}
