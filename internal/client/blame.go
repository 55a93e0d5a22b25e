package client

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// What a client knows of a fault is between which hops it is, or on which route;
// who did it shows when it happens again. The law (docs/protocol.md, section
// 5.6): a fault speaks against each node where it may be, with half of what it
// takes to leave a node out; a route that does well speaks for each of its nodes
// with half of that. He who does wrong is beside each of his faults; an honest
// node is on other routes most of the time, and they clear it. Faults of one kind
// are cleared by what shows that kind only: a set-up that stands says nothing of
// cells that are lost later.

// against is a kind of evidence.
type against uint8

const (
	againstSetups  against = iota // set-ups were not answered
	againstBack                   // cells were lost on the way back
	againstSilence                // a session heard nothing by its route while another answered
	againstOut                    // packets were lost on the way out
	againstLatency                // the route is slower than others
	againstChanges                // a hop had cells that do not authenticate
	againstRepeats                // a hop had cells twice
)

// kindOf is what is against a node that is left out for it.
var kindOf = [...]struct {
	why  trace.Reason
	keep time.Duration // how long one fault is remembered
}{
	againstSetups:  {trace.ReasonSetup, time.Minute},
	againstBack:    {trace.ReasonDrop, suspicion},
	againstSilence: {trace.ReasonSilent, suspicion},
	againstOut:     {trace.ReasonDrop, suspicion},
	againstLatency: {trace.ReasonDelay, suspicion},
	againstChanges: {trace.ReasonTamper, suspicion},
	againstRepeats: {trace.ReasonReplay, suspicion},
}

const (
	// blameMost is the weight with which a node is left out of draws.
	blameMost = 4
	// failingShun is for how long it is for set-ups; suspicion for the rest.
	failingShun = 5 * time.Minute
	// blamesMax bounds the nodes that are remembered: the paths of some failures.
	blamesMax = 32
)

// ledger is what speaks against nodes and is not enough yet. It is bounded, and
// the oldest give way.
type ledger []blamed

type blamed struct {
	node   wire.NodeID
	kind   against
	weight int
	at     machine.Time
}

// charge adds weight, and reports whether it is enough to leave the node out; then
// nothing is kept of it.
func (l *ledger) charge(now machine.Time, node wire.NodeID, kind against, weight int) (enough bool) {
	*l = slices.DeleteFunc(*l, func(b blamed) bool {
		old := now.Sub(b.at) > kindOf[b.kind].keep
		same := b.node == node && b.kind == kind
		if same && !old {
			weight += b.weight
		}
		return same || old
	})
	if weight >= blameMost {
		return true
	}
	if len(*l) == blamesMax {
		*l = slices.Delete(*l, 0, 1)
	}
	*l = append(*l, blamed{node, kind, weight, now})
	return false
}

// clear takes weight off.
func (l *ledger) clear(node wire.NodeID, kind against, weight int) {
	for i := range *l {
		if b := &(*l)[i]; b.node == node && b.kind == kind {
			b.weight -= weight
		}
	}
	*l = slices.DeleteFunc(*l, func(b blamed) bool { return b.weight <= 0 })
}

// blame charges a node, and leaves it out of draws when it is enough.
func (c *Client) blame(now machine.Time, node wire.NodeID, kind against, weight int) {
	if !c.blames.charge(now, node, kind, weight) {
		return
	}
	if kind == againstSetups {
		c.avoid(now, &c.failing, node, failingShun, trace.ReasonSetup)
		return
	}
	c.shun(now, node, kindOf[kind].why)
}

// shun leaves a node that was found out. Routes and circuits go by a timer and not
// here: one of them may be in hand.
func (c *Client) shun(now machine.Time, node wire.NodeID, why trace.Reason) {
	c.avoid(now, &c.suspects, node, suspicion, why)
	c.shunned = append(c.shunned, node)
	c.shunning.Value = func(now machine.Time) {
		left := c.shunned
		c.shunned = nil
		c.moveFrom(now, func(n wire.NodeID) bool { return slices.Contains(left, n) })
	}
	c.timers.Set(&c.shunning, now)
}

// blameRoute charges the nodes of a route that another, which does well, does not
// share.
func (c *Client) blameRoute(now machine.Time, r, well *route, kind against) {
	for _, n := range r.path.Nodes() {
		if !well.crosses(n.ID) {
			c.blame(now, n.ID, kind, blameMost/2)
		}
	}
}

// crosses reports whether a route leads through a node.
func (r *route) crosses(id wire.NodeID) bool {
	return slices.ContainsFunc(r.path.Nodes(), func(n *directory.Node) bool { return n.ID == id })
}

// clearEvery is how often one route may speak for its nodes: else one who does
// wrong on some routes would be cleared by the others as fast as cells come.
const clearEvery = time.Minute

// clear lets a route that does well speak for its nodes.
func (c *Client) clear(now machine.Time, r *route, spoke *machine.Time, kinds ...against) {
	if *spoke != 0 && now.Sub(*spoke) < clearEvery {
		return
	}
	*spoke = now
	for _, n := range r.path.Nodes() {
		for _, kind := range kinds {
			c.blames.clear(n.ID, kind, blameMost/4)
		}
	}
}

// silenced gives up a route of which the session heard nothing while another
// answered.
func (c *Client) silenced(now machine.Time, r *route) {
	for _, well := range r.circuit.routes {
		if !c.cfg.Credulous && well != nil && well != r && well.ready {
			c.blameRoute(now, r, well, againstSilence)
			break
		}
	}
	c.fail(now, r, errSilent)
}
