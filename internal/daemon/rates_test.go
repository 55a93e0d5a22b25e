package daemon

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/wire"
)

// A node's reports reach the control process as the node's, and what that makes of them
// an authority's proposal.
func TestTelemetryBecomesAProposal(t *testing.T) {
	l, store := controlled(t)
	store.await(t, len(l.Nodes)+1, audit.AdminAction, "start") // the directory lists them all
	n, c := l.Nodes[0], l.Control
	c.planMu.Lock() // the steps of the loop are the test's, and no plan comes into force meanwhile
	defer c.planMu.Unlock()
	now := time.Now()
	class := slices.Index(obfs.Classes[:], 500)
	for i := range 13 { // seconds: of a region that is silent for longer nothing is asked
		at := now.Add(time.Duration(i) * time.Second)
		m := wire.Telemetry{StandsFor: 1, Millis: at.UnixMilli(), Span: 1000, Capacity: localCapacity, Sent: 1000,
			Classes: []wire.TelemetryClass{{Place: uint8(class), Routes: 64, Use: 50}}}
		if err := n.teller.telemetry(t.Context(), m.Append(nil)); err != nil {
			t.Fatal(err)
		}
		c.rates.Follow(at, nil, []string{"region-0"})
		c.rates.Turn(at)
	}
	if err := n.teller.telemetry(t.Context(), []byte("no report")); !errors.Is(err, telemetry.ErrRefused) {
		t.Errorf("what is no report is answered %v", err)
	}
	var b bytes.Buffer
	c.write(&b, "control")
	for _, name := range []string{"telemetry_pipeline_lag_seconds_count{part=\"control\"}", "control_nodes_overloaded{part=\"control\"} 0"} {
		if !strings.Contains(b.String(), "\n"+name) {
			t.Errorf("no %q in\n%s", name, b.String())
		}
	}
	wanted := l.Authority.wantedRates(t.Context())
	if len(wanted) == 0 {
		t.Fatal("nothing is asked for")
	}
	crier := l.Authority.crier
	crier.mu.Lock() // the network's own epoch may end at any moment
	defer crier.mu.Unlock()
	own := crier.planner
	crier.planner = control.NewPlanner(3, 2)
	last := int64(wanted[0].Epoch)*wire.CoverEpochSeconds - 1 // second before the epoch that it is for
	l.Authority.adjust(last, wanted)
	crier.planner.Turn(last, nil, []string{"region-0"})
	if p := crier.planner.Proposal(); p == nil || p.Region("region-0").Rates[class] != 400 {
		t.Errorf("proposes %+v", p)
	}
	crier.planner = own
}
