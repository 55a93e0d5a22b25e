package stream

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// handleAck takes an ACK frame: settles what arrived, measures the round trip,
// finds what is lost (docs/protocol.md, section 12.8). A packet of before the
// present path, or of before the handshake was done, measures nothing: it may
// have waited. It reports false if the frame acknowledges what was never sent.
func (s *Session) handleAck(now machine.Time, f *wire.AckFrame) bool {
	w := s.busy()
	largest := f.Ranges[0].Hi
	if largest >= s.out.next {
		return false
	}
	news := false
	for i := f.N - 1; i >= 0; i-- {
		end := f.Ranges[i].Hi + 1
		for pn, ok := w.sent.nextOpen(f.Ranges[i].Lo, end); ok; pn, ok = w.sent.nextOpen(pn+1, end) {
			r := w.sent.at(pn)
			news = true
			s.settle(now, pn, r)
		}
	}
	if largest >= s.out.first {
		s.keyAcknowledged(now)
	}
	if !news {
		return true
	}
	s.oweSince = 0
	if w.sent.waiting > 0 {
		s.oweSince = now
	}
	for id, t := range w.tracks {
		if t != nil && t.news {
			s.endAck(now, uint8(id), t, largest, f.DelayMicros)
		}
	}
	s.expireLost(now)
	return true
}

// endAck ends an ACK frame for one path of which it had news. The frame's
// delay is that of its greatest packet; on another path the wait of the
// acknowledgement, short as it is, counts as part of the round trip.
func (s *Session) endAck(now machine.Time, id uint8, t *track, largest, delayMicros uint64) {
	t.news = false
	var sample time.Duration
	if t.fresh {
		t.fresh = false
		var delay time.Duration
		if t.acked == largest+1 {
			delay = min(time.Duration(min(delayMicros, uint64(time.Minute/time.Microsecond)))*time.Microsecond, s.peerAck)
		}
		sample = t.rtt.sample(now.Sub(t.newest), delay)
		s.overtake(now)
	}
	t.ptoCount, t.probes = 0, 0
	s.pathAnswered(now, id, t)
	t.ctl.OnAckEnd(now, sample, t.inFlight())
	s.detectLoss(now, id, t)
	s.setProbeTimer(now, t)
}

// settle closes one packet that arrived.
func (s *Session) settle(now machine.Time, pn uint64, r *record) {
	w := s.work
	t := w.trackOf(r)
	s.measure(now, t, r, false)
	w.sent.settle(pn, r)
	if r.flags&recLost != 0 {
		s.stats.Spurious++
		s.counts[trace.SpuriousRetransmit]++
	}
	if r.flags&recMoved != 0 {
		s.countTwice(r)
		if k := w.tracks[r.path]; k != nil && s.again {
			k.rtt.late(now.Sub(r.cc.SentAt))
		}
	}
	switch {
	case t == nil:
	case r.flags&recLost == 0:
		t.flying--
		if r.flags&recEarly == 0 {
			t.ctl.OnAcked(now, &r.cc)
		}
	case r.flags&recEarly == 0:
		t.rtt.late(now.Sub(r.cc.SentAt))
		t.ctl.OnSpurious(now, &r.cc)
	}
	if t != nil {
		t.news = true
		t.arrived++
		if r.flags&recEarly == 0 {
			t.taken.note(now.Sub(r.cc.SentAt))
		}
		if pn >= t.acked {
			t.acked, t.newest, t.fresh = pn+1, r.cc.SentAt, r.flags&(recLost|recEarly) == 0
		}
		if pn%extraPackets == 0 {
			t.rtt.extra -= t.rtt.extra / extraDecay
		}
	}
	for i := r.chunk; i < r.chunk+uint64(r.chunks); i++ {
		s.chunkArrived(now, w.sent.chunkAt(i))
	}
}

// countTwice counts what of a packet that arrived was sent again because its path
// was given up. What still waits to be sent again will not be.
func (s *Session) countTwice(r *record) {
	for i := r.chunk; i < r.chunk+uint64(r.chunks); i++ {
		c := s.work.sent.chunkAt(i)
		if c.size == 0 || c.kind != wire.SFrameStream && c.kind != wire.SFrameStreamFin {
			continue
		}
		if lost := c.st.out.lost; !lost.has(c.at, c.at+uint64(c.size)) {
			s.counts[trace.FailoverDuplicate]++
		}
	}
}

// detectLoss declares lost what was sent on a path long enough before a packet
// that has arrived by it, and sets the timer for the next. Packets of other
// paths are passed over, each once in the life of the track.
func (s *Session) detectLoss(now machine.Time, id uint8, t *track) {
	l := &s.work.sent
	t.lossAt = machine.Never
	delay := t.rtt.lossDelay()
	for pn, ok := l.nextOpen(t.scan, t.acked); ok; pn, ok = l.nextOpen(pn+1, t.acked) {
		r := l.at(pn)
		if r.path != id || r.flags&recLost != 0 {
			continue
		}
		if at := r.cc.SentAt.Add(delay); at > now {
			t.lossAt, t.scan = at, pn
			return
		}
		s.lose(now, r, true)
	}
	t.scan = max(t.scan, t.acked)
}

// lose takes a packet for lost and queues its content again. congested says
// whether the controller hears of it. Where nothing is left by which the peer could
// give the answer that it owes, it is asked.
func (s *Session) lose(now machine.Time, r *record, congested bool) {
	s.work.sent.lose(r)
	var told uint64
	if r.flags&recTold != 0 {
		told = 1
	}
	s.cfg.Sink.Emit(now, trace.PacketLost, uint64(now.Sub(r.cc.SentAt)), told)
	s.stats.Lost++
	if r.flags&recRequeued == 0 {
		s.requeue(r)
	}
	if t := s.work.trackOf(r); t != nil {
		t.flying--
		t.lost++
		if congested && told == 0 {
			t.missed++
		}
		if congested && r.flags&recEarly == 0 {
			s.measure(now, t, r, true)
			t.ctl.OnLost(now, &r.cc, t.inFlight())
		}
	}
	if s.state == stateOpen && s.oweSince != 0 && s.work.sent.waiting == 0 && !s.hasWork() {
		s.pending |= pendPing
	}
}

// requeue queues the content of a packet to be sent again.
func (s *Session) requeue(r *record) {
	again := false
	for i := r.chunk; i < r.chunk+uint64(r.chunks); i++ {
		again = s.chunkLost(s.work.sent.chunkAt(i)) || again
	}
	if again {
		s.stats.Retransmitted++
		s.counts[trace.Retransmitted]++
	}
}

// loseAll takes for lost every packet in flight that match picks.
func (s *Session) loseAll(now machine.Time, match func(*record) bool) {
	if s.work == nil {
		return
	}
	l := &s.work.sent
	for pn, ok := l.nextOpen(l.tail, l.next); ok; pn, ok = l.nextOpen(pn+1, l.next) {
		if r := l.at(pn); r.flags&recLost == 0 && match(r) {
			s.lose(now, r, false)
		}
	}
}

// expireLost forgets lost packets at the tail that need not be watched for a
// late acknowledgement any more.
func (s *Session) expireLost(now machine.Time) {
	l := &s.work.sent
	keep := 3*s.pto() + lostKeep
	for pn, ok := l.nextOpen(l.tail, l.next); ok; pn, ok = l.nextOpen(pn+1, l.next) {
		r := l.at(pn)
		if r.flags&recLost == 0 || (now.Sub(r.cc.SentAt) < keep && l.next-pn < recordsMax/2) {
			break
		}
		if r.flags&(recProtected|recRebuilt) == recProtected {
			s.stats.Unrecovered++
			s.counts[trace.RepairShort]++
		}
		l.settle(pn, r)
	}
	l.advance()
}

// dropTail gives up the oldest record: its content is sent again. A peer that
// sends and never acknowledges must not make the log grow.
func (s *Session) dropTail(now machine.Time) {
	l := &s.work.sent
	if pn, ok := l.nextOpen(l.tail, l.next); ok {
		r := l.at(pn)
		if r.flags&recLost == 0 {
			s.lose(now, r, true)
		}
		l.settle(pn, r)
	}
	l.advance()
}

// lostKeep is added to three probe timeouts as the time that a lost packet is
// watched for: enough for a route that hiccups.
const lostKeep = 100 * time.Millisecond

// setProbeTimer sets the time at which silence asks for a probe.
func (s *Session) setProbeTimer(now machine.Time, t *track) {
	if t.flying == 0 || s.state != stateOpen {
		t.ptoAt = machine.Never
		return
	}
	t.ptoAt = now.Add(s.pathPTO(&t.rtt) << min(t.ptoCount, probeBackoff))
}

// probeBackoff bounds the doubling of the probe timeout at 64 times.
const probeBackoff = 6

// probe sends again what waits longest on a path, without taking it for lost:
// the tail of a transfer has no later packet that would show the loss.
func (s *Session) probe(now machine.Time, id uint8, t *track) {
	t.ptoCount++
	t.probes = min(t.ptoCount, 2)
	if id != s.active {
		// What is sent again may leave by another path. This one is asked.
		s.paths[id].ping = !s.paths[id].suspect
		t.probes = 1
	}
	l := &s.work.sent
	left := int(t.probes)
	for pn, ok := l.nextOpen(t.scan, l.next); ok && left > 0; pn, ok = l.nextOpen(pn+1, l.next) {
		if r := l.at(pn); r.path == id && r.flags&(recLost|recRequeued) == 0 {
			s.requeue(r)
			r.flags |= recRequeued
			left--
		}
	}
	s.setProbeTimer(now, t)
}

func (s *Session) owes(now machine.Time) {
	if s.oweSince == 0 {
		s.oweSince = now
	}
}
