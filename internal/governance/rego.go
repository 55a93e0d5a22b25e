package governance

import (
	"context"
	"log/slog"
	"time"

	"github.com/nyxnet/nyx/internal/engine/opa"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
)

// noAnswer is why a policy allows nothing that has failed, or took too long.
const noAnswer = "the policy gives no answer; the process's log says why"

// Rego decides by a policy in Rego: the one that is built in, which says what Table
// says, or a bundle. A policy that gives no answer allows nothing.
type Rego struct {
	access *opa.Access
	log    *slog.Logger
}

// StartRego takes up a policy, and whatever newer one its source has.
func StartRego(cfg opa.Config, rng prng.Source, log *slog.Logger) (*Rego, error) {
	access, err := opa.StartAccess(cfg, rng, names(Roles), names(Actions))
	if err != nil {
		return nil, err
	}
	return &Rego{access, log}, nil
}

func names[T ~string](all []T) (out []string) {
	for _, s := range all {
		out = append(out, string(s))
	}
	return out
}

// Close ends the looking for newer policies.
func (g *Rego) Close() { g.access.Close() }

// Figures are how long decisions took, in µs, and how many of them failed.
func (g *Rego) Figures() (latency trace.Values, failed uint64) {
	latency, failed, _ = g.access.Figures()
	return latency, failed
}

// Decide implements Decider.
func (g *Rego) Decide(ctx context.Context, s *Subject, a Action, r *Resource) (bool, string) {
	said, err := g.access.Decide(ctx, &opa.Request{
		Role: string(s.Role), Action: string(a), Org: s.Org, Clearance: s.Clearance,
		ResourceOrg: r.Org, AllOrgs: r.AllOrgs, Sensitivity: r.Sensitivity, Age: r.Age,
	})
	if err != nil {
		g.log.Error("the policy of governance gives no answer, and nothing is allowed", "role", string(s.Role), "action", string(a), "why", err)
		return false, noAnswer
	}
	return said.Allow, said.Reason
}

// Bounds implements Decider.
func (g *Rego) Bounds(ctx context.Context, s *Subject) (Bounds, error) {
	said, err := g.access.Decide(ctx, &opa.Request{Role: string(s.Role), Action: string(ReadEvents), Org: s.Org, Clearance: s.Clearance, ResourceOrg: s.Org, Age: -1})
	return Bounds{min(said.Sensitivity, s.Clearance), time.Duration(said.WindowDays) * day}, err
}
