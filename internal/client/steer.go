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
	stood     bool
	at        machine.Time
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
	known := !stood && c.cfg.Level == wire.Fast
	if !known || r.reached <= 1 {
		c.try(tried{nodes[0].ID, nodes[1].ID, stood, now})
	}
	if !known || r.reached == last {
		c.try(tried{nodes[last].ID, nodes[last-1].ID, stood, now})
	}
	if stood || c.cfg.Credulous {
		return
	}
	for _, end := range []wire.NodeID{nodes[0].ID, nodes[last].ID} {
		if mixes, steers := c.steers(now, end); steers {
			c.shun(now, end, trace.ReasonSteer)
			c.tries = slices.DeleteFunc(c.tries, func(t tried) bool { return t.gate == end })
			for _, m := range mixes { // they had it from him
				c.failing.remove(m)
				c.blames.clear(m, againstSetups, blameMost)
			}
		}
	}
}

func (c *Client) try(t tried) {
	if len(c.tries) == triedMax {
		c.tries = slices.Delete(c.tries, 0, 1)
	}
	c.tries = append(c.tries, t)
}

// steers reports whether a node steers, and over which mixes set-ups failed at it.
func (c *Client) steers(now machine.Time, gate wire.NodeID) (mixes []wire.NodeID, yes bool) {
	var own, others struct{ failed, all int }
	answer := 0 // of the mixes, elsewhere
	c.tries = slices.DeleteFunc(c.tries, func(t tried) bool { return now.Sub(t.at) > triedKeep })
	for _, t := range c.tries {
		sum := &others
		if t.gate == gate {
			sum = &own
		}
		sum.all++
		if t.stood {
			continue
		}
		if sum.failed++; t.gate != gate || slices.Contains(mixes, t.mix) {
			continue
		}
		mixes = append(mixes, t.mix)
		if slices.ContainsFunc(c.tries, func(o tried) bool { return o.stood && o.mix == t.mix && o.gate != gate }) {
			answer++
		}
	}
	return mixes, answer >= steerMixes && own.failed*others.all > steerTimes*others.failed*own.all
}
