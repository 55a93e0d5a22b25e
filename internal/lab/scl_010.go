package lab

import (
	"context"
	stdsql "database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/sql"
)

// auditQueries is SCL-010: queries with several filters at regular times, whether
// earlier ones are done or not. In the control the index has no secondary indexes.
func auditQueries(r *Run) error {
	l, err := r.newAuditLog()
	if err != nil {
		return err
	}
	defer l.remove()
	events := r.Scaled("events")
	if err := l.record(events); err != nil {
		return err
	}
	ctx, path := context.Background(), filepath.Join(l.dir, "index.db")
	x, err := sql.SQLite(ctx, path)
	if err != nil {
		return err
	}
	defer x.Close()
	queries := int(r.Param("queries"))
	if !r.Protected {
		queries = int(r.Param("control_queries"))
	}
	if _, err := x.Project(ctx, l.Store()); err != nil {
		return err
	}
	if !r.Protected { // projecting makes them
		if err := dropIndexes(ctx, path); err != nil {
			return err
		}
	}
	draw := r.Source("queries").Stream("filters")
	span := time.Duration(events) * auditGap
	gap := time.Duration(float64(time.Minute) / r.Param("queries_per_minute"))
	took, failed, found := make([]time.Duration, queries), atomic.Int64{}, atomic.Int64{}
	var asking sync.WaitGroup
	begun := time.Now()
	for i := range queries {
		from := auditBegin.Add(time.Duration(draw.Uint64N(uint64(span))))
		q := sql.Query{Filter: audit.Filter{Actor: fmt.Sprintf("operator-%d", draw.IntN(7)), Kind: audit.ConfigChange, Severity: audit.Notice, From: from, To: from.Add(24 * time.Hour)}, Newest: i%2 == 0, Limit: 50}
		due := begun.Add(time.Duration(i) * gap)
		time.Sleep(time.Until(due))
		asking.Go(func() {
			p, err := x.Query(ctx, q)
			if err != nil {
				failed.Add(1)
			}
			found.Add(int64(len(p.Entries)))
			took[i] = time.Since(due) // with what the generator is late
		})
	}
	asking.Wait()
	for _, d := range took {
		r.ObserveTime("db_query_latency_p95", d)
	}
	r.Tally("query_failed", uint64(failed.Load()), uint64(queries))
	r.Note("%d queries of actor, kind, severity and a day, %v a minute, over %d events in SQLite; %d found", queries, r.Param("queries_per_minute"), events, found.Load())
	return nil
}

func dropIndexes(ctx context.Context, path string) error {
	db, err := stdsql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, of := range []string{"time", "actor", "subject", "kind", "severe"} {
		if _, err := db.ExecContext(ctx, "DROP INDEX audit_events_"+of); err != nil {
			return err
		}
	}
	return nil
}
