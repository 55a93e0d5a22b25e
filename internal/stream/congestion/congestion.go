// Package congestion decides how much a session may have in flight and how
// fast it may send: a BBR-derived controller by default, CUBIC, or a fixed
// rate, behind one small interface.
//
// A controller is pure state: it belongs to one session path, takes the time
// as an argument and allocates nothing after New.
package congestion

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// Kind names a controller in configuration.
type Kind uint8

// Kinds. The zero Kind is the default.
const (
	BBR Kind = iota
	Cubic
	Fixed
)

// BurstPackets is the least burst that a pacer should grant.
const BurstPackets = 16

// Config configures a controller. Zero fields take the documented default.
type Config struct {
	Kind Kind
	// PacketSize is the size of one session packet in bytes; 1079.
	PacketSize int
	// InitialWindow is the first window in packets; 32.
	InitialWindow int
	// FixedRate is the rate of Fixed in bytes per second; 12.5 MB/s.
	FixedRate uint64
}

// Packet is what the controller remembers of one packet in flight. The stream
// layer keeps it in its record of the packet and hands it back.
type Packet struct {
	SentAt machine.Time
	Bytes  int

	// Written by OnSent and read when the packet's fate is known.
	inFlight uint32 // bytes in flight with this packet, at its sending
	epoch    uint16 // which path of the controller it went out on
	recovery uint16 // which reduction of CUBIC its loss belongs to
	fate     fate
	limited  bool // the sender had no more to send
}

// fate is what is known of a packet; each is counted once on the way.
type fate uint8

const (
	flying fate = iota
	acked
	lost
)

// note writes the controller's part of p at its sending.
func (p *Packet) note(epoch uint16, inFlight int, appLimited bool) {
	p.inFlight = uint32(min(max(inFlight, 0), windowMax))
	p.epoch, p.fate, p.limited = epoch, flying, appLimited
}

// settle moves p to fate to and reports whether that is news on this path: a
// packet already there, or sent before a path change, teaches nothing.
func (p *Packet) settle(to fate, epoch uint16) bool {
	news := p.fate != to && p.fate != acked && p.epoch == epoch
	if p.fate != acked {
		p.fate = to
	}
	return news
}

// Controller is one path's congestion control. Byte counts are of whole
// session packets.
type Controller interface {
	// OnSent notes that p (SentAt and Bytes set) leaves now; inFlight counts
	// it. appLimited says that the sender had no more to send than this.
	OnSent(now machine.Time, p *Packet, inFlight int, appLimited bool)
	// OnAcked notes that p arrived. Called for every newly acknowledged packet
	// of one ACK frame in the order of their sending, then OnAckEnd once.
	OnAcked(now machine.Time, p *Packet)
	// OnAckEnd ends one ACK frame. rtt is the latest sample with the peer's
	// acknowledgement delay taken out, or 0 if there is none; inFlight counts
	// none of the packets that the frame acknowledged.
	OnAckEnd(now machine.Time, rtt time.Duration, inFlight int)
	// OnLost notes that p is taken for lost; inFlight counts it no longer.
	OnLost(now machine.Time, p *Packet, inFlight int)
	// OnSpurious notes that a packet taken for lost has arrived after all. It
	// stands for OnAcked of that packet; calling both counts it once.
	OnSpurious(now machine.Time, p *Packet)
	// OnPathChange forgets what was learnt of the old path.
	OnPathChange(now machine.Time)
	// Window is how many bytes may be in flight.
	Window() int
	// PacingRate is bytes per second, or 0 for no pacing. The pacer should
	// grant a burst of BurstPackets or one millisecond's worth, whichever is
	// more, so that a sender of slots that come in clumps is not delayed by it.
	PacingRate() uint64
}
