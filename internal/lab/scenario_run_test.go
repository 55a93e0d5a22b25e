package lab

import (
	"context"
	"os"
	"testing"

	"github.com/nyxnet/nyx/internal/engine/etcd"
	"github.com/nyxnet/nyx/scenarios"
)

// TestMain may be started as a member of a cluster.
func TestMain(m *testing.M) {
	etcd.RunMember()
	os.Exit(m.Run())
}

// TestScenario runs one scenario as the command does: NYX_SCENARIO=DF-003.
func TestScenario(t *testing.T) {
	id := os.Getenv("NYX_SCENARIO")
	if id == "" {
		t.Skip("set NYX_SCENARIO to run one")
	}
	c, err := Load(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{Catalogue: c, Funcs: Funcs()}
	e, err := l.Run(context.Background(), id, Options{Seed: 1, Progress: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*Execution{&e.Run, e.Control} {
		if x == nil {
			continue
		}
		t.Logf("protected %v: %.1f s wall, %.1f s virtual, %d datagrams, error %q", x.Protected, x.WallSeconds, x.VirtualSeconds, x.Datagrams, x.Error)
		for _, s := range x.Series {
			t.Logf("  %+v", s)
		}
		for _, res := range x.Results {
			t.Logf("  %v", res)
		}
		for _, n := range x.Notes {
			t.Logf("  note: %s", n)
		}
	}
	t.Logf("%s: %s", e.Verdict, e.Reason)
}
