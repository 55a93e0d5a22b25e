package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/audit"
)

// Removal is what retention removes of a log: whole days, the oldest.
type Removal struct {
	Days     int
	From, To audit.Day // the first of them and the last
	// Entries from First on, before Before, are in them, in so many files and bytes.
	First, Before int64
	Segments      int
	Bytes         int64
	// Waiting are days that are as old and stay: they have no copy yet, and are to have one.
	Waiting int
}

// Entries is how many events are removed.
func (r *Removal) Entries() int64 { return r.Before - r.First }

// span is the entries from first on, before before.
type span struct{ first, before int64 }

// Removable says what Prune would remove, of a log of which the entries before one have a
// copy: the days before a day. The newest stays, whatever day it is of.
func (s *Store) Removable(before audit.Day, copied int64) (Removal, error) {
	r, _, err := s.removable(before, copied)
	return r, err
}

func (s *Store) removable(before audit.Day, copied int64) (r Removal, old []file, err error) {
	all, err := s.files()
	for i, next := 0, 0; i < len(all); i = next {
		day := all[i].head.Day
		for next < len(all) && all[next].head.Day == day {
			next++
		}
		if next == len(all) || day >= before {
			break
		}
		if all[next].head.First > copied {
			r.Waiting++
			continue
		}
		old = all[:next]
		r.Days, r.From, r.To, r.First, r.Before, r.Segments = r.Days+1, all[0].head.Day, day, all[0].head.First, all[next].head.First, next
	}
	for _, f := range old {
		r.Bytes += f.size
	}
	return r, old, err
}

// Prune removes the days before one that Removable names, with Config.Copied. Of each entry
// its hash stays, so that the chain and proofs hold, and an event that is signed says what
// is removed before it is; it is not said again while files cannot be removed. A process
// that dies between leaves a log that verifies, and of which the next Prune removes the
// rest: with an event of its own, because what the first one says was not so yet. With an
// error, what is returned was to be removed.
func (l *Log) Prune(ctx context.Context, before audit.Day) (Removal, error) {
	l.pruning.Lock()
	defer l.pruning.Unlock()
	copied := int64(math.MaxInt64)
	if l.cfg.Copied != nil {
		copied = l.cfg.Copied()
	}
	r, old, err := l.store.removable(before, copied)
	if err != nil || len(old) == 0 {
		return r, err
	}
	if all := (span{r.First, r.Before}); l.told != all {
		if err := l.tell(ctx, &r); err != nil {
			return r, err
		}
		l.told = all
	}
	for _, f := range old { // the oldest first, so that what is left begins at one place
		err := os.Remove(f.path)
		if err == nil {
			err = syncDir(filepath.Dir(f.path))
		}
		if err != nil {
			return r, fmt.Errorf("ledger: %w", err)
		}
		l.cfg.pruned("segment")
	}
	return r, nil
}

// tell keeps the hashes of what is to be removed, and has a signed event say that it is.
func (l *Log) tell(ctx context.Context, r *Removal) error {
	root, err := l.keepHashes(ctx, r.First, r.Before)
	if err != nil {
		return err
	}
	l.cfg.pruned("hashes")
	if err := l.Record(ctx, l.own(audit.Retention, audit.Notice, "remove", audit.RemovalDetails(r.To, r.Before, root)...)); err != nil {
		return err
	}
	l.cfg.pruned("event")
	if _, err := l.Checkpoint(ctx); err != nil {
		return err
	}
	l.cfg.pruned("checkpoint")
	return nil
}

// keepHashes writes the hashes of entries beside those that are kept already, and
// returns the root of all before to.
func (l *Log) keepHashes(ctx context.Context, from, to int64) (root audit.Hash, err error) {
	f, err := os.OpenFile(filepath.Join(l.cfg.Dir, "hashes"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return root, fmt.Errorf("ledger: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(audit.HashesHead), 0); err != nil {
		return root, fmt.Errorf("ledger: %w", err)
	}
	var edge audit.Edge
	err = l.store.hashes(0, from, func(h audit.Hash) error { edge.Append(h); return nil })
	if err != nil {
		return root, err
	}
	var b []byte
	at := int64(len(audit.HashesHead)) + from*32
	flush := func(least int) error {
		if len(b) < least {
			return nil
		}
		_, err := f.WriteAt(b, at)
		at, b = at+int64(len(b)), b[:0]
		return err
	}
	err = l.store.entries(ctx, from, to, func(seq int64, entry []byte) error {
		h := audit.EntryHash(entry)
		edge.Append(h)
		b = append(b, h[:]...)
		return flush(64 << 10)
	})
	if err = errors.Join(err, flush(1)); err != nil {
		return root, err
	}
	if edge.Size() != to {
		return root, &audit.Fault{First: edge.Size(), Last: to - 1, What: "they cannot be read, so nothing is removed"}
	}
	if err := errors.Join(l.cfg.sync(f), syncDir(l.cfg.Dir)); err != nil {
		return root, fmt.Errorf("ledger: %w", err)
	}
	return edge.Root(), nil
}
