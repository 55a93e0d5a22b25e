package directory

import (
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// Observer makes an authority's bulletins of what nodes report, of how
// regularly they do, and of what its operator says. It belongs to one
// goroutine.
type Observer struct {
	network    string
	nodes      map[wire.NodeID]*observed
	distrusted map[wire.NodeID]bool
	round      uint64 // the last for which scores were moved
}

// observed is what is known of one node that has reported.
type observed struct {
	Report
	at         int64 // second, by our clock, at which it came
	score      uint8
	overloaded bool
	high, low  int // reports in a row above the one bound, below the other
}

// Overload has hysteresis, so that a node whose load moves about a bound does
// not come and go: it begins after overloadAfter reports in a row at loadHigh
// or queueHigh and above, and ends after recoverAfter at both loadLow and
// queueLow or below.
const (
	loadHigh, loadLow   = 9, 7
	queueHigh, queueLow = 50, 20 // ms
	overloadAfter       = 2
	recoverAfter        = 3
)

// A load or a queue below these is left unsaid: it makes no difference to who
// draws paths, and most nodes of a network are so.
const (
	loadTold  = 5
	queueTold = 10 // ms
)

// The score of a node falls with each round without a report and rises, more
// slowly, with each that has one: three rounds of silence bring it below
// DefaultScoreMin, and three with reports above it again.
const (
	scoreFall   = 20
	scoreRise   = 10
	reportLate  = int64(RoundLength/time.Second) * 3 / 2
	reportsKept = int64(BulletinAge / time.Second)
)

// NewObserver returns an observer of a network that has heard of no node.
func NewObserver(network string) *Observer {
	return &Observer{network: network, nodes: map[wire.NodeID]*observed{}}
}

// Hear takes a verified report. wall is the time in seconds since 1970.
func (o *Observer) Hear(r *Report, wall int64) error {
	n := o.nodes[r.Node]
	if n == nil {
		n = &observed{score: ScoreMax}
		o.nodes[r.Node] = n
	}
	if r.Time <= n.Time {
		return fmt.Errorf("%w: node %x reported at %d after %d", ErrStale, r.Node[:4], r.Time, n.Time)
	}
	n.Report, n.at = *r, wall
	n.high, n.low = n.high+1, n.low+1
	if r.Load < loadHigh && r.Queue < queueHigh {
		n.high = 0
	}
	if r.Load > loadLow || r.Queue > queueLow {
		n.low = 0
	}
	switch {
	case n.high >= overloadAfter:
		n.overloaded = true
	case n.low >= recoverAfter:
		n.overloaded = false
	}
	return nil
}

// Distrust has bulletins say of these nodes, and no others, that they are not
// to be used.
func (o *Observer) Distrust(nodes []wire.NodeID) {
	o.distrusted = map[wire.NodeID]bool{}
	for _, id := range nodes {
		o.distrusted[id] = true
	}
}

// Bulletin returns what is to be said in the round of wall of the nodes of v.
// Nodes that are not in v are forgotten.
func (o *Observer) Bulletin(v *View, wall int64) *Bulletin {
	b := &Bulletin{Network: o.network, Document: v.doc.Hash(), Round: RoundAt(wall)}
	o.moveScores(v, wall)
	for _, node := range v.doc.Nodes {
		if s := o.state(node.ID, wall); s != quiet {
			b.Nodes = append(b.Nodes, NodeState{Node: ShortOf(node.ID), State: s})
		}
	}
	b.Delays = o.delays(v, wall)
	return b
}

func (o *Observer) moveScores(v *View, wall int64) {
	round := RoundAt(wall)
	if round <= o.round {
		return
	}
	o.round = round
	for id, n := range o.nodes {
		if _, listed := v.find(id); !listed && wall-n.at > reportsKept {
			delete(o.nodes, id)
			continue
		}
		if wall-n.at < reportLate {
			n.score = min(n.score+scoreRise, ScoreMax)
		} else {
			n.score -= min(n.score, scoreFall)
		}
	}
}

func (o *Observer) state(id wire.NodeID, wall int64) State {
	s := quiet
	if n := o.nodes[id]; n != nil {
		s.Score = n.score
		if n.Draining {
			s.Flags |= Draining
		}
		if wall-n.at <= reportsKept {
			if n.Load >= loadTold {
				s.Load = n.Load
			}
			if n.Queue >= queueTold {
				s.Queue = n.Queue
			}
			if n.overloaded {
				s.Flags |= Overloaded
			}
		}
	}
	if o.distrusted[id] {
		s.Flags |= Distrusted
	}
	return s
}
