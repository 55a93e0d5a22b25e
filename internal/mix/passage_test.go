package mix

import (
	"testing"

	"github.com/nyxnet/nyx/internal/wire"
)

// passages are those of all hops of a route.
func passages(r *Route) (out []Passage) {
	for i := range r.Hops() {
		out = append(out, r.Passage(i))
	}
	return out
}

// Where cells are lost on the way back shows in the counters: between the two hops
// where they are, and nowhere else. The counters of who drops them himself, before
// or after he has moved his own, name him with one neighbour or the other.
func TestLossIsFoundBetweenTwoHops(t *testing.T) {
	const hops, cells = 5, 600
	for at := range hops {
		n := newNet(t, hops, Limits{})
		r := n.open(wire.Fast, nil, 23)
		send := func() {
			n.end().SendBack(n.now, n.lastEnd(), packetOf(2))
			n.run()
			for _, f := range n.home {
				r.Open(n.now, f)
			}
			n.home = nil
		}
		send()
		before, sent := passages(r), 0
		n.tap = func(link int, out bool, _ []byte) bool {
			if out || link != at {
				return true
			}
			sent++
			return sent%10 > 2
		}
		for range cells {
			send()
		}
		after := passages(r)
		for i := -1; i < hops-1; i++ { // between hop i+1 and hop i; the client is -1
			came := float64(after[0].Cells - before[0].Cells)
			if i >= 0 {
				came = after[i].Sent(before[i])
			}
			behind := after[i+1].Sent(before[i+1])
			lost := (behind - came) / behind
			if want := i+1 == at; (lost > 0.2) != want || !want && (lost > 0.1 || lost < -0.1) {
				t.Errorf("lost at link %d: %.2f of the cells seem lost at link %d", at, lost, i+1)
			}
		}
	}
}

// A cell that a hop seals anew is known from one that is merely late.
func TestACellSealedAnewIsFound(t *testing.T) {
	const hops = 5
	for at := 1; at < hops; at++ {
		n := newNet(t, hops, Limits{})
		r := n.open(wire.Fast, nil, 24)
		frame := n.caught(at, false, func() { n.end().SendBack(n.now, n.lastEnd(), packetOf(2)) })
		var backs []Back
		for range 2 {
			n.nodes[at-1].back[keyOf(toward(at), wire.FrameRouteID(frame))].forgetBack() // as a hop would that wants to
			n.home = nil
			n.carry(at, false, append([]byte(nil), frame...))
			n.run()
			b, _ := r.Open(n.now, n.home[0])
			backs = append(backs, b)
		}
		if backs[0].Kind != BackPacket || backs[1].Kind != BackFault || !backs[1].Twice || backs[1].Position != at {
			t.Errorf("link %d: %+v", at, backs[1])
		}
		old := r.hops[at].home
		old.floor = old.top + 1
		if r.hops[at].home = old; old.seen(old.top) {
			t.Error("what is too old counts as seen")
		}
	}
}
