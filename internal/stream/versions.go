package stream

import (
	"slices"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Versions, KEMs and capabilities of the two sides (docs/protocol.md, section
// 12.2).
//
// A client begins with the strongest KEM that it may use, and names what it
// could use besides in the sealed block. A responder that does not take the
// KEM, or that takes a stronger one which the client offers, refuses: the
// client makes another HELLO as it is told. The refusal holds no state and is
// authentic by the static key, so that nobody between the two can bring them to
// a weaker KEM than the best that both have.

// offersMax is how many HELLOs of different KEMs one handshake makes: the
// client's first choice, the responder's, one without a ticket, and one more for a
// responder whose configuration changes in between.
const offersMax = 4

// Refusal is the error of Acceptor.Accept for a HELLO of a version, with a KEM, or
// by a ticket, that is not taken here. Packet answers it, once.
type Refusal struct {
	Packet [wire.SessionPacketSize]byte
}

func (*Refusal) Error() string {
	return "stream: HELLO of another version, with another KEM, or with a ticket that is not taken"
}

// refuse makes the refusal that asks for a HELLO with kem.
func refuse(static *seal.KEMPrivate, hello []byte, secret *seal.Key, client uint32, kem seal.KEM, counts *trace.Counts) *Refusal {
	counts[trace.HandshakesRefused]++
	m := wire.HelloRefusal{Version: wire.SessionVersion, KEM: uint8(kem)}.Append(make([]byte, 0, wire.RefusalSize))
	m = refusalSchedule(static.Public(), hello, secret, m).SealNext(m, nil)
	r := &Refusal{}
	wire.PutSessionPart(r.Packet[:], wire.SessionReply, client, m, 0)
	return r
}

// refusalSchedule is what the tag of a refusal is made under: it needs nothing
// of a HELLO but what every version has. The words of the refusal are part of
// it, so that no two of them share a key.
func refusalSchedule(static *seal.KEMPublic, hello []byte, secret *seal.Key, words []byte) *seal.Schedule {
	s := seal.NewSchedule("nyx session refusal")
	s.MixHash(static.Bytes())
	s.MixHash(hello)
	s.MixKey(secret[:])
	s.MixHash(words)
	return s
}

// handleRefusal begins anew with the KEM that the responder asks for, or ends
// the session where there is none in common. It reports false for a refusal
// that does not authenticate, after which the handshake goes on.
func (s *Session) handleRefusal(now machine.Time, r wire.HelloRefusal, tag []byte) bool {
	hs := s.hs
	schedule := refusalSchedule(hs.peer, hs.message, &hs.secret, r.Append(nil))
	defer schedule.Clear()
	if _, err := schedule.OpenNext(nil, tag); err != nil {
		return false
	}
	kem := seal.KEM(r.KEM)
	if r.Version != wire.SessionVersion || !kem.Valid() || kem > s.cfg.KEM || uint8(kem) == hs.head.KEM || hs.offers >= offersMax {
		s.mismatch()
		s.end(now, &closing{code: wire.CodeCapability, reason: "no version or KEM in common"})
		return true
	}
	s.offerAgain(now, kem)
	return true
}

// strongest is the best KEM that both sides can use.
func strongest(theirs *wire.Capabilities, ours seal.KEM) seal.KEM {
	if ours >= seal.KEM1024 && (slices.Contains(theirs.Optional, wire.CapKEM1024) || slices.Contains(theirs.Required, wire.CapKEM1024)) {
		return seal.KEM1024
	}
	return seal.KEM768
}

// capabilityOf is what a type of frame belongs to; 0 for those of every version.
func capabilityOf(t wire.SessionFrameType) uint16 {
	switch t {
	case wire.SFrameDatagram:
		return wire.CapDatagrams
	case wire.SFramePath:
		return wire.CapPaths
	case wire.SFrameHeartbeat:
		return wire.CapHeartbeats
	case wire.SFramePriority, wire.SFrameLane:
		return wire.CapPriorities
	case wire.SFrameMessage, wire.SFrameMessageEnd:
		return wire.CapMessages
	}
	return 0
}

// unknownFrame notes a frame that this side's version does not have; it is
// malformed here.
func (s *Session) unknownFrame() bool {
	s.mismatch()
	return false
}

// mismatch counts a session that ends, or never begins, because the versions of
// its two sides do not go together.
func (s *Session) mismatch() {
	s.counts[trace.VersionMismatch]++
	if !s.client {
		s.counts[trace.ClientVersionErrors]++
	}
}
