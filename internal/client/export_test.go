package client

import (
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Answering is how many routes of the services that the client offers answer
// calls, and Known how many sessions their acceptors' callers have.
func (c *Client) Answering() (routes, sessions int) {
	for _, h := range c.hosted {
		routes += h.calls
		sessions += len(h.sessions)
	}
	return routes, sessions
}

// Unspoken is how many routes answer a call on which no session has begun.
func (c *Client) Unspoken() (n int) {
	for _, r := range c.routes {
		if r.circuit.purpose == answering && r.circuit.member == nil {
			n++
		}
	}
	return n
}

// Held is the number of routes whose set-up was sent.
func (c *Client) Held() int { return len(c.routes) }

// Keys is the number of isolation keys in use, that of who sets none aside.
func (c *Client) Keys() (n int) {
	for key := range c.circuits {
		if !key.lookUp() && key != (circuitKey{}) {
			n++
		}
	}
	return n
}

// Established reports whether an isolation key's session is.
func (c *Client) Established(isolation string) bool {
	k := c.circuits[circuitKey{isolation: isolation}]
	return k != nil && k.member != nil && k.member.Core.Established()
}

// ExitOf is the last hop of an isolation key's session.
func (c *Client) ExitOf(isolation string) (id [32]byte) {
	if k := c.circuits[circuitKey{isolation: isolation}]; k != nil {
		id = k.exit.ID
	}
	return id
}

// ExitAhead is the last hop of what was built ahead first.
func (c *Client) ExitAhead() (id [32]byte) {
	if len(c.ahead) > 0 && c.ahead[0].exit != nil {
		id = c.ahead[0].exit.ID
	}
	return id
}

// ExitsGone is how many exits were given up of late.
func (c *Client) ExitsGone() int { return len(c.dead) }

// LastMixes are the mixes before the exit of an isolation key's session.
func (c *Client) LastMixes(isolation string) (ids [][32]byte) {
	for _, r := range c.circuits[circuitKey{isolation: isolation}].routes {
		if r != nil && r.joined {
			nodes := r.path.Nodes()
			ids = append(ids, nodes[len(nodes)-2].ID)
		}
	}
	return ids
}

// ActiveMix is the mix before the exit on the route by which an isolation key's
// session sends.
func (c *Client) ActiveMix(isolation string) wire.NodeID {
	k := c.circuits[circuitKey{isolation: isolation}]
	nodes := k.routes[k.member.Core.ActivePath()].path.Nodes()
	return nodes[len(nodes)-2].ID
}

// Suspects are the nodes beside faults of late.
func (c *Client) Suspects(now machine.Time) map[wire.NodeID]bool {
	out := map[wire.NodeID]bool{}
	for _, n := range c.suspected(now) {
		out[n] = true
	}
	return out
}

// Fault has a route of an isolation key bring cells with a fault until it is
// left, and returns the hops that it had.
func (c *Client) Fault(now machine.Time, isolation string, position int, drop trace.Counter) (path []wire.NodeID) {
	for _, r := range c.circuits[circuitKey{isolation: isolation}].routes {
		if r == nil || !r.ready {
			continue
		}
		for _, n := range r.path.Nodes() {
			path = append(path, n.ID)
		}
		for !r.gone {
			c.faulted(now, r, mix.Back{Kind: mix.BackFault, Position: position, Drop: drop})
		}
		return path
	}
	return nil
}

// Told has the route that an isolation key's session uses bring the word of the hop of a
// position, after so many cells of it were sent once more, and returns its hops.
func (c *Client) Told(now machine.Time, isolation string, position int, why wire.NackReason, again int) (path []wire.NodeID) {
	k := c.circuits[circuitKey{isolation: isolation}]
	r := k.routes[k.member.Core.ActivePath()]
	r.again = again
	c.nacked(now, r, mix.Back{Kind: mix.BackNack, Position: position, Reason: why})
	for _, n := range r.path.Nodes() {
		path = append(path, n.ID)
	}
	return path
}

// DropRoute gives up the route that an isolation key's session uses.
func (c *Client) DropRoute(now machine.Time, isolation string) {
	k := c.circuits[circuitKey{isolation: isolation}]
	c.fail(now, k.routes[k.member.Core.ActivePath()], errSilent)
}

// Looped begins a doubt of the exit of an isolation key's session, has loops
// come back by the mixes before it, after a time, and returns how long the exit
// is given from the beginning; 0 if it is not given up.
func (c *Client) Looped(now machine.Time, isolation string, after time.Duration, loops ...int) time.Duration {
	k := c.circuits[circuitKey{isolation: isolation}]
	defer k.endDoubt(c)
	c.doubtExit(now, k)
	k.doubt.sent = []machine.Time{now}
	for i, n := range loops {
		r := k.routes[i]
		for range n {
			c.looped(now.Add(after), r, mix.Back{Kind: mix.BackLoop, Position: r.core.Hops() - 2, Echo: k.doubt.base})
		}
	}
	return max(k.doubt.verdict.Sub(now), 0)
}

// Failures is how many set-ups failed in a row.
func (c *Client) Failures() int { return c.failures }

// LoopsEnough is how many loops give an exit up.
const LoopsEnough = loopsEnough

// Entries is how many entries the client has links to.
func (c *Client) Entries() int { return len(c.entries) }

// Failing is how many nodes are avoided because set-ups failed at them.
func (c *Client) Failing(now machine.Time) int { return len(c.failing.nodes(now)) }

// DrawExit draws a path and returns its exit.
func (c *Client) DrawExit(t interface{ Fatal(...any) }, level wire.Level) *directory.Node {
	path, err := c.weighed(directory.Request{Level: level})
	if err != nil {
		t.Fatal(err)
	}
	return path.Exit()
}

// Routes is how many routes stand.
func (c *Client) Routes() (n int) {
	for _, r := range c.routes {
		if r.ready {
			n++
		}
	}
	return n
}

// Blamed is what speaks against a node, of all kinds together.
func (c *Client) Blamed(id wire.NodeID) (weight int) {
	for _, b := range c.blames {
		if b.node == id {
			weight += b.weight
		}
	}
	return weight
}

// Standing calls each with the number, the entry and the first mix of every route
// that stands.
func (c *Client) Standing(each func(serial uint64, entry, first wire.NodeID)) {
	for _, r := range c.allRoutes() {
		if n := r.path.Nodes(); r.ready {
			each(r.serial, n[0].ID, n[1].ID)
		}
	}
}

// ExitInHand is the exit of a route ahead whose set-up is under way, or zero.
func (c *Client) ExitInHand() (id wire.NodeID) {
	for _, k := range c.ahead {
		for _, r := range k.routes {
			if r != nil && !r.ready && r.sent != 0 {
				return k.exit.ID
			}
		}
	}
	return id
}

// Frame has set-ups fail at a node over mixes that answer elsewhere: the next that
// stands anywhere finds it out.
func (c *Client) Frame(now machine.Time, node wire.NodeID) {
	for i := range steerMixes {
		mix := wire.NodeID{1, byte(i)}
		c.try(tried{node, mix, []wire.NodeID{node, mix}, false, true, now})
		c.try(tried{wire.NodeID{2}, mix, []wire.NodeID{{2}, mix}, true, true, now})
	}
}

// QuitAll has a client quit all routes of a session, one after the other.
func (c *Client) QuitAll(now machine.Time, isolation string) {
	k := c.circuits[circuitKey{isolation: isolation}]
	for _, r := range k.routes {
		if r != nil && r.joined {
			c.quit(now, r, errLossy)
		}
	}
}

// Paths are the nodes of the routes by which an isolation key's session may send,
// the active one first.
func (c *Client) Paths(isolation string) (paths [][]wire.NodeID) {
	k := c.circuits[circuitKey{isolation: isolation}]
	for i := range k.routes {
		r := k.routes[(int(k.member.Core.ActivePath())+i)%len(k.routes)]
		if r == nil || !r.joined {
			continue
		}
		var path []wire.NodeID
		for _, n := range r.path.Nodes() {
			path = append(path, n.ID)
		}
		paths = append(paths, path)
	}
	return paths
}
