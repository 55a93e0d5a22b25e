package otlp

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/nyxnet/nyx/internal/telemetry/span"
)

func example(process string, outcome string) span.Span {
	at := time.Unix(1_700_000_000, 5)
	return span.Span{Trace: span.TraceID{1}, ID: span.ID{2}, Parent: span.ID{3}, Name: span.Probe, Process: process, Begin: at, End: at.Add(time.Second),
		Attributes: span.Attributes{span.Outcome: outcome, span.Level: "fast"}}
}

// What is recorded reaches the collector when the exporter ends, each process as a service,
// with ids, times and attributes; what is no span does not.
func TestSpansReachTheCollector(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"))
	got := make(chan *collector.ExportTraceServiceRequest, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		m := &collector.ExportTraceServiceRequest{}
		if err := proto.Unmarshal(b, m); err != nil || r.URL.Path != tracesPath {
			t.Errorf("%s: %v", r.URL, err)
		}
		got <- m
	}))
	defer s.Close()
	e, err := Start(Config{URL: s.URL, every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
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
		status  trace.Status_StatusCode
	}{{"control-1", trace.Status_STATUS_CODE_UNSET}, {"stream-1", trace.Status_STATUS_CODE_ERROR}} {
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

// A collector that is not there costs spans, of which is told once, and nobody waits for
// it, whoever records and however much.
func TestCollectorThatIsNotThere(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	told := make(chan error, 10)
	e, err := Start(Config{URL: s.URL, Failed: func(err error) { told <- err }, every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		e.Record(example("stream-1", "ok"))
	}
	if err := <-told; err == nil {
		t.Error("told of no reason")
	}
	for range waitingMost + 10 {
		e.Record(example("stream-1", "ok"))
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if len(told) != 0 || e.Lost() != waitingMost+13 {
		t.Errorf("told %d times more, %d lost of %d", len(told), e.Lost(), waitingMost+13)
	}
}
