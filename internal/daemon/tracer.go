package daemon

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/telemetry/span"
)

// tracer makes the spans of one part of the network. The zero tracer makes none; others
// are safe for concurrent use.
type tracer struct {
	process string
	to      span.Recorder // nil: nobody
	mu      *sync.Mutex
	draw    *prng.Stream
}

func newTracer(process string, to span.Recorder) tracer {
	if to == nil {
		return tracer{}
	}
	return tracer{process, to, new(sync.Mutex), systemEntropy().Stream("spans")}
}

// span records a span and returns its id. The zero id is drawn.
func (t *tracer) span(s span.Span) span.ID {
	if s.ID == (span.ID{}) {
		t.mu.Lock()
		t.draw.Read(s.ID[:])
		t.mu.Unlock()
	}
	s.Process = t.process
	if s.End.Before(s.Begin) {
		s.Begin = s.End // of another process, whose clock is ahead
	}
	t.to.Record(s)
	return s.ID
}

// decided makes the span of a POLICY_CHECK that names a trace, which probes' alone do. It
// asks one thing: where others are asked with it, they are users', and there is no span.
func (t *tracer) decided(begun time.Time) func(*http.Request, string, []control.Decision) {
	if t.to == nil {
		return nil
	}
	return func(r *http.Request, region string, decisions []control.Decision) {
		of := span.Extract(r)
		if !of.Valid() || len(decisions) != 1 {
			return
		}
		d := &decisions[0]
		t.span(span.Span{Trace: of.Trace, Parent: of.Span, Name: verdict(d.Refused == 0), Begin: begun, End: time.Now(),
			Attributes: span.Attributes{span.Region: region, span.Revision: brief(d.Revision)}})
	}
}

// brief is what has room in an attribute, without half a rune at its end: JSON would put
// three bytes in the place of each of its bytes, and nobody could read the span again.
func brief(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), span.ValueMax)], "")
}

// changeTrace is the trace of a change of the configuration, and the span of its
// acceptance in it. They follow from the change's message id, which everybody has whom the
// change reaches: no two need to agree.
func changeTrace(id settings.ID) span.Context {
	h := seal.Hash("trace of a configuration change", id[:])
	return span.Context{Trace: span.TraceID(h[:16]), Span: span.ID(h[16:24])}
}

// accepted makes the spans of changes of which the bus has the events.
func (t *tracer) accepted(some []settings.Change) {
	if t.to == nil {
		return
	}
	for i := range some {
		c := &some[i]
		of := changeTrace(c.ID)
		t.span(span.Span{Trace: of.Trace, ID: of.Span, Name: span.ConfigChange, Begin: c.At, End: time.Now(),
			Attributes: span.Attributes{span.Revision: strconv.FormatUint(c.Revision, 10)}})
	}
}

// applied makes the spans of changes that a part has taken, those apart whose time has not
// come.
func (t *tracer) applied(some []settings.Change, come time.Time) {
	if t.to == nil {
		return
	}
	now := time.Now()
	for i := range some {
		if some[i].Effective.After(now) {
			continue
		}
		of := changeTrace(some[i].ID)
		t.span(span.Span{Trace: of.Trace, Parent: of.Span, Name: span.ConfigApply, Begin: come, End: now,
			Attributes: span.Attributes{span.Revision: strconv.FormatUint(some[i].Revision, 10)}})
	}
}

// tracedStore is a compliance store which makes spans of the events that tell of changes
// of the configuration.
type tracedStore struct {
	Store
	traces tracer
}

// Record implements audit.Recorder.
func (s *tracedStore) Record(ctx context.Context, events ...audit.Event) error {
	begun := time.Now()
	err := s.Store.Record(ctx, events...)
	if err != nil {
		return err
	}
	now := time.Now()
	for i := range events {
		id, ok := changeOf(&events[i])
		if !ok {
			continue
		}
		of, label := changeTrace(id), brief(events[i].ID.String())
		event := s.traces.span(span.Span{Trace: of.Trace, Parent: of.Span, Name: span.AuditEvent, Begin: events[i].Time, End: now, Attributes: span.Attributes{span.Event: label}})
		s.traces.span(span.Span{Trace: of.Trace, Parent: event, Name: span.StoreEvent, Begin: begun, End: now})
	}
	return nil
}

// changeOf is the change that an event is about, if it is about one.
func changeOf(e *audit.Event) (id settings.ID, ok bool) {
	if e.Kind != audit.ConfigChange {
		return id, false
	}
	for _, d := range e.Details {
		if d.Key == "message_id" {
			id, err := settings.ParseID(d.Value)
			return id, err == nil
		}
	}
	return id, false
}
