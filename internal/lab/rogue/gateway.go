package rogue

import (
	"net/netip"

	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// Gateway is a Stream node that, as an entry, passes on set-ups to the mixes that it
// likes only, and is honest otherwise. It stands around the honest one (see
// lab.Plan.Wrap).
type Gateway struct {
	*gateway.Gateway
	Likes func(mix wire.NodeID) bool // nil: all
}

// Unwrap returns the honest gateway.
func (g *Gateway) Unwrap() machine.Machine { return g.Gateway }

// PollTransmit yields the next datagram.
func (g *Gateway) PollTransmit(now machine.Time, b []byte) (netip.AddrPort, int, bool) {
	for {
		to, f, ok := g.Table.PollSend(now)
		if !ok {
			break
		}
		t := wire.FrameType(f.B[0])
		mix, _, _ := g.Links.Peer(to)
		if cell := t == wire.FrameForward || t == wire.FrameBack; !cell && g.Likes != nil && !g.Likes(mix) {
			g.Pool.Put(f)
			continue
		}
		g.Links.Push(to, f)
	}
	return g.Gateway.PollTransmit(now, b)
}
