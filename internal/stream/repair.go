package stream

import (
	"math/bits"
	"time"

	"github.com/nyxnet/nyx/internal/fec"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// The sending half of error correction (docs/protocol.md, section 12.12):
//
//	1. measure: each packet's fate moves the loss of its path.
//	2. protecting: from the loss, how many repairs a packet is worth.
//	3. protect: a packet's content is kept, and earns its share of a repair.
//	4. repairDue, sendRepair: a repair of what is in flight, in a packet of its own.
//	5. handleRebuilt: what the peer rebuilt need not be sent again.

// repairs is the error correction of a busy session. The encoder is made when
// repairs begin (64 KiB), the rest when the peer sends some (rebuild.go).
type repairs struct {
	enc    *fec.Encoder
	credit int64        // share of a repair that was earned, in 1/shareOne
	fresh  bool         // content left since the last repair
	since  machine.Time // the first of it

	rebuilding
}

// shareOne is the unit of shares of packets.
const shareOne = 1 << 24

// Loss below lossOff needs no repairs, and lossOn begins them; between, they go
// on as they are. lossFew packets are too few to tell.
const (
	lossOn  = shareOne / 100
	lossOff = shareOne * 3 / 1000
	lossFew = 64
)

// shareMost bounds redundancy, and shareLeast is what any loss is worth; between,
// it is twice the loss more. With that, less than 0.5 % of the packets is left at
// any random loss up to 15 %, if 32 packets or more are in flight (internal/fec,
// TestSlidingRebuildsSoonerThanBlocks); with less, they would be rebuilt too late
// to save a retransmission.
const (
	shareMost  = shareOne * 2 / 5
	shareLeast = shareOne / 40
)

// repairRTT is the round trip below which to send again is as quick as to
// repair.
const repairRTT = 4 * time.Millisecond

// lossMeter is the share of packets that a path loses, over its last lossSpan
// packets, each older one weighing less.
type lossMeter struct {
	share uint32
	n     uint16
	on    bool
}

const lossSpan = 512

func (m *lossMeter) note(lost bool) {
	m.n = min(m.n+1, lossSpan)
	n := uint32(m.n)
	m.share -= m.share / n
	if lost {
		m.share += shareOne / n
	}
	switch {
	case m.share < lossOff:
		m.on = false
	case m.share >= lossOn && m.n >= lossFew:
		m.on = true
	}
}

// take takes back a loss that was none.
func (m *lossMeter) take() {
	if m.n > 0 {
		m.share -= min(m.share, shareOne/uint32(m.n))
	}
}

// mean is the share of packets lost, once there were enough to tell.
func (m *lossMeter) mean() uint32 {
	if m.n < lossFew {
		return 0
	}
	return m.share
}

// repairShare is how many repairs a packet is worth.
func (m *lossMeter) repairShare() int64 {
	if !m.on {
		return 0
	}
	return min(2*int64(m.share)+shareLeast, shareMost)
}

// restMeter tells whether a queue stands in the path: the round trip, over many
// packets, is half above its least of the last five to ten seconds, or was a
// loss delay ago. What is found lost then is our own doing, which more packets
// would make worse.
type restMeter struct {
	mean        time.Duration
	least, last time.Duration // of this period and the one before
	since       machine.Time
	until       machine.Time // of the queue that was seen last
}

const (
	restPeriod = 5 * time.Second
	restShare  = 64
)

func (m *restMeter) note(now machine.Time, rtt, lossDelay time.Duration) {
	if m.mean == 0 {
		*m = restMeter{mean: rtt, least: rtt, last: rtt, since: now}
	}
	m.mean += (rtt - m.mean) / restShare
	if now.Sub(m.since) >= restPeriod {
		m.last, m.least, m.since = m.least, m.mean, now
	}
	m.least = min(m.least, m.mean)
	if least := min(m.least, m.last); m.mean > least+least/2+time.Millisecond {
		m.until = now.Add(lossDelay)
	}
}

func (m *restMeter) queue(now machine.Time) bool { return now < m.until }

// measure takes the fate of a packet into the loss of its path, if that is
// still there.
func (s *Session) measure(now machine.Time, t *track, r *record, lost bool) {
	if !s.common.has(wire.CapRepair) || t == nil || t.rtt.latest == 0 {
		return
	}
	t.rest.note(now, t.rtt.smooth, t.rtt.lossDelay())
	switch {
	case !lost && r.flags&recLost != 0:
		t.loss.take()
	case !t.rest.queue(now):
		t.loss.note(lost)
	}
}

// protecting is the share of a repair that a packet leaving by a path earns, 0
// if it is not to be protected. A PATH frame means the route by which it comes:
// it must not come by a repair.
func (s *Session) protecting(id uint8) int64 {
	if !s.common.has(wire.CapRepair) || s.work == nil || s.pending&pendPath != 0 {
		return 0
	}
	t := s.work.tracks[id]
	if t == nil || t.rtt.smooth < repairRTT {
		return 0
	}
	return t.loss.repairShare()
}

// sourceLimit is the room for frames in a packet that earns share. Datagrams
// are not cut: one that does not fit goes unprotected.
func (s *Session) sourceLimit(share int64) int {
	if share == 0 || s.sched.datagramBytes() > 0 {
		return wire.SessionPayloadSize
	}
	return wire.SymbolSize
}

// protect keeps the frames of packet pn for the repairs that follow, and reports
// whether they fit.
func (s *Session) protect(now machine.Time, pn uint64, frames []byte, share int64) bool {
	if len(frames) > wire.SymbolSize {
		return false
	}
	f := &s.work.repair
	if f.enc == nil {
		f.enc = fec.NewEncoder(wire.SymbolSize)
	}
	f.enc.Source(pn, frames)
	if !f.fresh {
		f.fresh, f.since = true, now
	}
	f.credit = min(f.credit+share, 2*shareOne)
	return true
}

// repairWaits reports whether a repair should leave as soon as it may: a whole
// one was earned, or there is nothing else to send, on a shaped route a slot
// that would carry a dummy. What is sent early is not earned again.
func (s *Session) repairWaits() bool {
	f := &s.work.repair
	return f.fresh && (f.credit >= shareOne || f.credit > 0 && !s.hasWork())
}

// repairDue reports whether a repair leaves by a path now.
func (s *Session) repairDue(now machine.Time, id uint8) bool {
	return s.work != nil && s.repairWaits() && s.work.tracks[id] != nil && s.unbound(now, s.work.tracks[id])
}

// sendRepair makes b a repair of what is in flight. It reports false if nothing
// is that could be repaired.
func (s *Session) sendRepair(now machine.Time, id uint8, b []byte) bool {
	w := s.work
	f := &w.repair
	f.fresh = false
	pn := s.out.next
	mask := uint64(0)
	for i := range min(pn, fec.Reach) {
		if source := pn - 1 - i; f.enc.Has(source) && w.sent.flying(source) {
			mask |= 1 << i
		}
	}
	if mask == 0 {
		return false
	}
	f.credit -= shareOne
	body := wire.AppendRepairHeader(b[wire.SessionHeaderSize:wire.SessionHeaderSize], mask)
	f.enc.Repair(pn, mask, body[len(body):][:wire.SymbolSize])
	s.out.next++
	s.sealPacket(now, b)
	s.record(now, id, w.sent.chunkNext, true, 0)
	s.stats.RepairsSent++
	s.counts[trace.RepairOut]++
	s.cfg.Distributions.ObserveTime(trace.FECEncode, now.Sub(f.since))
	s.cfg.Sink.Emit(now, trace.RepairSent, uint64(now.Sub(f.since)), uint64(bits.OnesCount64(mask)))
	return true
}

// flying reports whether a packet's content is on its way for the first time.
func (l *sentLog) flying(pn uint64) bool {
	return pn >= l.tail && pn < l.next && l.isOpen(pn) && l.at(pn).flags&(recLost|recRequeued) == 0
}

// handleRebuilt takes a REBUILT frame: the content of its packets has arrived,
// the packets have not. They stay in flight until time makes them lost, for the
// controller as without repairs, or until they come late after all. It reports
// false if the frame names what was never sent.
func (s *Session) handleRebuilt(now machine.Time, f wire.RebuiltFrame) bool {
	l := &s.busy().sent
	for pn, mask := f.Last, f.Mask; mask != 0; pn, mask = pn-1, mask>>1 {
		if mask&1 == 0 {
			continue
		}
		if pn >= s.out.next {
			return false
		}
		if pn < l.tail || pn >= l.next || !l.isOpen(pn) {
			continue
		}
		r := l.at(pn)
		t := s.work.trackOf(r)
		if age := now.Sub(r.cc.SentAt); t != nil && r.flags&recLost != 0 && 2*age < 3*t.rtt.smooth {
			t.rtt.late(age) // a little more patience, and nothing is sent twice
		}
		if r.flags&recRebuilt == 0 {
			s.stats.Recovered++
			s.counts[trace.RepairGood]++
		}
		r.flags |= recRequeued | recRebuilt
		for i := r.chunk; i < r.chunk+uint64(r.chunks); i++ {
			s.chunkArrived(now, l.chunkAt(i))
		}
		r.chunks = 0
	}
	return true
}
