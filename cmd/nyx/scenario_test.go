package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/lab"
)

// nyx runs the command line and returns what it printed.
func nyx(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := root()
	cmd.SetOut(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestScenarioList(t *testing.T) {
	out, err := nyx(t, "scenario", "list", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var all []listed
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) < 7 {
		t.Fatalf("%d scenarios, %v", len(all), err)
	}
	out, err = nyx(t, "scenario", "list")
	for _, e := range all {
		if err != nil || !strings.Contains(out, e.ID) || e.Title == "" || e.Mode == "" || len(e.Objectives) == 0 {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

// A run too small for a verdict fails, in one line, and leaves evidence that
// the report shows.
func TestScenarioRunAndReport(t *testing.T) {
	dir := t.TempDir()
	out, err := nyx(t, "scenario", "run", "df-045", "--scale", "0.005", "--no-control", "--out", dir, "--json")
	if err == nil || !strings.HasPrefix(err.Error(), "DF-045: void: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	var e lab.Evidence
	if err := json.Unmarshal([]byte(out), &e); err != nil || e.Verdict != lab.VerdictVoid || e.Seed != 1 || e.Control != nil {
		t.Errorf("evidence %+v, %v", e, err)
	}
	if out, err = nyx(t, "scenario", "report", "--out", dir); err != nil || !strings.Contains(out, "DF-045") || !strings.Contains(out, "void") {
		t.Errorf("report %q, %v", out, err)
	}
	for _, name := range []string{"ledger.md", "ledger.json", "ledger.html", e.FileName()} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Contains(b, []byte("DF-045")) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, line := range []string{
		"scenario run", "scenario run DF-999", "scenario run DF-045 --scale 2", "scenario run DF-045 --scale 0", "scenario list extra",
		"bench nothing", "bench hop --seconds -1", "bench idle --sessions -1",
	} {
		if _, err := nyx(t, strings.Fields(line)...); err == nil {
			t.Errorf("nyx %s was accepted", line)
		}
	}
}
