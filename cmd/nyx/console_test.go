package main

import (
	"log/slog"
	"testing"

	"github.com/nyxnet/nyx/internal/console"
	"github.com/nyxnet/nyx/internal/setup"
)

// TestAnOrganisationDoesNotRunTheNetwork: the console is of all organisations, so that
// its policy, in Rego as in the table, lets people of one do nothing there.
func TestAnOrganisationDoesNotRunTheNetwork(t *testing.T) {
	rego, err := startAccess(&setup.ControlConfig{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rego.Close)
	for by, policy := range map[string]*deciding{"the table": {}, "Rego": {&governed{opened: true, rego: rego}}} {
		for _, a := range []console.Action{console.See, console.SeeSettings, console.Configure, console.Operate, console.RunScenario} {
			if ok, why := policy.Decide(t.Context(), console.Person{Name: "ada", Role: console.Admin, Clearance: 1}, a); !ok {
				t.Errorf("%s: an admin of the network may not do %s: %s", by, a, why)
			}
			if ok, _ := policy.Decide(t.Context(), console.Person{Name: "ada", Role: console.Admin, Clearance: 1, Org: "north"}, a); ok {
				t.Errorf("%s: an admin of one organisation may do %s", by, a)
			}
		}
	}
}
