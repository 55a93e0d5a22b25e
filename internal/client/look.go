package client

import (
	"cmp"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// RouteFigures are what a client tells its own user of a route. It says nothing of what
// the route carries.
type RouteFigures struct {
	Hops    []wire.NodeID // the entry first
	Session int           // place of the session that it carries in Figures, from 1; 0: none
	Class   obfs.Class    // 0: cells leave as they come
	Ready   bool
	Age     time.Duration
	Life    time.Duration // after which it is replaced
}

// RouteFigures returns the figures of all routes, the oldest first.
func (c *Client) RouteFigures(now machine.Time) []RouteFigures {
	places := map[uint32]int{}
	for i, m := range c.Members() {
		places[m.ID] = i + 1
	}
	all := make([]*route, 0, len(c.routes))
	for _, r := range c.routes {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *route) int { return cmp.Compare(a.serial, b.serial) })
	out := make([]RouteFigures, 0, len(all))
	for _, r := range all {
		f := RouteFigures{Ready: r.ready, Age: now.Sub(r.begun), Life: r.ttl}
		for _, n := range r.path.Nodes() {
			f.Hops = append(f.Hops, n.ID)
		}
		if r.shaper != nil {
			f.Class = r.shaper.Class()
		}
		if m := r.circuit.member; m != nil {
			f.Session = places[m.ID]
		}
		out = append(out, f)
	}
	return out
}
