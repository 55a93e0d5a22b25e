package ledger

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

const (
	// pruneAt is when a day goes, after midnight (UTC).
	pruneAt = 10 * time.Minute
	// pruneEvery is between two passes at most: one that is due later was reckoned by a
	// clock that was ahead.
	pruneEvery = 24 * time.Hour
	// pruneAgain is after a try that failed, or found days without a copy.
	pruneAgain = 10 * time.Minute
	// pruneLook is how often the clock is looked at: a machine may have slept.
	pruneLook = time.Hour
)

// RetentionConfig says how long a log keeps its days.
type RetentionConfig struct {
	// Days are kept, 1 or more, and the one that is not over.
	Days int
	// Prune removes the days before one, as Log.Prune does.
	Prune func(ctx context.Context, before audit.Day) (Removal, error)
	Log   *slog.Logger
	Now   func() time.Time // time.Now
}

// Retention removes from a log the days that it keeps no longer: when it is started, and
// every day ten minutes after midnight (UTC). Its methods are safe for concurrent use.
type Retention struct {
	cfg     RetentionConfig
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	figures RetentionFigures
}

// RetentionFigures is what retention has done since it was started.
type RetentionFigures struct {
	// Events were removed, of so many days and bytes.
	Events, Days, Bytes int64
	// Overdue days are there although they are kept no longer: they have no copy yet, or
	// the last try failed.
	Overdue int
	// Faults are tries that failed, and Why the last, "" if it was none.
	Faults uint64
	Why    string
}

// Retain starts retention.
func Retain(cfg RetentionConfig) *Retention {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Retention{cfg: cfg}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.running.Go(func() { r.run(ctx) })
	return r
}

// Close ends it.
func (r *Retention) Close() error {
	r.cancel()
	r.running.Wait()
	return nil
}

// Figures returns what it has done.
func (r *Retention) Figures() RetentionFigures {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.figures
}

func (r *Retention) run(ctx context.Context) {
	for due := r.cfg.Now(); ctx.Err() == nil; {
		if now := r.cfg.Now(); !now.Before(due) || due.Sub(now) > pruneEvery {
			due = r.pass(ctx)
		}
		rest := time.NewTimer(min(due.Sub(r.cfg.Now()), pruneLook))
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
		rest.Stop()
	}
}

// KeptFrom is the oldest day that is kept where so many before today are.
func KeptFrom(now time.Time, days int) audit.Day {
	today := audit.DayOf(now)
	return today - min(today, audit.Day(days))
}

// pass removes what is due, and returns when the next pass is.
func (r *Retention) pass(ctx context.Context) time.Time {
	now := r.cfg.Now()
	removed, err := r.cfg.Prune(ctx, KeptFrom(now, r.cfg.Days))
	if ctx.Err() != nil {
		return now
	}
	if r.note(&removed, err); err != nil || removed.Waiting > 0 {
		return now.Add(pruneAgain)
	}
	return (audit.DayOf(now.Add(-pruneAt)) + 1).Start().Add(pruneAt)
}

// note keeps what came of a try, and logs a fault that is another than the last.
func (r *Retention) note(removed *Removal, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := &r.figures
	f.Overdue = removed.Waiting
	if err != nil {
		f.Overdue += removed.Days
		f.Faults++
		if f.Why != err.Error() {
			r.cfg.Log.Warn("days of the audit log are not removed; trying again", "why", err)
		}
		f.Why = err.Error()
		return
	}
	f.Why = ""
	if removed.Days > 0 {
		f.Events, f.Days, f.Bytes = f.Events+removed.Entries(), f.Days+int64(removed.Days), f.Bytes+removed.Bytes
		r.cfg.Log.Info("days of the audit log were removed", "from", removed.From.String(), "to", removed.To.String(), "events", removed.Entries(), "waiting", removed.Waiting)
	}
}
