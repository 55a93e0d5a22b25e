// Package session keeps the sessions of one machine: which of them have work,
// when their timers run, and what the application side must be told. Clients
// and gateways share it.
//
// It adds no protocol: a session's core is a stream.Session.
package session

import (
	"cmp"
	"slices"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/stream"
)

// Ref names a stream of a session towards the application side. It stays
// unique for the life of the machine.
type Ref struct {
	Session uint32 // Member.ID
	Stream  uint64
}

// Member is a session in a set. Owner is the composing machine's state of it.
type Member[O any] struct {
	Core  *stream.Session
	ID    uint32
	Owner O

	serial uint64
	timer  machine.Timer[*Member[O]]
	queued bool
	gone   bool
}

// Set is the sessions of one machine, with O for the machine's own state of
// each. The zero Set is not ready; use NewSet.
type Set[O any] struct {
	members map[uint32]*Member[O]
	serial  uint64
	timers  machine.Timers[*Member[O]]
	run     []*Member[O]
	head    int
	events  []Event // for the application side
	told    int     // how many of them it has heard
}

// NewSet returns an empty set.
func NewSet[O any]() *Set[O] { return &Set[O]{members: map[uint32]*Member[O]{}} }

// Add takes in a session under its local connection id, which must be free.
func (s *Set[O]) Add(core *stream.Session, owner O) *Member[O] {
	return s.AddAs(core.LocalID(), core, owner)
}

// AddAs takes in a session under an id of the owner's choice, which must be
// free. Machines whose connection ids come from several parties need it.
func (s *Set[O]) AddAs(id uint32, core *stream.Session, owner O) *Member[O] {
	s.serial++
	m := &Member[O]{Core: core, ID: id, Owner: owner, serial: s.serial}
	m.timer.Value = m
	s.members[m.ID] = m
	s.Touch(m)
	return m
}

// Get returns the session that was added under an id, or nil.
func (s *Set[O]) Get(id uint32) *Member[O] { return s.members[id] }

// Len is the number of sessions.
func (s *Set[O]) Len() int { return len(s.members) }

// Members returns the sessions in order of their addition.
func (s *Set[O]) Members() []*Member[O] {
	out := make([]*Member[O], 0, len(s.members))
	for _, m := range s.members {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *Member[O]) int { return cmp.Compare(a.serial, b.serial) })
	return out
}

// Figures returns the figures of all sessions, oldest first.
func (s *Set[O]) Figures() []stream.Stats {
	out := make([]stream.Stats, 0, len(s.members))
	for _, m := range s.Members() {
		out = append(out, m.Core.Stats())
	}
	return out
}

// Remove forgets a session. Its refs are unknown from then on.
func (s *Set[O]) Remove(m *Member[O]) {
	s.timers.Stop(&m.timer)
	delete(s.members, m.ID)
	m.gone = true
}

// Touch notes that a session may have packets to send, events to tell or a
// timer that moved.
func (s *Set[O]) Touch(m *Member[O]) {
	if !m.queued && !m.gone {
		m.queued = true
		if s.head*2 > len(s.run) { // a set that is never idle must not grow
			n := copy(s.run, s.run[s.head:])
			clear(s.run[n:])
			s.run, s.head = s.run[:n], 0
		}
		s.run = append(s.run, m)
	}
}

// Next yields the sessions that were touched, each once, in order of touching.
// The caller sends and tells what there is, then calls Settle.
func (s *Set[O]) Next() (*Member[O], bool) {
	for s.head < len(s.run) {
		m := s.run[s.head]
		s.run[s.head] = nil
		s.head++
		if s.head == len(s.run) {
			s.run, s.head = s.run[:0], 0
		}
		m.queued = false
		if !m.gone {
			return m, true
		}
	}
	return nil, false
}

// Waiting is the number of touched sessions that Next has not yielded yet.
func (s *Set[O]) Waiting() int { return len(s.run) - s.head }

// Settle sets the session's timer anew after it was worked on.
func (s *Set[O]) Settle(m *Member[O]) {
	if !m.gone {
		s.timers.Set(&m.timer, m.Core.NextTimer())
	}
}

// HandleTimer runs the sessions whose time has come.
func (s *Set[O]) HandleTimer(now machine.Time) {
	for {
		t, due := s.timers.Pop(now)
		if !due {
			return
		}
		t.Value.Core.HandleTimer(now)
		s.Touch(t.Value)
	}
}

// NextTimer is when HandleTimer has work.
func (s *Set[O]) NextTimer() machine.Time { return s.timers.Next() }
