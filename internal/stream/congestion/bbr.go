package congestion

// The default controller, after BBR version 3 (draft-ietf-ccwg-bbr), rebuilt
// for paths whose packets are delayed one by one and arrive out of order
// (docs/protocol.md, section 13). What differs, and why:
//
//   - The model's round-trip time is the least of many *means* of packet
//     residence (acknowledged minus sent), not the least sample. By Little's law
//     rate × mean residence is what must be in flight; under mixing the least
//     sample is far below it.
//   - Bandwidth is sampled once per span of at least one such time, so that
//     jitter and aggregated acknowledgements average out instead of being
//     picked by the maximum filter.
//   - Loss alone does not slow it: it takes loss far above the path's own
//     level, or a lower delivery rate together with a queue or loss.
//
// One ACK frame passes through:
//
//	1. OnAcked, OnLost, OnSpurious   count into the span       bbr.go
//	2. endSpan                       samples, filters          bbr_model.go
//	3. step                          the phase machine         bbr_phase.go
//	4. setOutput                     window and pacing rate    bbr_phase.go

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

type bbr struct {
	packet  int // bytes
	initial int // first window, bytes
	least   int // smallest window, bytes
	epoch   uint16
	lottery uint32 // spreads the probes of flows that began together

	heardAt machine.Time // when something was last acknowledged
	// resumed is the end of the last silence: what was sent before it and is lost
	// tells of the silence, not of the path's rate.
	resumed machine.Time
	filling bool // nothing that was sent since has arrived yet

	span    span
	rtt     residence
	base    baseRTT
	derived derived
	bw      bandwidth
	frame   uint64 // bytes of the ACK frame in progress

	// lossLevel is the path's own loss in 1/65536, learnt when not probing.
	lossLevel uint64
	// inFlightHigh bounds what may be in flight after loss in a probe; 0: none.
	inFlightHigh uint64
	// drops counts spans in a row that showed a slower path; lossy says that
	// the last span lost too much.
	drops       uint8
	lossy       bool
	ackedBefore uint64 // bytes, in the span before

	phase     phase
	filled    bool  // startup found the pipe full
	stalls    uint8 // startup spans in a row without growth
	aligned   bool  // the span in progress shows this phase's effect
	limited   bool  // the last span was short of data, not of window
	spills    bool  // the last span lost too much, short of data or not
	spansLeft uint8 // of cruising
	reference uint64
	phaseAt   machine.Time
	// steadyAt is when residence can be trusted: while the rate rises steeply
	// the quick packets are over-represented among those that arrive.
	steadyAt  machine.Time
	reachedAt machine.Time // probe-rtt: when the window was reached, or Never
	// enteredWith is the window at the begin of probe-rtt.
	enteredWith int
	// suspectRTT is the base before a suspected drop of rate; 0: none suspected.
	suspectRTT time.Duration

	window int
	pacing uint64
	short  shortPath
}

func newBBR(cfg Config) *bbr {
	b := &bbr{
		packet:  cfg.PacketSize,
		initial: cfg.InitialWindow * cfg.PacketSize,
		least:   minWindowPackets * cfg.PacketSize,
	}
	b.restart(0)
	return b
}

// restart forgets everything but the epoch.
func (b *bbr) restart(now machine.Time) {
	*b = bbr{packet: b.packet, initial: b.initial, least: b.least, epoch: b.epoch, lottery: b.lottery}
	b.window = b.initial
	b.short.begin(uint64(b.initial))
	b.phaseAt, b.reachedAt = now, machine.Never
	b.span.begin(now)
	b.setOutput()
}

func (b *bbr) OnSent(now machine.Time, p *Packet, inFlight int, appLimited bool) {
	p.note(b.epoch, inFlight, appLimited)
	if inFlight <= p.Bytes {
		// Nothing else is out: what follows is timed from this sending.
		b.span.newest = max(b.span.newest, now)
		b.span.begin(now)
		b.lottery = b.lottery*1664525 + uint32(now) + 1013904223
	}
}

func (b *bbr) OnAcked(now machine.Time, p *Packet) {
	if p.fate == lost {
		b.OnSpurious(now, p)
		return
	}
	if p.settle(acked, b.epoch) {
		b.deliver(now, p)
	}
}

// deliver counts an arrival.
func (b *bbr) deliver(now machine.Time, p *Packet) {
	s := &b.span
	if b.filling && p.SentAt >= b.resumed {
		b.filling = false
		s.begin(now)
	}
	s.acked += uint64(p.Bytes)
	s.packets++
	s.limited = s.limited || p.limited
	s.newest = max(s.newest, p.SentAt)
	s.inFlight = max(s.inFlight, p.inFlight)
	b.frame += uint64(p.Bytes)
	b.short.deliver(now, p)
	if b.phase == probeRTT && p.SentAt < b.reachedAt {
		return // it waited in the queue that is being emptied
	}
	b.rtt.sum += now.Sub(p.SentAt)
	b.rtt.count++
	b.rtt.fresh = true
}

func (b *bbr) OnLost(_ machine.Time, p *Packet, _ int) {
	if p.settle(lost, b.epoch) && p.SentAt >= b.resumed {
		b.span.lost += uint64(p.Bytes)
		b.short.lost += uint64(p.Bytes)
	}
}

func (b *bbr) OnSpurious(now machine.Time, p *Packet) {
	if p.settle(acked, b.epoch) {
		b.span.lost -= min(b.span.lost, uint64(p.Bytes))
		b.short.lost -= min(b.short.lost, uint64(p.Bytes))
		b.deliver(now, p)
	}
}

func (b *bbr) OnAckEnd(now machine.Time, _ time.Duration, inFlight int) {
	if b.frame == 0 {
		return
	}
	b.rtt.endFrame()
	if base := b.base.get(); base != 0 && now.Sub(b.heardAt) > silenceRounds*base+silenceLeast {
		b.resumed, b.filling = now, true
	}
	if b.heardAt = now; b.filling {
		b.span.begin(now)
	}
	b.endSpan(now)
	b.step(now, inFlight)
	b.grow(b.frame)
	b.short.endFrame(uint64(b.initial))
	b.frame = 0
	b.setOutput()
}

func (b *bbr) OnPathChange(now machine.Time) {
	b.epoch++
	b.restart(now)
}

func (b *bbr) Window() int {
	if b.short.on() {
		return int(b.short.window)
	}
	return b.window
}

func (b *bbr) PacingRate() uint64 {
	if b.short.on() {
		return 0
	}
	return b.pacing
}
