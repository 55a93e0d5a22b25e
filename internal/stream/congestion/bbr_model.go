package congestion

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

const (
	// spanPackets is how many deliveries a sample needs to carry weight (±20 % under jitter), unless
	// spanWait base round-trip times pass first.
	spanPackets = 24
	spanWait    = 4
	// residenceFrames is over how many ACK frames residence is averaged at
	// least: the packets of one frame share its delay, and a mean of 16 Erlang(6)
	// delays has 10 % deviation of the delay part. residenceMany suffice where
	// no span ends (ping-pong traffic).
	residenceFrames = 16
	residenceMany   = 64
	// baseSlot is the age of half the base filter, as probe-rtt intervals in
	// BBRv3: what is older than two slots is forgotten.
	baseSlot = 5 * time.Second
	// nearBase: a mean within 1/16 of the base confirms it.
	nearBase = 16
	// Growth that keeps startup going (25 %), as in BBR, and the spans without:
	// three if a queue shows too, eight (noise of a short sample) if none does.
	growthStartup = 320
	stallsMax     = 3
	stallsSure    = 8
	// dropShare: delivering less than 0.7 of the model, with a queue or loss,
	// shows a slower path; dropSpans in a row prove it.
	dropShare = 179
	dropSpans = 2
	// queueShare: residence above 1.25 base (plus queueSlack, the timer noise
	// of hosts) is a queue of our own making; above 1.5 base it is a deep one.
	queueShare = 320
	deepShare  = 384
	queueSlack = time.Millisecond
	// lossMargin, 1/16 in 1/65536, above the learnt level is congestion;
	// a whole window of random loss at 5 % stays below. lossMarginStartup is
	// double. lossLevelMax bounds what can be learnt: 1/8.
	lossMargin        = 1 << 12
	lossMarginStartup = 1 << 13
	lossLevelMax      = 1 << 13
	lossPackets       = 8
	// silenceRounds base times and silenceLeast without a sign are an outage: a path
	// that is only slower goes on to acknowledge.
	silenceRounds = 2
	silenceLeast  = 100 * time.Millisecond
)

// span is the delivery-rate sample in progress.
type span struct {
	at       machine.Time // its begin
	sentAt   machine.Time // newest sending acknowledged at its begin
	newest   machine.Time // newest sending acknowledged
	acked    uint64       // bytes
	lost     uint64       // bytes
	packets  uint32
	inFlight uint32 // most in flight at the sending of a packet delivered in it
	limited  bool
}

func (s *span) begin(now machine.Time) {
	*s = span{at: now, sentAt: s.newest, newest: s.newest}
}

// rate is what was delivered over the longer of the time it took to arrive and
// the time it took to send, so that compressed acknowledgements add nothing.
func (s *span) rate(now machine.Time) uint64 {
	return rateOf(s.acked, max(now.Sub(s.at), s.newest.Sub(s.sentAt)))
}

// residence averages how long packets stay in flight, acknowledgement delay
// and reordering included.
type residence struct {
	sum    time.Duration
	count  int64
	frames int64
	fresh  bool          // the frame in progress has added
	mean   time.Duration // the last one completed; 0: none
}

func (r *residence) endFrame() {
	if r.fresh {
		r.frames++
		r.fresh = false
	}
}

func (r *residence) end() time.Duration {
	r.mean = max(r.sum/time.Duration(r.count), time.Microsecond)
	r.sum, r.count, r.frames = 0, 0, 0
	return r.mean
}

// baseRTT is the least mean residence of five to ten seconds.
type baseRTT struct {
	slots  [2]time.Duration // 0: none yet
	slotAt machine.Time
	seenAt machine.Time // when a mean last confirmed the base
	first  bool         // the only mean is of few packets: the next replaces it
	grown  bool         // the means are of a growing rate: the next, up to half more, replaces them
}

func (f *baseRTT) get() time.Duration {
	if f.slots[0] == 0 || (f.slots[1] != 0 && f.slots[1] < f.slots[0]) {
		return f.slots[1]
	}
	return f.slots[0]
}

func (f *baseRTT) add(now machine.Time, mean time.Duration, few bool) {
	if f.get() == 0 || f.first || f.grown && mean <= f.get()+f.get()/2 {
		*f = baseRTT{slots: [2]time.Duration{mean, 0}, slotAt: now, seenAt: now, first: few}
		return
	}
	f.grown = false
	if now.Sub(f.slotAt) > baseSlot && f.slots[0] != 0 {
		f.slots[1], f.slots[0], f.slotAt = f.slots[0], 0, now
	}
	if f.slots[0] == 0 || mean < f.slots[0] {
		f.slots[0] = mean
	}
	if mean <= f.get()+f.get()/nearBase {
		f.seenAt = now
	}
}

// bandwidth is the greatest sample of this probing cycle and the last.
type bandwidth struct {
	slots   [2]uint64
	low     uint64 // bound since the last refill; 0: none
	full    bool   // this cycle has a sample of a sender that was not short of data
	fromApp bool   // the greatest sample is of a sender short of data
}

func (f *bandwidth) max() uint64 { return max(f.slots[0], f.slots[1]) }

// add takes a sample. A sender short of data proves only that the path
// carries at least so much.
func (f *bandwidth) add(sample uint64, limited bool) {
	if limited && sample <= f.max() {
		return
	}
	if sample > f.max() {
		f.fromApp = limited
	}
	f.slots[0] = max(f.slots[0], sample)
	f.full = f.full || !limited
}

// advance ends a probing cycle.
func (f *bandwidth) advance() {
	if f.full {
		f.slots[1], f.slots[0], f.full = f.slots[0], 0, false
	}
}

// endSpan completes the residence mean and the span when they are due and
// learns from them.
func (b *bbr) endSpan(now machine.Time) {
	base := b.base.get()
	wait := base
	if wait == 0 {
		wait = b.rtt.sum / time.Duration(max(b.rtt.count, 1))
	}
	elapsed := now.Sub(b.span.at)
	due := elapsed >= wait && (b.span.packets >= spanPackets || elapsed >= spanWait*wait)
	switch {
	case base == 0 && b.rtt.count > 0, due && b.rtt.frames >= residenceFrames, b.rtt.frames >= residenceMany && b.span.packets < spanPackets:
		few := b.rtt.frames < residenceFrames
		if mean := b.rtt.end(); now >= b.steadyAt {
			b.base.add(now, mean, few)
		}
	}
	if !due {
		return
	}
	s := b.span
	sample := s.rate(now)
	b.span.begin(now)
	b.limited = s.limited
	excess := b.judgeLoss(&s)
	b.spills = excess
	b.judgeRate(now, sample, &s, excess)
	b.bw.add(sample, s.limited)
	b.spanEnded(now, sample, &s, excess)
}

// judgeLoss reports whether the span lost more than the path is known to lose.
func (b *bbr) judgeLoss(s *span) bool {
	// What is declared lost now was sent with what arrived a span or two ago.
	ratio := s.lost << 16 / max(s.lost+max(s.acked, b.ackedBefore), 1)
	b.ackedBefore = s.acked
	margin := uint64(lossMargin)
	if b.phase == startup {
		margin = lossMarginStartup
	}
	excess := ratio > b.lossLevel+margin && s.lost >= uint64(lossPackets*b.packet)
	if b.filled && b.phase != up && !b.queued(queueShare) {
		b.lossLevel = (b.lossLevel*7 + min(ratio, lossLevelMax)) / 8
	}
	return excess
}

// queued reports residence above share/unit of the base.
func (b *bbr) queued(share uint64) bool {
	base := b.base.get()
	return b.rtt.mean > time.Duration(scale(uint64(base), share))+queueSlack
}

// judgeRate looks for a path that has become slower: less delivered, and what
// is missing waits in a queue or is lost.
func (b *bbr) judgeRate(now machine.Time, sample uint64, s *span, excess bool) {
	if !b.filled || s.limited || b.phase == probeRTT {
		b.drops = 0
		return
	}
	most := b.bw.max()
	sent := rateOf(s.acked+s.lost, s.newest.Sub(s.sentAt))
	if sample >= scale(min(most, sent), dropShare) || !(excess || b.queued(deepShare)) {
		b.drops = 0
		if excess && b.lossy && b.phase != up {
			b.bw.low = max(sample, scale(b.bandwidth(), dropShare))
		}
		b.lossy = excess
		return
	}
	b.drops++
	b.bw.low = sample
	if b.drops < dropSpans {
		return
	}
	b.drops = 0
	b.suspectRTT = b.base.get()
	b.bw = bandwidth{slots: [2]uint64{sample, sample}, full: true}
	b.inFlightHigh = 0
	b.enter(now, probeRTT)
}

// bandwidth is the rate the model trusts, bytes per second.
func (b *bbr) bandwidth() uint64 {
	bw := b.bw.max()
	if b.bw.low != 0 {
		bw = min(bw, b.bw.low)
	}
	return bw
}

// derived is what follows from bandwidth and base residence alone, kept because
// they change once per span and are read for every ACK frame.
type derived struct {
	bw      uint64
	base    time.Duration
	product uint64 // bytes in flight at an empty queue
	quantum uint64 // one pacing burst
	first   uint64 // pacing rate of the first window
	floor   uint64 // least pacing rate
}

// derive brings the derived values up to date.
func (b *bbr) derive() {
	bw, base := b.bandwidth(), b.base.get()
	d := &b.derived
	if d.floor != 0 && d.bw == bw && d.base == base {
		return
	}
	d.bw, d.base = bw, base
	d.product = volume(bw, base)
	d.quantum = min(max(volume(bw, time.Millisecond), uint64(quantumPackets*b.packet)), quantumMax)
	d.first = rateOf(uint64(b.initial), max(base, rttNominal))
	d.floor = rateOf(uint64(packetsPerBase*b.packet), max(base, rttNominal))
}

// product is rate × base residence × gain, bytes.
func (b *bbr) product(gain uint64) uint64 {
	b.derive()
	return scale(b.derived.product, gain)
}
