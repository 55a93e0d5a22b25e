package push

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/lab/monitor"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/slo"
	"github.com/nyxnet/nyx/internal/spool"
)

// patience bounds what a real server may take.
const patience = time.Minute

// rulesName is the file of no rules.
const rulesName = "none.rules.yml"

func served(t *testing.T, config []byte) *monitor.Server {
	t.Helper()
	if err := monitor.There(); err != nil {
		t.Skip(err)
	}
	s, err := monitor.Prometheus(t.TempDir(), config, []byte("groups: []\n"), rulesName, "--web.enable-remote-write-receiver")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// figures are a page with each kind of series, of which one counts.
func figures(n float64) *metric.Page {
	p := &metric.Page{Traffic: true}
	p.Add("nyx_link_in_total", n, "part", "a")
	p.Add("cpu_user_pct", 12.5)
	p.Distribute("stream_latency_seconds", metric.Distribution{Bounds: []float64{0.5, 1}, In: []uint64{3, 2, 1}, Sum: 4, Count: 6}, "part", "a")
	p.Distribute("telemetry_pipeline_lag_seconds", metric.Summed([]float64{0.5, 1}, func(q float64) float64 { return 2 * q }, 7, 3), "part", "c")
	return p
}

// Debian's Prometheus, configured as deploy/prometheus has it, takes what is written to it: live
// figures, and before them in time, but after them in order, those of an hour for which nobody
// took them, each at its own time.
func TestPrometheusTakesRemoteWrite(t *testing.T) {
	s := served(t, slo.Prometheus([]string{"127.0.0.1:1"}, rulesName, "127.0.0.1:1"))
	kept, err := spool.Open(t.TempDir(), &seal.Key{1}, spool.Limits{Age: 24 * time.Hour, Bytes: 1 << 20}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	const minutes = 60
	begun := time.Now().Add(-minutes * time.Minute)
	for i := range minutes {
		if err := kept.Put(begun, remoteWrite(figures(float64(i)), "mix-1", begun.Add(time.Duration(i)*time.Minute))); err != nil {
			t.Fatal(err)
		}
	}
	p := StartRemoteWrite(Config{URL: "http://" + s.Addr + "/api/v1/write", Every: 50 * time.Millisecond, Spool: kept, Failed: func(err error) { t.Error(err) }}, "mix-1",
		func() *metric.Page { return figures(minutes) })
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	at := func(minute time.Duration) string {
		return fmt.Sprintf(`nyx_link_in_total @ %d`, begun.Add(minute*time.Minute+time.Second).Unix())
	}
	for _, want := range []struct {
		expr  string
		value float64
	}{
		{`count_over_time(nyx_link_in_total{job="nyx",instance="mix-1",part="a"}[2h] offset 30s) >= 60`, minutes}, // all of the hour
		{at(0), 0}, {at(7), 7}, {at(59), 59},
		{`stream_latency_seconds_bucket{part="a",le="1"}`, 5},
		{`stream_latency_seconds_bucket{part="a",le="+Inf"}`, 6},
		{`stream_latency_seconds_count{part="a"}`, 6},
		{`telemetry_pipeline_lag_seconds{part="c",quantile="0.5"}`, 1},
		{`telemetry_pipeline_lag_seconds_sum{part="c"}`, 7},
		{`cpu_user_pct`, 12.5},
	} {
		got, err := s.Await(ctx, want.expr, func(v []monitor.Value) bool { return len(v) == 1 })
		if err != nil {
			t.Fatal(err)
		}
		if got[0].Value != want.value {
			t.Errorf("%s is %v, want %v", want.expr, got[0].Value, want.value)
		}
	}
	if f := kept.Figures(); f.Batches != 0 || f.Torn+f.Old+f.Crowded != 0 {
		t.Errorf("%+v", f)
	}
}

// A Prometheus that takes nothing late refuses the backlog for good: it is given up, counted,
// and holds up nothing that is live.
func TestPrometheusThatTakesNothingLate(t *testing.T) {
	s := served(t, []byte("global: {}\n"))
	kept, err := spool.Open(t.TempDir(), &seal.Key{1}, spool.Limits{Age: 24 * time.Hour, Bytes: 1 << 20}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Put(time.Now(), remoteWrite(figures(1), "mix-1", time.Now().Add(-3*time.Hour))); err != nil {
		t.Fatal(err)
	}
	why := make(chan error, 10)
	p := StartRemoteWrite(Config{URL: "http://" + s.Addr + "/api/v1/write", Every: 50 * time.Millisecond, Spool: kept, Failed: func(err error) { why <- err }}, "mix-1",
		func() *metric.Page { return figures(2) })
	defer p.Close()
	select {
	case err := <-why:
		if !errors.Is(err, errRefused) || kept.Figures().Batches != 0 {
			t.Errorf("%v, %+v", err, kept.Figures())
		}
	case <-time.After(patience):
		t.Fatal("the backlog was not refused")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.Await(ctx, `count_over_time(nyx_link_in_total[5m]) > 3`, func(v []monitor.Value) bool { return len(v) == 1 }); err != nil {
		t.Error(err)
	}
}
