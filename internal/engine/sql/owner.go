package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
)

// ErrOther means the index of another log.
var ErrOther = errors.New("index: it is of another log")

// Of opens the index of a log of a name, as Open does. A file that is damaged, or of
// another log, is removed: it is built anew. Elsewhere what is damaged is emptied, and
// the index of another log is left alone, with ErrOther: it may be in use.
func Of(ctx context.Context, where, log string) (*Index, error) {
	x, err := Open(ctx, where)
	if err == nil {
		if err = x.Claim(ctx, log); err == nil {
			return x, nil
		}
		x.Close()
	}
	switch {
	case isPostgres(where) && errors.Is(err, ErrOther):
		return nil, fmt.Errorf("%w; name another database, or drop the tables audit_events and audit_position of this one", err)
	case !errors.Is(err, ErrOther) && !damaged(err):
		return nil, err
	}
	if err := discard(ctx, where); err != nil {
		return nil, err
	}
	if x, err = Open(ctx, where); err != nil {
		return nil, err
	}
	if err = x.Claim(ctx, log); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// Claim notes of which log the index is, by its name; ErrOther if it is another's.
func (x *Index) Claim(ctx context.Context, log string) error {
	return x.do(ctx, func(tx *sql.Tx) error {
		var of string
		if err := tx.QueryRowContext(ctx, "SELECT log FROM audit_position").Scan(&of); err != nil {
			return err
		}
		if of == log {
			return nil
		}
		if of != "" {
			return fmt.Errorf("%w, %q", ErrOther, of)
		}
		_, err := tx.ExecContext(ctx, "UPDATE audit_position SET log = "+x.bind(1), log)
		return err
	})
}

// discard removes an index that nobody here has open.
func discard(ctx context.Context, where string) error {
	if !isPostgres(where) {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(where + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("index: it is damaged and cannot be removed: %w", err)
			}
		}
		return nil
	}
	db, err := sql.Open("pgx", where)
	if err == nil {
		defer db.Close()
		_, err = db.ExecContext(ctx, "DROP TABLE IF EXISTS audit_events, audit_position")
	}
	if err != nil {
		return fmt.Errorf("index: it is damaged and cannot be removed: %w", err)
	}
	return nil
}

// damaged reports whether an index is none that can be used: it must be built anew.
func damaged(err error) bool {
	var pg *pgconn.PgError
	var lite *sqlite.Error
	switch {
	case errors.Is(err, ErrDiffers):
		return true
	case errors.As(err, &pg): // a table or a column is missing, a page is corrupt
		return pg.Code == "42P01" || pg.Code == "42703" || pg.Code == "XX001" || pg.Code == "XX002"
	case errors.As(err, &lite): // corrupt, no database, and the same of tables
		code := lite.Code() & 0xff
		return code == 11 || code == 26 || code == 1 && (strings.Contains(lite.Error(), "no such") || strings.Contains(lite.Error(), "no column"))
	}
	return false
}
