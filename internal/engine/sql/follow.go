package sql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/trace"
)

// ErrBehind means that the index is not yet where the log is.
var ErrBehind = errors.New("index: it is behind the log")

const (
	// restShare is how many times as long as it worked a follower rests, if nobody
	// waits: of a processor it takes a tenth at most, however little comes at a time.
	restShare = 9
	restLeast = 50 * time.Millisecond
	restMost  = 5 * time.Second
	// againLeast and againMost are between tries at a database that fails.
	againLeast = 100 * time.Millisecond
	againMost  = 30 * time.Second
	// behindMost is how long a query waits for the index.
	behindMost = 5 * time.Second
)

// Source is a log that grows.
type Source interface {
	Log
	// Size is where it ends.
	Size() int64
	// Wait returns Size as soon as it is above after.
	Wait(ctx context.Context, after int64) (int64, error)
}

// FollowConfig says which index follows which log.
type FollowConfig struct {
	// Where is the index, as Open takes it. A file is the follower's to remove.
	Where string
	// Name is the log's: an index of another is none of this.
	Name   string
	Source Source
	Log    *slog.Logger
}

// Follower keeps an index where its log is. Whoever writes the log does not wait for
// it: an index that is slow or down falls behind, and follows from where it was when it
// is there again. One that is missing, damaged or of another log is built anew.
// Methods are safe for concurrent use.
type Follower struct {
	cfg     FollowConfig
	cancel  context.CancelFunc
	running sync.WaitGroup
	hurry   chan struct{} // somebody waits

	mu      sync.Mutex
	index   *Index             // nil: none is open
	spoil   context.CancelFunc // ends the use of the index: it must be built anew
	moved   chan struct{}      // closed, and made anew, when next changes
	figures FollowFigures
	level   time.Time // when it was last where the log was
}

// FollowFigures is what a follower has done since it was started.
type FollowFigures struct {
	Next   int64         // place of the first entry that is not in the index
	Behind int64         // entries that are not in it
	Lag    time.Duration // since when, if there are any
	// Faults are tries that failed, and Why the last, "" if it was none. Rebuilt is how
	// often the index was built anew for what was wrong with it.
	Faults, Rebuilt uint64
	Why             string
	// Replay is how many entries a second the last projection of a thousand and more
	// took; 0 before the first.
	Replay float64
	// Waited is how long queries took, and Asked that of the database alone, in µs.
	Waited, Asked trace.Values
}

// Follow starts a follower.
func Follow(cfg FollowConfig) *Follower {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Follower{cfg: cfg, hurry: make(chan struct{}, 1), moved: make(chan struct{}), level: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.running.Go(func() { f.run(ctx) })
	return f
}

// Close ends it.
func (f *Follower) Close() error {
	f.cancel()
	f.running.Wait()
	return nil
}

// Figures returns what it has done.
func (f *Follower) Figures() FollowFigures {
	size := f.cfg.Source.Size()
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.figures
	if out.Behind = max(0, size-out.Next); out.Behind > 0 {
		out.Lag = time.Since(f.level)
	}
	return out
}

// run opens the index, and again when it was spoiled.
func (f *Follower) run(ctx context.Context) {
	for again := againLeast; ctx.Err() == nil; again = min(2*again, againMost) {
		x, err := Of(ctx, f.cfg.Where, f.cfg.Name)
		if err != nil {
			f.failed(ctx, err)
			sleep(ctx, again)
			continue
		}
		use, spoil := context.WithCancel(ctx)
		f.use(x, spoil)
		f.keep(use, x)
		f.use(nil, nil)
		spoil()
		x.Close()
		if ctx.Err() != nil {
			return
		}
		again = againLeast
		if err := discard(ctx, f.cfg.Where); err != nil {
			f.failed(ctx, err)
			sleep(ctx, again)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (f *Follower) use(x *Index, spoil context.CancelFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index, f.spoil = x, spoil
}

// failed notes a fault, and tells of it when it is another than the last.
func (f *Follower) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	why := f.figures.Why
	f.figures.Faults++
	f.figures.Why = err.Error()
	f.mu.Unlock()
	if why != err.Error() {
		f.cfg.Log.Warn("the index of the audit log is behind; trying again", "why", err)
	}
}

// spoiled ends the use of an index that must be built anew.
func (f *Follower) spoiled(x *Index, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.index != x || x == nil {
		return
	}
	f.cfg.Log.Warn("the index of the audit log is built anew", "why", err)
	f.figures.Rebuilt++
	f.index, f.figures.Next = nil, 0
	f.spoil()
}

// keep keeps an index where the log is until ctx ends. What was there before is
// compared with the log meanwhile.
func (f *Follower) keep(ctx context.Context, x *Index) {
	var comparing sync.WaitGroup
	defer comparing.Wait()
	if before, err := x.Next(ctx); err == nil && before > 0 {
		f.mu.Lock()
		f.figures.Next = before
		f.mu.Unlock()
		comparing.Go(func() {
			if err := x.Compare(ctx, f.cfg.Source); damaged(err) {
				f.spoiled(x, err)
			}
		})
	}
	again := againLeast
	for ctx.Err() == nil {
		begun := time.Now()
		err := f.bring(ctx, x)
		switch {
		case damaged(err):
			f.spoiled(x, err)
			return
		case err != nil:
			f.failed(ctx, err)
			sleep(ctx, again)
			again = min(2*again, againMost)
			continue
		}
		again = againLeast
		rest := time.NewTimer(min(max(restLeast, restShare*time.Since(begun)), restMost))
		select {
		case <-rest.C:
		case <-f.hurry:
		case <-ctx.Done():
		}
		rest.Stop()
		f.mu.Lock()
		next := f.figures.Next
		f.mu.Unlock()
		if _, err := f.cfg.Source.Wait(ctx, next); err != nil {
			f.failed(ctx, err)
			sleep(ctx, again)
		}
	}
}

// bring brings the index to where the log is.
func (f *Follower) bring(ctx context.Context, x *Index) error {
	f.mu.Lock()
	before := f.figures.Next
	f.mu.Unlock()
	begun := time.Now()
	next, err := x.Project(ctx, f.cfg.Source)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.level = time.Now()
	if n := next - before; n >= 1000 {
		f.figures.Replay = float64(n) / f.level.Sub(begun).Seconds()
	}
	f.figures.Next, f.figures.Why = next, ""
	close(f.moved)
	f.moved = make(chan struct{})
	return nil
}

// Forget removes the entries before one, which retention has removed from the log: the
// index does not wait until the log grows. One that is not there now does so when it is.
func (f *Follower) Forget(ctx context.Context, before int64) error {
	f.mu.Lock()
	x := f.index
	f.mu.Unlock()
	if x == nil {
		return nil
	}
	return x.Forget(ctx, before)
}

// Query finds a page in an index that has all that the log has now.
func (f *Follower) Query(ctx context.Context, q Query) (Page, error) {
	begun := time.Now()
	x, err := f.caughtUp(ctx)
	if err != nil {
		return Page{}, err
	}
	asked := time.Now()
	p, err := x.Query(ctx, q)
	if damaged(err) {
		f.spoiled(x, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && f.index != x {
		return Page{}, fmt.Errorf("%w: it is built anew", ErrBehind)
	}
	f.figures.Asked.Observe(uint64(time.Since(asked) / time.Microsecond))
	f.figures.Waited.Observe(uint64(time.Since(begun) / time.Microsecond))
	return p, err
}

// caughtUp waits until the index is where the log is now.
func (f *Follower) caughtUp(ctx context.Context) (*Index, error) {
	wanted := f.cfg.Source.Size()
	late := time.NewTimer(behindMost)
	defer late.Stop()
	for {
		f.mu.Lock()
		x, moved, next, why := f.index, f.moved, f.figures.Next, f.figures.Why
		f.mu.Unlock()
		if x != nil && next >= wanted {
			return x, nil
		}
		select {
		case f.hurry <- struct{}{}:
		default:
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			if why != "" {
				return nil, fmt.Errorf("%w: %s", ErrBehind, why)
			}
			return nil, fmt.Errorf("%w by %d entries", ErrBehind, wanted-next)
		}
	}
}
