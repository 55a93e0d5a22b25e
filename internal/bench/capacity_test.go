package bench

import (
	"testing"

	"github.com/nyxnet/nyx/internal/control/capacity"
)

// A phase's network carries what its sessions ask, and does so again datagram for
// datagram; another number of sessions is another run.
func TestCapacityRepeats(t *testing.T) {
	if testing.Short() {
		t.Skip("runs 30 clients three times")
	}
	run := func(sessions int) *capacityRun {
		c, err := simulateCapacity(t.Context(), capacity.Phases[0], sessions, 5, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		if c.asked == 0 || c.answered != c.asked {
			t.Errorf("%d of %d requests were answered", c.answered, c.asked)
		}
		return c
	}
	first, again := run(12), run(12)
	if first.hash != again.hash {
		t.Errorf("one seed gave %s and %s", first.hash, again.hash)
	}
	if first.hash == run(6).hash {
		t.Error("two loads gave one trace")
	}
}

// What a node needs follows from sessions, nodes and head-room.
func TestCapacityIsCalculated(t *testing.T) {
	c := capacity.Cost{Hop: 2000, Setup: 200_000, SessionBytes: 4000, StreamIn: 4, MixIn: 6}
	f := needs(c, capacity.Phase{Name: "test", Sessions: 1000, Streams: 10, Mixes: 15})
	for i, want := range []float64{150, 0.6, 150 * (4*2e-6 + 4./480*2e-4), 600, 0.1722, 100 * (6*2e-6 + 6./480*2e-4)} {
		if got := f[i].Value; got < want*0.999 || got > want*1.001 {
			t.Errorf("%s: %v, want %v", f[i].Name, got, want)
		}
	}
}
