package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/audit"
)

// Prune removes the segments of the days before one, and returns how many entries
// were in them. Of each entry its hash stays, so that the chain and proofs hold, and
// an event says what was removed before it is. The newest segment stays, and so does
// what has no copy yet where there is to be one (Config.Copied).
func (l *Log) Prune(ctx context.Context, before audit.Day) (removed int64, err error) {
	l.pruning.Lock()
	defer l.pruning.Unlock()
	all, err := l.store.files()
	if err != nil {
		return 0, err
	}
	old := 0
	for old+1 < len(all) && all[old].head.Day < before && (l.cfg.Copied == nil || all[old+1].head.First <= l.cfg.Copied()) {
		old++
	}
	if old == 0 {
		return 0, nil
	}
	from, to := all[0].head.First, all[old].head.First
	root, err := l.keepHashes(ctx, from, to)
	if err != nil {
		return 0, err
	}
	event := l.own(audit.Retention, audit.Notice, "remove", audit.RemovalDetails(all[old-1].head.Day, to, root)...)
	if err := l.Record(ctx, event); err != nil {
		return 0, err
	}
	if _, err := l.Checkpoint(ctx); err != nil {
		return 0, err
	}
	for _, f := range all[:old] {
		err = errors.Join(err, os.Remove(f.path))
	}
	if err = errors.Join(err, syncDir(filepath.Join(l.cfg.Dir, segmentsDir))); err != nil {
		return 0, fmt.Errorf("ledger: %w", err)
	}
	return to - from, nil
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
	if err := l.cfg.sync(f); err != nil {
		return root, fmt.Errorf("ledger: %w", err)
	}
	return edge.Root(), nil
}
