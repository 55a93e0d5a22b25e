package daemon

import (
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/wire"
)

// TestPictureOfAFleet: a control process shows every node that the directory lists, what
// those that report do, and that the others are not heard; and nothing of anybody's use.
func TestPictureOfAFleet(t *testing.T) {
	l, _ := controlled(t)
	c := l.Control
	allWork(t, l)
	m := wire.Telemetry{StandsFor: 10, Span: 1000, Capacity: localCapacity, Came: 300, Sent: 300, Millis: time.Now().Add(time.Minute).UnixMilli()} // after its own
	if err := c.rates.Take(time.Now(), l.Nodes[0].id, m.Append(nil)); err != nil {
		t.Fatal(err)
	}
	p := c.Picture()
	if p.Own != nil || p.Network != localName || p.Fleet.Listed != 5 || len(p.Nodes) != 5 || p.Fleet.Heard < 1 || p.Directory == nil || p.Directory.Nodes != 5 ||
		p.Directory.Signatures < 2 || len(p.Directory.Recent) == 0 || p.Directory.Hash != p.Directory.Recent[0].Hash || p.Control == nil {
		t.Errorf("the picture is %+v", p)
	}
	at := slices.IndexFunc(p.Nodes, func(n telemetry.NodePicture) bool { return n.ID == hex.EncodeToString(l.Nodes[0].id[:]) })
	if at < 0 {
		t.Fatal("a node is missing")
	}
	if n := p.Nodes[at]; n.Unheard || !n.Stream || n.Sessions >= 0 || n.Name != n.ID[:nameLeast] || n.Operator != "operator-0" || n.Strain <= 0 {
		t.Errorf("the node that reports: %+v", n)
	}
	for _, n := range p.Nodes {
		if n.Unheard && (n.DatagramsIn > 0 || n.Trouble != "") {
			t.Errorf("of a node that has not reported yet: %+v", n)
		}
	}

	if p.Fleet.In <= 0 {
		t.Errorf("of 300 datagrams a second %v are carried", p.Fleet.In)
	}

	silent := func(others int, after time.Duration) (said []string) {
		c.cfg.Others = others
		q := telemetry.Picture{Fleet: &telemetry.FleetPicture{}}
		c.fleet(&q, c.known.view.Load(), nil, time.Now().Add(after))
		for _, part := range q.Parts {
			said = append(said, part.Trouble)
		}
		return said
	}
	if said := silent(0, 2*telemetry.HeardFor); len(said) != 5 || said[0] != nothingHeard {
		t.Errorf("of nodes that are silent: %q", said)
	}
	if said := silent(0, 0); len(said) != 0 {
		t.Errorf("of nodes that have just been listed: %q", said)
	}
	if said := silent(2, 2*telemetry.HeardFor); len(said) != 0 {
		t.Errorf("of nodes that may report elsewhere: %q", said)
	}
}

// allWork waits until all nodes have said that they work fully.
func allWork(t *testing.T, l *Local) {
	t.Helper()
	waited, told := map[string]bool{}, make(chan struct{})
	for _, n := range l.Nodes {
		waited[hex.EncodeToString(n.id[:])] = true
	}
	hear := func(n NodeSettings) {
		if waited[n.Node] && !n.Failing {
			if delete(waited, n.Node); len(waited) == 0 {
				close(told)
			}
		}
	}
	d := l.Control.desk
	d.mu.Lock()
	for _, n := range d.nodes {
		hear(*n)
	}
	d.heard = hear
	d.mu.Unlock()
	select {
	case <-told:
	case <-time.After(patience):
		t.Fatalf("of %d nodes it is not heard that they work fully", len(waited))
	}
}

// TestShortNames tell all nodes apart, by no more digits than that takes.
func TestShortNames(t *testing.T) {
	a, b, c := &directory.Node{ID: wire.NodeID{1, 2, 3, 4, 5}}, &directory.Node{ID: wire.NodeID{1, 2, 3, 4, 6}}, &directory.Node{ID: wire.NodeID{9}}
	if names := shortNames([]*directory.Node{a, c}); !slices.Equal(names, []string{"01020304", "09000000"}) {
		t.Errorf("%q", names)
	}
	if names := shortNames([]*directory.Node{a, b}); !slices.Equal(names, []string{"0102030405000000", "0102030406000000"}) {
		t.Errorf("%q", names)
	}
}

// TestWorstFirst: those in trouble are shown of more nodes than are.
func TestWorstFirst(t *testing.T) {
	nodes := []telemetry.NodePicture{{Name: "fine"}, {Name: "leaves", Draining: true}, {Name: "strained", Overloaded: true}, {Name: "dead", Trouble: nothingHeard}}
	slices.SortStableFunc(nodes, worstFirst)
	for i, name := range []string{"dead", "strained", "leaves", "fine"} {
		if nodes[i].Name != name {
			t.Errorf("place %d: %s", i, nodes[i].Name)
		}
	}
}
