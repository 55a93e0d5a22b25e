package changes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry"
)

const (
	// intakeMost bounds the submissions that wait, eight seconds of a storm of 500
	// a second. Who comes then waits himself.
	intakeMost = 4096
	// batchMost is how many changes are accepted together: two entries each, as many
	// as a store takes at once. While one batch is on its way to the disk the next
	// one gathers, so that a slower store makes greater batches.
	batchMost = 32
	// acceptMost is how long a batch is tried.
	acceptMost = 30 * time.Second
	// aheadMost is how far ahead a change may be set: by what is not in force for longer
	// nobody would know any more why it was set.
	aheadMost = 366 * 24 * time.Hour
	// reachMost is how long a change of another process is waited for before it is read.
	reachMost = 20 * time.Millisecond
)

// ErrStale is a change of a key that was changed since its submitter looked.
var ErrStale = errors.New("the key was changed meanwhile")

// Submission is a change that is to be accepted.
type Submission struct {
	Change settings.Change
	// Seen, if not 0, is the revision that the submitter has seen: if one of the keys
	// was changed since, the change is refused with ErrStale.
	Seen uint64
	// Urgent overtakes what waits.
	Urgent bool
}

type submission struct {
	Submission
	answer chan<- answer // with room for one
}

type answer struct {
	change settings.Change
	err    error
}

// Submit has a change accepted, and returns it with its revision once it is durable.
// A change whose id is known is returned as it was accepted then, whatever it says
// now. After an error of the store or of ctx it may have been accepted or not: submit
// it again, with its id.
func (l *Log) Submit(ctx context.Context, s Submission) (settings.Change, error) {
	if err := l.cfg.Schema.Accept(&s.Change); err != nil {
		return settings.Change{}, err
	}
	came := make(chan answer, 1)
	queue := l.usual
	if s.Urgent {
		queue = l.urgent
	}
	select {
	case queue <- &submission{s, came}:
	case <-ctx.Done():
		return settings.Change{}, ctx.Err()
	case <-l.ending.Done():
		return settings.Change{}, errClosed
	}
	select {
	case a := <-came:
		return a.change, a.err
	case <-ctx.Done():
		return settings.Change{}, ctx.Err()
	case <-l.ending.Done():
		return settings.Change{}, errClosed
	}
}

// Depth is how many submissions are not accepted yet.
func (l *Log) Depth() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.urgent) + len(l.usual) + l.busy
}

// Rollback has all keys be as they were at a revision, by a change of the actor's.
// Without a difference there is none, and the change has revision 0.
func (l *Log) Rollback(ctx context.Context, id settings.ID, actor string, to uint64) (settings.Change, error) {
	earlier, err := l.Replay(ctx, to)
	if err != nil {
		return settings.Change{}, err
	}
	now := l.State()
	set := now.Back(earlier.All())
	if set == nil {
		return settings.Change{}, nil
	}
	return l.Submit(ctx, Submission{Seen: now.Revision(), Urgent: true, Change: settings.Change{
		ID: id, Set: set, Actor: actor, Comment: fmt.Sprintf("back to revision %d", to),
	}})
}

// acceptAll accepts batch after batch. A change that is in a batch twice waits for
// the next, in which it is known.
func (l *Log) acceptAll() {
	var again []*submission
	for {
		batch := l.gather(again)
		if batch == nil {
			return
		}
		again = l.accept(batch)
		l.mu.Lock()
		l.busy = 0
		l.mu.Unlock()
	}
}

// gather waits for a submission if there is none, and takes those that have come
// with it, urgent ones first; nil: the log ends.
func (l *Log) gather(batch []*submission) []*submission {
	if len(batch) == 0 {
		select {
		case s := <-l.urgent:
			batch = append(batch, s)
		case s := <-l.usual:
			batch = append(batch, s)
		case <-l.ending.Done():
			return nil
		}
	}
	for _, queue := range []chan *submission{l.urgent, l.usual} {
		for more := true; more && len(batch) < l.cfg.Batch; {
			select {
			case s := <-queue:
				batch = append(batch, s)
			default:
				more = false
			}
		}
	}
	l.mu.Lock()
	l.busy = len(batch)
	l.mu.Unlock()
	return batch
}

// accept tries until each of a batch has an answer, but for those in it twice, which
// it returns.
func (l *Log) accept(batch []*submission) (twice []*submission) {
	batch, twice = apart(batch)
	ctx, cancel := context.WithTimeout(l.ending, acceptMost)
	defer cancel()
	if newest := l.State().Revision(); slices.ContainsFunc(batch, func(s *submission) bool { return s.Seen > newest }) {
		l.catchUp(ctx) // another process may have accepted what was seen; if it fails, the change is refused
	}
	for {
		var made []settings.Change
		if made, batch = l.number(batch); len(made) == 0 {
			return twice
		}
		var entries []registry.Entry
		for i := range made {
			key := changeKey(made[i].Revision)
			entries = append(entries, registry.Entry{Key: key, Value: made[i].Encode()},
				registry.Entry{Key: idPrefix + made[i].ID.String(), Value: []byte(key)})
		}
		err := l.cfg.Store.Fill(ctx, entries)
		if err == nil {
			for i, c := range made {
				l.take(c)
				batch[i].answer <- answer{change: c}
			}
			l.keep(ctx)
			return twice
		}
		// Another process was first, or it is not known what became of it: what is
		// in the store now says so.
		if !errors.Is(err, registry.ErrChanged) && (ctx.Err() != nil || !l.wait(again)) {
			refuse(batch, fmt.Errorf("the store of the configuration does not answer: %w. Try again", err))
			return twice
		}
		if errors.Is(err, registry.ErrChanged) && l.reaches(ctx, made[0].Revision) {
			err = nil
		} else {
			_, err = l.catchUp(ctx)
		}
		if err == nil {
			batch, err = l.known(ctx, batch)
		}
		if err != nil && ctx.Err() != nil {
			refuse(batch, fmt.Errorf("the store of the configuration does not answer: %w. Try again", err))
			return twice
		}
	}
}

// reaches waits a moment for the change that another process has put at a revision: who
// had to read it would lose the next race too, to who need not.
func (l *Log) reaches(ctx context.Context, revision uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, reachMost)
	defer cancel()
	for {
		l.mu.Lock()
		there, grown := l.receiver.State().Revision() >= revision, l.grown
		l.mu.Unlock()
		if there {
			return true
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return false
		}
	}
}

// apart parts a batch into changes of different ids, and those that are there twice.
func apart(batch []*submission) (once, twice []*submission) {
	ids := map[settings.ID]bool{}
	for _, s := range batch {
		if ids[s.Change.ID] {
			twice = append(twice, s)
			continue
		}
		ids[s.Change.ID] = true
		once = append(once, s)
	}
	return once, twice
}

func refuse(batch []*submission, err error) {
	for _, s := range batch {
		s.answer <- answer{err: err}
	}
}

// number gives the changes of a batch their places after the present state, and
// answers those that cannot have one.
func (l *Log) number(batch []*submission) (made []settings.Change, left []*submission) {
	state := l.State()
	for _, s := range batch {
		c := s.Change
		switch {
		case stale(state, s):
			s.answer <- answer{err: fmt.Errorf("%w: look at nyx config history, and set it again", ErrStale)}
			continue
		case s.Seen > state.Revision():
			s.answer <- answer{err: fmt.Errorf("the change is made in sight of revision %d, and the newest is %d here; look at nyx config history, and set it again", s.Seen, state.Revision())}
			continue
		case c.Effective.After(l.cfg.Now().Add(aheadMost)):
			s.answer <- answer{err: fmt.Errorf("the change is to hold from %s on, and at most %d days ahead are taken; set it when it is nearer", c.Effective.UTC().Format(time.RFC3339), aheadMost/(24*time.Hour))}
			continue
		case state.Full() && c.Effective.After(l.cfg.Now()):
			s.answer <- answer{err: errors.New("too many changes wait for their time; set fewer ahead")}
			continue
		}
		c.Revision, c.At = state.Revision()+1, l.cfg.Now().UTC().Truncate(time.Millisecond)
		if c.At.Before(state.Time()) {
			c.At = state.Time()
		}
		c.Effective = c.Effective.UTC().Truncate(time.Millisecond)
		if err := state.Fold(&c); err != nil {
			panic("changes: the next change does not follow: " + err.Error())
		}
		made, left = append(made, c), append(left, s)
	}
	return made, left
}

func stale(state *settings.State, s *submission) bool {
	if s.Seen == 0 {
		return false
	}
	for key := range s.Change.Set {
		if state.Changed(key) > s.Seen {
			return true
		}
	}
	return false
}

// known answers the submissions whose ids the store has, and returns the others.
func (l *Log) known(ctx context.Context, batch []*submission) (left []*submission, err error) {
	for i, s := range batch {
		e, err := l.cfg.Store.Get(ctx, idPrefix+s.Change.ID.String())
		if err != nil {
			return append(left, batch[i:]...), err
		}
		if e.Revision == 0 {
			left = append(left, s)
			continue
		}
		var c settings.Change
		if e, err = l.cfg.Store.Get(ctx, string(e.Value)); err == nil {
			c, err = settings.Parse(e.Value)
		}
		if err != nil {
			return append(left, batch[i:]...), err
		}
		s.answer <- answer{change: c}
	}
	return left, nil
}

// keep puts the state into the store once in a shelf, to start from. It is not
// needed: what it lacks is read from the changes.
func (l *Log) keep(ctx context.Context) {
	state := l.State()
	if state.Revision()/shelf == l.durable/shelf {
		return
	}
	kept, err := l.cfg.Store.Get(ctx, stateKey)
	if err == nil {
		_, err = l.cfg.Store.Put(ctx, stateKey, state.Encode(), kept.Revision)
	}
	if err != nil && !errors.Is(err, registry.ErrChanged) {
		l.cfg.Log.Warn("the state of the configuration is not kept; a start reads more changes", "why", err)
		return
	}
	l.mu.Lock()
	l.durable = state.Revision()
	l.mu.Unlock()
}
