package client

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// A Stream node knows one neighbour of each route, and can refuse routes by it: as
// an entry all but those over mixes that it likes, as an exit likewise. Each such
// refusal looks like that mix's failure. If the client believed it, it would avoid
// the mixes that the node dislikes, for its other routes too, and the node would
// steer. So failures are counted by pairs: a node at which set-ups fail over several
// mixes that answer elsewhere, more often than at others, is itself what fails
// (docs/protocol.md, section 5.6).

// tried is what became of a set-up, as a Stream node and its neighbour on the route
// have part in it.
type tried struct {
	gate, mix wire.NodeID
	path      []wire.NodeID // all of it
	stood     bool
	known     bool // that it failed between these two
	at        machine.Time
}

// explained reports whether another node than its gate may be why a set-up failed.
// Where it is known that it failed between the two, that is a mix that does not
// answer elsewhere; else any node by which nothing has stood since.
func (c *Client) explained(f *tried) bool {
	if f.known {
		return !slices.ContainsFunc(c.tries, func(o tried) bool { return o.stood && o.mix == f.mix && o.gate != f.gate })
	}
	return slices.ContainsFunc(f.path, func(n wire.NodeID) bool {
		return n != f.gate && !slices.ContainsFunc(c.tries, func(o tried) bool {
			return o.stood && o.at > f.at && slices.Contains(o.path, n)
		})
	})
}

const (
	// triedMax bounds what is remembered, and triedKeep how long.
	triedMax  = 128
	triedKeep = 10 * time.Minute
	// A node steers when set-ups failed at it over so many mixes that answer
	// elsewhere, and its share of failures is so many times that of the others.
	steerMixes = 3
	steerTimes = 3
)

// learn remembers what became of a route's set-up, and looks whether one of its ends
// steers. Where it is known how far a set-up came, only the end that may have failed
// it counts.
func (c *Client) learn(now machine.Time, r *route, stood bool) {
	nodes := r.path.Nodes()
	last := len(nodes) - 1
	var path []wire.NodeID
	for _, n := range nodes {
		path = append(path, n.ID)
	}
	known := !stood && c.cfg.Level == wire.Fast
	if !known || r.reached <= 1 {
		c.try(tried{path[0], path[1], path, stood, known, now})
	}
	if !known || r.reached == last {
		c.try(tried{path[last], path[last-1], path, stood, known, now})
	}
	if c.cfg.Credulous || !stood && !known {
		return // whose failure it was is told by what stands since
	}
	for _, end := range c.failedAtEnds() {
		if c.steers(now, end) {
			c.shun(now, end, trace.ReasonSteer)
			c.forgive(end)
		}
	}
}

// forgive has what failed by a node's doing speak against nobody else: neither those
// that were blamed for it, nor the Stream node at the other end.
func (c *Client) forgive(doer wire.NodeID) {
	c.tries = slices.DeleteFunc(c.tries, func(t tried) bool {
		his := t.gate == doer || !t.known && slices.Contains(t.path, doer)
		if t.stood || !his {
			return t.gate == doer
		}
		blamed := t.path
		if t.known {
			blamed = []wire.NodeID{t.mix}
		}
		for _, n := range blamed {
			c.failing.remove(n)
			c.blames.clear(n, againstSetups, blameMost)
		}
		return true
	})
}

func (c *Client) try(t tried) {
	if len(c.tries) == triedMax {
		c.tries = slices.Delete(c.tries, 0, 1)
	}
	c.tries = append(c.tries, t)
}

// steers reports whether a node steers.
func (c *Client) steers(now machine.Time, gate wire.NodeID) bool {
	var mixes []wire.NodeID // over which set-ups failed at it
	var own, others struct{ failed, all int }
	c.tries = slices.DeleteFunc(c.tries, func(t tried) bool { return now.Sub(t.at) > triedKeep })
	for i := range c.tries {
		t, sum := &c.tries[i], &others
		if t.gate == gate {
			sum = &own
		}
		if t.stood {
			sum.all++
			continue
		}
		if c.explained(t) {
			continue
		}
		sum.all, sum.failed = sum.all+1, sum.failed+1
		if t.gate == gate && !slices.Contains(mixes, t.mix) {
			mixes = append(mixes, t.mix)
		}
	}
	return len(mixes) >= steerMixes && own.failed*others.all > steerTimes*others.failed*own.all
}

// failedAtEnds lists the Stream nodes of set-ups that failed.
func (c *Client) failedAtEnds() (ends []wire.NodeID) {
	for _, t := range c.tries {
		if !t.stood && !slices.Contains(ends, t.gate) {
			ends = append(ends, t.gate)
		}
	}
	return ends
}
