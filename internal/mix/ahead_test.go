package mix

import (
	"bytes"
	"testing"

	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// hotNet is a route whose hops are in use, and cells that wait before hop 1.
func hotNet(t testing.TB) (n *testNet, r *Route, cells [][]byte) {
	n = newNet(t, 3, Limits{})
	r = n.open(wire.Fast, nil, 1)
	for i := range uint64(2 * beatCells) {
		n.send(r, packetOf(i))
		n.end().SendBack(n.now, n.lastEnd(), packetOf(i))
	}
	n.run()
	n.end().deliveries = n.end().deliveries[:1] // that of the set-up
	n.tap = func(at int, out bool, frame []byte) bool {
		if at != 1 || !out {
			return true
		}
		cells = append(cells, append([]byte(nil), frame...))
		return false
	}
	for i := range uint64(8) {
		n.send(r, packetOf(100+i))
	}
	n.run()
	n.tap = nil
	return n, r, cells
}

// Cells whose layers were opened in any order go on in the order in which they
// are handled, with what they hold, and a frame too many or too few is none.
func TestPeeledAheadGoOnInTurn(t *testing.T) {
	n, _, cells := hotNet(t)
	hop := n.nodes[1]
	cells[5][600] ^= 1
	cells = append(cells, append([]byte(nil), cells[2]...))
	before := hop.counts
	results := make([]Peeled, len(cells))
	for i := range results {
		hop.Prepare(&results[i])
	}
	for i := range cells {
		i = len(cells) - 1 - i
		hop.Peel(&results[i], toward(1), cells[i])
		if results[i].route == nil {
			t.Errorf("cell %d was left alone", i)
		}
	}
	if hop.counts != before {
		t.Error("peeling changed a counter")
	}
	for i, c := range cells {
		hop.HandlePeeled(n.now, toward(1), c, &results[i])
	}
	n.run()
	if got := len(n.end().deliveries) - 1; got != 7 {
		t.Fatalf("%d cells arrived", got)
	}
	for i, want := range []uint64{100, 101, 102, 103, 104, 106, 107} {
		if !bytes.Equal(n.end().deliveries[1+i].Packet, packetOf(want)) {
			t.Errorf("packet %d is not the %dth to arrive", want, i)
		}
	}
	n.wantCount(1, trace.DropCellAuth, 1)
	n.wantCount(1, trace.DropCellReplay, 1)
	for i := range results {
		hop.Release(&results[i])
	}
	n.settled()
}

// A result that was not used is not another cell's.
func TestPeeledIsOfOneCell(t *testing.T) {
	n, _, cells := hotNet(t)
	hop := n.nodes[1]
	var p Peeled
	hop.Prepare(&p)
	hop.Peel(&p, toward(1), cells[0])
	hop.Prepare(&p)
	hop.HandlePeeled(n.now, toward(1), cells[1], &p)
	n.run()
	if d := n.end().deliveries; len(d) != 2 || !bytes.Equal(d[1].Packet, packetOf(101)) {
		t.Errorf("%d packets arrived, or another than was handled", len(d))
	}
	hop.Release(&p)
	n.settled()
}

// A client that opens layers ahead takes and refuses the same cells.
func TestClientPeelsAhead(t *testing.T) {
	n, r, _ := hotNet(t)
	for _, f := range n.home {
		r.Open(n.now, f)
	}
	n.home = nil
	for i := range uint64(6) {
		n.end().SendBack(n.now, n.lastEnd(), packetOf(200+i))
	}
	n.run()
	n.home[1][400] ^= 1
	n.home = append(n.home, append([]byte(nil), n.home[3]...))
	results := make([]PeeledBack, len(n.home))
	for i := range n.home {
		i = len(n.home) - 1 - i
		r.Peel(&results[i], n.home[i])
		if want := len(r.hops); i != 1 && results[i].layers != want {
			t.Errorf("%d layers of cell %d were opened, want %d", results[i].layers, i, want)
		}
	}
	before := *r.Counts
	for i, f := range n.home {
		b, ok := r.OpenPeeled(n.now, f, &results[i])
		if ok != (i != 1 && i != 6) {
			t.Errorf("cell %d taken: %v", i, ok)
		}
		if ok && !bytes.Equal(b.Packet, packetOf(200+uint64(i))) {
			t.Errorf("cell %d holds another packet", i)
		}
	}
	for c, want := range map[trace.Counter]uint64{trace.DropCellAuth: 1, trace.DropCellReplay: 1} {
		if got := r.Counts[c] - before[c]; got != want {
			t.Errorf("%v is %d, want %d", c, got, want)
		}
	}
}

func TestPeelAllocatesNothing(t *testing.T) {
	n, _, cells := hotNet(t)
	var p Peeled
	if allocs := testing.AllocsPerRun(100, func() {
		n.nodes[1].Prepare(&p)
		n.nodes[1].Peel(&p, toward(1), cells[0])
		if p.plain == nil {
			t.Fatal("not opened")
		}
	}); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}
