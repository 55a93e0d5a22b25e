package otlp

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1 "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/nyxnet/nyx/internal/engine/push"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/telemetry/span"
	"github.com/nyxnet/nyx/internal/trace"
)

func example(process string, outcome string) span.Span {
	at := time.Unix(1_700_000_000, 5)
	return span.Span{Trace: span.TraceID{1}, ID: span.ID{2}, Parent: span.ID{3}, Name: span.Probe, Process: process, Begin: at, End: at.Add(time.Second),
		Attributes: span.Attributes{span.Outcome: outcome, span.Level: "fast"}}
}

// receiver hands on the bodies that come to a path.
func receiver[T proto.Message](t *testing.T, path string, fresh func() T) (url string, got chan T) {
	got = make(chan T, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		m := fresh()
		z, err := gzip.NewReader(r.Body)
		if err == nil {
			var b []byte
			if b, err = io.ReadAll(z); err == nil {
				err = proto.Unmarshal(b, m)
			}
		}
		if err != nil || r.URL.Path != path || r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: %v, %v", r.URL, r.Header, err)
		}
		got <- m
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

// What is recorded reaches the collector when the exporter ends, each process as a service,
// with ids, times and attributes; what is no span does not.
func TestSpansReachTheCollector(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"))
	url, got := receiver(t, tracesPath, func() *collector.ExportTraceServiceRequest { return &collector.ExportTraceServiceRequest{} })
	e := StartSpans(push.Config{URL: url, Every: time.Hour})
	e.Record(example("stream-1", "failed"))
	e.Record(example("control-1", "ok"))
	e.Record(span.Span{Name: "none"})
	if err := e.Close(); err != nil || e.Lost() != 1 {
		t.Errorf("close: %v, %d lost", err, e.Lost())
	}
	m := <-got
	if len(m.ResourceSpans) != 2 {
		t.Fatalf("%d services", len(m.ResourceSpans))
	}
	for i, want := range []struct {
		process string
		status  tracepb.Status_StatusCode
	}{{"control-1", tracepb.Status_STATUS_CODE_UNSET}, {"stream-1", tracepb.Status_STATUS_CODE_ERROR}} {
		r := m.ResourceSpans[i]
		one := r.ScopeSpans[0].Spans[0]
		if name := r.Resource.Attributes[1].Value.GetStringValue(); name != want.process || one.Status.GetCode() != want.status {
			t.Errorf("%s with status %v, want %v", name, one.Status.GetCode(), want)
		}
		if span.TraceID(one.TraceId) != (span.TraceID{1}) || span.ID(one.ParentSpanId) != (span.ID{3}) || one.EndTimeUnixNano-one.StartTimeUnixNano != 1e9 || one.Attributes[0].Key != "nyx.level" {
			t.Errorf("%v", one)
		}
	}
}

// A collector that is not there makes nobody wait who records, however much that is: what
// there is no room for is lost, and counted.
func TestCollectorThatIsNotThere(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	told := make(chan error, 10)
	e := StartSpans(push.Config{URL: s.URL, Failed: func(err error) { told <- err }, Every: time.Hour})
	for range waitingMost + 10 {
		e.Record(example("stream-1", "ok"))
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	page := &metric.Page{}
	e.Figures(page)
	if err := <-told; !strings.Contains(err.Error(), "otlp-traces: 404") || e.Lost() != 10 || !strings.Contains(page.String(), `telemetry_push_lost_total{to="otlp-traces",why="away"} 1`) {
		t.Errorf("%v, %d lost\n%s", err, e.Lost(), page)
	}
}

// A page reaches the collector as the protocol has it: names, units, descriptions, kinds,
// attributes, and the time at which it was read.
func TestMetricsReachTheCollector(t *testing.T) {
	url, got := receiver(t, metricsPath, func() *v1.ExportMetricsServiceRequest { return &v1.ExportMetricsServiceRequest{} })
	before := time.Now()
	p := StartMetrics(push.Config{URL: url, Every: time.Hour}, "mix-1", func() *metric.Page {
		p := &metric.Page{Traffic: true}
		p.Add("nyx_link_in_total", 7, "part", "a")
		p.Add("nyx_up", 1, "part", "a")
		p.Distribute("stream_latency_seconds", metric.Distribution{Bounds: []float64{0.5, 1}, In: []uint64{3, 2, 1}, Sum: 4, Count: 6}, "part", "a")
		p.Distribute("telemetry_pipeline_lag_seconds", metric.Summed([]float64{0.5}, func(float64) float64 { return 2 }, 9, 3), "part", "c")
		return p
	})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	r := (<-got).ResourceMetrics[0]
	if a := r.Resource.Attributes; a[0].Value.GetStringValue() != "nyx" || a[1].Value.GetStringValue() != "mix-1" {
		t.Errorf("%v", a)
	}
	by := map[string]*metrics.Metric{}
	for _, m := range r.ScopeMetrics[0].Metrics {
		by[m.Name] = m
	}
	in := by["nyx_link_in_total"]
	point := in.GetSum().GetDataPoints()[0]
	at := time.Unix(0, int64(point.TimeUnixNano))
	if !in.GetSum().IsMonotonic || point.GetAsDouble() != 7 || point.Attributes[0].Key != "part" || point.Attributes[0].Value.GetStringValue() != "a" || at.Before(before) || at.After(time.Now()) {
		t.Errorf("%v", in)
	}
	if up := by["nyx_up"]; up.GetGauge().GetDataPoints()[0].GetAsDouble() != 1 || up.Description != "Whether a part works fully." || up.Unit != "1" {
		t.Errorf("%v", up)
	}
	if h := by["stream_latency_seconds"].GetHistogram().GetDataPoints()[0]; h.Count != 6 || h.GetSum() != 4 || len(h.ExplicitBounds) != 2 || h.BucketCounts[1] != 2 {
		t.Errorf("%v", h)
	}
	if q := by["telemetry_pipeline_lag_seconds"].GetGauge().GetDataPoints()[0]; q.GetAsDouble() != 2 || q.Attributes[1].Value.GetStringValue() != "0.5" {
		t.Errorf("%v", q)
	}
	if n := by["telemetry_pipeline_lag_seconds_count"].GetSum().GetDataPoints()[0].GetAsDouble(); n != 3 {
		t.Errorf("count %v", n)
	}
}

// BenchmarkBody is what a page of ten parts with every series of the table costs and takes as
// a body: the most that a process tells.
func BenchmarkBody(b *testing.B) {
	var v trace.Values
	for i := range uint64(100_000) {
		v.Observe(i * 7)
	}
	p := &metric.Page{Traffic: true}
	for n := range 10 {
		part := string(rune('a' + n))
		for _, m := range metric.Table {
			switch m.Kind {
			case metric.Histogram:
				p.Distribute(m.Name, metric.Times(&v), "part", part)
			case metric.Summary:
				p.Distribute(m.Name, metric.Summed([]float64{0.5, 0.95, 1}, func(q float64) float64 { return float64(v.Quantile(q)) }, 1, 1), "part", part)
			default:
				p.Add(m.Name, 12345.5+float64(n), "part", part)
			}
		}
	}
	size := 0
	for b.Loop() {
		size = len(page(p, "mix-1", time.Unix(1, 0), time.Now()))
	}
	b.ReportMetric(float64(size), "bytes/body")
}
