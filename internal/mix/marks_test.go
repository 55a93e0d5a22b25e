package mix

import (
	"fmt"
	"testing"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// Property 4 of the design: hops i and i+2 share no link, so it is enough that
// no two links of a route carry a value in common. sharedMarks looks, link
// against link, for equal route ids, equal counters, counters that advance
// alike, and, in the first frames, any six equal bytes.
func sharedMarks(seen []capture) (marks []string) {
	type side struct {
		ids      map[uint32]bool
		counters map[uint32]bool
		order    []uint32
		windows  map[[6]byte]bool
		frames   int
	}
	const framesWhole = wire.TrainFrames + 4
	sides := map[int]*side{}
	lastLink := 0
	for _, c := range seen {
		if sides[c.at] == nil {
			sides[c.at] = &side{map[uint32]bool{}, map[uint32]bool{}, nil, map[[6]byte]bool{}, 0}
		}
		lastLink = max(lastLink, c.at)
		s := sides[c.at]
		s.ids[wire.FrameRouteID(c.frame)] = true
		body := c.frame[1:]
		if wire.FrameType(c.frame[0]) != wire.FrameSetup {
			s.counters[wire.CellCounter(c.frame)] = true
			s.order = append(s.order, wire.CellCounter(c.frame))
			body = c.frame[1 : wire.CellOffset+wire.LayerSize(c.at)]
		}
		if s.frames++; s.frames > framesWhole {
			continue
		}
		for i := 0; i+6 <= len(body); i++ {
			s.windows[[6]byte(body[i:])] = true
		}
	}
	for a := 0; a <= lastLink; a++ {
		for b := a + 1; b <= lastLink; b++ {
			x, y := sides[a], sides[b]
			for id := range x.ids {
				if y.ids[id] {
					marks = append(marks, fmt.Sprintf("links %d and %d share route id %08x", a, b, id))
				}
			}
			for c := range x.counters {
				if y.counters[c] {
					marks = append(marks, fmt.Sprintf("links %d and %d share counter %d", a, b, c))
				}
			}
			if alike := alikeSteps(x.order, y.order); alike > 500 {
				marks = append(marks, fmt.Sprintf("counters of links %d and %d advance alike in %d of 1000 steps", a, b, alike))
			}
			for w := range x.windows {
				if y.windows[w] {
					marks = append(marks, fmt.Sprintf("links %d and %d share bytes %x", a, b, w))
					break
				}
			}
		}
	}
	return marks
}

// alikeSteps is how many in a thousand increments are equal; of independent
// ones, a third is.
func alikeSteps(a, b []uint32) int {
	n, alike := min(len(a), len(b))-1, 0
	if n < 100 {
		return 0
	}
	for i := range n {
		if a[i+1]-a[i] == b[i+1]-b[i] {
			alike++
		}
	}
	return 1000 * alike / n
}

func captured(seen []capture, out bool, skip int) (part []capture) {
	for _, c := range seen {
		if c.out == out {
			part = append(part, c)
		}
	}
	return part[skip:]
}

// recordRoute sends cells over five hops, both ways, and returns all links.
func recordRoute(t *testing.T, spoil func(r *Route)) []capture {
	n := newNet(t, 5, Limits{})
	n.record = true
	r := n.open(wire.Fast, []byte("first flight"), 11)
	if spoil != nil {
		spoil(r)
	}
	for i := range uint64(200) {
		n.send(r, packetOf(i))
		n.run()
		n.end().SendBack(n.now, n.lastEnd(), packetOf(1000+i))
		n.run()
	}
	return n.seen
}

func TestNonAdjacentHopsShareNoMark(t *testing.T) {
	seen := recordRoute(t, nil)
	out, home := captured(seen, true, 0), captured(seen, false, 0)
	if len(out) != 5*(200+wire.TrainFrames) || len(home) != 5*200 {
		t.Fatalf("%d frames went out, %d came home", len(out), len(home))
	}
	for _, m := range append(sharedMarks(out), sharedMarks(home)...) {
		t.Error(m)
	}
	// The two directions of a link share the route id, which both its ends
	// know, and nothing of it with another link.
	ids := map[uint32]int{}
	for _, c := range seen {
		id := wire.FrameRouteID(c.frame)
		if at, ok := ids[id]; ok && at != c.at {
			t.Errorf("links %d and %d share route id %08x", at, c.at, id)
		}
		ids[id] = c.at
	}
}

// The controls: each mark that the protocol avoids is put in, and found.
func TestSharedMarksAreFound(t *testing.T) {
	seen := captured(recordRoute(t, nil), true, 5*wire.TrainFrames)
	unpeeled := append([]capture(nil), seen...)
	for _, c := range seen {
		if c.at == 1 {
			c.at = 3
			unpeeled = append(unpeeled, c)
		}
	}
	controls := map[string][]capture{
		"a hop that passes cells on as they are": unpeeled,
		"one counter for all hops": captured(recordRoute(t, func(r *Route) {
			for i := range r.hops {
				r.hops[i].counter, r.hops[i].steps = 1<<30, prng.FromUint64(1).Stream("shared")
			}
		}), true, 5*wire.TrainFrames),
		"counters apart that advance alike": captured(recordRoute(t, func(r *Route) {
			for i := range r.hops {
				r.hops[i].counter, r.hops[i].steps = 1<<30+uint32(i)<<20, prng.FromUint64(1).Stream("shared")
			}
		}), true, 5*wire.TrainFrames),
	}
	for name, seen := range controls {
		if len(sharedMarks(seen)) == 0 {
			t.Errorf("%s left no mark", name)
		}
	}
}

// The set-up has one size at every hop, whatever the number of hops, and hop i
// sees nothing that tells how many follow.
func TestSetupHasOneSizeAndHidesItsPosition(t *testing.T) {
	for hops := wire.MinHops; hops <= wire.MaxHops; hops++ {
		n := newNet(t, hops, Limits{})
		n.record = true
		n.open(wire.Standard, nil, uint64(hops))
		frames := map[int]int{}
		ones := map[int]int{}
		for _, c := range n.seen {
			frames[c.at]++
			if len(c.frame) != wire.LinkPayloadSize || wire.FrameType(c.frame[0]) != wire.FrameSetup {
				t.Fatalf("a set-up frame of %d bytes and type %d", len(c.frame), c.frame[0])
			}
			for _, b := range c.frame[wire.ShardOffset:] {
				for ; b != 0; b &= b - 1 {
					ones[c.at]++
				}
			}
		}
		const bits = wire.TrainFrames * wire.ShardSize * 8
		for at := range hops {
			// Eight standard deviations of a uniform packet: zeros left in the
			// padding of any hop would exceed them.
			if frames[at] != wire.TrainFrames || 4*abs(2*ones[at]-bits)*abs(2*ones[at]-bits) > 4*64*bits {
				t.Errorf("%d hops: at hop %d %d frames with %d of %d bits set", hops, at, frames[at], ones[at], bits)
			}
		}
	}
}

func abs(v int) int { return max(v, -v) }

// What is left of β at the last hop, after its routing, must look the same for
// every number of hops (Kuhn et al. 2020).
func TestLastHopCannotTellTheLength(t *testing.T) {
	for hops := wire.MinHops; hops <= wire.MaxHops; hops++ {
		n := newNet(t, hops, Limits{})
		_, train, err := Build(n.specs(0), wire.Fast, 60e9, nil, prng.FromUint64(4))
		if err != nil {
			t.Fatal(err)
		}
		o := train.onion
		for i, node := range n.nodes {
			if _, r, result := peel(&o, node.private); result != peelDone || int(r.Position) != i || r.Last != (i == hops-1) {
				t.Fatalf("%d hops: hop %d peels to %d, %+v", hops, i, result, r)
			}
		}
		zeros := 0
		for _, b := range o[wire.SetupRoutingSize:deltaAt] {
			if b == 0 {
				zeros++
			}
		}
		if zeros > 90 { // of 8400, 33 expected
			t.Errorf("%d hops: %d zero bytes are left in the last header", hops, zeros)
		}
	}
}
