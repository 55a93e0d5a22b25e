package governance

import (
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/opa"
	"github.com/nyxnet/nyx/internal/prng"
)

func startRego(t *testing.T, cfg opa.Config) (*Rego, error) {
	t.Helper()
	cfg.Limit = time.Minute // what is compared is what it says, not how long a busy machine keeps it
	g, err := StartRego(cfg, prng.FromUint64(1), slog.New(slog.DiscardHandler))
	if err == nil {
		t.Cleanup(g.Close)
	}
	return g, err
}

// TestRego: over every role, action, organisation, sensitivity, clearance and class of
// age, the policy in Rego says what Table says, in the same words.
func TestRego(t *testing.T) {
	g, err := startRego(t, opa.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ages := []time.Duration{-1, 0}
	for _, grant := range grants {
		if grant.window > 0 {
			ages = append(ages, grant.window-1, grant.window, grant.window+1)
		}
	}
	asked := 0
	for _, role := range append([]Role{"", "root"}, Roles...) {
		for _, org := range []string{"", "north"} {
			for clearance := range uint8(audit.SensitivityMax + 1) {
				s := &Subject{"somebody", role, org, clearance}
				want, _ := Table{}.Bounds(t.Context(), s)
				if got, err := g.Bounds(t.Context(), s); got != want || err != nil {
					t.Errorf("bounds of %+v: %+v, and by the table %+v (%v)", s, got, want, err)
				}
				for _, r := range resources(ages) {
					for _, a := range append([]Action{"events.write"}, Actions...) {
						asked++
						ok, why := Table{}.Decide(t.Context(), s, a, &r)
						said, reason := g.Decide(t.Context(), s, a, &r)
						if said != ok || reason != why {
							t.Fatalf("%+v %s %+v: Rego says %v %q, the table %v %q", s, a, r, said, reason, ok, why)
						}
					}
				}
			}
		}
	}
	t.Logf("%d questions", asked)
}

func resources(ages []time.Duration) (out []Resource) {
	for _, org := range []string{"", "north", "south"} {
		for _, all := range []bool{false, true} {
			for sensitivity := range uint8(audit.SensitivityMax + 1) {
				for _, age := range ages {
					out = append(out, Resource{org, all, sensitivity, age})
				}
			}
		}
	}
	return out
}

// policy writes a policy of one's own.
func policy(t *testing.T, rego string) opa.Config {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.rego"), []byte("package nyx.governance\n\n"+rego), 0o600); err != nil {
		t.Fatal(err)
	}
	return opa.Config{Source: dir}
}

// TestRegoReplaced: a bundle decides in the place of the policy that is built in, with
// bounds of its own, through the API.
func TestRegoReplaced(t *testing.T) {
	g, err := startRego(t, policy(t, `decision := {"allow": input.role == "viewer", "reason": "for viewers alone", "sensitivity": 2, "window_days": 0}`))
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(c *Config) { c.Decider = g })
	f.happen(60)
	if seqs, _ := f.events(f.get(person(Viewer), "audit-events?limit=1000&kind=config.change")); len(seqs) != 60 {
		t.Errorf("a viewer sees %d events", len(seqs))
	}
	w := f.get(person(Auditor), "audit-events")
	f.refused("an auditor", w, http.StatusForbidden, "policy")
	if !strings.Contains(w.Body.String(), "for viewers alone") {
		t.Errorf("the reason is %s", w.Body)
	}
}

// TestRegoRefused: what is no policy is not taken, and one that gives no answer allows
// nothing.
func TestRegoRefused(t *testing.T) {
	for what, c := range map[string]struct{ rego, want string }{
		"no rule":      {`other := 1`, "yields no"},
		"a truth":      {`decision := true`, "not a decision"},
		"a field":      {`decision := {"allow": true, "root": true}`, "not a decision"},
		"no reason":    {`decision := {"allow": false}`, "without a reason"},
		"a long time":  {`decision := {"allow": true, "window_days": 1000000}`, "window of 1000000 days"},
		"reaching out": {`decision := {"allow": http.send({"method": "GET", "url": "http://127.0.0.1/"}).status_code == 200}`, "undefined function"},
	} {
		if _, err := startRego(t, policy(t, c.rego)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	g, err := startRego(t, policy(t, `decision := {"allow": true, "reason": sprintf("%d", [1 / input.resource.sensitivity]), "window_days": 0} if input.resource.sensitivity > 0

decision := {"allow": true} if input.resource.age_s == -1`))
	if err != nil {
		t.Fatal(err)
	}
	s := person(Auditor)
	if ok, why := g.Decide(t.Context(), &s, ReadEvents, &Resource{}); ok || !strings.Contains(why, "no answer") {
		t.Errorf("a policy without an answer: %v %q", ok, why)
	}
	if _, failed := g.Figures(); failed != 1 {
		t.Errorf("%d decisions failed", failed)
	}
}

// TestFilterValues: what is written of a filter is read as the same.
func TestFilterValues(t *testing.T) {
	org, failed, most := "north & south", audit.Failed, uint8(1)
	for _, f := range []audit.Filter{
		{},
		{From: begin, To: begin.Add(time.Nanosecond), Kind: audit.KeyEvent, Severity: audit.Warning, Actor: "a=b", Subject: "c", Action: "d", Org: &org, Outcome: &failed, Sensitivity: &most},
	} {
		q, err := url.ParseQuery(FilterValues(&f).Encode())
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseFilter(q)
		if err != nil || got.String() != f.String() || !got.From.Equal(f.From) || !got.To.Equal(f.To) {
			t.Errorf("%v is read as %v (%v)", f.String(), got.String(), err)
		}
	}
}
