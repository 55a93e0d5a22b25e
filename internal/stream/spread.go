package stream

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// How data spreads over paths (docs/protocol.md, section 12.9). One path leads:
// where the session decides when packets leave the active one, elsewhere the one
// of least cost. It always carries data; another one does while it works, is
// measured, and brings its bytes sooner than the leading one would. So what is
// little goes where round trip, jitter and loss are least, and of what is much each
// path gets as its window and its rate have room for.

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

// pathLag, with 3/2 of the shortest round trip of the path that leads but at most
// lagMost, bounds how much later a packet of another path may come. The receiver keeps what
// overtakes it for so long: at most a window of a few round trips.
const (
	pathLag = 25 * time.Millisecond
	lagMost = 100 * time.Millisecond
)

// taken is how long the packets of a path took, every one: round trips are measured
// by those that overtake, and of a path that reorders know the quickest only.
type taken struct {
	mean, jitter time.Duration // jitter is the mean distance from mean
}

// takenSpan is over how many packets it is measured: by an acknowledgement or two.
const takenSpan = 16

// note takes in that a packet was acknowledged after d.
func (k *taken) note(d time.Duration) {
	if k.mean == 0 {
		k.mean, k.jitter = d, d/8
		return
	}
	off := d - k.mean
	k.mean += off / takenSpan
	k.jitter += (max(off, -off) - k.jitter) / takenSpan
}

// cost is when a packet of a path has come, and is known to have: what packets take,
// with twice the jitter, and what loss adds on average, the time until a packet is
// taken for lost and has come by another one.
func (t *track) cost() time.Duration { return t.taken.mean + t.excess() }

// excess is how much of that is jitter and loss.
func (t *track) excess() time.Duration {
	again := t.rtt.lossDelay() + t.rtt.smooth
	return 2*t.taken.jitter + again*time.Duration(t.loss.mean()/(shareOne/1024))/1024
}

// worse is the excess of a path in which no queue stands, which were of our own
// making.
func (t *track) worse(now machine.Time) time.Duration {
	if t.rest.queue(now) {
		return 0
	}
	return t.excess()
}

// lags reports whether packets of t come too late for those of lead. Where queues
// are of our own making they do not count.
func (s *Session) lags(t, lead *track) bool {
	most := min(lead.rtt.least*3/2, lagMost) + s.cfg.PathLag
	if s.paced() {
		return t.rtt.least+t.excess() > lead.rtt.least+most
	}
	return t.cost() > lead.cost()+most
}

// leads is the path that leads: the active one until it is measured, by which the
// peer is known to listen.
func (s *Session) leads() uint8 {
	best, id := s.usable(s.active), s.active
	if best == nil || s.paced() {
		return id
	}
	for i := range uint8(MaxPaths) {
		if t := s.usable(i); t != nil && t.cost() < best.cost() {
			best, id = t, i
		}
	}
	return id
}

// joins returns the tracks of the path that leads and of another one that may carry
// data beside it, or nil if it may not.
func (s *Session) joins(id uint8) (lead, t *track) {
	lead, t = s.usable(s.leads()), s.usable(id)
	if lead == nil || t == nil || s.lags(t, lead) {
		return nil, nil
	}
	return lead, t
}

// carries reports whether data may leave by a path. One that does not lead helps
// only while what waits would take longer on the leading path than the costs of the
// two differ; where the session decides when packets leave, moreover, only while
// the leading path is full.
func (s *Session) carries(now machine.Time, id uint8) bool {
	if id == s.leads() || id == s.active && s.work.tracks[id].probes > 0 {
		return true
	}
	lead, t := s.joins(id)
	if t == nil {
		return false
	}
	if s.paced() {
		return s.beside(t) && lead.full(now) && s.drains(lead) > t.cost()-lead.rtt.smooth
	}
	return s.cfg.greedy || lead.slot(now)+s.drains(lead) >= t.cost()-lead.cost()
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
	if !s.paced() {
		return time.Duration(waiting / wire.SessionPayloadSize * uint64(t.slots.gap))
	}
	return time.Duration(waiting * uint64(time.Second) / max(t.ctl.PacingRate(), 1))
}

// slots is what is known of the slots of a shaped path: the last one, and the mean
// gap between two, 0 until there were two.
type slots struct {
	last machine.Time
	gap  time.Duration
}

// came notes a slot.
func (l *slots) came(now machine.Time) {
	switch gap := now.Sub(l.last); {
	case l.last == 0:
	case l.gap == 0:
		l.gap = gap
	default:
		l.gap += (gap - l.gap) / 8
	}
	l.last = now
}

// slot is how long a shaped path's next slot takes; long, if that is unknown.
func (t *track) slot(now machine.Time) time.Duration {
	if t.slots.gap == 0 {
		return time.Hour
	}
	return max(t.slots.last.Add(t.slots.gap).Sub(now), 0)
}

// soundEvery is how often a path that is held back is measured: one that lags
// afresh, since what it showed last may be a queue of our own.
const soundEvery = 500 * time.Millisecond

// sound asks a path that is held back for its round trip when it could be of use:
// while the leading one is full, or has become worse.
func (s *Session) sound(now machine.Time, id uint8) {
	lead, p := s.usable(s.leads()), &s.paths[id]
	if lead == nil || p.suspect || s.rests(now) || lead.flying == 0 && !s.hasWork() {
		return
	}
	worse := lead.worse(now) > s.cfg.PathLag
	if s.paced() && !worse && !(s.hasWork() && lead.full(now)) {
		return
	}
	if t := s.work.tracks[id]; t != nil {
		lags := s.lags(t, lead)
		if t.flying > 0 || now < t.soundAt || t.rtt.latest == 0 || s.paced() && !worse && !lags {
			return
		}
		t.soundAt = now.Add(soundEvery)
		if s.paced() || lags {
			t.rtt.start(t.rtt.smooth)
			t.taken = taken{}
		}
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

// overtakeAfter is for how long another path costs less before it becomes active, where
// the session decides when packets leave. A beginning transfer that overruns a wire
// without a queue loses half of what it sends until it knows the rate, as it would by
// every other path, and would have to send all of that again with the first window of
// another one.
const overtakeAfter = time.Second

// overtake makes another path active when even without a queue, which is of our own
// making, the active one costs more. The client decides; its peer follows.
func (s *Session) overtake(now machine.Time) {
	lead := s.usable(s.active)
	if !s.client || lead == nil {
		return
	}
	for id := range uint8(MaxPaths) {
		if t := s.usable(id); t != nil && id != s.active && lead.rtt.least+lead.worse(now) > t.cost()+s.cfg.PathLag {
			if lead.behind == 0 {
				lead.behind = now
			}
			if !s.paced() || now.Sub(lead.behind) >= overtakeAfter {
				lead.behind = 0
				s.aside(now)
				s.SetActivePath(now, id)
			}
			return
		}
	}
	lead.behind = 0
}

// reach is the round trip that receive windows must cover: what one path
// brings waits for what comes later by another.
func (s *Session) reach() time.Duration {
	d := s.estimate().smooth
	if !s.several {
		return d
	}
	for id := range uint8(MaxPaths) {
		if t := s.usable(id); t != nil && id != s.active {
			d = max(d, t.rtt.smooth+2*t.rtt.vary)
		}
	}
	return d
}
