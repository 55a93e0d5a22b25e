package lab

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/telemetry"
)

// filteredLog is DF-039: a fault is played back into the log of a busy node, through the
// handler that leaves lines out, and the log is read for the lines that matter.
func filteredLog(r *Run) error {
	out := &logged{important: map[int]bool{}}
	lines := telemetry.NewLines(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if !r.Protected {
		lines.OneIn = int(r.Param("control_one_in"))
	}
	log := slog.New(lines)
	total, writers := r.Scaled("lines"), int(r.Param("writers"))
	oneImportantIn := int(r.Param("important_one_in"))
	important := make([]int, writers)
	begun := time.Now()
	var writing sync.WaitGroup
	for w := range writers {
		draw := r.Source("log").Stream(fmt.Sprint("writer ", w))
		writing.Go(func() {
			own := log.With("node", fmt.Sprint("stream-", w))
			for i := 0; i < total/writers; i++ {
				switch id := i*writers + w; {
				case draw.IntN(oneImportantIn) > 0:
					own.LogAttrs(context.Background(), []slog.Level{slog.LevelDebug, slog.LevelInfo}[i%2], "routine "+strconv.Itoa(draw.IntN(40)), slog.Int("n", i))
				case id%2 == 0:
					own.Warn("a neighbour does not answer", "id", id) // the same words again and again
					important[w]++
				default:
					own.Info("the node leaves the network", telemetry.Important(), slog.Int("id", id))
					important[w]++
				}
			}
		})
	}
	writing.Wait()
	took := time.Since(begun)
	expected := 0
	for _, n := range important {
		expected += n
	}
	r.Tally("stream_log_sampling_gap", uint64(expected-len(out.important)), uint64(expected))
	r.Tally("log_reduction", uint64(total/writers*writers-out.lines), uint64(total/writers*writers))
	told := lines.Counts()
	r.Trial("counts_agree", told.Gap == uint64(expected-len(out.important)) && told.Kept == uint64(out.lines))
	r.Note("%d lines of %d writers, %.2f µs each, with those that were written", total, writers, took.Seconds()*1e6/float64(total))
	return nil
}

// logged is a log that is read: how many lines, and which of those that matter.
type logged struct {
	mu        sync.Mutex
	lines     int
	important map[int]bool
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines++
	if _, id, found := bytes.Cut(b, []byte(" id=")); found {
		if end := bytes.IndexAny(id, " \n"); end > 0 {
			if n, err := strconv.Atoi(string(id[:end])); err == nil {
				l.important[n] = true
			}
		}
	}
	return len(b), nil
}
