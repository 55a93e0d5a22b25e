package otlp

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/nyxnet/nyx/internal/engine/push"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/telemetry/span"
)

const (
	// waitingMost bounds the spans that wait to be gathered: an hour of probes.
	waitingMost = 1024
	// spansEvery is how often those that wait are.
	spansEvery = 5 * time.Second
)

// Exporter is a span.Recorder. It never blocks: what there is no room for is lost, and
// counted.
type Exporter struct {
	waiting chan span.Span
	lost    atomic.Uint64
	to      *push.Pusher
}

// StartSpans starts an exporter to the collector at cfg.URL, for which it does not wait. Of
// cfg it sets what, how often and how is sent; Every is for tests, 0 the usual.
func StartSpans(cfg push.Config) *Exporter {
	e := &Exporter{waiting: make(chan span.Span, waitingMost)}
	if cfg.Every == 0 {
		cfg.Every = spansEvery
	}
	cfg.Name, cfg.Header, cfg.Gather = "otlp-traces", header(), e.gather
	cfg.URL += tracesPath
	e.to = push.Start(cfg)
	return e
}

// Record implements span.Recorder.
func (e *Exporter) Record(s span.Span) {
	if s.Validate() != nil {
		e.lost.Add(1)
		return
	}
	select {
	case e.waiting <- s:
	default:
		e.lost.Add(1)
	}
}

// Lost counts spans that never were in a body.
func (e *Exporter) Lost() uint64 { return e.lost.Load() }

// Figures fills a page with what became of bodies of spans.
func (e *Exporter) Figures(to *metric.Page) { e.to.Figures(to) }

func (e *Exporter) gather(time.Time) []byte {
	var batch []span.Span
	for range len(e.waiting) {
		batch = append(batch, <-e.waiting)
	}
	if len(batch) == 0 {
		return nil
	}
	return body(&collector.ExportTraceServiceRequest{ResourceSpans: resources(batch)})
}

// Close sends or keeps what waits, and stops.
func (e *Exporter) Close() error { return e.to.Close() }

// resources are spans as the protocol has them: each process is a service.
func resources(batch []span.Span) (out []*trace.ResourceSpans) {
	of := map[string]*trace.ScopeSpans{}
	for i := range batch {
		s := &batch[i]
		scope := of[s.Process]
		if scope == nil {
			scope = &trace.ScopeSpans{Scope: &common.InstrumentationScope{Name: "nyx"}}
			of[s.Process] = scope
		}
		scope.Spans = append(scope.Spans, encode(s))
	}
	for _, process := range slices.Sorted(maps.Keys(of)) {
		out = append(out, &trace.ResourceSpans{Resource: service(process), ScopeSpans: []*trace.ScopeSpans{of[process]}})
	}
	return out
}

func encode(s *span.Span) *trace.Span {
	out := &trace.Span{
		TraceId: s.Trace[:], SpanId: s.ID[:], Name: string(s.Name), Kind: trace.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: uint64(s.Begin.UnixNano()), EndTimeUnixNano: uint64(s.End.UnixNano()),
	}
	if s.Parent != (span.ID{}) {
		out.ParentSpanId = s.Parent[:]
	}
	for _, k := range slices.Sorted(maps.Keys(s.Attributes)) {
		out.Attributes = append(out.Attributes, text("nyx."+string(k), s.Attributes[k]))
	}
	if o := s.Attributes[span.Outcome]; o != "" && o != "ok" {
		out.Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR, Message: o}
	}
	return out
}
