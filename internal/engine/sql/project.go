package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/nyxnet/nyx/internal/audit"
)

// Log is what an index follows from.
type Log interface {
	// Begin is the place of the first entry that retention has left.
	Begin() (int64, error)
	// Read calls each with the entries from a place on, before another.
	Read(ctx context.Context, from, before int64, each func(audit.Entry) error) error
}

const (
	// batch is how many entries a transaction adds: each writes the pages of the
	// secondary indexes that it touches once, and is held in memory, some 4 MB.
	batch = 8000
	// bulk is from how many entries on an empty index gets its secondary indexes when
	// all are there, which sorts each once.
	bulk = 50_000
)

// Project brings the index to where the log ends, and returns that place. Several may
// do so at once.
func (x *Index) Project(ctx context.Context, log Log) (next int64, err error) {
	for {
		next, err = x.project(ctx, log)
		if !errors.Is(err, ErrMoved) {
			return next, err
		}
	}
}

func (x *Index) project(ctx context.Context, log Log) (int64, error) {
	begin, err := log.Begin()
	if err != nil {
		return 0, err
	}
	next, first, err := x.place(ctx)
	if err != nil {
		return 0, err
	}
	if first < begin {
		if err := x.Forget(ctx, begin); err != nil {
			return 0, err
		}
	}
	some := make([]audit.Entry, 0, 64)
	bare := false // the secondary indexes are to be made
	apply := func() error {
		if len(some) == 0 {
			return nil
		}
		to := some[len(some)-1].Seq + 1
		if err := x.Apply(ctx, next, to, some); err != nil {
			return err
		}
		next, some = to, some[:0]
		return nil
	}
	err = log.Read(ctx, next, 1<<62, func(e audit.Entry) error {
		if some = append(some, e); len(some) < batch {
			return nil
		}
		if first == none && !bare && e.Seq-begin >= bulk {
			bare = true
			if err := x.do(ctx, func(tx *sql.Tx) error { return dropSecondary(ctx, tx) }); err != nil {
				return err
			}
		}
		return apply()
	})
	if err == nil {
		err = apply()
	}
	if bare {
		err = errors.Join(err, x.do(ctx, func(tx *sql.Tx) error { return createSecondary(ctx, tx) }))
	}
	return next, err
}

// none is the first entry of an index without any.
const none = 1 << 62

// place is where the index ends and where it begins.
func (x *Index) place(ctx context.Context) (next, first int64, err error) {
	release, err := x.acquire(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer release()
	var least sql.NullInt64
	if err = x.db.QueryRowContext(ctx, "SELECT next, (SELECT MIN(seq) FROM audit_events) FROM audit_position").Scan(&next, &least); err != nil {
		return 0, 0, fmt.Errorf("index: %w", err)
	}
	if first = none; least.Valid {
		first = least.Int64
	}
	return next, first, nil
}

// ErrDiffers means an index that does not hold what the log holds.
var ErrDiffers = errors.New("index: it is not what the log holds")

// Compare reports whether the index holds what the log holds, up to where the index
// is. It looks at one moment of the index, which may go on meanwhile.
func (x *Index) Compare(ctx context.Context, log Log) error {
	release, err := x.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	options := &sql.TxOptions{ReadOnly: true}
	if x.postgres {
		options.Isolation = sql.LevelRepeatableRead
	}
	tx, err := x.db.BeginTx(ctx, options)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	defer tx.Rollback()
	var next int64
	if err := tx.QueryRowContext(ctx, "SELECT next FROM audit_position").Scan(&next); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	rows, err := tx.QueryContext(ctx, "SELECT seq, event FROM audit_events ORDER BY seq")
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	defer rows.Close()
	var seq, end int64
	var event sql.RawBytes
	row := func() (bool, error) {
		if !rows.Next() {
			return false, rows.Err()
		}
		return true, rows.Scan(&seq, &event)
	}
	var encoded []byte
	err = log.Read(ctx, 0, next, func(e audit.Entry) error {
		there, err := row()
		for e.Seq != end && there && err == nil && seq < e.Seq { // retention has removed its entry since
			there, err = row()
		}
		if err != nil {
			return fmt.Errorf("index: %w", err)
		}
		encoded, end = audit.Append(encoded[:0], &e.Event), e.Seq+1
		switch {
		case !there:
			return fmt.Errorf("%w: entry %d and those after it are missing", ErrDiffers, e.Seq)
		case seq != e.Seq || string(event) != string(encoded):
			return fmt.Errorf("%w: row %d in the place of entry %d", ErrDiffers, seq, e.Seq)
		}
		return nil
	})
	if err != nil {
		return err
	}
	more, err := row()
	switch {
	case err != nil:
		return fmt.Errorf("index: %w", err)
	case more, end > 0 && end < next:
		return fmt.Errorf("%w: there are more rows than entries", ErrDiffers)
	}
	return nil
}
