package insight

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/aggregate"
	"github.com/nyxnet/nyx/internal/engine/ledger"
)

// Hours are the aggregates of hours in files, one each, behind the place in the log up
// to which they count:
//
//	hours/2026112309   place (8) ‖ aggregate
//	next               place (8)
//
// A batch writes its hours and then next. Where that was interrupted the batch comes
// again, and each hour takes what it has not counted: every entry is in its hour once,
// whenever the process ends.
type Hours struct{ dir string }

const (
	hoursDir   = "hours"
	nextFile   = "next"
	hourFormat = "2006010215"
	placeSize  = 8
)

// OpenHours opens the aggregates in a directory, which is made.
func OpenHours(dir string) (*Hours, error) {
	if err := os.MkdirAll(filepath.Join(dir, hoursDir), 0o700); err != nil {
		return nil, fmt.Errorf("insight: %w", err)
	}
	return &Hours{dir}, nil
}

// hour is an hour in memory, and up to where it counts.
type hour struct {
	*aggregate.Aggregate
	next int64
}

func (h *Hours) path(start int64) string {
	return filepath.Join(h.dir, hoursDir, time.Unix(start, 0).UTC().Format(hourFormat))
}

// read returns the hour that begins at a second, empty if nothing is known of it.
func (h *Hours) read(start int64) (hour, error) {
	span := aggregate.Span{Start: start, Seconds: aggregate.Hour}
	b, err := os.ReadFile(h.path(start))
	if errors.Is(err, os.ErrNotExist) {
		return hour{Aggregate: aggregate.New(span)}, nil
	}
	if err == nil && len(b) < placeSize {
		err = aggregate.ErrMalformed
	}
	var a *aggregate.Aggregate
	if err == nil {
		a, err = aggregate.Parse(b[placeSize:])
	}
	if err == nil && a.Span != span {
		err = aggregate.ErrSpan
	}
	if err != nil {
		return hour{}, fmt.Errorf("insight: %s: %w; remove %s, and it is made anew from the log", h.path(start), err, h.dir)
	}
	return hour{a, int64(binary.BigEndian.Uint64(b))}, nil
}

func (h *Hours) write(a hour, next int64) error {
	return ledger.WriteFile(h.path(a.Start), a.Append(binary.BigEndian.AppendUint64(nil, uint64(next))))
}

// next is the place in the log before which all is counted.
func (h *Hours) next() (int64, error) {
	b, err := os.ReadFile(filepath.Join(h.dir, nextFile))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err == nil && len(b) != placeSize {
		err = fmt.Errorf("%d bytes, not %d; remove %s, and all is made anew from the log", len(b), placeSize, h.dir)
	}
	if err != nil {
		return 0, fmt.Errorf("insight: %s: %w", filepath.Join(h.dir, nextFile), err)
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

func (h *Hours) advance(next int64) error {
	return ledger.WriteFile(filepath.Join(h.dir, nextFile), binary.BigEndian.AppendUint64(nil, uint64(next)))
}

// Hour is what is known of the hour of a time.
func (h *Hours) Hour(t time.Time) (*aggregate.Aggregate, error) {
	a, err := h.read(t.UTC().Truncate(time.Hour).Unix())
	return a.Aggregate, err
}

// Day is what is known of the UTC day of a time: its hours, merged.
func (h *Hours) Day(t time.Time) (*aggregate.Aggregate, error) {
	start := t.UTC().Truncate(24 * time.Hour).Unix()
	day := aggregate.New(aggregate.Span{Start: start, Seconds: aggregate.Day})
	for at := start; at < start+aggregate.Day; at += aggregate.Hour {
		a, err := h.read(at)
		if err == nil {
			err = day.Merge(a.Aggregate)
		}
		if err != nil {
			return nil, err
		}
	}
	return day, nil
}
