package client

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// avoidance is the nodes that the next draws keep out of a place, for a while:
// a wish, that yields where no path is left without them. It is bounded, and
// the oldest give way.
type avoidance []avoided

type avoided struct {
	node  wire.NodeID
	until machine.Time
	why   trace.Reason
}

// avoidedMax bounds one list, so that nobody who can make nodes look bad
// leaves a client with only his own.
const avoidedMax = 8

func (a *avoidance) remove(node wire.NodeID) {
	*a = slices.DeleteFunc(*a, func(o avoided) bool { return o.node == node })
}

func (a *avoidance) add(node wire.NodeID, until machine.Time, why trace.Reason) {
	a.remove(node)
	if len(*a) == avoidedMax {
		*a = slices.Delete(*a, 0, 1)
	}
	*a = append(*a, avoided{node, until, why})
}

func (a *avoidance) has(now machine.Time, node wire.NodeID) bool {
	return slices.ContainsFunc(*a, func(o avoided) bool { return o.node == node && o.until > now })
}

// nodes lists who is to be avoided at now.
func (a *avoidance) nodes(now machine.Time) (out []wire.NodeID) {
	*a = slices.DeleteFunc(*a, func(o avoided) bool { return o.until <= now })
	for _, o := range *a {
		out = append(out, o.node)
	}
	return out
}

// since is how many nodes are to be avoided for so long still.
func (a *avoidance) since(now machine.Time, left time.Duration) (n int) {
	for _, o := range *a {
		if o.until.Sub(now) > left {
			n++
		}
	}
	return n
}

// avoid leaves a node out of draws, and counts why.
func (c *Client) avoid(now machine.Time, list *avoidance, node wire.NodeID, d time.Duration, why trace.Reason) {
	if !list.has(now, node) {
		c.Counts[trace.AvoidedFor(why)]++
		c.cfg.Sink.Emit(now, trace.NodeAvoided, uint64(why), 0)
	}
	list.add(node, now.Add(d), why)
}

// Avoided is a node that a client leaves out of its paths.
type Avoided struct {
	Node wire.NodeID
	Why  trace.Reason
	For  time.Duration // still
}

// avoids reports whether any node is left out of paths, or of their entries.
func (c *Client) avoids(now machine.Time) bool {
	return len(c.mute.nodes(now)) > 0 || len(c.Avoids(now)) > 0
}

// Avoids lists the nodes that are left out of paths at now. It is for the eyes of
// who runs the client: with others' lists it tells of his routes.
func (c *Client) Avoids(now machine.Time) (out []Avoided) {
	for _, list := range []*avoidance{&c.suspects, &c.failing, &c.dead, &c.refusing} {
		for _, o := range *list {
			if o.until > now {
				out = append(out, Avoided{o.node, o.why, o.until.Sub(now)})
			}
		}
	}
	return out
}

const (
	// faultsMax is how many changed cells a route is given: one may be a hop's
	// failing memory, and each costs the cell alone. A route that does not
	// stand yet is given none: its first cell is the answer to its set-up.
	faultsMax = 3
	// suspicion is how long the two hops of a fault are kept out of draws.
	suspicion = 10 * time.Minute
	// suspectsShare bounds the suspects to this part of the directory.
	suspectsShare = 4
)

// faulted takes a cell that was changed on the way back. The layers before the
// fault are authentic and a link changes nothing unseen, so one of the two hops
// beside the fault did it. The route is left when it happens again, and both
// are avoided for a while: who changes cells puts himself on the list with
// every neighbour whom he makes look guilty. A layer that is authentic and
// malformed is its hop's own work, and nobody else is avoided for it
// (docs/protocol.md, section 6.3).
//
// A layer that comes a second time comes from the hop before it: nobody else can
// seal that around it, and it refuses itself what it was sent twice.
func (c *Client) faulted(now machine.Time, r *route, back mix.Back) {
	if back.Kind != mix.BackFault || back.Drop == trace.DropCellReplay && !back.Twice || r.gone || c.cfg.Credulous {
		return // what comes too late is nobody's fault
	}
	if r.faults++; r.ready && r.faults < faultsMax {
		return
	}
	first, last, why := max(back.Position-1, 0), back.Position, trace.ReasonTamper
	switch back.Drop {
	case trace.DropCellMalformed:
		first = last
	case trace.DropCellReplay:
		last, why = first, trace.ReasonReplay
	}
	for _, n := range r.path.Nodes()[first : last+1] {
		c.avoid(now, &c.suspects, n.ID, suspicion, why)
	}
	c.Counts[trace.RoutesTampered]++
	c.cfg.Sink.Emit(now, trace.RouteTampered, uint64(back.Position), uint64(r.faults))
	c.fail(now, r, errTampered)
}

// spoilt takes the word of a hop that a neighbour's cells do not authenticate, or
// came before. A link changes and repeats nothing unseen, so the neighbour does it, or
// the hop lies: each word speaks against both, as a loss between them would, and the
// route is left. A cell that was sent once more for the entry (sendAgain), though the
// first was only late, comes to the first mix twice, and is nobody's fault.
func (c *Client) spoilt(now machine.Time, r *route, back mix.Back) {
	nearer, kind := back.Position-1, againstRepeats
	switch back.Reason {
	case wire.NackChanged:
		kind = againstChanges
	case wire.NackRepeatedBack:
		nearer = back.Position
	}
	nodes := r.path.Nodes()
	if c.cfg.Credulous || r.gone || nearer < 0 || nearer+1 >= len(nodes) {
		return // what the client sends itself, and what nobody sends
	}
	if back.Reason == wire.NackRepeated && nearer == 0 && r.again >= wire.NackRefusals {
		r.again -= wire.NackRefusals
		return
	}
	c.blame(now, nodes[nearer].ID, kind, blameMost/2)
	c.blame(now, nodes[nearer+1].ID, kind, blameMost/2)
	c.Counts[trace.RoutesTampered]++
	c.cfg.Sink.Emit(now, trace.RouteTampered, uint64(back.Position), wire.NackRefusals)
	c.fail(now, r, errTampered)
}

// suspected lists the hops beside recent faults, the newest if they are many.
func (c *Client) suspected(now machine.Time) []wire.NodeID {
	s := c.suspects.nodes(now)
	return s[len(s)-min(len(s), c.view.Len()/suspectsShare):]
}
