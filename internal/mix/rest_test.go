package mix

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// The heartbeats of a session leave a route at rest, where a cell that comes
// twice is refused as on one in use.
func TestHeartbeatsLeaveARouteAtRest(t *testing.T) {
	n := newNet(t, 5, Limits{})
	r := n.open(wire.Fast, nil, 91)
	end := n.lastEnd()
	for round := range uint64(6) {
		n.advance(20 * time.Second)
		delivered, replays := n.end().counts[trace.CellDelivered], n.nodes[2].counts[trace.DropCellReplay]
		for range beatCells / 2 {
			out := n.caught(2, true, func() { n.send(r, packetOf(round)) })
			n.carry(2, true, slices.Clone(out))
			n.run()
			back := n.caught(3, false, func() { n.end().SendBack(n.now, end, packetOf(round)); n.run() })
			n.carry(3, false, slices.Clone(back))
			n.run()
			n.carry(2, true, slices.Clone(out))
			n.carry(3, false, slices.Clone(back))
			n.run()
		}
		if got := n.end().counts[trace.CellDelivered] - delivered; got != beatCells/2 {
			t.Fatalf("round %d: %d cells of %d arrived", round, got, beatCells/2)
		}
		if got := n.nodes[2].counts[trace.DropCellReplay] - replays; got < beatCells {
			t.Fatalf("round %d: %d replays of %d were dropped", round, got, beatCells)
		}
		for i, node := range n.nodes {
			for _, r := range node.forward {
				if round > 0 && r.hot != nil {
					t.Fatalf("round %d: hop %d is not at rest", round, i)
				}
			}
		}
	}
}

// A burst that ends a rest may come in any order: none of it is refused, and
// none of it twice.
func TestABurstEndsARest(t *testing.T) {
	for seed := range uint64(20) {
		s := prng.FromUint64(seed).Stream("order")
		at := rested{next: 1000, recent: link.Rested}
		var w *window
		burst := make([]uint32, 400)
		for i := range burst {
			burst[i] = 1000 + 2*uint32(i)
		}
		s.Shuffle(len(burst), func(i, j int) { burst[i], burst[j] = burst[j], burst[i] })
		for i, c := range burst {
			if w == nil && (i >= beatCells || !at.near(c)) {
				wide := at.widen(0)
				w = &wide
			}
			for again := range 2 {
				if w == nil {
					if at.fresh(c) == (again == 1) {
						t.Fatalf("at rest, cell %d of counter %d, time %d", i, c, again)
					} else if again == 0 {
						at.mark(c)
					}
				} else if w.fresh(c) == (again == 1) {
					t.Fatalf("cell %d of counter %d, time %d", i, c, again)
				} else if again == 0 {
					w.mark(0, c)
				}
			}
		}
		for _, c := range burst {
			if w.fresh(c) {
				t.Fatalf("counter %d is taken once more", c)
			}
		}
	}
}
