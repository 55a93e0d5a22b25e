package stream

import (
	"encoding/binary"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// The keys of DATA packets (docs/protocol.md, section 12.4). Each direction
// has its own chain key → Derive(key, "next phase") → …; the sender moves on by
// itself, shows it by the phase bit, and the receiver follows with the first
// packet that authenticates. The packet number is the nonce and never repeats
// in a session.

const nextPhase = "next phase"

// sealing is the sending direction.
type sealing struct {
	key   seal.Key
	next  uint64 // next packet number, of all kinds
	first uint64 // first packet of this phase
	bytes uint64 // sent in this phase
	since machine.Time
	asked machine.Time // the first packet of this phase that is to be acknowledged; 0: none
	wave  uint16       // of 65,536: how much earlier the key ends, in parts of Config.RekeySpread
	phase byte
	// confirmed: the peer has acknowledged a packet of this phase, so that it
	// cannot be two phases behind.
	confirmed bool
	rolled    bool // this is not the first phase
}

func (k *sealing) start(now machine.Time, key seal.Key) {
	*k = sealing{key: key, next: k.next}
	k.begin(now)
}

// begin starts a phase with the key at hand. When the key ends by time follows
// from the key itself, so that nobody else knows, and no two sessions agree.
func (k *sealing) begin(now machine.Time) {
	moment := seal.Derive(&k.key, "end of phase")
	k.wave = binary.BigEndian.Uint16(moment[:])
	moment.Clear()
	k.since, k.first, k.bytes, k.confirmed, k.asked = now, k.next, 0, false, 0
}

// ageMax is how old the present key gets.
func (s *Session) ageMax() time.Duration {
	return s.cfg.RekeyInterval - s.cfg.RekeySpread>>16*time.Duration(s.out.wave)
}

// rollKey moves to the next phase if volume or time ask for it, but not before
// the peer has seen the present one and its packets have had time to arrive:
// the peer keeps one old key.
func (s *Session) rollKey(now machine.Time) {
	k := &s.out
	age := now.Sub(k.since)
	if !k.confirmed || (k.bytes < s.cfg.RekeyBytes && age < s.ageMax()) || age < 3*s.pto() {
		return
	}
	k.key = seal.Derive(&k.key, nextPhase)
	s.busy().sealing.Forget()
	k.phase ^= 1
	k.rolled = true
	k.begin(now)
	s.stats.Rekeys++
	s.counts[trace.Rekeys]++
	s.cfg.Sink.Emit(now, trace.Rekeyed, s.stats.Rekeys, 0)
}

// keyAcknowledged notes that the peer has a packet of the present phase. What the
// change of keys has added is how much later than a round trip that is known.
func (s *Session) keyAcknowledged(now machine.Time) {
	if k := &s.out; !k.confirmed {
		k.confirmed = true
		if k.rolled && k.asked != 0 {
			added := max(0, now.Sub(k.asked)-s.rtt.smooth)
			s.counts[trace.RekeyLatency] += uint64(added / time.Microsecond)
			s.cfg.Sink.Emit(now, trace.KeyConfirmed, uint64(added), 0)
		}
	}
}

// sealPacket finishes the packet in b, whose payload stands after the header,
// as packet number k.next-1.
func (s *Session) sealPacket(now machine.Time, b []byte) {
	k := &s.out
	pn := k.next - 1
	wire.PutSessionHeader(b, wire.SessionData|wire.SessionKind(k.phase<<7), s.peerID, pn)
	untag(b)
	body := b[wire.SessionHeaderSize : wire.SessionHeaderSize+wire.SessionPayloadSize]
	w, head := s.work, b[:wire.SessionHeaderSize]
	if s.single(now, w == nil || !w.sealing.Ready()) {
		s.cfg.once.Seal(s.suite, &k.key, body[:0], body, head, pn)
	} else {
		if !w.sealing.Ready() {
			w.sealing.Init(s.suite, &k.key)
		}
		w.sealing.Seal(body[:0], body, head, pn)
	}
	k.bytes += wire.SessionPacketSize
	if s.cfg.Sealed != nil {
		s.cfg.Sealed(b)
	}
}

// untag clears where the tag of a packet will be, and tagged reports whether the
// seal has written one: a packet that was not sealed must not leave. A real tag
// is zero once in 2^128 packets.
func untag(b []byte) { clear(b[wire.SessionPacketSize-wire.TagSize : wire.SessionPacketSize]) }

func tagged(b []byte) bool {
	if k := wire.SessionKind(b[0] &^ wire.SessionPhaseBit); k != wire.SessionData && k != wire.SessionEarly {
		return true // a part of a handshake, which has its own
	}
	tag := b[wire.SessionPacketSize-wire.TagSize : wire.SessionPacketSize]
	return binary.BigEndian.Uint64(tag)|binary.BigEndian.Uint64(tag[8:]) != 0
}

// opening is the receiving direction.
type opening struct {
	key      seal.Key
	old      *replaced    // nil: none
	first    uint64       // the least packet known to be of this phase
	oldUntil machine.Time // the old key is refused from then on; 0: none
	phase    byte
}

// replaced is the key of the phase before, for a while after a change.
type replaced struct {
	key  seal.Key
	aead seal.AEAD
}

// wipeOld overwrites the old key, if there is one.
func (k *opening) wipeOld() {
	if k.old != nil {
		k.old.key.Clear()
		k.old.aead.Forget()
		k.old = nil
	}
}

func (k *opening) start(key seal.Key) {
	k.key, k.phase, k.first, k.oldUntil = key, 0, 0, 0
	k.wipeOld()
}

// openPacket opens a DATA packet in place. Exactly one key is tried: the
// present one if the phase bit is its own; else, while the old one is kept,
// the old one for packets older than the present phase; else the next.
func (s *Session) openPacket(now machine.Time, pn uint64, b []byte) ([]byte, bool) {
	k := &s.in
	head, body := b[:wire.SessionHeaderSize], b[wire.SessionHeaderSize:]
	switch {
	case b[0]>>7 == k.phase:
		out, ok := s.openNow(now, pn, body, head)
		if ok && pn < k.first {
			k.first = pn
		}
		return out, ok
	case k.oldUntil != 0 && now < k.oldUntil && pn < k.first:
		if !k.old.aead.Ready() {
			k.old.aead.Init(s.suite, &k.old.key)
		}
		return k.old.aead.Open(body[:0], body, head, pn)
	case pn < k.first:
		return nil, false
	}
	next := seal.Derive(&k.key, nextPhase)
	var aead seal.AEAD
	aead.Init(s.suite, &next)
	out, ok := aead.Open(body[:0], body, head, pn)
	if ok {
		k.wipeOld()
		w := s.busy()
		k.old = &replaced{k.key, w.opening}
		k.key, w.opening = next, aead
		k.phase ^= 1
		k.first, k.oldUntil = pn, now.Add(3*s.pto())
		s.stats.Rekeys++
	} else {
		aead.Forget()
	}
	next.Clear()
	return out, ok
}

// openNow opens a packet under the present key.
func (s *Session) openNow(now machine.Time, pn uint64, body, head []byte) ([]byte, bool) {
	if w := s.work; s.single(now, w == nil || !w.opening.Ready()) {
		return s.cfg.once.Open(s.suite, &s.in.key, body[:0], body, head, pn)
	}
	w := s.busy()
	if !w.opening.Ready() {
		w.opening.Init(s.suite, &s.in.key)
	}
	return w.opening.Open(body[:0], body, head, pn)
}

// single reports whether a packet is to leave no cipher state behind where there
// is none, because no others will follow it soon.
func (s *Session) single(now machine.Time, none bool) bool {
	return none && (s.state >= stateClosing || !s.client && s.rests(now))
}

// dropOldKey overwrites the replaced key once its time is over.
func (k *opening) dropOldKey(now machine.Time) {
	if k.oldUntil != 0 && now >= k.oldUntil {
		k.wipeOld()
		k.oldUntil = 0
	}
}

// clearKeys overwrites every key of the session.
func (s *Session) clearKeys() {
	s.out.key.Clear()
	s.in.key.Clear()
	s.in.wipeOld()
}

// rtt estimates the round trip as RFC 9002, section 5, and the delay after
// which a packet counts as lost.
type rtt struct {
	smooth, vary, latest, least time.Duration // latest 0: none was measured
	// extra is added to the loss delay: what spurious retransmissions taught.
	extra time.Duration
}

func (r *rtt) start(initial time.Duration) { *r = rtt{smooth: initial, vary: initial / 2} }

func (r *rtt) sample(d, ackDelay time.Duration) time.Duration {
	if r.least == 0 || d < r.least {
		r.least = d
	}
	if d-ackDelay >= r.least {
		d -= ackDelay
	}
	d = max(d, time.Microsecond)
	first := r.latest == 0
	r.latest = d
	if first {
		r.smooth, r.vary = d, d/2
		return d
	}
	diff := r.smooth - d
	if diff < 0 {
		diff = -diff
	}
	r.vary += (diff - r.vary) / 4
	r.smooth += (d - r.smooth) / 8
	return d
}

// lossFloor keeps scheduling noise of the machines from looking like loss.
const lossFloor = time.Millisecond

// baseLossDelay is the time threshold: reordering is normal here, so no count
// of later packets makes a packet lost, only its age.
func (r *rtt) baseLossDelay() time.Duration {
	return max(max(r.smooth, r.latest)*9/8, r.smooth+4*r.vary, lossFloor)
}

func (r *rtt) lossDelay() time.Duration { return r.baseLossDelay() + r.extra }

// Bounds of what spurious retransmissions may add to the loss delay.
const (
	extraMax   = 2 * time.Second // a later arrival is as good as a loss
	extraDecay = 64              // share of extra given up per extraPackets
	// extraPackets acknowledged in their time let the delay shrink again.
	extraPackets = 2048
)

// late notes that a packet taken for lost needed d for its acknowledgement.
func (r *rtt) late(d time.Duration) {
	if missing := d - r.lossDelay(); missing > 0 {
		r.extra = min(r.extra+max(missing/2, min(missing, r.smooth/8)), extraMax)
	}
}
