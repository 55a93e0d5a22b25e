package daemon

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/wire"
)

// A node's reports are what a collector takes, they name no client, and its guard shows
// in the figures.
func TestNodeTellsTheControlPlane(t *testing.T) {
	came := make(chan []byte, 1)
	l, err := StartLocal(LocalConfig{Streams: 2, Mixes: 3, Client: client.Config{Level: wire.Fast},
		telemetry: func(_ context.Context, body []byte) error {
			select {
			case came <- bytes.Clone(body):
			default:
			}
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := telemetry.NewCollector(time.Now(), func(wire.NodeID) (string, uint32, bool) { return "region-0", localCapacity, true })
	c.Follow(time.Now(), nil, []string{"region-0"})
	select {
	case body := <-came:
		if err := c.Take(time.Now(), wire.NodeID{1}, body); err != nil {
			t.Error(err)
		}
		if a := l.Client.host.Addr().Addr().As4(); bytes.Contains(body, a[:]) {
			t.Error("the client's address is in a report")
		}
	case <-t.Context().Done():
		t.Fatal("no report")
	}
	var b metric.Page
	if c.WriteMetrics(&b, "c"); !strings.Contains(b.String(), "telemetry_pipeline_lag_seconds_count{part=\"c\"} 1") {
		t.Errorf("the report is not counted:\n%s", b.String())
	}
	b = metric.Page{}
	writeGuards(&b, l.parts())
	for _, name := range []string{"node_overloaded{part=\"stream-1\"} 0", "node_strain{part=\"mix-1\"}", "telemetry_alone{part=\"mix-1\"} 0"} {
		if !strings.Contains(b.String(), "\n"+name) {
			t.Errorf("no %q in\n%s", name, b.String())
		}
	}
}
