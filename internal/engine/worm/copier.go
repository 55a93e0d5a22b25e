package worm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/engine/s3"
)

const (
	defaultEvery = 5 * time.Minute
	// startMost is how long a start waits for the server, which may be away.
	startMost = 10 * time.Second
	// endMost is how long an end waits for it.
	endMost = 2 * time.Second
	// againLeast and againMost bound the pause after a fault, which doubles.
	againLeast, againMost = time.Second, 5 * time.Minute
	// behindMost is how long a copy is behind before an event says so.
	behindMost = 15 * time.Minute
)

// Config says which log is copied, and where to.
type Config struct {
	Place
	// Keep is how long a part of a segment is locked, from when it is put.
	Keep time.Duration
	// Every is the least time between copies; 5 min. Each makes two objects or more.
	Every time.Duration
	Store *ledger.Store
	// Size is where the log ends; Wait returns it as soon as it is above after.
	Size func() int64
	Wait func(ctx context.Context, after int64) (int64, error)
	// Tell records that the copy is behind, and that it is not any more; nil: nobody
	// wants to know.
	Tell func(ctx context.Context, severity audit.Severity, action, summary string) error
	Log  *slog.Logger
	Now  func() time.Time // time.Now
}

// Copier keeps a copy where its log is. Whoever writes the log never waits for it: while
// the server is away the log itself is what waits to be copied, and retention removes
// none of that (ledger.Config.Copied). Its methods are safe for concurrent use.
type Copier struct {
	cfg     Config
	cancel  context.CancelFunc
	running sync.WaitGroup

	// Of the copier's goroutine: the parts that are there, by file, and when it looked
	// for them; the zero time: it must look.
	parts  map[string][]part
	looked time.Time

	mu      sync.Mutex
	figures Figures
	level   time.Time // when the copy last had all that the log had
	told    bool      // that it is behind
}

// Figures is what a copier has done since it was started.
type Figures struct {
	// Entries are known to be in the copy. Behind are not, and Lag is since when there
	// are any.
	Entries, Behind int64
	Lag             time.Duration
	Objects, Bytes  uint64 // put
	// Faults are tries that failed, and Why the last, "" if it was none.
	Faults uint64
	Why    string
}

// Start begins to copy. It refuses a place that the copy cannot be in: a bucket without
// object lock, one that refuses the credentials, and one that holds something else. A
// server that is away is waited for.
func Start(cfg Config) (*Copier, error) {
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Copier{cfg: cfg, level: cfg.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), startMost)
	err := c.look(ctx)
	cancel()
	if final(err) {
		return nil, fmt.Errorf("the audit log cannot be copied: %w", err)
	}
	c.note(err)
	ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Go(func() { c.run(ctx) })
	return c, nil
}

// final reports whether somebody must do something before copying can begin.
func final(err error) bool {
	for _, e := range []error{s3.ErrUnlocked, s3.ErrRefused, s3.ErrNone, ErrOther} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Close ends it, once what is signed is in the copy, unless the server is away: then that
// is copied after the next start.
func (c *Copier) Close() error {
	c.cancel()
	c.running.Wait()
	if c.Figures().Why != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), endMost)
	defer cancel()
	extents, size, err := c.fill(ctx)
	if err == nil {
		var done bool
		if done, err = c.check(ctx, extents, c.cfg.Now().Add(endMost)); done {
			c.reached(size)
		} else if ctx.Err() != nil {
			err = nil // the rest is checked in the next life
		}
	}
	if err != nil {
		c.cfg.Log.Warn("the end of the audit log is not copied yet; it is after the next start", "why", err)
	}
	return nil
}

// Copied is how many entries are in the copy.
func (c *Copier) Copied() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.figures.Entries
}

// Figures returns what it has done.
func (c *Copier) Figures() Figures {
	size := c.cfg.Size()
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.figures
	if f.Behind = max(0, size-f.Entries); f.Behind > 0 {
		f.Lag = c.cfg.Now().Sub(c.level)
	}
	return f
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// run copies what the log has more than the copy, and looks after the copy, until ctx
// ends.
func (c *Copier) run(ctx context.Context) {
	for again := againLeast; ctx.Err() == nil; {
		err := c.wait(ctx)
		if err == nil {
			err = c.pass(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		c.note(err)
		c.tell(ctx)
		if err != nil {
			c.looked = time.Time{} // something may have been put all the same: look again
			pause(ctx, again)
			again = min(2*again, againMost)
			continue
		}
		again = againLeast
		pause(ctx, c.cfg.Every)
	}
}

// wait waits until the log has more than the copy, or it is time to look at it.
func (c *Copier) wait(ctx context.Context) error {
	most, cancel := context.WithTimeout(ctx, c.looked.Add(lookEvery).Sub(c.cfg.Now()))
	defer cancel()
	_, err := c.cfg.Wait(most, c.Copied())
	if most.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

// note keeps what came of a try, and logs a fault that is another than the last.
func (c *Copier) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.figures.Why
	c.figures.Why = ""
	if err == nil {
		if was != "" {
			c.cfg.Log.Info("the audit log is copied again")
		}
		return
	}
	c.figures.Faults++
	if c.figures.Why = err.Error(); c.figures.Why != was {
		c.cfg.Log.Warn("the audit log is not copied; trying again", "why", err)
	}
}

// tell records when the copy has been behind for long, and when it is not any more. An
// event that is not taken is told again after the next try.
func (c *Copier) tell(ctx context.Context) {
	f := c.Figures()
	behind := f.Why != "" && f.Lag > behindMost
	if c.cfg.Tell == nil || behind == c.told || !behind && f.Why != "" {
		return
	}
	severity, action, summary := audit.Notice, "copy.resumed", "the copy of the log under object lock goes on"
	if behind {
		severity, action, summary = audit.Warning, "copy.behind", "events of the log are not in its copy under object lock"
	}
	if err := c.cfg.Tell(ctx, severity, action, summary); err == nil {
		c.told = behind
	}
}
