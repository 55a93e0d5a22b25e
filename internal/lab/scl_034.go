package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/lab/servers"
	"github.com/nyxnet/nyx/internal/telemetry"
)

// logCompaction is SCL-034: the logs of processes, of some days, go from their files
// through the Collector into Loki, and its compactor, of the concurrency that is shipped,
// compacts the indexes of these days at once. What is behind after a day of the full load
// is calculated. In the control the compactor does not run.
func logCompaction(r *Run) (err error) {
	collector, err := servers.FindCollector()
	if err != nil {
		return err
	}
	program, err := servers.Find(servers.LokiName)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nyx-logs-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), r.Duration("minutes_at_most", time.Minute))
	defer cancel()
	logs := filepath.Join(dir, "logs")
	r.Progress("processes write their logs")
	lines, bytes, err := r.writeLogs(logs)
	if err != nil {
		return err
	}
	r.Progress("the logs go to Loki")
	if err := r.ingestLogs(ctx, collector, program, dir, lines, bytes); err != nil {
		return err
	}
	var took time.Duration
	if r.Protected {
		r.Progress("the compactor runs")
		if took, err = compactLogs(ctx, program, dir); err != nil {
			return err
		}
	}
	left, all, err := indexFiles(filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	l, err := servers.StartLoki(program, dir)
	if err != nil {
		return err
	}
	days := int(r.Param("days"))
	got, err := l.Count(ctx, fmt.Sprintf(`sum(count_over_time({service_name="nyx"}[%dh]))`, 24*(days+1)), time.Now())
	_, stopped := l.Stop()
	if err := errors.Join(err, stopped); err != nil {
		return err
	}
	r.Tally("logs_lost", lines-min(got, lines), lines)
	// What was compacted, in the time that it took, is a rate. If logs come faster, they are
	// behind by what is left over of a day; else by an interval and the run after it.
	comes, rate := r.Param("bytes_per_day")/24, 0.0
	if took > 0 {
		rate = float64(bytes) * float64(all-left) / float64(all) / took.Hours()
	}
	behind := 24 * (1 - rate/comes)
	if rate > comes {
		behind = r.Param("interval_minutes") / 60 * (1 + comes/rate)
	}
	r.Observe("loki_compactor_backlog", behind)
	r.Note("measured: the compactor took %.2f s for the indexes of %d MiB of logs in %d tables, %d of %d files of which are left; calculated: %.0f GB an hour of the %.0f that come", took.Seconds(), bytes>>20, days, left, all, rate/1e9, comes/1e9)
	return nil
}

// writeLogs has processes write their logs, each of a day of its own, as Nyx does it: as
// JSON, into files that turn. It returns how many lines and bytes these are.
func (r *Run) writeLogs(dir string) (lines, bytes uint64, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, 0, err
	}
	processes, days := int(r.Param("processes")), int(r.Param("days"))
	each := r.Scaled("lines") / processes
	for p := range processes {
		files, err := telemetry.OpenFiles(filepath.Join(dir, fmt.Sprintf("stream-%d.log", p)), int64(r.Param("budget_megabytes"))<<20)
		if err != nil {
			return 0, 0, err
		}
		h := slog.NewJSONHandler(files, nil)
		draw := r.Source(fmt.Sprintf("process/%d", p)).Stream("lines")
		at := time.Now().Add(-time.Duration(p%days) * 24 * time.Hour)
		for i := range each {
			// A millisecond apart, until at: no two are the same.
			record := slog.NewRecord(at.Add(time.Duration(i-each)*time.Millisecond), slog.LevelInfo, "routine "+strconv.Itoa(draw.IntN(40)), 0)
			record.AddAttrs(slog.String("node", "stream-1"), slog.Int("n", i), slog.Int("queue", draw.IntN(4096)), slog.Float64("strain", float64(draw.IntN(1000))/1000), slog.Duration("took", time.Duration(draw.IntN(1e9))))
			if err := h.Handle(context.Background(), record); err != nil {
				return 0, 0, errors.Join(err, files.Close())
			}
		}
		size, _ := files.Volume()
		lines, bytes = lines+uint64(each), bytes+uint64(size)
		if err := files.Close(); err != nil {
			return 0, 0, err
		}
	}
	return lines, bytes, nil
}

// ingestLogs has the Collector read the files and pass them on to Loki, which ends when it
// has put all of it where it keeps it.
func (r *Run) ingestLogs(ctx context.Context, collector, program, dir string, lines, bytes uint64) error {
	l, err := servers.StartLoki(program, dir, "-ingester.flush-on-shutdown=true")
	if err != nil {
		return err
	}
	// Some writes are refused, as by a server without room.
	end, err := refuseSome(l.OTLP, int(r.Param("refused_one_in")))
	if err != nil {
		return err
	}
	defer end.Close()
	c, err := servers.StartCollector(collector, dir, servers.To{Logs: end.URL + "/otlp"}, "")
	if err != nil {
		_, stopped := l.Stop()
		return errors.Join(err, stopped)
	}
	begun := time.Now()
	given, err := c.AwaitPassed(ctx, "log_records", float64(lines))
	took := time.Since(begun)
	reading, stopped := c.Stop()
	keeping, failed := l.Stop()
	if err := errors.Join(err, stopped, failed); err != nil {
		return err
	}
	gb := float64(bytes) / 1e9
	perDay := r.Param("bytes_per_day") / 1e9 / 86400
	r.Note("measured: %d lines, %d MiB, went in within %.0f s; %d of %d writes were refused at first, %.0f lines given up; processor seconds a GB: %.0f of the Collector, %.0f of Loki; calculated: the full load takes %.1f processors of Collectors and %.1f of Loki",
		lines, bytes>>20, took.Seconds(), end.refused.Load(), end.requests.Load(), given, reading.Seconds()/gb, keeping.Seconds()/gb, reading.Seconds()/gb*perDay, keeping.Seconds()/gb*perDay)
	return nil
}

// compactLogs runs the compactor over what is there once, and returns how long that took.
// Its first run is an interval after its start, and the next one, with nothing to do, an
// interval after that.
func compactLogs(ctx context.Context, program, dir string) (took time.Duration, err error) {
	l, err := servers.StartLoki(program, dir, "-target=compactor", "-compactor.compaction-interval=10s")
	if err != nil {
		return 0, err
	}
	defer func() {
		_, stopped := l.Stop()
		err = errors.Join(err, stopped)
	}()
	err = servers.Await(ctx, func() (bool, error) {
		n, err := l.Sum(ctx, "loki_boltdb_shipper_compact_tables_operation_total", `status="success"`)
		return n > 0, err
	})
	if err != nil {
		return 0, fmt.Errorf("the compactor does not end its first run: %w", err)
	}
	s, err := l.Sum(ctx, "loki_boltdb_shipper_compact_tables_operation_duration_seconds")
	return time.Duration(s * float64(time.Second)), err
}

// indexFiles counts the files of Loki's index that are as its ingester wrote them, and all:
// these lie in the directory of a day's table, those of the compactor below it.
func indexFiles(data string) (left, all int, err error) {
	root := filepath.Join(data, "chunks", "index")
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		below, _ := filepath.Rel(root, path)
		if strings.HasPrefix(below, "index_") {
			if all++; strings.Count(below, string(filepath.Separator)) == 1 {
				left++
			}
		}
		return nil
	})
	if err == nil && all == 0 {
		err = fmt.Errorf("no index of Loki below %s", root)
	}
	return left, all, err
}
