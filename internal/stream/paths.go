package stream

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// MaxPaths is the greatest number of paths of a session: five, and a place for
// one that replaces another before that goes. Path ids are local: each side
// numbers its own, from 0.
const MaxPaths = 6

// noPath is the active path of a session without any.
const noPath = MaxPaths

// path is one route as the session sees it.
type path struct {
	heard   machine.Time // last authentic packet
	present bool
	ping    bool // ask for a sign of life
	suspect bool // silent while it should answer
	rounds  uint8
	told    bool // PathSuspect was told
	quiet   bool // PathQuiet was told
}

// silenceLeast keeps a moment's hiccup from moving a session.
const silenceLeast = 150 * time.Millisecond

// silenceUnknown is for a path whose round trip is not known yet: that of another one,
// by which it is judged, may be a tenth of it.
const silenceUnknown = 400 * time.Millisecond

// quietMost bounds quietAfter: a longer round trip is no reason to wait.
const quietMost = 300 * time.Millisecond

// quietAfter is when the owner is told that the active path owes an answer. It
// does not grow with what round trips vary by, as a silence does, and so tells
// nothing but that it is time to look.
func (s *Session) quietAfter() time.Duration {
	return min(max(s.estimate().smooth*5/4, silenceLeast), quietMost)
}

// AddPath makes a path known. The first becomes active; each further one is
// asked for a sign of life, by which the peer learns of it, and of what came so far
// if the active path is silent. A responder whose client has not answered yet sends
// by the newest.
func (s *Session) AddPath(now machine.Time, id uint8) {
	if id >= MaxPaths || s.paths[id].present || s.state >= stateClosed {
		return
	}
	s.paths[id] = path{present: true, heard: now}
	s.several = s.several || s.active != noPath
	switch {
	case s.active == noPath:
		s.active = id
		s.adopt(id)
		if s.state == stateOpen && s.pathEpoch > 0 {
			s.usePath(now, id)
			s.announcePath()
		}
	case s.client && s.state == stateHello && s.hs.message != nil:
		s.hs.tries = min(s.hs.tries, 1) // what got no answer so far got none by other routes
		s.hs.at = min(s.hs.at, now.Add(s.helloWait()))
	case !s.client && !s.confirmed:
		s.active = id
	case s.state == stateOpen:
		s.paths[id].ping = true
		if s.paths[s.active].suspect { // for the peer, too, this may be what is left
			s.arrived.paths |= 1 << id
		}
	}
}

// RemovePath forgets a path. What was in flight on it is sent again on
// another; without another it waits for one.
func (s *Session) RemovePath(now machine.Time, id uint8) {
	if id >= MaxPaths || !s.paths[id].present {
		return
	}
	s.losePath(now, id)
	if id == s.active {
		s.rtt = *s.estimate()
	}
	if s.work != nil {
		s.work.tracks[id] = nil
	}
	s.paths[id] = path{}
	s.arrived.paths &^= 1 << id
	if id == s.active {
		s.active = noPath
		best := s.otherPath(now)
		s.pathEpoch++
		if best != noPath {
			s.usePath(now, best)
			s.announcePath()
		}
	}
}

// losePath takes for lost what is in flight on a path. Should some of it arrive
// after all, it says nothing about the path's round trip.
func (s *Session) losePath(now machine.Time, id uint8) {
	s.loseAll(now, func(r *record) bool {
		if r.path == id && r.flags&recLost == 0 {
			r.flags |= recMoved
			return true
		}
		return false
	})
	if s.work != nil && s.work.tracks[id] != nil {
		s.pathEpoch++
		s.work.tracks[id].epoch = s.pathEpoch
	}
}

// otherPath is the path that was heard last, apart from the active one.
func (s *Session) otherPath(machine.Time) uint8 {
	best := uint8(noPath)
	for i := range s.paths {
		if p := &s.paths[i]; p.present && uint8(i) != s.active && (best == noPath || p.heard > s.paths[best].heard) {
			best = uint8(i)
		}
	}
	return best
}

// ActivePath is the path by which data leaves; MaxPaths if there is none.
func (s *Session) ActivePath() uint8 { return s.active }

// SetActivePath moves data to another path, as planned: what is in flight on
// the old one is left to arrive.
func (s *Session) SetActivePath(now machine.Time, id uint8) {
	if id >= MaxPaths || !s.paths[id].present || id == s.active {
		return
	}
	s.usePath(now, id)
	s.announcePath()
}

// usePath makes a path active.
func (s *Session) usePath(now machine.Time, id uint8) {
	if old := s.active; old != noPath {
		s.paths[old].ping = false
		s.rtt = *s.estimate()
	}
	s.active, s.activeAt = id, now
	p := &s.paths[id]
	p.suspect, p.told, p.quiet, p.ping = false, false, false, false
	if s.work != nil && s.work.tracks[id] != nil {
		s.work.tracks[id].await(now)
		s.work.tracks[id].behind = 0
	} else {
		s.rtt.start(s.rtt.smooth)
	}
	if s.arrived.pending > 0 {
		s.arrived.now = true
	}
	s.tell(Event{Kind: PathChanged, Path: id})
}

// announcePath tells the peer to use the route that the next packet takes.
func (s *Session) announcePath() {
	s.pathSeq++
	if s.common.has(wire.CapPaths) {
		s.pending |= pendPath
	}
}

// heard notes an authentic packet on a path. A path that was removed may still
// bring packets.
func (s *Session) heard(now machine.Time, id uint8) {
	s.oweSince = 0
	if s.work != nil && s.work.sent.waiting > 0 {
		s.oweSince = now
	}
	p := &s.paths[id]
	if !p.present {
		return
	}
	p.heard = now
	if p.suspect && id != s.active && s.flying(id) == 0 {
		p.ping = true // does it work on the way out, too?
	}
}

// leaveSilent moves to a path that brings an acknowledgement, if the active one is
// silent. Not for less: what came by the silent path is known then, and is not sent
// again.
func (s *Session) leaveSilent(now machine.Time, id uint8) {
	if id < MaxPaths && s.paths[id].present && s.active != noPath && id != s.active && s.paths[s.active].suspect {
		s.failOver(now, id)
	}
}

// LeavePath has a path that its owner has not heard for too long relieved by one
// that it hears. The path stays, and works again when it is answered.
func (s *Session) LeavePath(now machine.Time, id, by uint8) {
	if id != s.active || by >= MaxPaths || !s.paths[by].present || s.state != stateOpen {
		return
	}
	p := &s.paths[id]
	p.suspect, p.told = true, true // the owner knows
	s.failOver(now, by)
	p.told = false
}

// failOver leaves a path that is silent while another answers.
func (s *Session) failOver(now machine.Time, id uint8) {
	dead := s.active
	silent := now.Sub(s.paths[dead].heard)
	told := s.paths[dead].told
	s.again, s.moved = s.moved, true
	s.usePath(now, id)
	s.announcePath()
	s.arrived.paths |= 1 << id
	s.losePath(now, dead)
	if !told {
		s.tell(Event{Kind: PathSuspect, Path: dead})
	}
	s.cfg.Distributions.ObserveTime(trace.PathFailover, silent)
	s.cfg.Sink.Emit(now, trace.PathSwitched, uint64(silent), 0)
}

// handlePath takes a PATH frame: the peer uses the route by which it came. The
// greatest number counts. While two moves cross, the client's stands.
func (s *Session) handlePath(now machine.Time, id uint8, number uint64) {
	if number <= s.peerSeq || id >= MaxPaths || !s.paths[id].present {
		return
	}
	s.peerSeq = number
	if id == s.active || s.client && s.pending&pendPath != 0 {
		return
	}
	old := s.active
	silent := old != noPath && now.Sub(s.paths[old].heard) > s.passed(old)
	s.usePath(now, id)
	if silent {
		s.losePath(now, old)
	}
}

// passed is how long a path that the peer has left has brought nothing if it is
// dead: longer than another's packets may come ahead of its own.
func (s *Session) passed(id uint8) time.Duration {
	d := max(s.pathPTO(s.estimate()), silenceLeast/2)
	if s.work != nil && s.work.tracks[id] != nil && s.work.tracks[id].rtt.least != 0 {
		d = min(d, max(2*s.work.tracks[id].rtt.least, silenceLeast))
	}
	return d
}

// AskPaths asks every path for a sign of life, the active one too.
func (s *Session) AskPaths() {
	for i := range s.paths {
		s.paths[i].ping = s.paths[i].present && s.state == stateOpen
	}
}

// flying is the number of packets in flight on a path.
func (s *Session) flying(id uint8) int {
	if s.work == nil || s.work.tracks[id] == nil {
		return 0
	}
	return s.work.tracks[id].flying
}

// pathAnswered notes that packets of a path arrived: whatever comes back by it, the
// path works on the way out.
func (s *Session) pathAnswered(now machine.Time, id uint8, t *track) {
	if id >= MaxPaths || !s.paths[id].present {
		return
	}
	p := &s.paths[id]
	p.suspect, p.told, p.quiet, p.rounds = false, false, false, 0
	if id == s.active && t.newest >= s.activeAt {
		s.moved, s.again = false, false
	}
	t.await(now)
}

// owing is since when an acknowledgement of a path's packets is owed, or 0.
func (s *Session) owing(id uint8) machine.Time {
	if s.flying(id) == 0 {
		return 0
	}
	return s.work.tracks[id].owing
}

// silence is how long a path may owe an answer: longer on shaped routes, where
// acknowledgements wait for slots.
func (s *Session) silence(id uint8) time.Duration {
	r := &s.rtt
	if s.work != nil && s.work.tracks[id] != nil {
		r = &s.work.tracks[id].rtt
	}
	d := s.pathPTO(r)
	if !s.paced() {
		d *= 2
	}
	if r.latest == 0 {
		d = max(d, silenceUnknown)
	}
	return max(d, silenceLeast)
}

// Quiet reports whether the active path owes an answer for so long that
// PathQuiet is told, or no path is left by which one could come.
func (s *Session) Quiet(now machine.Time) bool {
	if s.active == noPath {
		return s.oweSince != 0
	}
	since := s.owing(s.active)
	return since != 0 && now >= since.Add(s.quietAfter())
}

// AnswerTime is how long an answer of the peer may take by what was measured.
func (s *Session) AnswerTime() time.Duration { return s.pto() }

// lullAt is when a client at FAST asks for a sign of life because the bytes that
// it receives have stopped, once for each time that they do. It owes nothing then
// and is owed nothing: that its address has changed, or that its exit has died,
// neither side would know before the next keep-alive or heartbeat. Elsewhere
// cover goes both ways all the time.
func (s *Session) lullAt() machine.Time {
	if !s.receiving || s.streams.n == 0 || s.active == noPath {
		return machine.Never
	}
	return s.quietSince().Add(s.silence(s.active))
}

// silentAt is when checkSilence has work for a path: when it is silent or, being
// silent, is looked at again.
func (s *Session) silentAt(id uint8) machine.Time {
	p, since := &s.paths[id], s.owing(id)
	if !p.present || since == 0 {
		return machine.Never
	}
	at := since.Add(s.silence(id))
	if p.suspect {
		at = s.work.tracks[id].probeAt
	}
	if id == s.active && s.paced() && !p.quiet {
		at = min(at, since.Add(s.quietAfter()))
	}
	return at
}

// heardBeside reports whether another path that works has brought something since
// one owes an answer.
func (s *Session) heardBeside(id uint8) bool {
	since := s.owing(id)
	for i := range s.paths {
		if q := &s.paths[i]; q.present && !q.suspect && uint8(i) != id && q.heard > since {
			return true
		}
	}
	return false
}

// checkSilence looks for paths that owe an answer for too long.
func (s *Session) checkSilence(now machine.Time) {
	if s.paced() && s.active != noPath && s.Quiet(now) && !s.paths[s.active].quiet {
		s.paths[s.active].quiet = true
		s.tell(Event{Kind: PathQuiet, Path: s.active})
	}
	for id := range uint8(MaxPaths) {
		if now >= s.silentAt(id) {
			s.silent(now, id)
		}
	}
}

// silent deals with a path that is silent, and again after doubling times. Of
// the active path every other is asked for a sign of life, and the first that
// gives one takes its place. Of another path, what is in flight is sent again as
// soon as one beside it shows that the peer lives; it is asked once more, and
// again when something comes by it.
func (s *Session) silent(now machine.Time, id uint8) {
	p := &s.paths[id]
	first := !p.suspect
	p.suspect = true
	p.rounds = min(p.rounds+1, probeBackoff)
	s.work.tracks[id].probeAt = now.Add(s.silence(id) << (p.rounds - 1))
	tell := !first
	switch {
	case id == s.active && s.cfg.HastyFailOver && s.otherPath(now) != noPath:
		s.failOver(now, s.otherPath(now))
		return
	case id == s.active:
		// What came is told with the question: it may be what the peer hears first.
		others := false
		for i := range s.paths {
			if q := &s.paths[i]; q.present && uint8(i) != id {
				q.ping, others = true, true
				s.arrived.paths |= 1 << i
			}
		}
		tell = tell || !others
	case s.heardBeside(id):
		s.losePath(now, id)
		p.ping = first
	default: // is it the path, or the peer? The active one is asked
		s.pending |= pendPing
		tell = false
	}
	if tell && !p.told {
		p.told = true
		s.tell(Event{Kind: PathSuspect, Path: id})
	}
}
