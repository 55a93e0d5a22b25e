package link

import (
	"net/netip"

	"github.com/nyxnet/nyx/internal/machine"
)

// A node that has restarted knows none of its links any more, and its neighbours
// would find out when they have heard nothing for long (silence): until then each
// route that they lead to it fails. So it dials a neighbour that sends by a link that
// it does not know, and the new link takes the place of the old one
// (docs/protocol.md, section 4.6). Who forges addresses of nodes can have it dial
// them: each once at a time, only while there can be such links, and greetMost times.
const (
	greetFor   = silence + keepAlive
	greetMost  = 4096
	greetAfter = 3 // a set-up is twelve
)

// greeting is what was done of that.
type greeting struct {
	until machine.Time // 0: nothing came yet
	done  int
	from  netip.AddrPort // of the last noise,
	count int            // and how often in a row
}

// greet dials the node of an address from which noise came, and not once only: one
// datagram that was changed on its way is no old link.
func (e *Endpoint) greet(now machine.Time, from netip.AddrPort) {
	g := &e.greeting
	if g.until == 0 {
		g.until = now.Add(greetFor)
	}
	if e.cfg.At == nil || now >= g.until || g.done == greetMost {
		return
	}
	if g.from != from {
		g.from, g.count = from, 0
	}
	if g.count++; g.count < greetAfter {
		return
	}
	peer, ok := e.cfg.At(from)
	if !ok || e.byPeer[peer] != nil || e.cfg.Peer == nil {
		return
	}
	g.done++
	e.Dial(now, peer, e.cfg.Peer(peer), from)
}
