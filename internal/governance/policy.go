package governance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// Role is what somebody is here for. Nobody has more than one at a time.
type Role string

// Roles.
const (
	Viewer   Role = "viewer"   // sees how the service does
	Operator Role = "operator" // runs it, day by day
	Admin    Role = "admin"    // answers for it
	Auditor  Role = "auditor"  // answers for nobody, reads all, changes nothing
)

// Action is what may be done with what the API has.
type Action string

// Roles and Actions are all that there are.
var (
	Roles   = []Role{Viewer, Operator, Admin, Auditor}
	Actions = []Action{ReadEvents, Prove, MakeExport, ReadExport, MakeReport, ReadReport, ReadHistory, ReadFeed, Configure, Operate, RunScenario}
)

// Actions.
const (
	ReadEvents  Action = "events.read"
	Prove       Action = "events.prove"
	MakeExport  Action = "exports.make"
	ReadExport  Action = "exports.read"
	MakeReport  Action = "reports.make"
	ReadReport  Action = "reports.read"
	ReadHistory Action = "configuration.read"
	ReadFeed    Action = "insights.read"
	// Of the console, by the same policy: this API has no way to them.
	Configure   Action = "configuration.change"
	Operate     Action = "network.operate"
	RunScenario Action = "scenarios.run"
)

// Subject is who asks.
type Subject struct {
	Name string // as events name it
	Role Role
	// Org is the organisation whose events the subject may see; "" is the network's
	// own, whose people see those of all.
	Org string
	// Clearance is the most sensitive that the subject may see, if the role allows it.
	Clearance uint8
}

// Resource is what is asked for, by its attributes.
type Resource struct {
	Org         string // "" with AllOrgs
	AllOrgs     bool
	Sensitivity uint8         // the most sensitive in it
	Age         time.Duration // of the oldest in it; negative: without bound
}

// grant is what a role allows.
type grant struct {
	actions     []Action
	sensitivity uint8
	window      time.Duration // how far back; 0: without bound
}

const day = 24 * time.Hour

// grants are those of roles. Who runs the service takes no copies of its log, and who
// takes them runs nothing. internal/engine/opa/policy/governance.rego says the same.
var grants = map[Role]grant{
	Viewer:   {[]Action{ReadEvents, ReadReport, ReadHistory, ReadFeed}, 0, 7 * day},
	Operator: {[]Action{ReadEvents, Prove, ReadReport, ReadHistory, ReadFeed, Configure, Operate, RunScenario}, 1, 30 * day},
	Admin:    {[]Action{ReadEvents, Prove, MakeReport, ReadReport, ReadHistory, ReadFeed, Configure, Operate, RunScenario}, 1, 366 * day},
	Auditor:  {[]Action{ReadEvents, Prove, MakeExport, ReadExport, MakeReport, ReadReport, ReadHistory, ReadFeed}, audit.SensitivityMax, 0},
}

// Bounds are what somebody sees who asks without any.
type Bounds struct {
	Sensitivity uint8         // the most sensitive
	Window      time.Duration // how far back; 0: without bound
}

// Table is the policy that is built in, as a table. A process decides by the same
// policy in Rego (Rego), which a bundle may replace; a test compares the two.
type Table struct{}

// Bounds implements Decider.
func (Table) Bounds(_ context.Context, s *Subject) (Bounds, error) {
	g := grants[s.Role]
	return Bounds{min(g.sensitivity, s.Clearance), g.window}, nil
}

// Decide implements Decider.
func (Table) Decide(_ context.Context, s *Subject, a Action, r *Resource) (bool, string) {
	g, known := grants[s.Role]
	switch {
	case !known:
		return false, fmt.Sprintf("there is no role %q", s.Role)
	case !slices.Contains(g.actions, a):
		return false, fmt.Sprintf("role %s may not do %s", s.Role, a)
	case s.Org != "" && (r.AllOrgs || r.Org != s.Org):
		return false, "it is of another organisation"
	case r.Sensitivity > g.sensitivity || r.Sensitivity > s.Clearance:
		return false, fmt.Sprintf("sensitivity %d is above what you may see", r.Sensitivity)
	case g.window > 0 && (r.Age < 0 || r.Age > g.window):
		return false, fmt.Sprintf("role %s sees the last %d days", s.Role, g.window/day)
	}
	return true, ""
}

// narrow gives a filter the bounds of who asks, where it has none of its own, so that
// who asks for everything gets what they may see. What is asked for by name is left to
// the Decider.
func narrow(f audit.Filter, s *Subject, b Bounds, now time.Time) audit.Filter {
	if f.Org == nil && s.Org != "" {
		f.Org = &s.Org
	}
	if f.Sensitivity == nil {
		f.Sensitivity = &b.Sensitivity
	}
	if f.From.IsZero() && b.Window > 0 {
		f.From = now.Add(-b.Window)
	}
	return f
}

// resourceIn is what a filter with bounds finds.
func resourceIn(f *audit.Filter, now time.Time) Resource {
	r := Resource{AllOrgs: f.Org == nil, Sensitivity: *f.Sensitivity, Age: -1}
	if f.Org != nil {
		r.Org = *f.Org
	}
	if !f.From.IsZero() {
		r.Age = max(0, now.Sub(f.From))
	}
	return r
}

// resourceOf is what is seen of one event.
func resourceOf(e *audit.Event, now time.Time) Resource {
	return Resource{Org: e.Org, Sensitivity: e.Sensitivity, Age: max(0, now.Sub(e.Time))}
}
