package rogue

import (
	"net/netip"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/relay"
	"github.com/nyxnet/nyx/internal/wire"
)

// Relay is a Mix node that changes every cell on its way back to a client while
// Tamper is set. It stands around the honest one (see lab.Plan.Wrap).
type Relay struct {
	*relay.Relay
	Tamper bool
}

// Unwrap returns the honest relay.
func (r *Relay) Unwrap() machine.Machine { return r.Relay }

// HandleDatagram takes a datagram from a neighbour.
func (r *Relay) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	id, frame, ok := r.Links.HandleDatagram(now, from, b)
	if !ok {
		return
	}
	if r.Tamper && wire.FrameType(frame[0]) == wire.FrameBack {
		frame[wire.CellOffset+100] ^= 1
	}
	r.Table.HandleFrame(now, id, frame)
}
