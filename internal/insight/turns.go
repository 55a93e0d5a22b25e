package insight

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Turn is a batch of work that waits: since when, and how long what it belongs to may
// take.
type Turn struct {
	Since   time.Time
	Allowed time.Duration
}

// used is how much of its time is used up, as a part of it.
func (t *Turn) used(now time.Time) float64 { return float64(now.Sub(t.Since)) / float64(t.Allowed) }

// Choose says whose turn it is: of what has used up the greatest part of its time, the
// first. Where all can be in time that is about who must be done soonest; where not, all
// are late in proportion, and what may take seconds is not behind what may take half an
// hour because that is late too (which is what the oldest deadline by the clock, alone,
// comes to).
func Choose(waiting []Turn, now time.Time) (first int) {
	for i := range waiting {
		if waiting[i].used(now) > waiting[first].used(now) {
			first = i
		}
	}
	return first
}

// Turns has few batches under way at a time, of all that analytics have to do: the
// stream export, reports, copies. Work is cut into batches of some ten milliseconds,
// and each asks for a turn of its own. A nil Turns lets everybody go on.
type Turns struct {
	now func() time.Time

	mu      sync.Mutex
	free    int
	waiting []Turn
	called  []chan struct{} // closed when the turn of the same place is given
}

// NewTurns returns turns of which so many are taken at once. now is the clock; nil for
// time.Now.
func NewTurns(atOnce int, now func() time.Time) *Turns {
	if now == nil {
		now = time.Now
	}
	return &Turns{now: now, free: atOnce}
}

// Take waits for a turn. Who gets it gives it back, once.
func (t *Turns) Take(ctx context.Context, turn Turn) (giveBack func(), err error) {
	if t == nil {
		return func() {}, ctx.Err()
	}
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return t.giveBack, nil
	}
	called := make(chan struct{})
	t.waiting, t.called = append(t.waiting, turn), append(t.called, called)
	t.mu.Unlock()
	select {
	case <-called:
		return t.giveBack, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	i := slices.Index(t.called, called)
	if i >= 0 {
		t.remove(i)
	}
	t.mu.Unlock()
	if i < 0 { // it was given meanwhile
		t.giveBack()
	}
	return nil, ctx.Err()
}

func (t *Turns) giveBack() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.free++
		return
	}
	i := Choose(t.waiting, t.now())
	close(t.called[i])
	t.remove(i)
}

func (t *Turns) remove(i int) {
	t.waiting, t.called = slices.Delete(t.waiting, i, i+1), slices.Delete(t.called, i, i+1)
}
