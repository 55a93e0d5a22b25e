package mix

import (
	"bytes"
	"testing"

	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

func TestRouteCarriesPacketsBothWays(t *testing.T) {
	for hops := wire.MinHops; hops <= wire.MaxHops; hops++ {
		for _, level := range []wire.Level{wire.Fast, wire.Standard} {
			n := newNet(t, hops, Limits{})
			first := bytes.Repeat([]byte{9}, wire.MaxFirstFlight)
			r := n.open(level, first, 5)
			if d := n.end().deliveries[0]; !bytes.Equal(d.Packet, first) || d.Level != level {
				t.Fatalf("%d hops: first flight of %d bytes at %v arrived", hops, len(d.Packet), d.Level)
			}
			for i := range uint64(20) {
				n.send(r, packetOf(i))
			}
			n.run()
			got := n.end().deliveries[1:]
			if len(got) != 20 {
				t.Fatalf("%d hops at %v: %d of 20 packets arrived", hops, level, len(got))
			}
			seen := map[string]bool{}
			for _, d := range got {
				seen[string(d.Packet)] = true
			}
			for i := range uint64(20) {
				if !seen[string(packetOf(i))] {
					t.Errorf("%d hops at %v: packet %d did not arrive", hops, level, i)
				}
				if !n.end().SendBack(n.now, n.lastEnd(), packetOf(100+i)) {
					t.Fatal("the end does not send")
				}
			}
			n.run()
			back := map[string]bool{}
			for _, f := range n.home {
				b, ok := r.Open(n.now, f)
				if !ok || b.Kind != BackPacket || b.Position != hops-1 {
					t.Fatalf("%d hops at %v: came back %+v", hops, level, b)
				}
				back[string(b.Packet)] = true
			}
			for i := range uint64(20) {
				if !back[string(packetOf(100+i))] {
					t.Errorf("%d hops at %v: packet %d did not come back", hops, level, i)
				}
			}
			for i := range n.nodes {
				if d := n.drops(i); d != 0 {
					t.Errorf("hop %d dropped %d", i, d)
				}
				n.wantCount(i, trace.SetupDone, 1)
			}
			n.settled()
		}
	}
}
