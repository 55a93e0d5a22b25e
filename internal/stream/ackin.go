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
	var sample, delay time.Duration
	news := false
	for i := f.N - 1; i >= 0; i-- {
		end := f.Ranges[i].Hi + 1
		for pn, ok := w.sent.nextOpen(f.Ranges[i].Lo, end); ok; pn, ok = w.sent.nextOpen(pn+1, end) {
			r := w.sent.at(pn)
			news = true
			if pn == largest && r.flags&recLost == 0 && r.epoch == s.pathEpoch {
				delay = time.Duration(min(f.DelayMicros, uint64(time.Minute/time.Microsecond))) * time.Microsecond
				sample = s.rtt.sample(now.Sub(r.cc.SentAt), delay)
			}
			s.settle(now, pn, r)
		}
	}
	if largest >= s.out.first {
		s.keyAcknowledged(now)
	}
	if !news {
		return true
	}
	w.acked = max(w.acked, largest+1)
	w.ptoCount, w.probes = 0, 0
	s.oweSince = 0
	if w.sent.waiting > 0 {
		s.oweSince = now
	}
	w.ctl.OnAckEnd(now, sample, w.sent.inFlight)
	s.detectLoss(now)
	s.expireLost(now)
	s.setProbeTimer(now)
	return true
}

// settle closes one packet that arrived.
func (s *Session) settle(now machine.Time, pn uint64, r *record) {
	w := s.work
	current := r.epoch == s.pathEpoch
	s.measure(now, r, false)
	w.sent.settle(pn, r)
	if r.flags&recLost == 0 {
		s.landed(r.path)
	}
	if r.flags&recLost != 0 {
		s.stats.Spurious++
		s.counts[trace.SpuriousRetransmit]++
		if current {
			s.rtt.late(now.Sub(r.cc.SentAt))
			w.ctl.OnSpurious(now, &r.cc)
		}
	} else if current {
		w.ctl.OnAcked(now, &r.cc)
	}
	if pn%extraPackets == 0 {
		s.rtt.extra -= s.rtt.extra / extraDecay
	}
	for i := r.chunk; i < r.chunk+uint64(r.chunks); i++ {
		s.chunkArrived(now, w.sent.chunkAt(i))
	}
}

// detectLoss declares lost what was sent long enough before a packet that has
// arrived, and sets the timer for the next.
func (s *Session) detectLoss(now machine.Time) {
	w := s.work
	w.lossAt = machine.Never
	delay := s.rtt.lossDelay()
	for pn, ok := w.sent.nextOpen(w.lossScan, w.acked); ok; pn, ok = w.sent.nextOpen(pn+1, w.acked) {
		r := w.sent.at(pn)
		if r.flags&recLost == 0 {
			if at := r.cc.SentAt.Add(delay); at > now {
				w.lossAt, w.lossScan = at, pn
				return
			}
			s.lose(now, r, true)
		}
	}
	w.lossScan = max(w.lossScan, w.acked)
}

// lose takes a packet for lost and queues its content again. congested says
// whether the controller hears of it.
func (s *Session) lose(now machine.Time, r *record, congested bool) {
	w := s.work
	w.sent.lose(r)
	var told uint64
	if r.flags&recTold != 0 {
		told = 1
	}
	s.cfg.Sink.Emit(now, trace.PacketLost, uint64(now.Sub(r.cc.SentAt)), told)
	s.landed(r.path)
	s.stats.Lost++
	if r.flags&recRequeued == 0 {
		s.requeue(r)
	}
	if congested && r.epoch == s.pathEpoch {
		s.measure(now, r, true)
		w.ctl.OnLost(now, &r.cc, w.sent.inFlight)
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
	keep := 3*s.rtt.lossDelay() + lostKeep
	for pn, ok := l.nextOpen(l.tail, l.next); ok; pn, ok = l.nextOpen(pn+1, l.next) {
		r := l.at(pn)
		if r.flags&recLost == 0 || (now.Sub(r.cc.SentAt) < keep && l.next-pn < recordsMax/2) {
			break
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

// lostKeep is added to three loss delays as the time that a lost packet is
// watched for: enough for a route that hiccups.
const lostKeep = 100 * time.Millisecond

// setProbeTimer sets the time at which silence asks for a probe.
func (s *Session) setProbeTimer(now machine.Time) {
	w := s.work
	if w.sent.waiting == 0 || s.state != stateOpen {
		w.ptoAt = machine.Never
		return
	}
	w.ptoAt = now.Add(s.pto() << min(w.ptoCount, probeBackoff))
}

// probeBackoff bounds the doubling of the probe timeout at 64 times.
const probeBackoff = 6

// probe sends again what waits longest, without taking it for lost: the tail
// of a transfer has no later packet that would show the loss.
func (s *Session) probe(now machine.Time) {
	w := s.work
	w.ptoCount++
	w.probes = min(w.ptoCount, 2)
	l := &w.sent
	left := int(w.probes)
	for pn, ok := l.nextOpen(l.tail, l.next); ok && left > 0; pn, ok = l.nextOpen(pn+1, l.next) {
		if r := l.at(pn); r.flags&(recLost|recRequeued) == 0 {
			s.requeue(r)
			r.flags |= recRequeued
			left--
		}
	}
	s.setProbeTimer(now)
}

func (s *Session) owes(now machine.Time) {
	if s.oweSince == 0 {
		s.oweSince = now
	}
}
