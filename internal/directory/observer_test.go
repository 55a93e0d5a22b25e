package directory

import (
	"errors"
	"testing"

	"github.com/nyxnet/nyx/internal/wire"
)

// watch has a node report for as many rounds as there are loads, and returns in
// which of them the bulletin says that it is overloaded.
func watch(t *testing.T, o *Observer, v *View, node wire.NodeID, from int64, loads ...uint8) (over []bool) {
	t.Helper()
	for i, load := range loads {
		at := from + int64(i)*10
		if err := o.Hear(&Report{Network: testNetwork, Node: node, Time: at, Load: load}, at); err != nil {
			t.Fatal(err)
		}
		over = append(over, stateOf(o, v, node, at).Flags&Overloaded != 0)
	}
	return over
}

func stateOf(o *Observer, v *View, node wire.NodeID, at int64) State {
	for _, n := range o.Bulletin(v, at).Nodes {
		if n.Node == ShortOf(node) {
			return n.State
		}
	}
	return quiet
}

// Overload begins with the second report above the one bound and ends with the
// third below the other: a load that swings between them changes nothing.
func TestOverloadHasHysteresis(t *testing.T) {
	v := testView(t, testNodes(1, 1))
	o := NewObserver(testNetwork)
	loads := []uint8{9, 8, 9, 10, 8, 9, 6, 8, 6, 6, 8, 6, 6, 6, 8}
	want := []bool{false, false, false, true, true, true, true, true, true, true, true, true, true, false, false}
	for i, over := range watch(t, o, v, id(1), testWall, loads...) {
		if over != want[i] {
			t.Errorf("report %d (load %d): overloaded %v", i, loads[i], over)
		}
	}
}

// A node that falls silent loses its score within three rounds, and gets it back
// by reporting again; one that never reported keeps it.
func TestSilenceCostsTheScore(t *testing.T) {
	v := testView(t, testNodes(1, 2))
	o := NewObserver(testNetwork)
	watch(t, o, v, id(1), testWall, 0, 0)
	last := testWall + 10
	var scores []uint8
	for i := int64(1); i <= 4; i++ {
		scores = append(scores, stateOf(o, v, id(1), last+10*i).Score)
	}
	if scores[0] < 100 || scores[2] < DefaultScoreMin || scores[3] >= DefaultScoreMin {
		t.Errorf("scores in silence: %v", scores)
	}
	watch(t, o, v, id(1), last+60, 0, 0, 0)
	if s := stateOf(o, v, id(1), last+80).Score; s < DefaultScoreMin {
		t.Errorf("score %d after three reports", s)
	}
	if s := stateOf(o, v, id(2), last+80); s != quiet {
		t.Errorf("of a node that never reported: %+v", s)
	}
}

func TestObserverTellsWhatNodesSay(t *testing.T) {
	nodes := testNodes(1, 3)
	nodes[0].Region, nodes[1].Region = "ap", "us"
	v := testView(t, nodes) // regions ap, eu, us
	o := NewObserver(testNetwork)
	hear := func(node int, r Report) error {
		r.Network, r.Node, r.Time = testNetwork, id(node), testWall
		return o.Hear(&r, testWall)
	}
	for node, r := range map[int]Report{
		0: {Delays: []RegionDelay{{"eu", 200}, {"us", 90}}, Load: loadTold - 1, Queue: queueTold - QueueStep},
		1: {Delays: []RegionDelay{{"ap", 110}, {"nowhere", 5}}, Draining: true},
		2: {Delays: []RegionDelay{{"ap", 220}, {"eu", 15}}, Load: 5, Queue: 10},
		3: {Delays: []RegionDelay{{"ap", 9000}}},
	} {
		if err := hear(node, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := hear(2, Report{}); !errors.Is(err, ErrStale) {
		t.Errorf("the same second again: %v", err)
	}
	o.Distrust([]wire.NodeID{id(3)})
	b := o.Bulletin(v, testWall)
	if _, err := SignBulletin(testSigner(t, 1000), b); err != nil {
		t.Error(err)
	}
	want := []Delay{{"ap", "eu", 220}, {"ap", "us", 110}, {"eu", "eu", 15}}
	if len(b.Delays) != 3 || b.Delays[0] != want[0] || b.Delays[1] != want[1] || b.Delays[2] != want[2] {
		t.Errorf("delays %v, want %v", b.Delays, want)
	}
	for i, want := range map[int]State{
		0: quiet, 1: {Flags: Draining, Score: ScoreMax}, 2: {Score: ScoreMax, Load: 5, Queue: 10}, 3: {Flags: Distrusted, Score: ScoreMax},
	} {
		if s := stateOf(o, v, id(i), testWall); s != want {
			t.Errorf("node %d: %+v, want %+v", i, s, want)
		}
	}
	// What was reported a minute ago tells nothing any more, but its absence.
	if s := stateOf(o, v, id(2), testWall+70); s.Load != 0 || s.Queue != 0 {
		t.Errorf("after 70 s: %+v", s)
	}
}
