// Package opa decides by policies in Rego, with the engine of the Open Policy Agent in
// the process: who is admitted (Engine), and who may read the audit log (Access).
//
// A policy comes as a bundle: the one that is built in, a directory, an archive, or
// an archive behind a URL. It is prepared once, and asked with input that needs no
// parsing. A newer bundle is taken whole or not at all: it is verified, compiled and
// asked every question before it takes the place of the last, and what is wrong with
// one that is not taken is told.
//
// Bundles are signed in OPA's own format, ECDSA on P-256: what `opa build` and any
// bundle server make needs no tool of ours. The key and its algorithm are the
// configuration's, never the bundle's.
package opa

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
)

//go:embed policy
var builtIn embed.FS

// question is what a policy is asked, in whole: the rule that it yields, the policy
// that is built in, and what it must be able to answer before it is taken.
type question struct {
	query, file string
	check       func(context.Context, *policy) error
	limit       time.Duration // of one evaluation
}

var admission = question{query: "data.nyx.admission.decision", file: "policy/admission.rego", check: checkAdmission}

// Engine decides admission. Its methods may be called by many goroutines.
type Engine struct{ *keeper }

// keeper keeps the policy that is in force.
type keeper struct {
	asked  question
	active atomic.Pointer[policy]
	stop   context.CancelFunc
	done   chan struct{}

	unprepared bool

	mu      sync.Mutex
	latency trace.Values // µs of decisions
	failed  uint64       // decisions that were none
	loads   Loads
}

// Version tells one policy from another.
type Version struct {
	Revision string // as the manifest says; "" if it says none
	Digest   string // of rules and data, in hexadecimal
}

// Loads is what became of bundles.
type Loads struct {
	Version // of the policy in force
	Taken   uint64
	Refused uint64
	Why     string // the last was refused; "" if it was not
}

// policy is one prepared bundle.
type policy struct {
	Version
	number int64 // of the manifest; newer ones are not lower
	rule   string
	limit  time.Duration
	query  rego.PreparedEvalQuery
	bundle *bundle.Bundle // to be compiled for each decision: a control of tests; else nil
}

// forbidden are the functions that a policy does not have: what a decision rests on
// is its input, on every node of the control plane alike.
var forbidden = []string{"http.send", "net.lookup_ip_addr", "opa.runtime", "rand.intn", "time.now_ns", "uuid.rfc4122", "trace", "print"}

// capabilities are what remains.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(slices.Clone(c.Builtins), func(b *ast.Builtin) bool { return slices.Contains(forbidden, b.Name) })
	c.AllowNet = []string{}
	return c
}

// prepare compiles a bundle and asks it every question.
func prepare(ctx context.Context, asked question, b *bundle.Bundle) (*policy, error) {
	p := &policy{Version: Version{Revision: b.Manifest.Revision}, rule: asked.query, limit: asked.limit}
	var err error
	if p.Digest, err = digest(b); err != nil {
		return nil, err
	}
	if n, ok := b.Manifest.Metadata["number"]; ok {
		if p.number, err = strconv.ParseInt(fmt.Sprint(n), 10, 64); err != nil {
			return nil, fmt.Errorf("number in the manifest's metadata: %w", err)
		}
	}
	p.query, err = rego.New(rego.Query(asked.query), rego.ParsedBundle("nyx", b), rego.Capabilities(capabilities()), rego.StrictBuiltinErrors(true)).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("the policy does not compile: %w", err)
	}
	if err := asked.check(ctx, p); err != nil {
		return nil, err
	}
	return p, nil
}

func checkAdmission(ctx context.Context, p *policy) error {
	for place := range control.NumQuestions {
		q := control.QuestionAt(place)
		if _, err := p.decide(ctx, "", q); err != nil {
			return fmt.Errorf("asked for credential %s, level %s, load %s: %w", q.Credential, q.Level, q.Load, err)
		}
	}
	return nil
}

// digest is the hash of all that decides.
func digest(b *bundle.Bundle) (string, error) {
	data, err := json.Marshal(b.Data) // in the order of keys
	if err != nil {
		return "", err
	}
	parts := [][]byte{[]byte(b.Manifest.Revision), data}
	modules := slices.Clone(b.Modules)
	slices.SortFunc(modules, func(a, b bundle.ModuleFile) int { return strings.Compare(a.Path, b.Path) })
	for _, m := range modules {
		parts = append(parts, []byte(m.Path), m.Raw)
	}
	h := seal.Hash("policy bundle", parts...)
	return hex.EncodeToString(h[:]), nil
}

// evalMax bounds one evaluation: a policy that takes longer is not followed. It is more
// than a busy machine holds a process up for.
const evalMax = time.Second

var (
	keyCredential = ast.InternedTerm("credential")
	keyLevel      = ast.InternedTerm("level")
	keyLoad       = ast.InternedTerm("load")
	keyRegion     = ast.InternedTerm("region")
)

func (p *policy) decide(ctx context.Context, region string, q control.Question) (control.Decision, error) {
	input := ast.NewObject(
		[2]*ast.Term{keyCredential, ast.StringTerm(q.Credential.String())}, [2]*ast.Term{keyLevel, ast.StringTerm(q.Level.String())},
		[2]*ast.Term{keyLoad, ast.StringTerm(q.Load.String())}, [2]*ast.Term{keyRegion, ast.StringTerm(region)})
	var said control.DecisionJSON
	if err := p.ask(ctx, input, &said); err != nil {
		return control.Decision{}, err
	}
	if said.Revision == "" { // who caches decisions tells policies apart by it
		said.Revision = cmp.Or(p.Revision, p.Digest[:16])
	}
	return said.Decision()
}

// ask evaluates the policy and decodes what it yields.
func (p *policy) ask(ctx context.Context, input ast.Value, into any) error {
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	results, err := p.eval(ctx, input)
	if err != nil {
		return err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return errors.New("the policy yields no " + p.rule)
	}
	b, err := json.Marshal(results[0].Expressions[0].Value)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s is not a decision: %w", p.rule, err)
	}
	return nil
}

func (p *policy) eval(ctx context.Context, input ast.Value) (rego.ResultSet, error) {
	if p.bundle != nil {
		return rego.New(rego.Query(p.rule), rego.ParsedBundle("nyx", p.bundle), rego.ParsedInput(input)).Eval(ctx)
	}
	return p.query.Eval(ctx, rego.EvalParsedInput(input))
}

// Decide answers a POLICY_CHECK of a node in a region.
func (e *Engine) Decide(ctx context.Context, region string, q control.Question) (control.Decision, error) {
	begun := time.Now()
	p := e.active.Load()
	if p == nil {
		return control.Decision{}, errNone
	}
	d, err := p.decide(ctx, region, q)
	e.took(time.Since(begun), err)
	return d, err
}

func (e *keeper) took(d time.Duration, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.latency.Observe(uint64(d / time.Microsecond))
	if err != nil {
		e.failed++
	}
}

// Figures returns how long decisions took in µs (opa_decision_latency), how many of
// them failed, and what became of bundles.
func (e *keeper) Figures() (latency trace.Values, failed uint64, loads Loads) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.latency, e.failed, e.loads
}

// Close ends the looking for newer bundles.
func (e *keeper) Close() {
	e.stop()
	<-e.done
}

// errNone says that no bundle could be had since the engine started.
var errNone = errors.New("there is no policy yet: its bundle could not be had")

// errOlder says that a bundle is one that was replaced.
var errOlder = errors.New("the number in its manifest is lower than that of the policy in force: give a new policy a higher one")

// take puts a bundle in the place of the last, or says why not.
func (e *keeper) take(ctx context.Context, b *bundle.Bundle) error {
	p, err := prepare(ctx, e.asked, b)
	if last := e.active.Load(); err == nil && last != nil && p.number < last.number {
		err = errOlder
	}
	if err != nil {
		return err
	}
	if e.unprepared {
		p.bundle = b
	}
	e.active.Store(p)
	return nil
}

// told counts what became of a bundle.
func (e *keeper) told(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.loads.Why = ""; err != nil {
		e.loads.Refused++
		e.loads.Why = err.Error()
		return
	}
	e.loads.Taken++
	e.loads.Version = e.active.Load().Version
}

// shipped is a bundle that is built in.
func shipped(path string) (*bundle.Bundle, error) {
	src, err := fs.ReadFile(builtIn, path)
	if err != nil {
		return nil, err
	}
	module, err := ast.ParseModuleWithOpts(path, string(src), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, err
	}
	b := &bundle.Bundle{Data: map[string]any{}, Modules: []bundle.ModuleFile{{URL: path, Path: path, Parsed: module, Raw: src}}}
	b.Manifest.Init()
	b.Manifest.Revision = "built-in"
	return b, nil
}
