package settings

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// deadMost bounds the dead letters that are kept.
	deadMost = 1024
	// DeadLimit is within what time a dead letter must be on its way again (DF-010).
	DeadLimit = 120 * time.Second
	// deadFirst is after what time a dead letter is tried again by itself, twice as
	// long then, and four times as long from then on: what it waited for may have come.
	deadFirst = 5 * time.Second
)

// Letter is a change that could not be had.
type Letter struct {
	Change Change    `json:"change"`
	Why    string    `json:"why"`
	Since  time.Time `json:"since"`
	Tries  int       `json:"tries"`

	due time.Time
}

// Overdue reports whether it has lain for too long.
func (l *Letter) Overdue(now time.Time) bool { return now.Sub(l.Since) > DeadLimit }

// DeadLetters keeps changes that could not be had until they are: Bury takes one,
// Correct puts another text into it, Due yields those that are to be tried again.
// All are by the change's id.
type DeadLetters struct {
	// Count is how many there ever were, Revived how many of them went through in
	// the end, Refused how many found no room.
	Count, Revived, Refused uint64

	letters map[ID]*Letter
}

// Bury takes a change that could not be had, and says whether an operator is to be
// told: at the first time, not at each try. Without room it is refused.
func (d *DeadLetters) Bury(now time.Time, c Change, why error) (alert bool) {
	if l := d.letters[c.ID]; l != nil {
		l.Why, l.Tries = why.Error(), l.Tries+1
		l.due = now.Add(deadFirst << min(l.Tries, 2))
		return false
	}
	if len(d.letters) >= deadMost {
		d.Refused++
		return true
	}
	if d.letters == nil {
		d.letters = map[ID]*Letter{}
	}
	d.Count++
	d.letters[c.ID] = &Letter{Change: c, Why: why.Error(), Since: now, due: now.Add(deadFirst)}
	return true
}

// Correct replaces what a dead letter sets, and has it due at once.
func (d *DeadLetters) Correct(now time.Time, id ID, set map[string]string) error {
	l := d.letters[id]
	if l == nil {
		return fmt.Errorf("no dead letter %v; nyx config status lists them", id)
	}
	l.Change.Set, l.due = maps.Clone(set), now
	return nil
}

// Due returns those that are to be tried again, in the order in which they came.
// Each is then told by Bury or Done.
func (d *DeadLetters) Due(now time.Time) (out []Change) {
	for _, l := range d.All() {
		if !l.due.After(now) {
			out = append(out, l.Change)
		}
	}
	return out
}

// Done forgets one that was had, or that nobody wants any more.
func (d *DeadLetters) Done(id ID, had bool) (since time.Time, was bool) {
	l := d.letters[id]
	if l == nil {
		return since, false
	}
	if had {
		d.Revived++
	}
	delete(d.letters, id)
	return l.Since, true
}

// Len is how many there are.
func (d *DeadLetters) Len() int { return len(d.letters) }

// Next is when Due has something, ok false: never.
func (d *DeadLetters) Next() (at time.Time, ok bool) {
	for _, l := range d.letters {
		if !ok || l.due.Before(at) {
			at, ok = l.due, true
		}
	}
	return at, ok
}

// All returns the letters, oldest first.
func (d *DeadLetters) All() []*Letter {
	return slices.SortedFunc(maps.Values(d.letters), func(a, b *Letter) int {
		return cmp.Or(a.Since.Compare(b.Since), bytes.Compare(a.Change.ID[:], b.Change.ID[:]))
	})
}
