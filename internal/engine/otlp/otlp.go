// Package otlp sends spans to a collector by the OpenTelemetry protocol over HTTP.
//
// Spans come with their ids and times, which machines and probes choose: so they are
// written as the protocol has them and handed to OpenTelemetry's exporter, and its tracer,
// which makes ids and reads clocks by itself, is left out.
package otlp

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/nyxnet/nyx/internal/telemetry/span"
)

const (
	// waitingMost bounds the spans that wait to be sent: an hour of probes.
	waitingMost = 1024
	// every is how often those that wait are sent.
	every = 5 * time.Second
	// sendTimeout bounds a batch, with its repetitions; endTimeout the last one.
	sendTimeout = 10 * time.Second
	endTimeout  = time.Second
	// tracesPath is where a collector takes spans, below its URL.
	tracesPath = "/v1/traces"
)

// Config says where spans go.
type Config struct {
	// URL is that of the collector, as in http://127.0.0.1:4318.
	URL string
	// Failed hears why spans were lost, once until some are taken again; nil: nobody.
	Failed func(error)

	every time.Duration // for tests; 0: every
}

// Exporter is a span.Recorder. It never blocks: what there is no room for is lost, and
// counted.
type Exporter struct {
	cfg     Config
	client  otlptrace.Client
	waiting chan span.Span
	lost    atomic.Uint64
	cancel  context.CancelFunc
	running sync.WaitGroup
	failing bool
}

// Start returns an exporter, which does not wait for its collector.
func Start(cfg Config) (*Exporter, error) {
	if cfg.every == 0 {
		cfg.every = every
	}
	e := &Exporter{cfg: cfg, waiting: make(chan span.Span, waitingMost)}
	e.client = otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(cfg.URL+tracesPath), otlptracehttp.WithTimeout(sendTimeout))
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	if err := e.client.Start(ctx); err != nil {
		cancel()
		return nil, fmt.Errorf("traces to %s: %w", cfg.URL, err)
	}
	e.running.Go(func() { e.run(ctx) })
	return e, nil
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

// Lost counts spans that were not taken.
func (e *Exporter) Lost() uint64 { return e.lost.Load() }

func (e *Exporter) run(ctx context.Context) {
	tick := time.NewTicker(e.cfg.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.send(ctx, sendTimeout)
		}
	}
}

// send sends what waits.
func (e *Exporter) send(ctx context.Context, within time.Duration) {
	var batch []span.Span
	for range len(e.waiting) {
		batch = append(batch, <-e.waiting)
	}
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := e.client.UploadTraces(ctx, resources(batch))
	if err != nil {
		e.lost.Add(uint64(len(batch)))
		if !e.failing && e.cfg.Failed != nil {
			e.cfg.Failed(err)
		}
	}
	e.failing = err != nil
}

// Close sends what waits, as long as that takes no second, and stops.
func (e *Exporter) Close() error {
	e.cancel()
	e.running.Wait()
	e.send(context.Background(), endTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	return e.client.Stop(ctx)
}

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
		out = append(out, &trace.ResourceSpans{
			Resource:   &resource.Resource{Attributes: []*common.KeyValue{text("service.name", "nyx"), text("service.instance.id", process)}},
			ScopeSpans: []*trace.ScopeSpans{of[process]},
		})
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

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}
