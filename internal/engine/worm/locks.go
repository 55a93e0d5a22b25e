package worm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/engine/s3"
)

// A part of a segment is locked for Keep from when it is put. Without the files that
// segments share, their key, checkpoints and hashes, none of them verifies: these are
// locked for half of Keep longer, and their locks are made longer before they have less
// than Keep left. So while a copier runs, the lock of what is shared never ends before
// that of a segment.

// lookEvery is the most time between looks at what is there: a rule of the bucket, or
// somebody, may have removed parts whose locks were over.
const lookEvery = 24 * time.Hour

// shared reports whether other files need a file.
func shared(file string) bool { return !strings.HasPrefix(file, segmentsDir) }

// dayOf is when the day of a segment began, the zero time if its name does not say.
func dayOf(file string) time.Time {
	name, _, _ := strings.Cut(strings.TrimPrefix(file, segmentsDir), "-")
	day, _ := time.Parse("20060102", name)
	return day
}

// until is until when a part of a file is locked that is put now.
func (c *Copier) until(file string) time.Time {
	until := c.cfg.Now().Add(c.cfg.Keep)
	if shared(file) {
		until = until.Add(c.cfg.Keep/2 + lookEvery)
	}
	return until
}

// least is until when a part of a file must be locked: a segment's for Keep from its
// day on, which is as old as its content can be.
func (c *Copier) least(file string) time.Time {
	now := c.cfg.Now()
	if shared(file) {
		return now.Add(c.cfg.Keep + lookEvery)
	}
	day := dayOf(file)
	if today := audit.DayOf(now).Start(); day.After(today) { // a clock was wrong
		day = today
	}
	return day.Add(c.cfg.Keep)
}

// check finds out of each part whether it is what the log has in its place, once in this
// life, and whether it is locked for long enough. It goes on until a time, and reports
// whether it came to the end.
func (c *Copier) check(ctx context.Context, extents []ledger.Extent, end time.Time) (done bool, err error) {
	for _, e := range extents {
		row, least := c.parts[e.Name], c.least(e.Name)
		for i := range row {
			p := &row[i]
			switch {
			case p.until.IsZero():
				err = c.same(ctx, e.Name, p)
			case p.until.Before(least):
				err = c.extend(ctx, e.Name, p)
			default:
				continue
			}
			if err != nil || c.cfg.Now().After(end) {
				return false, err
			}
		}
	}
	return true, nil
}

// same returns ErrOther unless a part is what the log has in its place. One that is, and
// is not locked for long enough, it locks.
func (c *Copier) same(ctx context.Context, file string, p *part) error {
	theirs, lock, err := c.cfg.Bucket.Get(ctx, p.Object)
	if err != nil {
		return err
	}
	ours, err := c.read(file, p.at, p.end())
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return err
	}
	if p.Size == 0 || !bytes.Equal(ours, theirs) {
		return fmt.Errorf("%w: %s is another; choose another prefix, and find out who has written there", ErrOther, p.Key)
	}
	if lock.Compliance && !lock.Until.Before(c.least(file)) {
		p.until = lock.Until
		return nil
	}
	if err := c.extend(ctx, file, p); err != nil {
		return err
	}
	if !lock.Compliance {
		c.cfg.Log.Warn("a part of the audit log's copy was not locked; it is now. Find out who has written there", "object", p.Key)
	}
	return nil
}

// extend locks a part as if it were put now.
func (c *Copier) extend(ctx context.Context, file string, p *part) error {
	until := c.until(file)
	err := c.cfg.Bucket.Extend(ctx, p.Object, until)
	if err == nil {
		p.until = until
	}
	return err
}

// carry takes over what is known of parts that were there at the last look.
func (c *Copier) carry(parts map[string][]part) {
	for file, row := range parts {
		was := c.parts[file]
		for i := range row {
			if n, ok := find(was, row[i].at); ok && was[n].Object.Version == row[i].Version && was[n].Size == row[i].Size {
				row[i].until = was[n].until
			}
		}
	}
}

// protection adds up how the objects of a copy are locked.
type protection struct {
	r      *Restored
	days   int // for which a segment is locked from its day on; 0: not known
	now    time.Time
	needed bool   // a segment is locked now
	over   int    // shared objects whose lock is over,
	first  string // the first of them
}

// add takes an object of a file.
func (t *protection) add(file, key string, lock s3.Lock) {
	holds := lock.Compliance && lock.Until.After(t.now)
	if holds {
		if t.r.Locked++; t.r.Locked == 1 || lock.Until.Before(t.r.Until) {
			t.r.Until = lock.Until
		}
	}
	switch {
	case !lock.Compliance:
		t.bare(1, key)
	case shared(file):
		if !holds {
			if t.over++; t.over == 1 {
				t.first = key
			}
		}
	default:
		t.needed = t.needed || holds
		if should := dayOf(file).AddDate(0, 0, t.days); t.days > 0 && should.After(t.now) && lock.Until.Before(should) {
			t.bare(1, key)
		}
	}
}

// end is when all objects have been taken.
func (t *protection) end() {
	if t.needed && t.over > 0 {
		t.bare(t.over, t.first)
	}
}

func (t *protection) bare(many int, key string) {
	if t.r.Unlocked == 0 {
		t.r.Bare = key
	}
	t.r.Unlocked += many
}
