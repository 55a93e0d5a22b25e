package sql

import (
	"context"
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

// batch is how many entries a transaction adds.
const batch = 2000

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
	if err := x.Forget(ctx, begin); err != nil {
		return 0, err
	}
	next, err := x.Next(ctx)
	if err != nil {
		return 0, err
	}
	var some []audit.Entry
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
		return apply()
	})
	if err == nil {
		err = apply()
	}
	return next, err
}

// ErrDiffers means an index that does not hold what the log holds.
var ErrDiffers = errors.New("index: it is not what the log holds")

// Compare reports whether the index holds what the log holds, up to where the index
// is. Nobody else may write the index meanwhile.
func (x *Index) Compare(ctx context.Context, log Log) error {
	next, err := x.Next(ctx)
	if err != nil {
		return err
	}
	rows, err := x.db.QueryContext(ctx, "SELECT seq, event FROM audit_events ORDER BY seq")
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	defer rows.Close()
	err = log.Read(ctx, 0, next, func(e audit.Entry) error {
		var seq int64
		var event []byte
		if !rows.Next() {
			return fmt.Errorf("%w: entry %d and those after it are missing", ErrDiffers, e.Seq)
		}
		if err := rows.Scan(&seq, &event); err != nil {
			return fmt.Errorf("index: %w", err)
		}
		if seq != e.Seq || string(event) != string(audit.Append(nil, &e.Event)) {
			return fmt.Errorf("%w: row %d in the place of entry %d", ErrDiffers, seq, e.Seq)
		}
		return nil
	})
	if err == nil && rows.Next() {
		err = fmt.Errorf("%w: there are more rows than entries", ErrDiffers)
	}
	if err == nil {
		err = rows.Err()
	}
	return err
}
