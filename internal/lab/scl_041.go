package lab

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/telemetry"
)

// debugLog is SCL-041: a node logs at debug level for two hours, with nothing left out,
// into files with a budget. How fast lines come makes no difference to files that turn by
// size, so that the two hours are written as fast as the disk takes them.
func debugLog(r *Run) (err error) {
	dir, err := os.MkdirTemp("", "nyx-lab-log-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "node.log")
	files, err := telemetry.OpenFiles(path, int64(r.Param("budget_megabytes"))<<20)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	if !r.Protected {
		files.Unbounded()
	}
	lines := telemetry.NewLines(slog.NewJSONHandler(files, &slog.HandlerOptions{Level: slog.LevelDebug}))
	lines.All = true // nothing is left out
	log := slog.New(lines)
	draw := r.Source("debug").Stream("lines")
	total := int(r.Scale * r.Param("lines_per_second") * r.Duration("hours", time.Hour).Seconds())
	var written int64
	begun := time.Now()
	for i := range total {
		log.LogAttrs(context.Background(), slog.LevelDebug, "routine "+strconv.Itoa(draw.IntN(40)), slog.String("node", "stream-1"), slog.Int("n", i),
			slog.Int("queue", draw.IntN(4096)), slog.Float64("strain", float64(draw.IntN(1000))/1000), slog.Duration("took", time.Duration(draw.IntN(1e9))))
		if i%4096 == 0 || i == total-1 {
			bytes, budget := files.Volume()
			written = max(written, bytes)
			r.Observe("log_volume_bytes", float64(bytes)/float64(budget))
		}
	}
	took := time.Since(begun)
	newest := false
	if b, err := os.ReadFile(path); err == nil {
		newest = strings.Contains(string(b), `"n":`+strconv.Itoa(total-1)+",")
	}
	r.Trial("newest_line_there", newest)
	c := lines.Counts()
	r.Tally("lines_written", c.Kept, uint64(total))
	r.Note("%d lines of a log at debug level, %.2f µs each; the files took %d MiB at most of a budget of %v MiB", total, took.Seconds()*1e6/float64(total), written>>20, r.Param("budget_megabytes"))
	return nil
}
