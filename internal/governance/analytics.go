package governance

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/insight"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/report"
	"github.com/nyxnet/nyx/internal/seal"
)

// AnalyticsConfig says of which log analytics are, and who records what they do.
type AnalyticsConfig struct {
	// Store is the log that this process writes, Wait returns its size as soon as it is
	// above after.
	Store  *ledger.Store
	Wait   func(ctx context.Context, after int64) (int64, error)
	Key    *audit.LogKey // the log's, as is Signer
	Signer *seal.Signer
	// Dir is where aggregates and reports lie.
	Dir      string
	Recorder audit.Recorder
	Node     string
	Entropy  func([]byte)
	Now      func() time.Time
	Logger   *slog.Logger
}

// Analytics are what a process that writes the log makes of it: aggregates of hours and
// days as events come, the feed of them, and reports. Stream export and reports take
// turns, one batch at a time, so that many reports do not hold dashboards up.
type Analytics struct {
	Stream  *insight.Stream
	Feed    *insight.Feed
	Reports *Exports

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// OpenAnalytics begins to follow a log. Close it before the log.
func OpenAnalytics(cfg AnalyticsConfig) (*Analytics, error) {
	turns := insight.NewTurns(1, cfg.Now)
	a := &Analytics{Feed: &insight.Feed{}}
	var err error
	a.Stream, err = insight.OpenStream(insight.Config{Log: cfg.Store, Wait: cfg.Wait, Dir: filepath.Join(cfg.Dir, "insights"), Feed: a.Feed, Turns: turns, Now: cfg.Now})
	if err != nil {
		return nil, err
	}
	days := &report.Days{Store: cfg.Store, Key: cfg.Key, Signer: cfg.Signer}
	a.Reports, err = OpenExports(ExportConfig{
		Dir: filepath.Join(cfg.Dir, "reports"), One: "report", Copier: &Reporter{Report: report.Config{Days: days}, Turns: turns},
		Recorder: cfg.Recorder, Node: cfg.Node, Entropy: cfg.Entropy, Now: cfg.Now, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, a.cancel = context.WithCancel(context.Background())
	a.running.Go(func() { a.follow(ctx, cfg.Logger) })
	return a, nil
}

// againAfter is how long the stream waits after a fault, of a disk mostly.
const againAfter = 10 * time.Second

// follow runs the stream until ctx or the log ends. After a fault it goes on where it
// was.
func (a *Analytics) follow(ctx context.Context, log *slog.Logger) {
	wait := time.NewTimer(againAfter)
	defer wait.Stop()
	for {
		err := a.Stream.Run(ctx)
		if ctx.Err() != nil || errors.Is(err, ledger.ErrClosed) {
			return
		}
		if log != nil {
			log.Error("the aggregates of the audit log do not follow it; they are tried again", "why", err)
		}
		wait.Reset(againAfter)
		select {
		case <-wait.C:
		case <-ctx.Done():
			return
		}
	}
}

// Close stops what runs. All of it goes on where it was.
func (a *Analytics) Close() {
	a.cancel()
	a.Reports.Close()
	a.running.Wait()
}

// WriteMetrics writes what was done, of a part of a process.
func (a *Analytics) WriteMetrics(to *metric.Page, part string) {
	a.Stream.WriteMetrics(to, part)
	to.Add("report_generation_duration", a.Reports.longest().Seconds(), "part", part)
}
