package opa

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nyxnet/nyx/internal/prng"
)

// Request is what somebody wants of the audit log.
type Request struct {
	Role, Action string
	Org          string // whose they are; "" is the network's own
	Clearance    uint8
	// Of what is wanted: the organisation, or all of them, the most sensitive and the
	// age of the oldest, negative without bound.
	ResourceOrg string
	AllOrgs     bool
	Sensitivity uint8
	Age         time.Duration
}

// Grant is what a policy says to a Request, and the bounds of who asks without any.
type Grant struct {
	Allow       bool   `json:"allow"`
	Reason      string `json:"reason"` // of a refusal, for people
	Sensitivity uint8  `json:"sensitivity"`
	WindowDays  int64  `json:"window_days"` // 0: without bound
}

// Access decides who may read the audit log. Its methods may be called by many
// goroutines.
type Access struct{ *keeper }

// StartAccess returns one under the policy of a source, and keeps it under the newest.
// roles and actions are all that there are: a policy is taken if it has an answer to
// each of them.
func StartAccess(cfg Config, rng prng.Source, roles, actions []string) (*Access, error) {
	asked := question{query: "data.nyx.governance.decision", file: "policy/governance.rego", check: func(ctx context.Context, p *policy) error {
		for _, role := range roles {
			for _, action := range actions {
				if _, err := p.grant(ctx, &Request{Role: role, Action: action, Clearance: 2, Age: -1}); err != nil {
					return fmt.Errorf("asked for role %s, action %s: %w", role, action, err)
				}
			}
		}
		return nil
	}}
	k, err := keep(cfg, rng, asked)
	if err != nil {
		return nil, err
	}
	return &Access{k}, nil
}

// Decide answers a request.
func (a *Access) Decide(ctx context.Context, r *Request) (Grant, error) {
	begun := time.Now()
	g, err := a.active.Load().grant(ctx, r)
	a.took(time.Since(begun), err)
	return g, err
}

// windowMost bounds the days of a window: what a time.Duration holds.
const windowMost = 100_000

// grant asks. Of an age, seconds that have begun count: it is no greater than a window
// of whole seconds exactly when they are not.
func (p *policy) grant(ctx context.Context, r *Request) (g Grant, err error) {
	age := int64(-1)
	if r.Age >= 0 {
		age = int64((r.Age + time.Second - 1) / time.Second)
	}
	text := func(name, value string) [2]*ast.Term {
		return [2]*ast.Term{ast.InternedTerm(name), ast.StringTerm(value)}
	}
	number := func(name string, value int64) [2]*ast.Term {
		return [2]*ast.Term{ast.InternedTerm(name), ast.IntNumberTerm(int(value))}
	}
	input := ast.NewObject(
		text("role", r.Role), text("action", r.Action), text("org", r.Org), number("clearance", int64(r.Clearance)),
		[2]*ast.Term{ast.InternedTerm("resource"), ast.ObjectTerm(text("org", r.ResourceOrg), [2]*ast.Term{ast.InternedTerm("all_orgs"), ast.BooleanTerm(r.AllOrgs)},
			number("sensitivity", int64(r.Sensitivity)), number("age_s", age))})
	if err := p.ask(ctx, input, &g); err != nil {
		return Grant{}, err
	}
	switch {
	case !g.Allow && g.Reason == "":
		return Grant{}, errors.New("the policy refuses without a reason")
	case g.WindowDays < 0 || g.WindowDays > windowMost:
		return Grant{}, fmt.Errorf("the policy has a window of %d days; use 0 for none, or up to %d", g.WindowDays, windowMost)
	}
	return g, nil
}
