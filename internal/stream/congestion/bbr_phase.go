package congestion

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// phase is what the controller is about.
//
//	startup → drain → cruise → refill → up → down → cruise …
//	any → probeRTT → cruise (or startup)
type phase uint8

const (
	startup  phase = iota // double until delivery stops growing
	drain                 // empty the queue that startup left
	cruise                // send at the model's rate
	refill                // one round at full rate, short-term bounds lifted
	up                    // probe for more
	down                  // empty the queue that the probe left
	probeRTT              // little in flight: what is the path's own delay?
)

// Gains in 1/256. Startup paces with BBR's 4·ln 2, under a window of three
// products, since what it knows of the rate is up to two spans old; up probes
// with a quarter more; cruise leaves 1 % so that queues drain, and a fifth when
// one is seen. Half more in flight is what a probe may queue, a quarter what
// noise may.
var (
	paceGain   = [...]uint64{startup: 710, drain: 128, cruise: 253, refill: 256, up: 320, down: 230, probeRTT: 253}
	windowGain = [...]uint64{startup: 768, drain: 512, cruise: 320, refill: 320, up: 384, down: 320, probeRTT: 128}
)

const (
	paceQueued = 205
	// gainLimited is for a sender short of data, which builds no queue: its
	// window must not stand in the way of a clump of sending slots.
	gainLimited = 768
	// cruiseSpans, plus up to cruiseSpread drawn, between two probes.
	cruiseSpans  = 6
	cruiseSpread = 4
	// growthUp: a probe that delivers 1/16 more than the model goes on.
	growthUp = 272
	// phaseRounds bounds drain and down, in base times, should what is in
	// flight not come down (lost and not yet declared so).
	phaseRounds = 4
	// probeRTTDrain (plus phaseRounds base times) bounds the emptying in
	// probe-rtt; probeRTTHold plus probeRTTRounds base times what it then takes
	// to measure.
	probeRTTDrain  = time.Second
	probeRTTHold   = 100 * time.Millisecond
	probeRTTRounds = 3
	// gainDrained: in flight at an empty queue, as means lie up to an eighth
	// above the least of them.
	gainDrained = 288
	// lossFillMax bounds what is sent in place of the path's own loss, 1/16 in
	// 1/65536. Three quarters of the level are: were the loss our own overflow,
	// it would die out instead of feeding itself.
	lossFillMax = 1 << 12
	// missingTimes the expected loss of a window may still count as in flight
	// while it drains; without that share, probe-rtt would wait for the dead.
	missingTimes = 4
	// headroom is left below the level at which a probe met loss.
	headroom = 218
	// betaHigh bounds how far one lossy probe pushes that level down.
	betaHigh = 179
	// Pacing is in bursts of a millisecond, from two packets to quantumMax.
	quantumPackets = 2
	quantumMax     = 64 << 10
	// rttNominal stands for the round trip before the first sample.
	rttNominal = time.Millisecond
	// packetsPerBase is the least pacing rate in packets per base time.
	packetsPerBase = minWindowPackets
)

func (b *bbr) enter(now machine.Time, p phase) {
	if p == cruise && (b.phase == drain || b.phase == probeRTT) {
		b.steadyAt = now.Add(2 * b.base.get())
		b.base.grown = b.phase == drain
	}
	b.phase, b.phaseAt, b.aligned = p, now, false
	switch p {
	case cruise:
		b.lottery = b.lottery*1664525 + 1013904223
		b.spansLeft = cruiseSpans + uint8(b.lottery>>16%cruiseSpread)
	case refill:
		b.bw.low = 0
	case up:
		b.reference = b.bw.max()
	case down:
		b.bw.advance()
	case probeRTT:
		b.reachedAt = machine.Never
		b.enteredWith = b.window
	}
}

// spanEnded lets the phase see a completed span.
func (b *bbr) spanEnded(now machine.Time, sample uint64, s *span, excess bool) {
	switch b.phase {
	case startup:
		b.checkFull(now, sample, s, excess)
	case cruise:
		if b.spansLeft > 0 {
			b.spansLeft--
		}
		if !s.limited && b.bw.fromApp && !b.queued(queueShare) {
			// The model came from a sender short of data, who no longer is.
			b.bw.fromApp, b.filled, b.reference, b.stalls = false, false, 0, 0
			b.enter(now, startup)
		}
	case up:
		b.checkUp(now, sample, s, excess)
	}
}

// checkFull ends startup when three spans bring no growth but a queue, when
// eight bring no growth, or when two lose too much and bring none.
func (b *bbr) checkFull(now machine.Time, sample uint64, s *span, excess bool) {
	again := excess && b.lossy
	b.lossy = excess
	switch {
	case s.limited && !again:
		return
	case sample >= scale(b.reference, growthStartup):
		b.reference, b.stalls = sample, 0
		return
	}
	b.stalls++
	if again {
		b.inFlightHigh = max(b.product(unit), s.acked)
	}
	b.filled = again || b.stalls >= stallsMax && b.queued(deepShare) || b.stalls >= stallsSure
	if b.filled {
		b.enter(now, drain)
	}
}

// checkUp ends a probe that meets loss or brings nothing.
func (b *bbr) checkUp(now machine.Time, sample uint64, s *span, excess bool) {
	if excess {
		b.inFlightHigh = max(scale(b.product(unit), betaHigh), min(uint64(s.inFlight), b.product(windowGain[up])))
		b.enter(now, down)
		return
	}
	if b.inFlightHigh != 0 && uint64(s.inFlight) >= scale(b.inFlightHigh, headroom) {
		b.inFlightHigh += s.acked / 2
	}
	if !b.aligned {
		return
	}
	if sample >= scale(b.reference, growthUp) && !b.queued(deepShare) {
		b.reference = sample
		return
	}
	b.enter(now, down)
}

// step moves the phase machine on after an ACK frame.
func (b *bbr) step(now machine.Time, inFlight int) {
	base := b.base.get()
	over := now.Sub(b.phaseAt) > phaseRounds*base
	drained := uint64(inFlight) <= b.product(gainDrained+b.lossGain())
	switch b.phase {
	case drain, down:
		if drained || over {
			b.enter(now, cruise)
		}
	case cruise:
		if b.spansLeft == 0 {
			b.enter(now, refill)
		}
	case refill:
		if now.Sub(b.phaseAt) >= base {
			b.enter(now, up)
		}
	case up:
		if !b.aligned && now.Sub(b.phaseAt) >= base {
			// From here on, arrivals were sent at the probing rate.
			b.aligned = true
			b.span.begin(now)
		}
	case probeRTT:
		b.stepProbeRTT(now, inFlight)
		return
	}
	if b.filled && !b.limited && now.Sub(b.base.seenAt) > baseSlot {
		b.enter(now, probeRTT)
	}
}

// stepProbeRTT waits until little is in flight, lets one base time pass, then
// averages residence afresh.
func (b *bbr) stepProbeRTT(now machine.Time, inFlight int) {
	base := b.base.get()
	if b.reachedAt == machine.Never {
		if inFlight <= b.probeWindow()+b.packet || now.Sub(b.phaseAt) > probeRTTDrain+phaseRounds*base {
			b.reachedAt = now
		}
		return
	}
	held := now.Sub(b.reachedAt)
	if !b.aligned {
		if held >= base {
			b.aligned = true
			b.rtt.sum, b.rtt.count, b.rtt.frames = 0, 0, 0
		}
		return
	}
	if b.rtt.frames < residenceFrames && held < probeRTTRounds*base+probeRTTHold {
		return
	}
	if b.rtt.count > 0 {
		few := b.rtt.frames < residenceFrames/2
		b.endProbeRTT(now, b.rtt.end(), few)
	}
	b.base.seenAt = now
	b.span.begin(now)
	if b.filled {
		b.enter(now, cruise)
	} else {
		b.enter(now, startup)
	}
}

// endProbeRTT takes the mean residence at little in flight. After a suspected
// drop of rate it decides which it was: if the path's own delay has grown by
// half, that explains the missing deliveries, and startup finds the rate anew.
func (b *bbr) endProbeRTT(now machine.Time, mean time.Duration, few bool) {
	if b.suspectRTT == 0 {
		b.base.add(now, mean, false)
		return
	}
	if !few {
		b.base = baseRTT{slots: [2]time.Duration{mean, 0}, slotAt: now, seenAt: now}
		if mean > b.suspectRTT+b.suspectRTT/2 {
			b.filled, b.reference, b.stalls = false, 0, 0
		}
	}
	b.bw.low, b.suspectRTT = 0, 0
}

func (b *bbr) probeWindow() int {
	missing := uint64(b.enteredWith) * b.lossLevel * missingTimes >> 16
	return clampWindow(b.product(windowGain[probeRTT])+missing, b.least)
}

// grow raises a startup window by what was acknowledged.
func (b *bbr) grow(acked uint64) {
	if b.phase != startup {
		return
	}
	if uint64(b.window) < b.target() || !b.filled && b.window < b.initial {
		b.window = clampWindow(uint64(b.window)+acked, b.least)
	}
}

// shortOfData reports whether the sender has so little to send that the model knows
// only what it sent, and not what the path carries.
func (b *bbr) shortOfData() bool { return b.limited && !b.spills && b.bw.fromApp }

// target is what the model wants in flight.
func (b *bbr) target() uint64 {
	gain := windowGain[b.phase]
	if b.shortOfData() && b.phase != probeRTT {
		gain = max(gain, gainLimited)
	}
	return b.product(gain+b.lossGain()) + b.derived.quantum
}

// lossGain is the share of the path's own losses in flight: they stay there
// for about two base times until they are declared.
func (b *bbr) lossGain() uint64 { return b.lossLevel * 2 * unit >> 16 }

// setOutput derives the window and the pacing rate.
func (b *bbr) setOutput() {
	b.setPacing()
	switch {
	case b.phase == probeRTT:
		b.window = b.probeWindow()
	case b.phase != startup:
		t := b.target()
		if b.inFlightHigh != 0 && (!b.limited || b.spills) {
			high := b.inFlightHigh
			if b.phase != up && b.phase != refill {
				high = scale(high, headroom)
			}
			t = min(t, high)
		}
		b.window = clampWindow(t, b.least)
	}
	if b.limited && b.phase != probeRTT {
		b.window = max(b.window, b.initial)
	}
}

func (b *bbr) setPacing() {
	b.derive()
	bw, first := b.derived.bw, b.derived.first
	gain := paceGain[b.phase]
	switch {
	case b.phase == startup:
		bw = max(bw, first)
	case b.phase == cruise && b.queued(queueShare):
		gain = paceQueued
	case b.shortOfData() && (b.phase == cruise || b.phase == refill):
		gain = gainLimited
		bw = max(bw, first)
	}
	if b.phase >= cruise && b.phase <= up {
		gain += min(b.lossLevel, lossFillMax) * 3 / 4 * unit >> 16
	}
	b.pacing = min(max(scale(bw, gain), b.derived.floor), rateMax)
}
