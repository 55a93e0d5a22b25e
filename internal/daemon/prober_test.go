package daemon

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/registry/changes"
	"github.com/nyxnet/nyx/internal/slo"
	"github.com/nyxnet/nyx/internal/telemetry/span"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// keptSpans are spans in memory.
type keptSpans struct {
	mu    sync.Mutex
	spans []span.Span
	grown chan struct{} // closed, and made anew, with each
}

func newKeptSpans() *keptSpans { return &keptSpans{grown: make(chan struct{})} }

func (k *keptSpans) Record(s span.Span) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.spans = append(k.spans, s)
	close(k.grown)
	k.grown = make(chan struct{})
}

func (k *keptSpans) now() ([]span.Span, chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.spans), k.grown
}

// await waits for a trace that is as wanted.
func (k *keptSpans) await(t *testing.T, want func(span.Trace) bool) span.Trace {
	t.Helper()
	limit := time.After(patience)
	for {
		spans, grown := k.now()
		for _, s := range spans {
			if err := s.Validate(); err != nil {
				t.Fatal(err)
			}
		}
		all := span.Traces(spans)
		if i := slices.IndexFunc(all, want); i >= 0 {
			return all[i]
		}
		select {
		case <-grown:
		case <-limit:
			var b strings.Builder
			if len(all) > 0 {
				all[len(all)-1].Write(&b)
			}
			t.Fatalf("no such trace among %d, the last of which is\n%s", len(all), &b)
		}
	}
}

// tracedNetwork runs a network with a control process in memory, in which Stream nodes probe so
// often.
func tracedNetwork(t *testing.T, every time.Duration) (*Local, *keptSpans, *compliance) {
	t.Helper()
	return tracedUnder(t, every, &decider{decision: control.Decision{CacheFor: time.Minute, Revision: "r1"}})
}

// tracedUnder is a tracedNetwork under a policy.
func tracedUnder(t *testing.T, every time.Duration, policy *decider) (*Local, *keptSpans, *compliance) {
	t.Helper()
	spans, store := newKeptSpans(), newCompliance()
	l := standNetwork(t, LocalConfig{
		Seed: [32]byte{51}, Streams: 2, Mixes: 3, Regions: 1, Client: client.Config{Level: wire.Fast},
		Control: inMemory(store, policy),
		Probe:   ProbeConfig{Every: every, Level: wire.Fast}, Spans: spans,
	})
	return l, spans, store
}

// A probe is one trace with every step of the specification's sequence, in its order, of
// which the control process has written its own; metrics say what probes found.
func TestProbeIsOneTrace(t *testing.T) {
	l, spans, _ := tracedNetwork(t, 200*time.Millisecond)
	whole := spans.await(t, func(t span.Trace) bool { return t.Root().Name == span.Probe && t.Missing() == "" })
	for i := range whole {
		want := whole.Root().Process
		if whole[i].Name == span.PolicyAccept {
			want = "control"
		}
		if whole[i].Process != want {
			t.Errorf("%s is written by %s, not by %s", whole[i].Name, whole[i].Process, want)
		}
	}
	if whole.Root().Attributes[span.Outcome] != "ok" {
		t.Errorf("the probe: %v", whole.Root().Attributes)
	}
	for _, name := range span.Sequence { // the control: without any one of its steps the trace is not whole
		less := slices.DeleteFunc(slices.Clone(whole), func(s span.Span) bool { return s.Name == name })
		if m := less.Missing(); !strings.HasPrefix(m, string(name)) {
			t.Errorf("without %s: %q", name, m)
		}
	}
	var page strings.Builder
	told := l.source().page()
	told.Text(&page)
	for _, name := range slo.Series(slo.Objectives) { // what is promised can be judged without metrics.traffic
		if !slices.ContainsFunc(told.Families(), func(f *metric.Family) bool { return f.Name == name }) {
			t.Errorf("an objective rests on %s, which this network does not tell", name)
		}
	}
	part := `part="` + probesPart(whole.Root().Process) + `"`
	for _, want := range []string{"end_to_end_success_ratio{" + part + "} 1\n", "end_to_end_latency_p95{" + part, "end_to_end_latency_count{" + part, "nyx_probes_total{" + part} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in\n%s", want, page.String())
		}
	}
}

// A user's session leaves nothing, with tracing on and a probe of the same entry under way
// at the same time. The control: it does where the prober has its nonce, which the user's
// client alone can tell.
func TestUsersLeaveNoSpan(t *testing.T) {
	l, spans, _ := tracedNetwork(t, time.Hour)
	entry := l.Nodes[0]
	visit := func(steps trace.Sink) {
		t.Helper()
		user, err := l.AddClient(client.Config{Level: wire.Fast, Entry: entry.id, Steps: steps})
		if err != nil {
			t.Fatal(err)
		}
		defer user.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := user.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	steps := func(underWay *probing) (n int) {
		entry.prober.mu.Lock()
		defer entry.prober.mu.Unlock()
		for _, k := range []trace.Kind{trace.StepCame, trace.StepDecided} {
			if !underWay.at[k].IsZero() {
				n++
			}
		}
		return n
	}
	begin := func() *probing {
		entry.prober.mu.Lock()
		defer entry.prober.mu.Unlock()
		entry.prober.now = newProbing(entry.prober.draw)
		entry.prober.now.nonce, entry.prober.now.begun = [16]byte{1, 2, 3}, true
		return entry.prober.now
	}
	underWay := begin()
	visit(nil)
	if n := steps(underWay); n != 0 {
		t.Errorf("a user's session left %d steps", n)
	}
	if kept, _ := spans.now(); len(kept) != 0 {
		t.Errorf("users left %d spans, as %+v", len(kept), kept[0])
	}
	underWay = begin()
	visit(func(e trace.Event) {
		if e.Kind == trace.StepInit {
			entry.prober.mu.Lock()
			defer entry.prober.mu.Unlock()
			binary.BigEndian.PutUint64(underWay.nonce[:], e.A)
			binary.BigEndian.PutUint64(underWay.nonce[8:], e.B)
		}
	})
	if n := steps(underWay); n != 2 {
		t.Errorf("control: %d steps of a session whose nonce the prober has", n)
	}
}

// What users ask together with a probe is no part of its trace, refused or not: the
// probe's question has a request of its own. (Control: asked in one request with the name
// of a trace, questions leave no span at all; the probe's alone does.)
func TestUsersQuestionsLeaveNoSpan(t *testing.T) {
	own, users := control.Question{Level: wire.Fast}, control.Question{Level: wire.Extreme}
	l, spans, _ := tracedUnder(t, time.Hour, &decider{
		decision: control.Decision{CacheFor: time.Minute, Revision: "r1"},
		refuses:  func(q control.Question) bool { return q.Level == wire.Extreme },
	})
	entry := l.Nodes[0]
	p := entry.prober
	p.mu.Lock()
	p.now = newProbing(p.draw)
	p.now.stamp(trace.Event{Kind: trace.StepCame, A: 0}) // of own
	together := span.With(t.Context(), span.Context{Trace: p.now.trace, Span: p.now.check})
	p.mu.Unlock()
	if control.QuestionAt(0) != own {
		t.Fatalf("%+v is not the first question", own)
	}
	for _, asked := range [][]control.Question{{users}, {users, own}, {own}} { // the control process makes its span before it answers
		if err := entry.decide(t.Context(), asked); err != nil {
			t.Fatal(err)
		}
	}
	kept, _ := spans.now()
	if len(kept) != 2 || kept[0].Name != span.PolicyAccept || kept[1].Name != span.PolicyAccept {
		t.Errorf("a question of users and two of the probe left %+v", kept)
	}
	if _, err := entry.check(together, []control.Question{own, users}); err != nil {
		t.Fatal(err)
	}
	if n, _ := spans.now(); len(n) != 2 {
		t.Errorf("users' questions under the name of a trace left %+v", n[2:])
	}
	if _, err := entry.check(together, []control.Question{own}); err != nil {
		t.Fatal(err)
	}
	if n, _ := spans.now(); len(n) != 3 {
		t.Errorf("control: the probe's question alone left %d spans", len(n)-2)
	}
}

// A probe that does not arrive is counted, and its trace says how far it came.
func TestProbeThatFails(t *testing.T) {
	l, spans, _ := tracedNetwork(t, time.Hour)
	p := l.Nodes[0].prober
	p.timeout = -1
	p.probe(t.Context())
	if f := p.known(); f.asked != 1 || f.answered != 0 {
		t.Errorf("%d of %d arrived", f.answered, f.asked)
	}
	part := spans.await(t, func(t span.Trace) bool { return t.Root().Name == span.Probe })
	if part.Root().Attributes[span.Outcome] != "failed" || part.Missing() == "" {
		t.Errorf("it lacks %q and is %v", part.Missing(), part.Root().Attributes)
	}
}

// A change of the configuration is one trace: accepted, taken by every part, told to the
// audit log, and recorded there.
func TestChangeIsOneTrace(t *testing.T) {
	l, spans, _ := tracedNetwork(t, time.Hour)
	if _, err := l.Control.settings.Submit(t.Context(), submission(map[string]string{settings.AdmissionPerMinute: "60"})); err != nil {
		t.Fatal(err)
	}
	spans.await(t, func(t span.Trace) bool {
		n := map[span.Name]int{}
		for _, s := range t {
			n[s.Name]++
		}
		return t.Root().Name == span.ConfigChange && n[span.ConfigApply] == len(l.Nodes)+1 && n[span.AuditEvent] == 1 && n[span.StoreEvent] == 1
	})
}

// What is too long for an attribute is cut, and can be written and read again.
func TestBriefIsWritable(t *testing.T) {
	for _, text := range []string{"r1", strings.Repeat("x", 70), strings.Repeat("x", span.ValueMax-1) + "é", strings.Repeat("政", 30), "\xff\xfe"} {
		at := time.Unix(1, 0).UTC()
		s := span.Span{Trace: span.TraceID{1}, ID: span.ID{1}, Name: span.PolicyAccept, Begin: at, End: at, Attributes: span.Attributes{span.Revision: brief(text)}}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again span.Span
		if err := json.Unmarshal(b, &again); err != nil || again.Validate() != nil || again.Attributes[span.Revision] != brief(text) {
			t.Errorf("%q is read again as %q, %v, %v", brief(text), again.Attributes[span.Revision], err, again.Validate())
		}
	}
}

func submission(set map[string]string) changes.Submission {
	return changes.Submission{Change: settings.Change{ID: settings.ID{1}, Actor: "operator", Set: set}}
}
