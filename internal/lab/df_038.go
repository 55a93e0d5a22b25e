package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
)

// errETL is the fault of a write that was made to fail.
var errETL = errors.New("the write was made to fail")

// partialExport is DF-038: of the writes of an export a share fails. What is missing
// in the end is counted against the log. In the control nothing is written again.
func partialExport(r *Run) error {
	l, err := r.newAuditLog()
	if err != nil {
		return err
	}
	defer l.remove()
	events := r.Scaled("events")
	if err := l.record(events); err != nil {
		return err
	}
	ctx, key := context.Background(), l.Key()
	draw := r.Source("faults").Stream("writes")
	failures, writes, runs := 0, 0, 0
	x := &ledger.Export{Dir: filepath.Join(l.dir, "export"), Format: audit.CSV, Filter: audit.Filter{Kind: audit.SessionTerminate},
		PartRows: int(r.Param("part_rows")), Signer: l.keys.Signer, Now: time.Now(), Once: !r.Protected}
	x.Write = func(path string, content []byte) error {
		if writes++; draw.Chance(uint64(r.Param("failed_share") * 1e6)) {
			failures++
			return errETL
		}
		return os.WriteFile(path, content, 0o600)
	}
	var m *audit.Manifest
	for range int(r.Param("runs_most")) { // the queue of what is to be done again
		runs++
		if m, err = x.Run(ctx, l.Store(), &key); err == nil || !r.Protected {
			break
		}
	}
	if err != nil && !errors.Is(err, errETL) {
		return err
	}
	wanted, present := uint64(0), uint64(0)
	err = l.Store().Read(ctx, 0, int64(events), func(e audit.Entry) error {
		if x.Filter.Match(&e.Event) {
			wanted++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range m.Parts {
		if info, err := os.Stat(filepath.Join(x.Dir, p.File)); err == nil && info.Size() == p.Bytes {
			present += uint64(p.Rows)
		}
	}
	r.Tally("analytics_partial_export_rate", wanted-min(present, wanted), wanted)
	r.Note("%d rows wanted, %d present in %d parts; %d of %d writes failed, in %d runs", wanted, present, len(m.Parts), failures, writes, runs)
	return nil
}
