package daemon

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// compliance is a compliance store in memory, which tells of each event.
type compliance struct {
	mu     sync.Mutex
	events []audit.Event
	seen   map[audit.ID]bool
	grown  chan struct{} // closed, and made anew, by each call
}

func newCompliance() *compliance {
	return &compliance{seen: map[audit.ID]bool{}, grown: make(chan struct{})}
}

func (r *compliance) Record(_ context.Context, events ...audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		if !r.seen[e.ID] {
			r.seen[e.ID], r.events = true, append(r.events, e)
		}
	}
	close(r.grown)
	r.grown = make(chan struct{})
	return nil
}

func (r *compliance) Close() error { return nil }

// await waits for n events of a kind and action, and returns them.
func (r *compliance) await(t *testing.T, n int, kind audit.Kind, action string) (found []audit.Event) {
	t.Helper()
	limit := time.After(patience)
	for {
		r.mu.Lock()
		found = nil
		for _, e := range r.events {
			if e.Kind == kind && e.Action == action {
				found = append(found, e)
			}
		}
		grown := r.grown
		r.mu.Unlock()
		if len(found) >= n {
			return found
		}
		select {
		case <-grown:
		case <-limit:
			t.Fatalf("%d events %v %s of %d", len(found), kind, action, n)
		}
	}
}

// controlled runs a network on this machine with a control process in memory.
func controlled(t *testing.T) (*Local, *compliance) {
	t.Helper()
	store := newCompliance()
	l := standNetwork(t, LocalConfig{
		Seed: [32]byte{50}, Streams: 2, Mixes: 3, Regions: 1, Client: client.Config{Level: wire.Fast},
		Control: inMemory(store, &decider{decision: control.Decision{CacheFor: time.Minute}}),
	})
	return l, store
}

// inMemory starts control processes on engines in memory, under one policy.
func inMemory(store *compliance, policy *decider) func(ControlConfig) (*Control, error) {
	return func(cfg ControlConfig) (*Control, error) {
		cfg.Bus, cfg.Store, cfg.Settings, cfg.Policy = &fillable{Bus: pipeline.NewMemory(pipeline.Limits{})}, store, registry.NewMemory(nil, nil), policy.open
		return StartControl(cfg)
	}
}

// TestControl: what happens at nodes is in the compliance store, under the identity
// of the node; metrics tell of it.
func TestControl(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("network", func(t *testing.T) {
		l, store := controlled(t)
		names := map[string]string{}
		for _, n := range l.Nodes {
			names[hex.EncodeToString(n.id[:])] = n.cfg.Name
		}
		store.await(t, 1, audit.AdminAction, "start")
		for _, e := range store.await(t, len(l.Nodes)+1, audit.AdminAction, "start") {
			if e.Subject != "control" && names[e.Actor] != e.Subject {
				t.Errorf("%s is told to have started by %s", e.Subject, e.Actor)
			}
		}
		n := l.Nodes[0]
		n.Leave()
		store.await(t, 1, audit.AdminAction, "drain")
		n.teller.neighbourLost(l.Nodes[3].id, link.Silent)
		lost := store.await(t, 1, audit.Incident, "neighbour.lost")[0]
		if lost.Subject != "node/"+hex.EncodeToString(l.Nodes[3].id[:]) || lost.Reason != "silent" || names[lost.Actor] != n.cfg.Name {
			t.Errorf("lost neighbour: %+v", lost)
		}
		n.teller.evidence("documents-1-2", true)
		if e := store.await(t, 1, audit.Incident, "evidence")[0]; e.Severity != audit.Critical || e.Subject != "directory/documents-1-2" {
			t.Errorf("evidence: %+v", e)
		}
		sink := n.teller.sink(nil)
		for range 3 {
			sink(trace.Event{Kind: trace.SessionRefused, A: uint64(wire.RefusedRate)})
		}
		sink(trace.Event{Kind: trace.SessionClosed, A: uint64(30 * time.Second)})
		sink(trace.Event{Kind: trace.SessionClosed, A: uint64(time.Millisecond)})
		n.teller.tellCounts()
		if e := store.await(t, 1, audit.AdmissionRefusal, "refuse")[0]; e.Count != 3 || e.Reason != "rate" {
			t.Errorf("refusals: %+v", e)
		}
		if e := store.await(t, 1, audit.SessionTerminate, "time-out")[0]; e.Count != 1 {
			t.Errorf("ends of sessions: %+v", e)
		}
		var page strings.Builder
		writeAudit(&page, l.parts())
		writeSettings(&page, l.parts())
		writeAdmission(&page, l.parts())
		for _, want := range []string{`audit_queue_depth{part="control",lane="incidents"} `, "audit_incident_capture_latency_count", `control_duplicate_event_detected{part="control"} `, `control_event_queue_depth{part="control"} 0`,
			`config_dead_letter_count{part="control"} 0`, `config_applied_version{part="mix-0"} 0`, "opa_decision_latency_count", `control_api_latency_count{part="control",path="/control/v1/policy"} `,
			"etcd_server_commit_duration_count", `policy_cache_miss{part="stream-0"} `, `api_handshake_errors_total{part="stream-0"} `, "telemetry_session_handshake_latency_count", `audit_outbox_depth{part="mix-0"} `} {
			if !strings.Contains(page.String(), want) {
				t.Errorf("the metrics lack %s:\n%s", want, &page)
			}
		}
	})
}

// TestControlAdmits: a control process takes events of nodes that the directory
// lists, under their own identity, and of nobody else.
func TestControlAdmits(t *testing.T) {
	l, store := controlled(t)
	ask := func(p *plane, path string, body []byte) (int, string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r, err := p.ask(ctx, request{path: path, post: body, most: 1 << 10})
		if err != nil {
			return 0, err.Error()
		}
		return r.StatusCode, r.said()
	}
	planeOf := func(label string) *plane {
		t.Helper()
		signer, err := newSigner(prng.New([32]byte{50}), label)
		if err != nil {
			t.Fatal(err)
		}
		p, err := newPlane(localName, []string{l.Control.URL()}, signer)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.close)
		return p
	}
	batch := func(p *plane, change func(*audit.Event)) []byte {
		id := directory.NodeID(p.signer.Public())
		e := audit.Event{Kind: audit.KeyEvent, Action: "rotate", Subject: "onion"}
		complete(&e, hex.EncodeToString(id[:]), systemEntropy().Stream("test"))
		change(&e)
		return pipeline.AppendBatch(nil, audit.Append(nil, &e))
	}
	same := func(*audit.Event) {}
	<-l.Nodes[0].Listed()
	node, stranger := planeOf("stream-0/identity"), planeOf("stranger/identity")
	waited := 0
	for ; ; waited++ { // the control process may not have the document yet
		if code, said := ask(node, eventsPath, batch(node, same)); code == http.StatusOK {
			break
		} else if !strings.Contains(said, "does not list") || waited > 1000 {
			t.Fatalf("a node's event: %d %s", code, said)
		}
	}
	for _, c := range []struct {
		what string
		from *plane
		body []byte
		code int
		said string
	}{
		{"a stranger", stranger, batch(stranger, same), 0, "does not list node"},
		{"another's name", node, batch(node, func(e *audit.Event) { e.Actor = "operator" }), http.StatusForbidden, "of its own acts"},
		{"another's kind", node, batch(node, func(e *audit.Event) { e.Kind = audit.AuditAccess }), http.StatusForbidden, "of its own acts"},
		{"no events", node, []byte("{}"), http.StatusBadRequest, "batch"},
		{"too large", node, make([]byte, pipeline.BatchBytes+1), http.StatusBadRequest, "too large"},
	} {
		if code, said := ask(c.from, eventsPath, c.body); code != c.code || !strings.Contains(said, c.said) {
			t.Errorf("%s: %d %q, want %d %q", c.what, code, said, c.code, c.said)
		}
	}
	other := planeOf("stream-0/identity") // another certificate: it must introduce itself anew
	if r, err := exchange(t.Context(), other.clients[0], request{server: other.servers[0].URL, path: eventsPath, post: batch(other, same), most: 1 << 10}); err != nil || r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a certificate that nobody has introduced: %v, %v", r.Response, err)
	}
	for _, q := range []request{{path: settingsPath + "?after=0"}, {path: PolicyPath, post: (&control.Checks{Region: "eu", Questions: []control.Question{{}}}).Encode()}} {
		q.server, q.most = other.servers[0].URL, 1<<10
		if r, err := exchange(t.Context(), other.clients[0], q); err != nil || r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s for a certificate that nobody has introduced: %v, %v", q.path, r.Response, err)
		}
		if _, err := stranger.ask(t.Context(), q); err == nil || !strings.Contains(err.Error(), "does not list node") {
			t.Errorf("%s for a stranger: %v", q.path, err)
		}
	}
	stolen, err := directory.SignIntroduction(node.signer, &directory.Introduction{Network: localName, Time: time.Now().Unix(), Server: node.servers[0].Pin, Own: node.own})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := exchange(t.Context(), stranger.clients[0], request{server: stranger.servers[0].URL, path: introducePath, post: stolen, most: 1 << 10}); err != nil || r.StatusCode != http.StatusForbidden {
		t.Errorf("an introduction under another's certificate: %v, %v", r.Response, err)
	}
	l.Control.tellCounts()
	turned := map[string]bool{}
	for _, e := range store.await(t, 2, audit.AdmissionRefusal, "refuse") {
		turned[e.Subject+" "+e.Reason] = true
	}
	if !turned[nodesDoor+" "+notIntroduced] || !turned[nodesDoor+" "+forgedEvents] {
		t.Errorf("who was turned away: %v", turned)
	}
	bus := l.Control.cfg.Bus.(*fillable)
	bus.full.Store(true)
	if _, said := ask(node, eventsPath, batch(node, same)); !strings.Contains(said, "come again") {
		t.Errorf("a full bus: %s", said)
	}
	bus.full.Store(false)
}

// fillable is a bus that may take nothing.
type fillable struct {
	pipeline.Bus
	full atomic.Bool
}

func (b *fillable) Publish(ctx context.Context, l pipeline.Lane, m ...pipeline.Message) (int, error) {
	if b.full.Load() {
		return 0, fmt.Errorf("for the test: %w", pipeline.ErrFull)
	}
	return b.Bus.Publish(ctx, l, m...)
}
