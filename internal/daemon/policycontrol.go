package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// PolicyVersion tells one policy from another.
type PolicyVersion struct {
	Revision string // as its bundle says; "" if that says none
	Digest   string
}

// PolicyEngine decides, and keeps itself under the newest bundle of its source.
type PolicyEngine interface {
	Decider
	Close()
}

// OpenPolicy opens an engine under the policy of a source, "" for the one that is built
// in. told hears of every bundle, at first before OpenPolicy returns: the policy that it
// brought, or why it was not taken. draw is for the moments at which it looks for one.
type OpenPolicy func(source string, draw prng.Source, told func(PolicyVersion, error)) (PolicyEngine, error)

// class is what decisions are counted by. While nothing can be told there are as many
// as policies come into force, 72 of each at most.
type class struct {
	question control.Question
	refused  wire.Refusal
	revision string // of the policy that was in force
}

func classEvent(c class, window string) audit.Event {
	e := audit.Event{Kind: audit.PolicyClass, Action: "decide", Subject: "POLICY_CHECK", Details: details(
		"class", c.question.Credential.String()+"/"+c.question.Level.String()+"/"+c.question.Load.String(), "revision", c.revision, "window", window)}
	if c.refused != 0 {
		e.Outcome, e.Reason = audit.Refused, reasons[c.refused]
	}
	return e
}

// underPolicy is an engine with what became of its bundles.
type underPolicy struct {
	engine  PolicyEngine
	source  string
	version PolicyVersion // in force
	refused string        // why the last bundle was not taken; "": it was
}

// policyDesk is a control process's part in admission: it decides by the newest policy,
// and knows what is to be told of it.
type policyDesk struct {
	open OpenPolicy
	own  string            // source, where the configuration of the network names none
	tell func(audit.Event) // of this process
	log  *slog.Logger

	mu      sync.Mutex
	active  *underPolicy
	version PolicyVersion // that was said last
	refused string        // likewise
	changed chan struct{} // closed, and made anew, with version
	classes *tally[class]
	latency trace.Values // µs of decisions
	counts  policyCounts

	traced tracer
}

// policyCounts are of decisions that were none, and of bundles.
type policyCounts struct{ failed, taken, refused uint64 }

func newPolicyDesk(open OpenPolicy, source string, tell func(audit.Event), log *slog.Logger) (*policyDesk, error) {
	d := &policyDesk{open: open, own: source, tell: tell, log: log, changed: make(chan struct{}), classes: newTally(classEvent)}
	if open == nil {
		return nil, errors.New("no engine of policies")
	}
	first, err := d.under(source)
	if err != nil {
		return nil, err
	}
	d.follow(first)
	return d, nil
}

// under opens an engine, which is not asked yet.
func (d *policyDesk) under(source string) (*underPolicy, error) {
	p := &underPolicy{source: source}
	var err error
	p.engine, err = d.open(source, systemEntropy(), func(v PolicyVersion, err error) { d.told(p, v, err) })
	return p, err
}

// follow has an engine decide from now on, and the one before no more.
func (d *policyDesk) follow(p *underPolicy) {
	d.mu.Lock()
	last := d.active
	d.active = p
	d.mu.Unlock()
	if last != nil {
		last.engine.Close()
	}
	d.say()
}

// told hears of a bundle of an engine.
func (d *policyDesk) told(p *underPolicy, v PolicyVersion, err error) {
	d.mu.Lock()
	if err != nil {
		p.refused = err.Error()
		d.counts.refused++
	} else {
		p.version, p.refused = v, ""
		d.counts.taken++
	}
	d.mu.Unlock()
	d.say()
}

// say tells what is new of the policy in force. A bundle that is not taken each process
// tells of by itself; of those that are the leader tells (tellPolicy).
func (d *policyDesk) say() {
	d.mu.Lock()
	p := d.active
	if p == nil || p.version == d.version && p.refused == d.refused {
		d.mu.Unlock()
		return
	}
	before, refused, taken := d.version, p.refused != d.refused && p.refused != "", p.version != d.version
	now, why := p.version, p.refused
	d.version, d.refused = now, why
	if taken {
		close(d.changed)
		d.changed = make(chan struct{})
	}
	d.mu.Unlock()
	if taken {
		d.log.Info("the policy of admission is in force", "revision", now.Revision, "before", before.Revision)
	}
	if refused {
		d.log.Error("a policy bundle is not taken; the policy before stays in force", "revision", now.Revision, "why", why)
		d.tell(audit.Event{Kind: audit.ConfigChange, Severity: audit.Warning, Action: "policy.refuse", Subject: policySubject,
			Outcome: audit.Refused, Reason: "bundle", Details: details("revision", now.Revision, "digest", now.Digest)})
	}
}

// Decide implements Decider.
func (d *policyDesk) Decide(ctx context.Context, region string, q control.Question) (control.Decision, error) {
	d.mu.Lock()
	engine := d.active.engine
	d.mu.Unlock()
	begun := time.Now()
	decision, err := engine.Decide(ctx, region, q)
	took := time.Since(begun)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.latency.Observe(uint64(took / time.Microsecond))
	if err != nil {
		d.counts.failed++
		return decision, err
	}
	d.classes.add(class{q, decision.Refused, d.version.Revision}, 1)
	return decision, nil
}

// present is the policy in force; changed is closed when another is.
func (d *policyDesk) present() (v PolicyVersion, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.version, d.changed
}

// subscriber has the configuration of the network name another source.
func (d *policyDesk) subscriber() settings.Subscriber {
	return settings.Subscriber{Name: "policy", Prepare: func(v settings.Values) (commit, abandon func(), err error) {
		source := cmp.Or(v[settings.PolicyBundle], d.own)
		if source == d.active.source { // nobody else changes it
			return func() {}, nil, nil
		}
		next, err := d.under(source)
		if err == nil && next.version == (PolicyVersion{}) {
			next.engine.Close()
			err = errors.New(next.refused)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", settings.PolicyBundle, err)
		}
		return func() { d.follow(next) }, next.engine.Close, nil
	}}
}

// serve answers nodes.
func (d *policyDesk) serve(w http.ResponseWriter, r *http.Request, _ wire.NodeID) {
	policyHandler(d, d.traced.decided(time.Now())).ServeHTTP(w, r)
}

func (d *policyDesk) close() {
	d.mu.Lock()
	engine := d.active.engine
	d.mu.Unlock()
	engine.Close()
}
