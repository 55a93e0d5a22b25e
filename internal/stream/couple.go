package stream

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// Coupling (docs/protocol.md, section 13.6). Paths that share a bottleneck must
// not take a share each. Whether they do is found by trial: while the paths in
// use are full and steady, one more joins; if what the others deliver falls, it
// shares their bottleneck, with whoever else is there, and leaves again. Where
// slots pace (shaped levels) there is nothing to couple: a path's rate is its
// class.

// trial is the state of that, of all paths of a session.
type trial struct {
	path   uint8 // that is tried, but in stage watch
	stage  trialStage
	spans  uint8        // of the stage that are left
	until  machine.Time // end of this span; 0: none is measured
	begin  machine.Time // of the stage
	others uint64       // packets that the other paths in use had delivered at begin
	last   uint64       // rate of the span before, in packets per 1000 s; 0: none
	before uint64       // rate of the others before the path joined
}

type trialStage uint8

const (
	trialWatch  trialStage = iota // are the paths in use full, and steady?
	trialSettle                   // the new path finds its rate
	trialWeigh                    // who delivers how much?
)

const (
	// A span of a trial is 12 round trips of the lead, about a probing cycle
	// of BBR, but at least 300 ms.
	trialRounds = 12
	trialLeast  = 300 * time.Millisecond
	// A path that is tried has half the leading one's window at most in flight: a
	// queue holds that, where it is in front of both.
	trialShare = 2
	// Rates within an eighth of each other are equal. Where k strangers share the
	// bottleneck, a path that is tried costs the first 1/(2k+3) of its rate, so that
	// sharing with up to two is found.
	trialNoise = 8
	// Routes change: a path is tried again after trialWait, and after twice as long
	// each time that says the same, up to trialWaitMax. That a path shares nothing
	// is looked at sooner: flows that have just begun can seem so, which still find
	// their shares.
	trialWait    = 30 * time.Second
	trialSoon    = 10 * time.Second
	trialWaitMax = 4 * time.Minute
)

// beside reports whether a path may carry data beside the active one.
func (s *Session) beside(t *track) bool { return t.beside || s.cfg.greedy }

// aside has the active path carry data beside the one that takes its place, whose rate
// is still to be found. What it adds is looked at soon.
func (s *Session) aside(now machine.Time) {
	if s.paced() {
		t := s.work.tracks[s.active]
		t.beside, t.most, t.tryAt = true, 0, now.Add(trialSoon)
	}
}

// weigh goes on with trials. It is asked whenever something could leave.
func (s *Session) weigh(now machine.Time) {
	w := s.work
	if w == nil || !s.several || !s.paced() || now < w.trial.until || s.active == noPath {
		return
	}
	lead := w.tracks[s.active]
	if lead == nil || lead.rtt.latest == 0 {
		return
	}
	c := &w.trial
	span := max(trialRounds*lead.rtt.smooth, trialLeast)
	idle := w.limited || c.until == 0 || now.Sub(c.until) > span
	w.limited, c.until = false, now.Add(span)
	if idle {
		s.endTrial(now)
		return
	}
	if c.spans--; c.spans > 0 {
		return
	}
	rate := perTime(s.delivered()-c.others, now.Sub(c.begin))
	switch c.stage {
	case trialWatch:
		s.startTrial(now, rate)
	case trialSettle:
		c.stage, c.spans = trialWeigh, 2
	case trialWeigh:
		if t := w.tracks[c.path]; t != nil {
			shares := rate < c.before-c.before/trialNoise
			if shares != t.shares {
				t.shares, t.wait = shares, 0
			}
			first := trialSoon
			if shares {
				first = trialWait
			}
			t.most = 0
			t.beside, t.wait = !shares, min(max(2*t.wait, first), trialWaitMax)
			t.tryAt = now.Add(t.wait)
		}
		*c = trial{stage: trialWatch, spans: 1, until: c.until}
	}
	c.begin = now
	c.others = s.delivered()
}

// startTrial ends a span in which paths were watched and delivered rate. If that
// is what they did in the span before, one more path is tried.
func (s *Session) startTrial(now machine.Time, rate uint64) {
	c := &s.work.trial
	c.spans = 1
	last := c.last
	if c.last = rate; last == 0 || rate > last+last/trialNoise || rate < last-last/trialNoise {
		return
	}
	for id := range uint8(MaxPaths) {
		t := s.usable(id)
		if t == nil || id == s.active || now < t.tryAt {
			continue
		}
		if t.beside { // its time is over: what do the others deliver without it?
			t.beside, c.last = false, 0
			return
		}
		if lead, _ := s.joins(id); lead != nil {
			t.beside, t.most = true, lead.ctl.Window()/trialShare
			*c = trial{path: id, stage: trialSettle, spans: 2, until: c.until, before: (last + rate) / 2}
			return
		}
	}
}

// endTrial ends a trial without a result: there was not enough to send.
func (s *Session) endTrial(now machine.Time) {
	c := &s.work.trial
	if t := s.work.tracks[c.path]; c.stage != trialWatch && t != nil {
		t.beside, t.most = false, 0
	}
	*c = trial{stage: trialWatch, spans: 1, until: c.until, begin: now}
	c.others = s.delivered()
}

// delivered is how many packets arrived by the paths in use, without the one
// that is tried.
func (s *Session) delivered() (n uint64) {
	c := &s.work.trial
	for id, t := range s.work.tracks {
		if t != nil && (c.stage == trialWatch || uint8(id) != c.path) {
			n += t.arrived
		}
	}
	return n
}

// perTime is a rate in packets per 1000 s.
func perTime(packets uint64, d time.Duration) uint64 {
	return packets * uint64(1000*time.Second/time.Microsecond) / uint64(max(d/time.Microsecond, 1))
}
