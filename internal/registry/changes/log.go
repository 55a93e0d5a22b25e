// Package changes keeps the configuration of a network as CONFIG_CHANGE events in a
// registry.Store: the truth, and the order of all changes.
//
// A change is two entries that are made together or not at all: one by its
// revision, which says that nobody else had that place, and one by its id, which
// says that it has none yet. So any process may accept changes, and a change that
// is submitted again, to whomever, is the same one. What was acknowledged is in the
// store, and the state is the fold of what is there.
//
//   - log.go: the log, who reads it and who waits for it
//   - accept.go: how changes are accepted, several at a time
//   - dead.go: those that could not be had
//   - told.go: who tells of them, once each
//   - trial.go: how nodes are that have a change on trial
package changes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry"
)

const (
	changePrefix = "change/"
	idPrefix     = "id/"
	stateKey     = "state"
	// shelf is how many changes lie together: as many as are read at least, and
	// after how many the state is kept, to start from.
	shelf = 1000
	// recentMost is how many changes are kept in memory, for who follows.
	recentMost = 4096
	// answerMost is how many changes are handed out at a time.
	answerMost = 256
	// again is after what time a store that fails is asked again.
	again = 250 * time.Millisecond
)

// Config is a log's surroundings.
type Config struct {
	Store  registry.Store
	Schema *settings.Schema
	Now    func() time.Time
	Log    *slog.Logger // nil: none
	// Batch is how many changes are accepted together at most; 0: 32, two entries each,
	// as many as a store takes at once.
	Batch int
}

// Log is the configuration of a network. Its methods are safe for concurrent use.
type Log struct {
	cfg    Config
	cancel context.CancelFunc
	ending context.Context
	tasks  sync.WaitGroup

	urgent, usual chan *submission
	busy          int // changes that are being accepted; under mu

	buried, revived atomic.Uint64 // dead letters

	mu       sync.Mutex
	receiver *settings.Receiver
	come     map[uint64]settings.Change // that the receiver has and recent has not
	recent   []settings.Change          // those after base, without gaps
	base     uint64
	grown    chan struct{} // closed, and made anew, when the state has grown
	durable  uint64        // revision of the state that was kept last
}

// Open reads what the store has, and follows it until Close. The store stays the
// caller's.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Batch <= 0 || cfg.Batch > batchMost {
		cfg.Batch = batchMost
	}
	l := &Log{cfg: cfg, urgent: make(chan *submission, intakeMost), usual: make(chan *submission, intakeMost),
		come: map[uint64]settings.Change{}, grown: make(chan struct{})}
	state := &settings.State{}
	kept, err := cfg.Store.Get(ctx, stateKey)
	if err != nil {
		return nil, fmt.Errorf("the configuration cannot be read: %w", err)
	}
	if kept.Revision != 0 {
		if state, err = settings.ParseState(kept.Value); err != nil {
			cfg.Log.Warn("the kept state of the configuration is left, and its changes are read from the first", "why", err)
			state = &settings.State{}
		}
	}
	l.receiver, l.base, l.durable = settings.NewReceiver(state), state.Revision(), state.Revision()
	at, err := l.catchUp(ctx)
	if err != nil {
		return nil, fmt.Errorf("the configuration cannot be read: %w", err)
	}
	l.ending, l.cancel = context.WithCancel(context.Background())
	l.tasks.Go(func() { l.follow(at) })
	l.tasks.Go(l.acceptAll)
	return l, nil
}

// Close ends the log; submissions that are under way fail.
func (l *Log) Close() {
	l.cancel()
	l.tasks.Wait()
}

// changeKey is where a change lies.
func changeKey(revision uint64) string {
	return fmt.Sprintf("%s%012d/%015d", changePrefix, revision/shelf, revision)
}

// each reads the changes from a revision on, in their order, until there are no
// more, and returns the revision of the store at which that was so.
func (l *Log) each(ctx context.Context, from uint64, do func(settings.Change) error) (at int64, err error) {
	for place := from / shelf; ; place++ {
		found := 0
		at, err = l.cfg.Store.List(ctx, fmt.Sprintf("%s%012d/", changePrefix, place), func(e registry.Entry) error {
			found++
			c, err := settings.Parse(e.Value)
			if err == nil && changeKey(c.Revision) != e.Key {
				err = errors.New("it is not the one of its place")
			}
			if err != nil {
				return fmt.Errorf("the change in %s: %w", e.Key, err)
			}
			if c.Revision < from {
				return nil
			}
			return do(c)
		})
		// Revision 0 is no change: the first shelf has one less.
		if err != nil || found < shelf-1 {
			return at, err
		}
	}
}

// catchUp takes what the store has beyond the state.
func (l *Log) catchUp(ctx context.Context) (int64, error) {
	return l.each(ctx, l.Revision()+1, func(c settings.Change) error { l.take(c); return nil })
}

// follow takes what is added to the store from a revision of it on, by whomever.
func (l *Log) follow(at int64) {
	for {
		err := l.cfg.Store.Watch(l.ending, changePrefix, at, func(e registry.Entry) {
			c, err := settings.Parse(e.Value)
			if err != nil {
				l.cfg.Log.Error("an entry of the configuration is none", "key", e.Key, "why", err)
				return
			}
			l.take(c)
		})
		for err != nil {
			if l.ending.Err() != nil {
				return
			}
			l.cfg.Log.Debug("the store of the configuration is asked again", "why", err)
			if !l.wait(again) {
				return
			}
			at, err = l.catchUp(l.ending)
		}
	}
}

func (l *Log) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ending.Done():
		return false
	}
}

// take has the state grow by a change, in its turn.
func (l *Log) take(c settings.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.Revision <= l.receiver.State().Revision() {
		return // the watch tells of the log's own changes too
	}
	if l.receiver.HandleChange(&c) == settings.Conflict {
		l.cfg.Log.Error("two changes have one revision; one of them is not the store's", "revision", c.Revision, "id", c.ID.String())
		return
	}
	l.come[c.Revision] = c
	before := len(l.recent)
	for next := l.base + uint64(len(l.recent)) + 1; next <= l.receiver.State().Revision(); next++ {
		l.recent = append(l.recent, l.come[next])
		delete(l.come, next)
	}
	if len(l.recent) == before {
		return
	}
	if n := len(l.recent); n > 2*recentMost {
		l.base += uint64(n - recentMost)
		l.recent = append([]settings.Change(nil), l.recent[n-recentMost:]...)
	}
	close(l.grown)
	l.grown = make(chan struct{})
}

// State returns the present state, which is the caller's.
func (l *Log) State() *settings.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.receiver.HandleTimer(l.cfg.Now())
	return l.receiver.State().Clone()
}

// Revision is that of the present state.
func (l *Log) Revision() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.receiver.State().Revision()
}

// Schema is that of the log.
func (l *Log) Schema() *settings.Schema { return l.cfg.Schema }

// After waits until there is something after a revision, and returns it, or ctx's
// error. A revision that the log does not have yet is waited for too.
func (l *Log) After(ctx context.Context, revision uint64) (settings.Delivery, error) {
	for {
		l.mu.Lock()
		b, grown := l.after(revision), l.grown
		l.mu.Unlock()
		if b.State != nil || len(b.Changes) > 0 {
			return b, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return settings.Delivery{}, ctx.Err()
		case <-l.ending.Done():
			return settings.Delivery{}, errClosed
		}
	}
}

var errClosed = errors.New("the control plane stops; ask again")

func (l *Log) after(revision uint64) (b settings.Delivery) {
	state := l.receiver.State()
	if revision >= state.Revision() {
		return b
	}
	if revision < l.base {
		return settings.Delivery{State: state.Clone()}
	}
	b.Changes = l.recent[revision-l.base:]
	b.Changes = append([]settings.Change(nil), b.Changes[:min(len(b.Changes), answerMost)]...)
	return b
}

// History calls each with the changes from a revision on, in their order, until it
// returns false.
func (l *Log) History(ctx context.Context, from uint64, each func(settings.Change) bool) error {
	_, err := l.each(ctx, max(from, 1), func(c settings.Change) error {
		if !each(c) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

var errEnough = errors.New("enough")

// Replay folds what the store has, from nothing up to a revision.
func (l *Log) Replay(ctx context.Context, to uint64) (*settings.State, error) {
	s := &settings.State{}
	var wrong error
	err := l.History(ctx, 1, func(c settings.Change) bool {
		if c.Revision > to {
			return false
		}
		wrong = s.Fold(&c)
		return wrong == nil
	})
	if err = errors.Join(err, wrong); err != nil {
		return nil, err
	}
	if s.Revision() != to {
		return nil, fmt.Errorf("there is no revision %s; the last one is %d", strconv.FormatUint(to, 10), l.Revision())
	}
	return s, nil
}
