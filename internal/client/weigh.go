package client

import (
	"errors"
	"math"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/wire"
)

// How a client finds hops that drop or hold up what they should pass on
// (docs/protocol.md, section 5.6). On the way back the counters of the hops say
// between which two cells are lost, whether they carry anything or not (weigh). On
// the way out, and of delays, the session's acknowledgements say which route does
// worse than another of the same session (compare). A route that is found is left
// at once.

const (
	// A stretch of a route is this many cells that came back, in at least this time:
	// a third more that were lost stand out of the chance of counters, and a burst
	// that a full queue drops does not.
	stretchCells = 512
	stretchLeast = 5 * time.Second
	// stretchGap is the longest time between two cells that counts, class 5's and a
	// half: a transfer that begins after a rest fills a queue as well, however long the
	// rest with its single cells was.
	stretchGap = 300 * time.Millisecond
	// lossMuch is the share of cells or packets, in percent, that no link loses: the
	// route is left. lossLittle speaks for a route.
	lossMuch, lossLittle = 20, 10
	// compareEvery is how often the routes of a session are compared, and
	// carriedLeast of how many packets of each.
	compareEvery = time.Second
	carriedLeast = 64
	// slowMuch is how much slower a route may be than another of the session in
	// one region, and slowBorder for each border that it crosses.
	slowMuch   = 200 * time.Millisecond
	slowBorder = 200 * time.Millisecond
	// slowSpread times the standard deviation of what mixes hold a cell there and
	// back is no sign of anything.
	slowSpread = 6
)

var (
	errLossy = errors.New("client: a route lost too much")
	errSlow  = errors.New("client: a route was too slow")
)

// stretch is a part of what came back on a route.
type stretch struct {
	last   machine.Time  // cell, or the beginning; 0: it has not begun
	busy   time.Duration // for which cells came
	cells  int
	passed [wire.MaxHops]mix.Passage // when it began
	own    float64                   // share lost between entry and client, in the last stretch; -1: none was
	spoke  machine.Time              // when the route last spoke for its nodes
}

// came notes a cell, and reports whether the stretch is over.
func (s *stretch) came(now machine.Time) bool {
	if gap := now.Sub(s.last); gap <= stretchGap {
		s.busy += gap
	}
	s.last = now
	s.cells++
	return s.cells >= stretchCells && s.busy >= stretchLeast
}

func (s *stretch) begin(now machine.Time, r *mix.Route) {
	own := s.own
	if s.last == 0 {
		own = -1
	}
	*s = stretch{last: now, own: own, spoke: s.spoke}
	for i := range r.Hops() {
		s.passed[i] = r.Passage(i)
	}
}

// weigh looks at a stretch of what came back on a route, and begins the next.
func (c *Client) weigh(now machine.Time, r *route) {
	last, s := r.core.Hops()-1, &r.back
	well := true
	for i := last - 1; i >= 0 && !r.gone; i-- {
		behind, at := r.core.Passage(i+1), r.core.Passage(i)
		sent := behind.Sent(s.passed[i+1])
		made := (at.Cells - s.passed[i].Cells) - (behind.Cells - s.passed[i+1].Cells)
		lost := sent - (at.Sent(s.passed[i]) - float64(made))
		well = well && lost*100 < sent*lossLittle
		if lost*100 >= sent*lossMuch && !c.cfg.Credulous {
			nodes := r.path.Nodes()
			c.blame(now, nodes[i+1].ID, againstBack, blameMost/2)
			c.blame(now, nodes[i].ID, againstBack, blameMost/2)
			c.quit(now, r, errLossy)
		}
	}
	first := r.core.Passage(0)
	sent := first.Sent(s.passed[0])
	s.own = (sent - float64(first.Cells-s.passed[0].Cells)) / sent
	c.weighEntry(now, r)
	if r.gone {
		return
	}
	if well {
		c.clear(now, r, &s.spoke, againstBack, againstChanges, againstRepeats)
	}
	s.begin(now, r.core)
}

// quit gives up a route that does badly, unless its session has no other: then it is
// left when a stretch with another beside it says the same.
func (c *Client) quit(now machine.Time, r *route, why error) {
	if r.circuit.member == nil || r.circuit.ready() >= 2 {
		c.fail(now, r, why)
	}
}

// weighEntry looks at what was lost between entry and client. That may be the
// client's own line, unless the routes of another entry lose little.
func (c *Client) weighEntry(now machine.Time, r *route) {
	if r.gone || r.back.own*100 < lossMuch || c.cfg.Credulous {
		return
	}
	for _, other := range c.allRoutes() {
		if other.entry != r.entry && other.ready && other.back.own >= 0 && other.back.own*100 < lossLittle {
			c.blame(now, r.entry.node, againstBack, blameMost/2)
			c.quit(now, r, errLossy)
			return
		}
	}
}

// carriage is what a session said of one of its routes.
type carriage struct {
	begun machine.Time
	base  stream.Carried // at the beginning
	loss  float64        // share of packets missed in the last stretch
	known machine.Time   // when that was; 0: never
	spoke machine.Time   // when the route last spoke for its nodes
}

// take takes what the session says now, and reports whether a stretch ends with it.
func (o *carriage) take(now machine.Time, said stream.Carried) bool {
	if o.begun == 0 || said.Settled < o.base.Settled {
		o.begun, o.base = now, said
		return false
	}
	settled := said.Settled - o.base.Settled
	if settled < carriedLeast || now.Sub(o.begun) < stretchLeast {
		return false
	}
	o.loss, o.known = float64(said.Missed-o.base.Missed)/float64(settled), now
	o.begun, o.base = now, said
	return true
}

// lossKnown is how long what a route lost is comparable with what another loses.
const lossKnown = time.Minute

// compare compares the routes of a session. The nodes that two of them share are
// no cause of what differs, nor is the client's own line.
func (c *Client) compare(now machine.Time, k *circuit) {
	k.compared = now
	var rtt [stream.MaxPaths]time.Duration
	var ended [stream.MaxPaths]bool
	for i, r := range k.routes {
		if r == nil || !r.joined {
			continue
		}
		if said, ok := k.member.Core.Carried(uint8(i)); ok {
			// The client's own line to the entry is no node's doing.
			rtt[i], ended[i] = max(said.MinRTT-r.entry.trip, 1), r.out.take(now, said)
		}
	}
	for i, r := range k.routes {
		for j, well := range k.routes {
			switch {
			case i == j || r == nil || well == nil || !r.joined || !well.joined || r.gone || c.cfg.Credulous:
			case ended[i] && r.out.loss*100 >= lossMuch && now.Sub(well.out.known) < lossKnown && well.out.known != 0 && well.out.loss*100 < lossLittle:
				c.blameRoute(now, r, well, againstOut)
				c.quit(now, r, errLossy)
			case rtt[i] > 1 && rtt[j] > 1 && rtt[i] > rtt[j]+c.slowAllowed(r):
				c.blameRoute(now, r, well, againstLatency)
				c.quit(now, r, errSlow)
			case ended[i] && r.out.loss*100 < lossLittle:
				c.clear(now, r, &r.out.spoke, againstSilence, againstOut, againstLatency)
			}
		}
	}
}

// slowAllowed is by how much a route's shortest round trip may exceed another's:
// for the way between regions, and for what mixes hold. Delays between regions that
// were measured would say it better.
func (c *Client) slowAllowed(r *route) time.Duration {
	borders := 0
	nodes := r.path.Nodes()
	for i, n := range nodes[1:] {
		if n.Region != nodes[i].Region {
			borders++
		}
	}
	spread := time.Duration(slowSpread * math.Sqrt(2*float64(c.cfg.Level.Mixes())) * float64(c.cfg.Level.MixDelay()))
	return slowMuch + time.Duration(borders)*slowBorder + spread
}
