package client

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// A node that will stop says so in the directory, by a capacity of 0, and one
// that is gone is not in it. New routes avoid it because it is never drawn.
// Those that there are move before it stops: each is replaced as at the end of
// its life, the new one before the old one goes, so that nothing is lost and
// nobody waits (docs/protocol.md, section 7.6). When a client does so depends
// on the document and on chance, never on what its user does.

// A route whose hops have come to lie far apart, by the delays between regions, stays with
// the chance that such a path has of being drawn, to the one that its own had: so routes
// that stand follow the law by which new ones are drawn, and no path is favoured beyond it.

// leaveWithin is the time in which a client's routes leave a node: each at a
// moment of its own, since all clients hear of it within one poll and would
// otherwise build at once.
const leaveWithin = 10 * time.Second

// leaving reports whether a node is to be left, by the document or by what is
// known of it now.
func (c *Client) leaving(id wire.NodeID) bool {
	return c.view != nil && !c.view.Draws(id) || c.conditions.Leaves(id)
}

// HandleConditions gives the client what is known of the nodes now, and for how
// long it counts; nil, and the end of that time, mean that nothing is.
func (c *Client) HandleConditions(now machine.Time, known *directory.Conditions, left time.Duration) {
	if c.conditions = known; known == nil {
		c.timers.Stop(&c.forget)
		return
	}
	c.timers.Set(&c.forget, now.Add(left))
	c.moveAway(now)
	c.moveNearer(now)
}

// farther is how many times less likely a path must have become before its route may go:
// delays that waver move nothing.
const farther = 2

// moveNearer has routes replaced whose hops have come to lie far apart.
func (c *Client) moveNearer(now machine.Time) {
	if c.cfg.QoS == directory.Bulk {
		return
	}
	for _, r := range c.allRoutes() {
		chance, known := c.conditions.Chance(c.cfg.Level, &r.path)
		switch {
		case !known || !r.ready:
		case r.chance == 0:
			r.chance = chance
		case chance*farther <= r.chance:
			stays := c.leaves.Uint64N(r.chance) < chance
			if r.chance = chance; !stays {
				c.moveOff(now, r)
			}
		}
	}
}

// moveAway has the routes through nodes that are to be left replaced. Where it is
// the exit, the session ends there and no route helps it; only what was built
// ahead begins anew elsewhere.
func (c *Client) moveAway(now machine.Time) { c.moveFrom(now, c.leaving) }

// moveFrom is moveAway for some nodes, once: where no path is left without them,
// the next one goes through them again.
func (c *Client) moveFrom(now machine.Time, leaving func(wire.NodeID) bool) {
	for _, r := range c.allRoutes() {
		if r.ready {
			c.moveSoon(now, r, leaving)
		}
	}
	for _, k := range slices.Clone(c.ahead) {
		switch {
		case k.exit == nil || !leaving(k.exit.ID):
		case k.member != nil:
			k.member.Core.Close(now, wire.CodeNone, "")
			c.Touch(k.member)
		default:
			c.abandon(now, k)
		}
	}
}

// moveSoon has a route that stands replaced if it leads through a node that is
// to be left.
func (c *Client) moveSoon(now machine.Time, r *route, leaving func(wire.NodeID) bool) {
	nodes := r.path.Nodes()
	crosses := slices.ContainsFunc(nodes[:len(nodes)-1], func(n *directory.Node) bool { return leaving(n.ID) })
	if crosses {
		c.moveOff(now, r)
	}
}

// moveOff has a route replaced soon. One that answers a call is its caller's to replace.
func (c *Client) moveOff(now machine.Time, r *route) {
	if r.replaced || r.circuit.purpose == answering {
		return
	}
	r.near = 0 // it goes, whatever the next one shares
	at := c.moveAt(now, r)
	if at < r.expire.At() {
		r.expire.Value = func(now machine.Time) {
			if r.moves == 0 {
				r.moves = now
			}
			c.renew(now, r)
		}
		c.timers.Set(&r.expire, at)
	}
}

// moveAt draws when a route moves: where that can be had, not while another of
// its circuit does, since they have one place for new ones between them.
func (c *Client) moveAt(now machine.Time, r *route) (at machine.Time) {
	for range movesTried {
		at = now.Add(time.Duration(c.leaves.Uint64N(uint64(leaveWithin))))
		if !slices.ContainsFunc(r.circuit.routes[:], func(o *route) bool {
			return o != nil && o != r && at.Sub(o.expire.At()).Abs() < 2*c.overlap()
		}) {
			break
		}
	}
	return at
}

const movesTried = 16

// Through is how many routes lead through a node.
func (c *Client) Through(id wire.NodeID) (n int) {
	for _, r := range c.routes {
		for _, hop := range r.path.Nodes() {
			if hop.ID == id {
				n++
			}
		}
	}
	return n
}
