package settings

import (
	"slices"
	"time"
)

const (
	// earlyMost bounds the changes that are held until those before them have come:
	// two seconds of a storm of 500 a second.
	earlyMost = 1024
	// askAgain is after what time changes that are missing are asked for again.
	askAgain = time.Second
)

// Verdict is what a Receiver made of a change.
type Verdict uint8

// Verdicts.
const (
	Taken     Verdict = iota // the state has it
	Early                    // it is held until those before it have come
	Duplicate                // it was there already
	Full                     // there is no room to hold it; it is to be asked for again
	Conflict                 // another change has its revision, or it has another revision
)

// ReceiverCounts are counters of a receiver.
type ReceiverCounts struct {
	Taken, Early, Duplicates, Full, Conflicts uint64
}

// Receiver makes a state of changes that come late, twice or in another order. At
// each moment its state is one that the truth has had. HandleChange and HandleState
// take input, HandleTimer moves time on, all else are getters.
type Receiver struct {
	ReceiverCounts

	state *State
	early map[uint64]*Change
	ids   map[ID]uint64 // revisions of the last changes
	order [earlyMost]ID // the ids by revision
	asked time.Time     // for what is missing
}

// NewReceiver returns a receiver that goes on from a state, which it owns.
func NewReceiver(s *State) *Receiver {
	return &Receiver{state: s, early: map[uint64]*Change{}, ids: map[ID]uint64{}}
}

// State is the state; it changes with the receiver.
func (r *Receiver) State() *State { return r.state }

// HandleChange takes a change, which it keeps.
func (r *Receiver) HandleChange(c *Change) Verdict {
	revision, known := r.ids[c.ID]
	held := r.early[c.Revision]
	switch {
	case known && revision != c.Revision || held != nil && held.ID != c.ID || r.replaces(c):
		r.Conflicts++
		return Conflict
	case c.Revision <= r.state.revision || held != nil:
		r.Duplicates++
		return Duplicate
	case c.Revision > r.state.revision+1:
		if len(r.early) == earlyMost {
			r.Full++
			return Full
		}
		r.early[c.Revision] = c
		r.note(c)
		r.Early++
		return Early
	}
	r.note(c)
	r.take(c)
	return Taken
}

// replaces reports whether another change has had the revision.
func (r *Receiver) replaces(c *Change) bool {
	id := r.order[c.Revision%earlyMost]
	return c.Revision <= r.state.revision && r.ids[id] == c.Revision && id != c.ID
}

// note remembers the id of a change, and forgets that of one long before it.
func (r *Receiver) note(c *Change) {
	place := &r.order[c.Revision%earlyMost]
	if r.ids[*place] < c.Revision {
		delete(r.ids, *place)
		*place = c.ID
	}
	r.ids[c.ID] = c.Revision
}

// take folds a change and those that it was waited for.
func (r *Receiver) take(c *Change) {
	for c != nil {
		delete(r.early, c.Revision)
		if r.state.Fold(c) != nil { // accepted before the one before it: not the truth's
			delete(r.ids, c.ID)
			r.Conflicts++
			return
		}
		r.Taken++
		c = r.early[r.state.revision+1]
	}
	r.asked = time.Time{}
}

// HandleState takes a state in place of changes that are no longer to be had, and
// owns it. One that is not newer is left.
func (r *Receiver) HandleState(s *State) bool {
	if s.revision <= r.state.revision {
		return false
	}
	r.state = s
	for revision := range r.early {
		if revision <= s.revision {
			delete(r.early, revision)
		}
	}
	if c := r.early[s.revision+1]; c != nil {
		r.take(c)
	}
	return true
}

// HandleTimer has changes take effect whose time has come, and reports whether there
// were any.
func (r *Receiver) HandleTimer(now time.Time) bool { return r.state.Advance(now) }

// Missing says whether changes are to be asked for, those after the receiver's
// revision. It says so once in askAgain.
func (r *Receiver) Missing(now time.Time) (after uint64, ask bool) {
	if len(r.early) == 0 || now.Sub(r.asked) < askAgain {
		return 0, false
	}
	r.asked = now
	return r.state.revision, true
}

// Held are the revisions that wait for those before them.
func (r *Receiver) Held() (out []uint64) {
	for revision := range r.early {
		out = append(out, revision)
	}
	slices.Sort(out)
	return out
}
