package telemetry

import (
	"math"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// TestNodesGoOnAtTheirRate: between two samples a node is taken to do what it did in the
// last one, for as long as that counts; then nothing is known of it.
func TestNodesGoOnAtTheirRate(t *testing.T) {
	begun := time.Unix(1_700_000_000, 0)
	p, node := newPlane(begun), wire.NodeID{1}
	take := func(at time.Duration, change func(*wire.Telemetry)) {
		t.Helper()
		m := someReport(begun.Add(at))
		m.Came, m.Sent = 200, 400
		if change != nil {
			change(&m)
		}
		if err := p.Take(begun.Add(at), node, m.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if seen := p.Nodes(begun); len(seen) != 0 {
		t.Errorf("something is known of nobody: %v", seen)
	}
	take(0, nil)
	take(10*time.Second, func(m *wire.Telemetry) { m.Came, m.Sent = 1000, 500 })
	for at, came := range map[time.Duration]float64{10 * time.Second: 2000, 12 * time.Second: 4000, 40 * time.Second: 32_000} {
		f, known := p.Nodes(begun.Add(at))[node]
		if !known || f.Came != came || f.In != 1000 || f.Out != 500 || math.Abs(f.Strain-500.0/1000/0.95) > 1e-9 {
			t.Errorf("after %v: %+v", at, f)
		}
	}
	if f, known := p.Nodes(begun.Add(41 * time.Second))[node]; known {
		t.Errorf("of a silent node %+v is known", f)
	}
	take(60*time.Second, func(m *wire.Telemetry) {
		m.StandsFor, m.Flags, m.Came, m.Dropped, m.Refused = 1, wire.TelemetryOverloaded, 100, 5, 7
	})
	f := p.Nodes(begun.Add(60 * time.Second))[node]
	if f.Came != 32_000 || f.Dropped != 5 || f.Flags != wire.TelemetryOverloaded || math.Abs(f.Strain-5) > 1e-9 {
		t.Errorf("it went on while it was silent, or its drops are lost: %+v", f)
	}
	p.Nodes(begun.Add(2 * time.Hour)) // long after all is forgotten of it
	if held := p.Network().Held; held != 7 {
		t.Errorf("%d sessions were refused in all", held)
	}
}

// TestCoverOfReports: the ratio of cells without content to cells with, over all routes of
// which nodes speak, and none without.
func TestCoverOfReports(t *testing.T) {
	begun := time.Unix(1_700_000_000, 0)
	p := newPlane(begun)
	if f := p.Network(); f.Cover >= 0 || f.Lag != 0 || f.Held != 0 {
		t.Errorf("of no report: %+v", f)
	}
	for i, use := range []uint8{50, 100} {
		m := someReport(begun)
		m.Classes[0].Use = use
		if err := p.Take(begun.Add(2*time.Second), wire.NodeID{byte(i + 1)}, m.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if f := p.Network(); math.Abs(f.Cover-1.0/3) > 1e-9 || f.Lag.Round(100*time.Millisecond) != 2*time.Second || len(f.Safe) > 0 {
		t.Errorf("%+v", f)
	}
}
