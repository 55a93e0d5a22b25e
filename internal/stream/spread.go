package stream

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// How data spreads over paths (docs/protocol.md, section 12.9). The active path
// always carries it. Another one does while it works, is measured, and brings
// its bytes before what the active path brings has waited for them too long.
// Each path has a window of its own, so that shares follow from what paths
// deliver: their rates, and by these their round trips and loss.

// usable returns the track of a path that works and whose round trip is known,
// or nil.
func (s *Session) usable(id uint8) *track {
	if s.work == nil || id >= MaxPaths || !s.paths[id].present || s.paths[id].suspect {
		return nil
	}
	if t := s.work.tracks[id]; t != nil && t.rtt.latest != 0 {
		return t
	}
	return nil
}

// pathLag, with 3/2 of the shortest round trip of the path that leads, bounds
// how much later a packet of another path may come. The receiver keeps what
// overtakes it for so long: at most a window of a few round trips.
const pathLag = 25 * time.Millisecond

// lags reports whether packets of t come too late for those of lead: the
// difference of round trips and twice the jitter count.
func (s *Session) lags(t, lead *track) bool {
	return t.rtt.smooth+2*t.rtt.vary > lead.rtt.smooth+lead.rtt.least*3/2+s.cfg.PathLag
}

// joins returns the tracks of the active path and of another one that may carry
// data beside it, or nil if it may not.
func (s *Session) joins(id uint8) (lead, t *track) {
	lead, t = s.usable(s.active), s.usable(id)
	if lead == nil || t == nil || s.lags(t, lead) {
		return nil, nil
	}
	return lead, t
}

// carries reports whether data may leave by a path. On shaped routes slots come
// anyway, and a packet takes the first. Where the session decides when packets
// leave, another path helps only while the active one is full, and what waits
// would wait there longer than it takes on the other.
func (s *Session) carries(now machine.Time, id uint8) bool {
	if id == s.active {
		return true
	}
	lead, t := s.joins(id)
	if t == nil {
		return false
	}
	return !s.paced() || s.beside(t) && lead.full(now) && s.drains(lead) > t.rtt.smooth-lead.rtt.smooth+2*t.rtt.vary
}

// full reports whether a path that has a rate takes no packet now. A path that
// is unpaced is limited by the processors of this machine or its neighbours,
// which a second path has no more of.
func (t *track) full(now machine.Time) bool {
	rate := t.ctl.PacingRate()
	return rate != 0 && !(t.room() && t.pace.ready(now, rate))
}

// drains is how long what waits would take on one path.
func (s *Session) drains(t *track) time.Duration {
	waiting := uint64(s.send.backlog) + uint64(s.sched.datagramBytes())
	return time.Duration(waiting * uint64(time.Second) / max(t.ctl.PacingRate(), 1))
}

// soundEvery is how often a path that lags is measured afresh: what it showed
// last may be a queue of our own.
const soundEvery = 500 * time.Millisecond

// sound asks a path for its round trip when it could be of use.
func (s *Session) sound(now machine.Time, id uint8) {
	lead, p := s.usable(s.active), &s.paths[id]
	if lead == nil || p.suspect || !s.hasWork() || s.paced() && !lead.full(now) {
		return
	}
	if t := s.work.tracks[id]; t != nil {
		if t.flying > 0 || now < t.soundAt || t.rtt.latest == 0 || !s.lags(t, lead) {
			return
		}
		t.soundAt = now.Add(soundEvery)
		t.rtt.start(t.rtt.smooth)
	}
	p.ping = true
}

// soundAll asks every path that has brought something since for its round
// trip, as it is now.
func (s *Session) soundAll(since machine.Time) {
	for id := range uint8(MaxPaths) {
		if p := &s.paths[id]; p.present && id != s.active && p.heard > since && s.flying(id) == 0 {
			p.ping = true
		}
	}
}

// overtake makes another path active when even the quickest packet of the
// active one took longer than its own usually do. The client decides; its peer
// follows.
func (s *Session) overtake(now machine.Time) {
	lead := s.usable(s.active)
	if !s.client || lead == nil {
		return
	}
	for id := range uint8(MaxPaths) {
		if t := s.usable(id); t != nil && id != s.active && lead.rtt.least > t.rtt.smooth+s.cfg.PathLag {
			s.SetActivePath(now, id)
			return
		}
	}
}

// reach is the round trip that receive windows must cover: what one path
// brings waits for what comes later by another.
func (s *Session) reach() time.Duration {
	d := s.estimate().smooth
	for id := range uint8(MaxPaths) {
		if t := s.usable(id); t != nil && id != s.active {
			d = max(d, t.rtt.smooth+2*t.rtt.vary)
		}
	}
	return d
}
