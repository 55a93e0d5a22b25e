package lab

import (
	"bytes"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// waysRun moves requests through a network that loses, doubles, overtakes and
// changes datagrams and in which a node restarts, and returns what its wires
// showed, what its machines counted, and what became of the order.
func waysRun(t *testing.T, level wire.Level, b sim.Batches) (hash string, _ trace.Counts, stats sim.NodeStats) {
	t.Helper()
	w, err := bareRun(7).NewNetwork(Plan{Streams: 4, Mixes: 9, Level: level, Regions: []string{"eu", "us", "ap"}, Batches: b,
		Hop: sim.Link{Latency: 5 * time.Millisecond, Loss: 1000, Duplicate: 5000, Reorder: 20_000, ReorderBy: 3 * time.Millisecond, Rate: 20e6}})
	if err != nil {
		t.Fatal(err)
	}
	w.AddUsers(2)
	if err := w.WaitReady(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	tamper := w.Sim.Rand("tamper")
	w.Sim.Intercept(func(d sim.Datagram) bool {
		if tamper.Chance(2000) {
			d.B[tamper.IntN(len(d.B))] ^= 1 << tamper.IntN(8)
		}
		return true
	})
	answered, size := 0, 200_000
	if level != wire.Fast {
		size = 10_000
	}
	for i := range 8 {
		body := messageBody(bareRun(7), i, size)
		w.Users[i%2].Ask("a", body, func(_ machine.Time, answer []byte, err error) {
			if err == nil && !bytes.Equal(answer, body) {
				t.Errorf("%v, %+v: request %d has an answer of other bytes", level, b, i)
			}
			answered++
		})
	}
	w.Sim.After(time.Second, func(machine.Time) { w.Sim.Restart(w.Relays[0].Node) })
	w.Sim.RunFor(6 * time.Second)
	if answered < 4 {
		t.Errorf("%v, %+v: %d requests ended", level, b, answered)
	}
	for _, nd := range w.Sim.Nodes() {
		s := nd.Stats()
		stats.Opened, stats.Corrections = stats.Opened+s.Opened, stats.Corrections+s.Corrections
		stats.HeldMost, stats.Overtaken = max(stats.HeldMost, s.HeldMost), stats.Overtaken+s.Overtaken
	}
	return w.Sim.TraceHash(), w.counts(), stats
}

// However many datagrams are opened at a time, and in whatever order that ends,
// machines do, send and count the same at the same times.
func TestWaysMakeNoDifference(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard} {
		hash, counts, _ := waysRun(t, level, sim.Batches{Every: time.Millisecond})
		for _, c := range []trace.Counter{trace.DropLinkAuth, trace.DropLinkReplay, trace.CellForwarded, trace.LinkLate} {
			if counts[c] == 0 {
				t.Errorf("%v: the run has no %v", level, c)
			}
		}
		for _, ways := range []int{2, 4, 8, 16} {
			h, c, s := waysRun(t, level, sim.Batches{Every: time.Millisecond, Ways: ways})
			if h != hash || c != counts {
				t.Errorf("%v: %d ways show %s, one way %s", level, ways, h, hash)
			}
			if s.Corrections == 0 || s.Overtaken > 0 {
				t.Errorf("%v: %d ways: %+v", level, ways, s)
			}
			t.Logf("%v, %d ways: %d opened, %d had to wait, %d at most of one batch", level, ways, s.Opened, s.Corrections, s.HeldMost)
		}
		if h, _, s := waysRun(t, level, sim.Batches{Every: time.Millisecond, Ways: 16, AsOpened: true}); h == hash || s.Overtaken == 0 {
			t.Errorf("%v: handled as they are opened, datagrams show the same: %+v", level, s)
		}
	}
}
