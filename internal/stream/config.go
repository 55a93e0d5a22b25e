package stream

import (
	"errors"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Config configures a session. Zero fields take the default that the comment
// names. It is copied and not changed afterwards.
type Config struct {
	// Level sets the defaults of AckDelay and of the first round-trip time.
	Level wire.Level
	// Congestion is the controller; BBR. FixedRate is the rate of
	// congestion.Fixed in bytes per second.
	Congestion congestion.Kind
	FixedRate  uint64
	// Suite is the AEAD that a client asks for; the fastest here.
	Suite seal.Suite
	// MaxStreams is how many streams the peer, and how many this side, may
	// have open at once; 1024. At least 16.
	MaxStreams int
	// StreamWindowMax and SessionWindowMax bound the receive windows in bytes;
	// 16 MiB and 32 MiB. At least 256 KiB and 1 MiB, the first windows.
	StreamWindowMax, SessionWindowMax uint64
	// AckEvery is after how many packets an acknowledgement leaves at once; 8.
	AckEvery int
	// AckDelay is how long an acknowledgement waits for company; 2 ms at Fast,
	// 20, 40 and 80 ms at Standard, High and Extreme, where it costs a cell.
	AckDelay time.Duration
	// InitialRTT is assumed before the first measurement; 100 ms at Fast, 400,
	// 600 and 1000 ms at the other levels.
	InitialRTT time.Duration
	// HandshakeTimeout ends a handshake without an answer; 15 s.
	HandshakeTimeout time.Duration
	// IdleTimeout ends a session that has no stream and on which nothing but
	// heartbeats has moved; 5 min. Negative: never.
	IdleTimeout time.Duration
	// HeartbeatInterval is how long a session with open streams is silent
	// before it sends a heartbeat; 20 s. Negative: never by itself.
	HeartbeatInterval time.Duration
	// VanishTimeout ends a session whose peer owes an answer so long; 30 s.
	VanishTimeout time.Duration
	// RekeyBytes and RekeyInterval are after what volume sent, and after what
	// time, the sending key is replaced; 1 GiB and 10 min.
	RekeyBytes    uint64
	RekeyInterval time.Duration
	// RekeySpread is the last part of RekeyInterval, in which each key ends at a
	// moment of its own, so that sessions that began together do not change keys
	// together; a tenth of RekeyInterval. Negative: none.
	RekeySpread time.Duration
	// KEM is the strongest KEM of ephemeral keys that this side takes part in,
	// and offers; seal.KEM768.
	KEM seal.KEM
	// Without are capabilities of this version that this side does without, as
	// one of an earlier version would: it neither announces nor knows them. So
	// without wire.CapRepair no repair is sent or taken, and without
	// wire.CapPriorities lanes are this side's alone.
	Without []uint16
	// Required are capabilities without which this side will not talk.
	Required []uint16
	// Optional are capabilities announced besides those that every side has: a
	// client with wire.CapTickets asks for a ticket.
	Optional []uint16
	// PathLag is how much later than those of the active path, beside 3/2 of its
	// shortest round trip, packets of a path may come that carries data too; 25 ms.
	PathLag time.Duration
	// HastyFailOver, for controls, has a silent path left before the peer has said by
	// another one what of it came.
	HastyFailOver bool
	// UnixStart is the unix time, in seconds, of machine time 0, or 0 if
	// unknown. With it, a HELLO that is older than the responder's record of
	// HELLOs cannot have its 0-RTT data taken again (docs/protocol.md, section
	// 12.3).
	UnixStart int64
	// Sealed, if not nil, is given each DATA packet after its seal and may spoil
	// it: for faults.
	Sealed func(packet []byte)
	// Sink takes trace events; nil takes none.
	Sink trace.Sink
	// Distributions takes what is measured of sessions; nil takes nothing.
	Distributions *trace.Distributions

	knows  capabilities
	greedy bool // for controls: paths carry whatever they add
}

// capabilities is a set of those that this version has.
type capabilities uint16

func setOf(lists ...[]uint16) (s capabilities) {
	for _, list := range lists {
		for _, c := range list {
			s |= 1 << c // 0 for the unknown, which lie beyond
		}
	}
	return s
}

func (s capabilities) has(c uint16) bool { return s>>c&1 != 0 }

// First limits that every side grants. A client's 0-RTT data relies on them.
const (
	firstStreamWindow  = 256 << 10
	firstSessionWindow = 1 << 20
	firstStreams       = 16
)

var errConfig = errors.New("stream: configuration out of range: capability list longer than 32, or an unknown suite, KEM or level")

func (c Config) withDefaults() (Config, error) {
	or(&c.KEM, seal.KEM768)
	if len(c.Required) > 32 || len(c.Optional) > 32 || !c.Level.Valid() || (c.Suite != 0 && !c.Suite.Valid()) || !c.KEM.Valid() {
		return c, errConfig
	}
	c.knows = setOf([]uint16{wire.CapDatagrams, wire.CapPaths, wire.CapHeartbeats, wire.CapRepair, wire.CapPriorities, wire.CapCompressed, wire.CapMessages})
	if c.KEM >= seal.KEM1024 {
		c.knows |= 1 << wire.CapKEM1024
	}
	c.knows &^= setOf(c.Without)
	if c.Suite == 0 {
		c.Suite = seal.Preferred()
	}
	rtts := [...]time.Duration{100, 400, 600, 1000}
	acks := [...]time.Duration{2, 20, 40, 80}
	or(&c.InitialRTT, rtts[c.Level]*time.Millisecond)
	or(&c.AckDelay, acks[c.Level]*time.Millisecond)
	or(&c.AckEvery, 8)
	or(&c.PathLag, pathLag)
	or(&c.MaxStreams, 1024)
	or(&c.StreamWindowMax, 16<<20)
	or(&c.SessionWindowMax, 32<<20)
	or(&c.HandshakeTimeout, 15*time.Second)
	or(&c.IdleTimeout, 5*time.Minute)
	or(&c.HeartbeatInterval, 20*time.Second)
	or(&c.VanishTimeout, 30*time.Second)
	or(&c.RekeyBytes, 1<<30)
	or(&c.RekeyInterval, 10*time.Minute)
	or(&c.RekeySpread, c.RekeyInterval/10)
	c.RekeySpread = min(max(c.RekeySpread, 0), c.RekeyInterval)
	c.MaxStreams = max(c.MaxStreams, firstStreams)
	c.StreamWindowMax = max(c.StreamWindowMax, firstStreamWindow)
	c.SessionWindowMax = max(c.SessionWindowMax, firstSessionWindow)
	return c, nil
}

func or[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// capabilities are what this side announces.
func (c *Config) capabilities() wire.Capabilities {
	optional := make([]uint16, 0, 16+len(c.Optional))
	for n := range uint16(16) {
		if c.knows.has(n) {
			optional = append(optional, n)
		}
	}
	return wire.Capabilities{
		Required:      c.Required,
		Optional:      append(optional, c.Optional...),
		SessionWindow: firstSessionWindow, StreamWindow: firstStreamWindow,
		Streams: uint64(c.MaxStreams), AckDelayMicros: uint64(c.AckDelay / time.Microsecond),
	}
}

// knowsAll reports whether nothing that a peer requires is unknown here.
func (c *Config) knowsAll(required []uint16) bool {
	return !slices.ContainsFunc(required, func(n uint16) bool { return !c.knows.has(n) })
}
