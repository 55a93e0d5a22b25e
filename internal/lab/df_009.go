package lab

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/sql"
)

// replayAudit is DF-009: the whole log is verified, and its index built anew from it.
// In the control somebody has changed a bit of it.
func replayAudit(r *Run) error {
	l, err := r.newAuditLog()
	if err != nil {
		return err
	}
	defer l.remove()
	events := r.Scaled("events")
	if err := l.record(events); err != nil {
		return err
	}
	r.Progress("%d events recorded", events)
	ctx, key := context.Background(), l.Key()
	if !r.Protected {
		if err := flipBit(l.dir); err != nil {
			return err
		}
	}
	begun, replayed := time.Now(), int64(0)
	_, _, failed := l.Store().Verify(ctx, &key, nil, func(audit.Entry) error { replayed++; return nil })
	r.Observe("audit_replay_throughput", float64(replayed)/time.Since(begun).Seconds())
	r.Tally("audit_replayed", uint64(replayed), uint64(events))
	if failed != nil {
		r.Note("the replay ends: %v", failed)
		return nil
	}
	x, err := sql.SQLite(ctx, filepath.Join(l.dir, "index.db"))
	if err != nil {
		return err
	}
	defer x.Close()
	begun = time.Now()
	if _, err := x.Project(ctx, l.Store()); err != nil {
		return err
	}
	projected := time.Since(begun)
	r.Trial("audit_index_differs", x.Compare(ctx, l.Store()) != nil)
	r.Note("%d of %d events replayed; the index was built anew at %.0f a second. Verification takes memory for segments and checkpoints alone (nyx bench audit), so that its time grows with the number of events", replayed, events, float64(replayed)/projected.Seconds())
	return nil
}

// flipBit changes a bit in the middle of the first segment of a log.
func flipBit(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "segments", "*.seg"))
	if err != nil {
		return err
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	return os.WriteFile(names[0], b, 0o600)
}
