package client

import (
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

// ExitOf is the last hop of an isolation key's session.
func (c *Client) ExitOf(isolation string) (id [32]byte) {
	if k := c.circuits[circuitKey{isolation: isolation}]; k != nil {
		id = k.exit.ID
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
