package directory

import (
	"fmt"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// apart is a network of n nodes in each of two regions, eu and us.
func apart(t *testing.T, n int) *View {
	nodes := testNodes(n, n)
	for i := range nodes {
		nodes[i].Region = []string{"eu", "us"}[i%2]
	}
	return testView(t, nodes)
}

// A node reports the median of each region to which it has links, so that one
// neighbour that holds its answers back, or says that it is where it is not,
// changes nothing. (Control: most of them do.)
func TestANodeReportsMedians(t *testing.T) {
	v := apart(t, 4)
	at := func(eu, us []time.Duration) map[wire.NodeID]time.Duration {
		trips := map[wire.NodeID]time.Duration{{0xff}: time.Minute} // of a node that v does not list
		for i := range v.doc.Nodes {
			from := &eu
			if v.doc.Nodes[i].Region == "us" {
				from = &us
			}
			if len(*from) > 0 {
				trips[v.doc.Nodes[i].ID], *from = (*from)[0]*time.Millisecond, (*from)[1:]
			}
		}
		return trips
	}
	for _, c := range []struct {
		eu, us []time.Duration
		want   []RegionDelay
	}{
		{nil, nil, nil},
		{[]time.Duration{12}, nil, []RegionDelay{{"eu", 10}}},
		{[]time.Duration{13}, []time.Duration{99, 104, 98}, []RegionDelay{{"eu", 15}, {"us", 100}}},
		{nil, []time.Duration{0, 102, 99}, []RegionDelay{{"us", 100}}},
		{nil, []time.Duration{60_000, 102, 99}, []RegionDelay{{"us", 100}}},
		{nil, []time.Duration{60_000, 102}, []RegionDelay{{"us", 100}}},
		{nil, []time.Duration{60_000, 60_000, 99}, []RegionDelay{{"us", DelayMax}}},
	} {
		got := RegionDelays(v, at(c.eu, c.us))
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("eu %v, us %v: %v, want %v", c.eu, c.us, got, c.want)
		}
		if r := (&Report{Network: testNetwork, Delays: got}); r.check() != nil {
			t.Error(r.check())
		}
	}
}

// What a pair of regions is told to be follows from what most nodes report and
// most authorities say: a node that lies, with an authority that does, moves it by
// nothing, in either direction. (Control: where most lie, it moves.)
func TestALiarMovesNoDelay(t *testing.T) {
	const honest = 100
	told := func(nodes, authorities int, lie uint16) (Delay, bool) {
		v := apart(t, 4)
		w := newBoardWorld(t)
		w.view = v
		for a := range 3 {
			o := NewObserver(testNetwork)
			for i, node := range v.doc.Nodes {
				other := []string{"us", "eu"}[i%2]
				millis := uint16(honest)
				if i < nodes {
					millis = lie
				}
				if node.Region == other {
					t.Fatal("a node reports on its own region")
				}
				if err := o.Hear(&Report{Network: testNetwork, Node: node.ID, Time: testWall, Delays: []RegionDelay{{other, millis}}}, testWall); err != nil {
					t.Fatal(err)
				}
			}
			delays := o.delays(v, testWall)
			if a < authorities {
				delays = []Delay{{"eu", "eu", lie}, {"eu", "us", lie}, {"us", "us", lie}}
			}
			w.must(w.says(a, testWall, func(m *Bulletin) { m.Delays = delays }))
		}
		c, _ := w.board.Conditions(v, testWall)
		for _, d := range c.Delays() {
			if d.From == "eu" && d.To == "us" {
				return d, true
			}
		}
		return Delay{}, false
	}
	for _, lie := range []uint16{0, DelayMax} {
		for _, liars := range [][2]int{{0, 0}, {1, 0}, {3, 0}, {0, 1}, {1, 1}, {3, 1}} {
			if d, ok := told(liars[0], liars[1], lie); !ok || d.Millis != honest {
				t.Errorf("%d nodes of 8 and %d authorities of 3 say %d ms: %+v, want %d", liars[0], liars[1], lie, d, honest)
			}
		}
		for _, liars := range [][2]int{{5, 0}, {0, 2}} {
			if d, _ := told(liars[0], liars[1], lie); d.Millis != lie {
				t.Errorf("control: %d nodes and %d authorities lie, and it is %+v", liars[0], liars[1], d)
			}
		}
	}
}

// A pair of regions of which one node alone has spoken is not told, where there
// are others that could; in regions of few nodes half of them are enough.
func TestFewVoicesAreNotTold(t *testing.T) {
	for _, c := range []struct{ nodes, voices int }{{8, 3}, {6, 3}, {4, 2}, {2, 1}} {
		v := apart(t, c.nodes/2)
		o := NewObserver(testNetwork)
		for i, node := range v.doc.Nodes[:c.voices] {
			if n := len(o.delays(v, testWall)); n != 0 {
				t.Errorf("%d of %d nodes have spoken, and it is told", i, c.nodes)
			}
			r := &Report{Network: testNetwork, Node: node.ID, Time: testWall, Delays: []RegionDelay{{[]string{"us", "eu"}[i%2], 100}}}
			if err := o.Hear(r, testWall); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(o.delays(v, testWall)); n != 1 {
			t.Errorf("%d of %d nodes have spoken, and it is not told", c.voices, c.nodes)
		}
	}
}
