// Package query decides whom of several directory servers to ask for a document,
// table or bucket, how long to wait, and whom to ask next (docs/protocol.md,
// section 7.8). It is pure: who uses it sends, and says what became of it.
//
// Next is the only method that draws; Answered, TimedOut and Fault take input;
// the others are getters.
package query

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// Reason is what was wrong with a server. Its name is the code under which it is
// reported.
type Reason uint8

// Reasons.
const (
	Timeout     Reason = iota // no answer in the time that its answers take
	Unreachable               // no connection, or it broke
	NotYet                    // it has not heard of the document yet, as honest servers have not for a moment
	Withheld                  // it has the document, and not what is part of it
	Old                       // a document that has long been replaced
	Forged                    // not what the authorities have signed
	NumReasons
)

var reasonNames = [NumReasons]string{"timeout", "unreachable", "not_yet", "withheld", "old", "forged"}

// String returns the code.
func (r Reason) String() string { return reasonNames[r] }

const (
	// patienceFirst is how long a server is waited for of which nothing is known.
	patienceFirst = time.Second
	// patienceMin and patienceMax bound what is learnt.
	patienceMin = 100 * time.Millisecond
	patienceMax = 5 * time.Second
	// roundsMax is how often a look-up asks every server, each time twice as
	// patient.
	roundsMax = 3
	// ServersMax bounds the servers, which a Lookup marks in one word.
	ServersMax = 64
)

// shun is for how long a server is left aside for a reason, while there are
// others. What it cannot help is forgiven sooner than what it must have chosen.
var shun = [NumReasons]time.Duration{
	Timeout: 5 * time.Second, Unreachable: 5 * time.Second,
	NotYet:   2 * time.Second, // when a replica looks again
	Withheld: 10 * time.Minute, Old: 10 * time.Minute, Forged: 6 * time.Hour,
}

// shunDoublings bounds how often the time doubles with faults in a row.
const shunDoublings = 5

// Servers are those that one client knows. They belong to one goroutine.
type Servers struct {
	list []server
	draw *prng.Stream
	// Fixed, if not 0, is waited always: the control of a measurement.
	Fixed time.Duration
	Stats Stats
}

// Stats is what became of the queries.
type Stats struct {
	// Queries were sent, Answers taken.
	Queries, Answers uint64
	Faults           [NumReasons]uint64
}

// server is what is known of one.
type server struct {
	replica     bool
	mean, swing time.Duration // smoothed time of an answer and its deviation; 0: unknown
	faults      int           // in a row
	until       machine.Time  // left aside
}

// New returns replicas servers that are asked first, numbered from 0, and
// others after them. Both together are at most ServersMax.
func New(replicas, others int, draw *prng.Stream) *Servers {
	s := &Servers{draw: draw}
	for i := range replicas + others {
		s.list = append(s.list, server{replica: i < replicas})
	}
	return s
}

// Lookup is one search for one thing. The zero Lookup has asked nobody.
type Lookup struct {
	tried, out uint64 // of this round; for good
	round      int
}

// Failed notes that a server has answered, and that its answer is no good: it is
// not asked for this thing again.
func (l *Lookup) Failed(i int) { l.out |= 1 << i }

// Next says whom to ask now, and how long to wait before the next is asked; an
// answer that is later still counts. It reports false when everybody was asked
// often enough. Replicas come before others, and who is left aside comes last.
// Which one of equals is drawn: a server that is quick is not asked for more
// than others, or it would learn more.
func (s *Servers) Next(now machine.Time, l *Lookup) (i int, patience time.Duration, ok bool) {
	all := uint64(1)<<len(s.list) - 1
	if l.tried|l.out == all {
		l.tried = 0
		l.round++
	}
	if l.out == all || l.round == roundsMax {
		return 0, 0, false
	}
	best, equal := -1, uint64(0)
	for j := range s.list {
		if (l.tried|l.out)&(1<<j) != 0 {
			continue
		}
		switch {
		case best < 0 || s.list[j].rank(now) < s.list[best].rank(now):
			best, equal = j, 1
		case s.list[j].rank(now) == s.list[best].rank(now):
			if equal++; s.draw.Uint64N(equal) == 0 {
				best = j
			}
		}
	}
	l.tried |= 1 << best
	s.Stats.Queries++
	if s.Fixed != 0 {
		return best, s.Fixed, true
	}
	return best, s.patience(best) << l.round, true
}

func (v *server) rank(now machine.Time) int {
	switch {
	case v.until > now:
		return 2
	case v.replica:
		return 0
	}
	return 1
}

// patience is the time in which nearly every answer of a server comes, as RFC
// 6298 has it for retransmission.
func (s *Servers) patience(i int) time.Duration {
	v := &s.list[i]
	if v.mean == 0 {
		return patienceFirst
	}
	return min(max(v.mean+4*v.swing, patienceMin), patienceMax)
}

// Answered notes a good answer and how long it took, also of one that came after
// its time.
func (s *Servers) Answered(i int, took time.Duration) {
	v := &s.list[i]
	s.Stats.Answers++
	v.faults, v.until = 0, 0
	if v.mean == 0 {
		v.mean, v.swing = max(took, 1), took/2
		return
	}
	v.swing += ((v.mean - took).Abs() - v.swing) / 4
	v.mean = max(v.mean+(took-v.mean)/8, 1)
}

// Fault notes what was wrong with a server and leaves it aside for a while. Each
// fault in a row doubles the time; NotYet is none.
func (s *Servers) Fault(now machine.Time, i int, r Reason) {
	v := &s.list[i]
	s.Stats.Faults[r]++
	if r == Timeout && v.faults == 0 {
		v.faults++ // one late answer of many is none: it may be the net
		return
	}
	if r == NotYet {
		v.until = max(v.until, now.Add(shun[r]))
		return
	}
	v.until = max(v.until, now.Add(shun[r]<<min(v.faults, shunDoublings)))
	v.faults++
}

// LeftAside reports whether a server is only asked when no other is left.
func (s *Servers) LeftAside(now machine.Time, i int) bool { return s.list[i].until > now }
