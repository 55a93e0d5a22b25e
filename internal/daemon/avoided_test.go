package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Who runs a client sees which nodes it leaves out and why; the log has the reason
// and no node.
func TestAvoidedNodesAreTold(t *testing.T) {
	j, log := newJournal()
	seen := 0
	sink := tellingAvoided(func(trace.Event) { seen++ }, log)
	sink.Emit(0, trace.NodeAvoided, uint64(trace.ReasonDrop), 0)
	sink.Emit(0, trace.RouteUp, 5, 0)
	if text := j.String(); seen != 2 || strings.Count(text, "\n") != 1 || !strings.Contains(text, "reason=drop") {
		t.Errorf("%d events, %q", seen, text)
	}
	got := avoided([]client.Avoided{{Node: wire.NodeID{0xab, 0xcd}, Why: trace.ReasonSteer, For: 90 * time.Second}})
	if len(got) != 1 || got[0] != "abcd0000 steer 1m30s" {
		t.Errorf("%q", got)
	}
}
