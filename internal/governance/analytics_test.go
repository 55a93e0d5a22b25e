package governance

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/insight"
	"github.com/nyxnet/nyx/internal/metric"
)

// TestAnalytics: what is recorded in a log comes to the feed and into a report, and the
// metrics have the names of the specification.
func TestAnalytics(t *testing.T) {
	f, l, c := stored(t)
	key := l.Key()
	a, err := OpenAnalytics(AnalyticsConfig{Store: l.Store(), Wait: l.Wait, Key: &key, Signer: c.Signer, Dir: t.TempDir(), Recorder: l, Node: "control-1", Entropy: f.draw, Now: func() time.Time { return begin }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	f.api.cfg.Reports, f.api.cfg.Feed = a.Reports, a.Feed
	e := audit.Event{ID: audit.NewID(begin, [10]byte{1}), Time: begin, Kind: audit.Incident, Severity: audit.Critical, Actor: "mix-1", Action: "neighbour.lost", Count: 1}
	if err := l.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), insight.UpdateMost)
	defer cancel()
	_, b, err := f.api.cfg.Feed.Next(ctx, 0)
	var u insight.Update
	if err != nil || json.Unmarshal(b, &u) != nil || u.Day.Kinds["incident"].Events != 1 || u.Hour.Severities["critical"].Events != 1 {
		t.Errorf("%s, %v", b, err)
	}
	if _, err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.report(person(Auditor), aDay)
	var out metric.Page
	a.WriteMetrics(&out, "control")
	for _, want := range []string{"compliance_export_latency_count{part=\"control\"} ", "report_generation_duration{part=\"control\"}", "nyx_stream_export_entries_total", "nyx_insight_updates_total"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}
