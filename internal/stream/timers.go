package stream

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// sweepAfter is how long a session is quiet before it drops the memory that
// only a busy one needs.
const sweepAfter = 5 * time.Second

// rests reports whether nothing but heartbeats has moved for that long. What a
// heartbeat makes is dropped as soon as it is answered.
func (s *Session) rests(now machine.Time) bool { return now.Sub(s.lastUse) > sweepAfter }

// quietSince is when the last packet left or came.
func (s *Session) quietSince() machine.Time { return max(s.lastSent, s.arrived.largestAt) }

// NextTimer is when HandleTimer has work, or machine.Never.
func (s *Session) NextTimer() machine.Time {
	switch s.state {
	case stateClosed:
		return machine.Never
	case stateClosing:
		if s.hs != nil {
			return s.hs.next()
		}
		return s.closing.at
	}
	t := machine.Never
	if s.hs != nil {
		t = min(t, s.hs.next())
	}
	if s.state != stateOpen {
		return t
	}
	if w := s.work; w != nil {
		work := s.paced() && (s.hasWork() || s.repairWaits())
		for id, k := range w.tracks {
			if k == nil {
				continue
			}
			t = min(t, k.lossAt, k.ptoAt)
			if work && k.probes == 0 && k.room() {
				if lead, _ := s.joins(uint8(id)); lead != nil && s.beside(k) || uint8(id) == s.active {
					t = min(t, k.pace.next(k.ctl.PacingRate()))
				}
			}
		}
	}
	if s.paced() && s.arrived.pending > 0 && !s.arrived.now {
		t = min(t, s.arrived.due)
	}
	if s.beats.queued > 0 && !s.beats.ripe {
		t = min(t, s.beats.since.Add(s.beatWait()))
	}
	t = min(t, s.lullAt())
	if s.work != nil {
		for id := range uint8(MaxPaths) {
			t = min(t, s.silentAt(id))
		}
	}
	if s.in.oldUntil != 0 {
		t = min(t, s.in.oldUntil)
	}
	if s.oweSince != 0 {
		t = min(t, s.oweSince.Add(s.cfg.VanishTimeout))
	}
	if s.cfg.IdleTimeout > 0 && s.streams.n == 0 {
		t = min(t, s.lastUse.Add(s.cfg.IdleTimeout))
	}
	if s.cfg.HeartbeatInterval > 0 && s.streams.n > 0 {
		t = min(t, s.beatAt())
	}
	t = min(t, s.outbox().expiryAt(), s.inbox().expiryAt(), s.sweepAt())
	return t
}

// paced reports whether this session decides when its packets leave. On shaped
// routes the sending slots do, and an acknowledgement that is due waits for one
// like anything else.
func (s *Session) paced() bool { return s.cfg.Level == wire.Fast }

// sweepAt is when sweep has work.
func (s *Session) sweepAt() machine.Time {
	if s.idleSweep == machine.Never {
		return machine.Never
	}
	return max(s.idleSweep, s.quietSince().Add(sweepAfter))
}

// HandleTimer runs what is due at now.
func (s *Session) HandleTimer(now machine.Time) {
	switch s.state {
	case stateClosed:
		return
	case stateClosing:
		s.tickClosing(now)
		return
	}
	if s.hs != nil && !s.tickHandshake(now) {
		return
	}
	if s.state != stateOpen {
		return
	}
	if w := s.work; w != nil {
		for id, t := range w.tracks {
			if t != nil {
				s.tickTrack(now, uint8(id), t)
			}
		}
	}
	if s.arrived.ready(now) {
		s.arrived.now = true // it leaves at the next chance; no timer is needed
	}
	if s.beats.queued > 0 && now >= s.beats.since.Add(s.beatWait()) {
		s.beats.ripe = true
	}
	s.expireMessages(now)
	s.expirePartials(now)
	s.checkSilence(now)
	if now >= s.lullAt() {
		s.receiving = false
		s.paths[s.active].ping = true
	}
	s.in.dropOldKey(now)
	if s.oweSince != 0 && now >= s.oweSince.Add(s.cfg.VanishTimeout) {
		s.fail(now, wire.CodeVanished, "")
		return
	}
	if s.cfg.IdleTimeout > 0 && s.streams.n == 0 && now >= s.lastUse.Add(s.cfg.IdleTimeout) {
		s.fail(now, wire.CodeIdle, "")
		return
	}
	if s.cfg.HeartbeatInterval > 0 && s.streams.n > 0 && now >= s.beatAt() {
		s.SendHeartbeat(now)
		s.lastSent = now // the next interval counts from here even if it cannot leave
	}
	if now >= s.sweepAt() {
		if s.settled() {
			s.sweep()
		} else {
			s.idleSweep = now.Add(sweepAfter)
		}
	}
}

// beatAt is when a heartbeat is due, of a session with streams: after silence in
// both directions. The responder waits a quarter longer, so that the client's
// heartbeat and its answer do for both sides.
func (s *Session) beatAt() machine.Time {
	wait := s.cfg.HeartbeatInterval
	if !s.client {
		wait += wait / 4
	}
	return s.quietSince().Add(wait)
}

// settled reports that nothing is under way, owed or waiting to be sent.
func (s *Session) settled() bool {
	return (s.work == nil || s.work.sent.waiting == 0 && !s.hasWork()) && s.hs == nil && s.arrived.pending == 0
}

// tickTrack runs what is due on one path.
func (s *Session) tickTrack(now machine.Time, id uint8, t *track) {
	if now >= t.lossAt {
		s.detectLoss(now, id, t)
		s.setProbeTimer(now, t)
	}
	if now >= t.ptoAt {
		s.probe(now, id, t)
	}
	t.pace.ready(now, t.ctl.PacingRate())
}

// sweep drops what only a busy session needs: cipher state, the controller,
// records, spare and empty buffers. Packets of before are refused as replays.
func (s *Session) sweep() {
	s.idleSweep = machine.Never
	if w := s.dropWork(); !s.client {
		s.cfg.giveWork(w)
	}
	if len(s.arrived.runs) > 0 {
		s.arrived.floor = s.arrived.largest + 1
		s.arrived.runs = nil
	}
	if int(s.eventHead) == len(s.events) {
		s.events = nil
	}
	s.outbox().trim()
	s.inbox().trim()
	if m := s.sched.datagrams; m != nil && m.count == 0 {
		s.sched.datagrams = nil
	}
	if c := s.sched.lanes; c != nil && c.plain() {
		s.sched.lanes = nil
	}
	for _, st := range s.streams.slots {
		if st == nil {
			continue
		}
		st.out.acked, st.out.lost = nil, nil
		if st.out.base == st.out.end {
			st.out.buf.b = nil
		}
		if len(st.in.early) == 0 {
			st.in.early = nil
			if st.in.read == st.in.have {
				st.in.buf.b = nil
			}
		}
		if st.mail != nil && st.mail.count == 0 {
			st.mail = nil
		}
	}
}
