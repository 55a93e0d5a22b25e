package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// told is what nodes say of their configuration.
type told struct {
	mu    sync.Mutex
	last  map[string]NodeSettings
	grown chan struct{}
}

// listen hears what nodes say to a desk from now on.
func listen(d *SettingsDesk) *told {
	s := &told{last: map[string]NodeSettings{}, grown: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard = func(n NodeSettings) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last[n.Node] = n
		close(s.grown)
		s.grown = make(chan struct{})
	}
	return s
}

// await waits until so many nodes have a revision. The control process itself is none.
func (s *told) await(t *testing.T, nodes int, revision uint64) {
	t.Helper()
	limit := time.After(patience)
	for {
		s.mu.Lock()
		n, grown := 0, s.grown
		for name, said := range s.last {
			if name != "control" && said.Revision == revision {
				n++
			}
		}
		s.mu.Unlock()
		if n >= nodes {
			return
		}
		select {
		case <-grown:
		case <-limit:
			t.Fatalf("%d of %d nodes have revision %d: %+v", n, nodes, revision, s.last)
		}
	}
}

// The configuration changes a network that runs: its exits, its entries' limits, its
// logs; and back. Traffic goes on.
func TestSettingsReachRunningNodes(t *testing.T) {
	l, _ := controlled(t)
	log, said := l.Control.settings, listen(l.Control.desk)
	port := echoServer(t)
	open := func() error {
		c, err := l.Client.DialStream(t.Context(), "", "127.0.0.1", port)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err = c.Write([]byte("x")); err == nil {
			c.SetReadDeadline(time.Now().Add(patience))
			_, err = c.Read(make([]byte, 1))
		}
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	c := change(t, log, settings.ExitAllowPrivate, "false", settings.LogLevel, "debug", settings.AdmissionPerMinute, "500", settings.CoverRateMax, "120", settings.TelemetrySampling, "7")
	said.await(t, 5, c.Revision)
	if err := open(); err == nil {
		t.Error("an exit opens what the configuration forbids")
	}
	for _, n := range l.Nodes {
		v := n.settings.Get()
		if stream := n.gateway != nil; v.Int(settings.TelemetrySampling, 0) != 7 || (v[settings.AdmissionPerMinute] == "500") != stream {
			t.Errorf("%s has %v", n.cfg.Name, v)
		}
		if f := n.settler.figures(); f.Revision != c.Revision || f.Refused != 0 {
			t.Errorf("%s: %+v", n.cfg.Name, f)
		}
	}
	back, err := log.Rollback(t.Context(), settings.ID{8}, "alice", 0)
	if err != nil {
		t.Fatal(err)
	}
	said.await(t, 5, back.Revision)
	if err := open(); err != nil {
		t.Errorf("after the change was taken back: %v", err)
	}
	var page strings.Builder
	writeSettings(&page, l.parts())
	for _, want := range []string{`config_applied_version{part="mix-2"} 2`, `control_duplicate_event_detected{part="stream-0"} 0`, `control_event_queue_depth{part="control"} 0`, `config_dead_letter_count{part="control"} 0`} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the metrics lack %s:\n%s", want, page.String())
		}
	}
	for _, n := range l.Control.desk.Nodes() {
		if n.Node != "control" && n.Hash != StateHash(log.State()) {
			t.Errorf("%s says hash %s", n.Node, n.Hash)
		}
	}
}

// order orders what an operator does, by the operator file.
func order(t *testing.T, file, path string, o SettingsOrder) (c settings.Change, status int) {
	t.Helper()
	f, err := LoadOperatorFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o.ID = NewChangeID()
	body, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.Address()+OperatorPath+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+f.Token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, resp.StatusCode
}

// byLevel is a policy that refuses one level.
type byLevel struct {
	decider
	refused wire.Level
}

func (p *byLevel) Decide(ctx context.Context, region string, q control.Question) (control.Decision, error) {
	d, err := p.decider.Decide(ctx, region, q)
	if q.Level == p.refused {
		d.Refused = wire.RefusedPolicy
	}
	return d, err
}

func (p *byLevel) open(source string, draw prng.Source, told func(PolicyVersion, error)) (PolicyEngine, error) {
	_, err := p.decider.open(source, draw, told)
	return p, err
}

// The control plane decides whom entries admit, and an operator changes how often, while
// the network runs; both are in the audit log. Without the control plane the network goes
// on under what it was told last.
func TestTheControlPlaneOfANetwork(t *testing.T) {
	store, dir := newCompliance(), t.TempDir()
	operator := filepath.Join(dir, OperatorFileName)
	policy := &byLevel{decider{decision: control.Decision{CacheFor: time.Minute, Revision: "no-fast"}}, wire.Fast}
	l := standNetwork(t, LocalConfig{
		Seed: [32]byte{51}, Streams: 2, Mixes: 3, Regions: 1, Client: client.Config{Level: wire.Standard}, OperatorFile: operator,
		Control: func(cfg ControlConfig) (*Control, error) {
			cfg.Policy, cfg.Bus, cfg.Store, cfg.Settings = policy.open, pipeline.NewMemory(pipeline.Limits{}), store, registry.NewMemory(nil, nil)
			return StartControl(cfg)
		},
	})
	refused := make(chan struct{}, 1)
	fast, err := l.AddClient(client.Config{Level: wire.Fast, Sink: func(e trace.Event) {
		if e.Kind == trace.NodeAvoided && e.A == uint64(trace.ReasonRefused) {
			select {
			case refused <- struct{}{}:
			default:
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer fast.Close()
	e := store.await(t, 1, audit.ConfigChange, "policy.take")[0]
	if e.Detail("revision") != "no-fast" || e.Subject != policySubject {
		t.Errorf("the policy: %+v", e)
	}
	select {
	case <-refused:
	case <-time.After(patience):
		t.Fatalf("nobody refuses a client of a level that the policy refuses: %v", fast.why())
	}
	if err := fast.why(); !strings.Contains(err.Error(), "does not admit level fast") {
		t.Errorf("a client of a level that the policy refuses hears: %v", err)
	}
	for _, n := range l.Nodes {
		n.teller.tellCounts()
	}
	if e := store.await(t, 1, audit.AdmissionRefusal, "refuse")[0]; e.Reason != "policy" {
		t.Errorf("a refusal: %+v", e)
	}
	l.Control.tellCounts()
	for _, e := range store.await(t, 2, audit.PolicyClass, "decide") {
		if refused := strings.Contains(e.Detail("class"), "/fast/"); refused != (e.Outcome == audit.Refused) || refused && e.Reason != "policy" || e.Detail("revision") != "no-fast" {
			t.Errorf("decisions of a class: %+v", e)
		}
	}

	said := listen(l.Control.desk)
	set, _ := order(t, operator, "", SettingsOrder{Set: map[string]string{settings.AdmissionPerMinute: "1"}, Comment: "from 192.0.2.1"})
	said.await(t, len(l.Nodes), set.Revision)
	e = store.await(t, 1, audit.ConfigChange, "set")[0]
	if e.Actor != "operator" || e.Detail("revision") != fmt.Sprint(set.Revision) || e.Detail("keys") != settings.AdmissionPerMinute || e.Detail("message_id") != set.ID.String() {
		t.Errorf("the change: %+v", e)
	}
	if _, status := order(t, operator, "", SettingsOrder{Set: map[string]string{"192.0.2.1:80": "x"}}); status != http.StatusBadRequest {
		t.Errorf("an order of no key: %d", status)
	}
	if e := store.await(t, 1, audit.ConfigChange, "order")[0]; e.Outcome != audit.Refused || e.Actor != "operator" || e.Reason != "invalid" {
		t.Errorf("a refused order: %+v", e)
	}
	entry := l.Nodes[0]
	perMinute := 0
	entry.host.Do(func(machine.Time) { perMinute = entry.gateway.Limits().PerMinute })
	if perMinute != 1 {
		t.Errorf("an entry admits %d sessions of a client a minute", perMinute)
	}

	if err := l.Control.Close(); err != nil {
		t.Errorf("the control process ends: %v", err)
	}
	l.Control = nil
	port := echoServer(t)
	again, err := l.AddClient(client.Config{Level: wire.Standard})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := again.WaitReady(ctx); err != nil {
		t.Fatalf("without the control process: %v", err)
	}
	c, err := again.DialStream(ctx, "", "127.0.0.1", port)
	if err != nil {
		t.Fatalf("without the control process: %v", err)
	}
	c.Close()
	if v := entry.settings.Get(); v[settings.AdmissionPerMinute] != "1" {
		t.Errorf("without the control process the configuration is %v", v)
	}
}

// sameEngines starts control processes of a network on engines that they share, each of
// which believes that it leads.
func sameEngines(t *testing.T, l *Local, names ...string) (out []*Control, store *compliance) {
	t.Helper()
	store = newCompliance()
	bus, kept := pipeline.NewMemory(pipeline.Limits{}), registry.NewMemory(nil, nil)
	policy := &decider{decision: control.Decision{CacheFor: time.Minute, Revision: "1"}}
	for i, name := range names {
		key := [front.KeySize]byte{byte(i + 1)}
		c, err := StartControl(ControlConfig{Name: name, Listen: "127.0.0.1:0", Key: &key, Trust: l.trust, Authorities: []string{l.Authority.URL()},
			StateDir: t.TempDir(), Bus: bus, Store: store, Settings: kept, Policy: policy.open})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		out = append(out, c)
	}
	return out, store
}

// Several processes tell of a change, and of a policy, once, though all of them do.
func TestChangesAreToldOnce(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	all, store := sameEngines(t, l, "control-1", "control-2")
	const changes = 20
	for n := range changes {
		change(t, all[n%2].settings, settings.AdmissionPerMinute, fmt.Sprint(n+1))
	}
	store.await(t, changes, audit.ConfigChange, "set")
	for _, c := range all {
		c.Close() // what they were telling, they have told
	}
	seen := map[string]int{}
	for _, e := range store.await(t, changes, audit.ConfigChange, "set") {
		seen[e.Detail("revision")]++
	}
	for n := range changes {
		if seen[fmt.Sprint(n+1)] != 1 {
			t.Errorf("revision %d is in the log %d times", n+1, seen[fmt.Sprint(n+1)])
		}
	}
	if n := len(store.await(t, 1, audit.ConfigChange, "policy.take")); n != 1 {
		t.Errorf("one policy is in the log %d times", n)
	}
}

// A policy of the configuration's takes the place of the process's own, and one that
// cannot be had does not; both are told.
func TestTheConfigurationNamesThePolicy(t *testing.T) {
	store := newCompliance()
	sources := map[string]string{"": "own", "https://policies.test/good": "good"}
	l := standNetwork(t, LocalConfig{
		Seed: [32]byte{52}, Streams: 2, Mixes: 3, Regions: 1, Client: client.Config{Level: wire.Fast},
		Control: func(cfg ControlConfig) (*Control, error) {
			cfg.Bus, cfg.Store, cfg.Settings = pipeline.NewMemory(pipeline.Limits{}), store, registry.NewMemory(nil, nil)
			cfg.Policy = func(source string, draw prng.Source, told func(PolicyVersion, error)) (PolicyEngine, error) {
				d := &decider{decision: control.Decision{CacheFor: time.Minute, Revision: sources[source]}}
				if sources[source] == "" {
					told(PolicyVersion{}, fmt.Errorf("nothing at %s", source))
					return d, nil
				}
				return d.open(source, draw, told)
			}
			return StartControl(cfg)
		},
	})
	store.await(t, 1, audit.ConfigChange, "policy.take")
	log := l.Control.settings
	change(t, log, settings.PolicyBundle, "https://policies.test/bad")
	change(t, log, settings.PolicyBundle, "https://policies.test/good")
	e := store.await(t, 2, audit.ConfigChange, "policy.take")[1]
	if e.Detail("revision") != "good" || e.Detail("previous") != "own" {
		t.Errorf("told of %+v", e)
	}
	change(t, log, settings.PolicyBundle, "https://policies.test/bad")
	change(t, log, settings.PolicyBundle, "")
	if e := store.await(t, 3, audit.ConfigChange, "policy.take")[2]; e.Detail("revision") != "own" {
		t.Errorf("without a policy of the configuration's: %+v", e)
	}
	d, err := l.Control.policy.Decide(t.Context(), "eu", control.Question{})
	if err != nil || d.Revision != "own" {
		t.Errorf("it decides %+v, %v", d, err)
	}
}
