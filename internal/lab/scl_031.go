package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
)

// auditExports is SCL-031: exports of the whole log to CSV, signed, several at once,
// while the log is written. The first write of every file fails; in the control nothing
// is written again.
func auditExports(r *Run) error {
	l, err := r.newAuditLog()
	if err != nil {
		return err
	}
	defer l.remove()
	if err := l.record(r.Scaled("events")); err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	defer end()
	var writing sync.WaitGroup
	var took []time.Duration
	var failed error
	writing.Go(func() { // one event after the other, as a node's
		for ctx.Err() == nil && failed == nil {
			begun := time.Now()
			failed = l.Record(context.Background(), l.event())
			took = append(took, time.Since(begun))
		}
	})
	exports, key := r.Scaled("exports"), l.Key()
	turn := make(chan struct{}, int(r.Param("at_once")))
	durations, errs := make([]time.Duration, exports), make([]error, exports)
	var running sync.WaitGroup
	for i := range exports {
		turn <- struct{}{}
		running.Go(func() {
			defer func() { <-turn }()
			begun := time.Now()
			errs[i] = l.exportOnce(filepath.Join(l.dir, fmt.Sprint("export-", i)), &key, r.Protected)
			durations[i] = time.Since(begun)
		})
	}
	running.Wait()
	end()
	writing.Wait()
	if failed != nil {
		return failed
	}
	for i := range exports {
		r.Observe("audit_export_duration", durations[i].Minutes())
		r.Trial("audit_export_failed", errs[i] != nil)
	}
	for _, d := range took {
		r.ObserveTime("audit_record_latency", d)
	}
	r.Note("%d exports of %d events, %v at once, beside a writer that recorded %d", exports, r.Scaled("events"), r.Param("at_once"), len(took))
	return nil
}

// exportOnce exports everything, and verifies the export.
func (l *auditLog) exportOnce(dir string, key *audit.LogKey, protected bool) error {
	x := &ledger.Export{Dir: dir, Format: audit.CSV, Signer: l.keys.Signer, Now: time.Now(), Once: !protected}
	tried := map[string]bool{}
	x.Write = func(path string, content []byte) error {
		if !tried[path] {
			tried[path] = true
			return errETL
		}
		return ledger.WriteFile(path, content)
	}
	if _, err := x.Run(context.Background(), l.Store(), key); err != nil {
		return err
	}
	_, err := ledger.CheckExport(dir, key)
	return err
}
