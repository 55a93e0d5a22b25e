package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
)

// auditLog makes a log of an administrative action and some refusals.
func auditLog(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "audit")
	keys, err := ledger.OpenFileKeys(filepath.Join(dir, "keys"), true)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(t.Context(), ledger.Config{Dir: dir, Origin: "nyx/test/audit", Node: "control-1", Signer: keys.Signer, Wrapper: keys.Wrapper})
	if err != nil {
		t.Fatal(err)
	}
	when := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for n := range 300 {
		e := audit.Event{ID: audit.NewID(when, [10]byte{byte(n), byte(n >> 8), 1}), Time: when, Kind: audit.AdmissionRefusal, Actor: "stream-1", Action: "refuse", Outcome: audit.Refused, Reason: "rate", Count: 3}
		if n == 17 {
			e.Kind, e.Severity, e.Actor, e.Subject, e.Action, e.Outcome = audit.ConfigChange, audit.Notice, "alice", "mix.queue_limit", "set", audit.OK
		}
		if err := l.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		when = when.Add(time.Second)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func wantAudit(t *testing.T, want string, args ...string) string {
	t.Helper()
	out, err := nyx(t, append([]string{"audit"}, args...)...)
	if err != nil || !strings.Contains(out, want) {
		t.Fatalf("nyx audit %s: %v, without %q:\n%.500s", strings.Join(args, " "), err, want, out)
	}
	return out
}

// TestAuditCommands follows an administrative change from the log to the index, the
// export and the proof.
func TestAuditCommands(t *testing.T) {
	dir := auditLog(t)
	wantAudit(t, "ok: 300 events", "verify", "--dir", dir)
	out := wantAudit(t, "alice set mix.queue_limit", "query", "--dir", dir, "--actor", "alice", "--severity", "notice", "--from", "2026-11-23")
	if strings.Count(out, "\n") != 1 {
		t.Errorf("query prints\n%s", out)
	}
	var page struct {
		Events []struct {
			Seq int64
			ID  string
		}
		Cursor string
	}
	out = wantAudit(t, `"cursor"`, "query", "--dir", dir, "--kind", "admission.refusal", "--limit", "10", "--newest", "--json")
	if err := json.Unmarshal([]byte(out), &page); err != nil || len(page.Events) != 10 || page.Events[0].Seq != 299 {
		t.Fatalf("%+v, %v", page, err)
	}
	out = wantAudit(t, "", "query", "--dir", dir, "--kind", "admission.refusal", "--limit", "10", "--newest", "--json", "--cursor", page.Cursor)
	if err := json.Unmarshal([]byte(out), &page); err != nil || page.Events[0].Seq != 289 {
		t.Fatalf("%+v, %v", page, err)
	}
	wantAudit(t, "the index equals them", "replay", "--dir", dir)
	if out := wantAudit(t, "stream-1 refuse", "tail", "--dir", dir, "-n", "5"); strings.Count(out, "\n") != 5 {
		t.Errorf("tail prints\n%s", out)
	}

	kept := t.TempDir() // what an auditor has: the key, the proof, the export
	key, proof := filepath.Join(kept, "log.key"), filepath.Join(kept, "event.proof")
	b, err := os.ReadFile(filepath.Join(dir, "log.key"))
	if err == nil {
		err = os.WriteFile(key, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	wantAudit(t, "", "prove", "--dir", dir, "--id", page.Events[0].ID, "--out", proof)
	wantAudit(t, "ok: it is entry 289 of the 300", "verify", "--key", key, "--proof", proof)
	for _, format := range []string{"csv", "jsonl", "parquet"} {
		export := filepath.Join(kept, format)
		wantAudit(t, "1 events in 1 files", "export", "--dir", dir, "--format", format, "--actor", "alice", "--out", export)
		wantAudit(t, "ok: 1 events", "verify", "--key", key, "--export", export)
	}
	for _, format := range []string{"md", "html", "json"} {
		report := filepath.Join(kept, "report-"+format)
		wantAudit(t, "report."+format+": 300 events", "report", "--dir", dir, "--format", format, "--out", report)
		wantAudit(t, "ok: 300 events", "verify", "--key", key, "--export", report)
	}
	checkpoint := filepath.Join(kept, "checkpoint")
	note, err := (&ledger.Store{Dir: dir}).Last()
	if err == nil {
		err = os.WriteFile(checkpoint, note, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	wantAudit(t, "ok: 300", "verify", "--dir", dir, "--checkpoint", checkpoint)

	// A log that was made anew verifies by itself, and not by what was kept.
	other := auditLog(t)
	wantAudit(t, "ok: 300", "verify", "--dir", other)
	if out, err := nyx(t, "audit", "verify", "--dir", other, "--key", key); err == nil {
		t.Errorf("another log verifies by the key of this one: %s", out)
	}
}

// TestAuditMistakes: each is one line that says what to do.
func TestAuditMistakes(t *testing.T) {
	dir := auditLog(t)
	for want, args := range map[string]string{
		"is no audit log":           "tail --dir " + t.TempDir(),
		"kinds are":                 "query --dir " + dir + " --kind login",
		"use 1 to 1000":             "query --dir " + dir + " --limit 100000",
		"is no time":                "query --dir " + dir + " --from yesterday",
		"not a cursor":              "query --dir " + dir + " --cursor ../../etc",
		"--seq N or --id ID":        "prove --dir " + dir,
		"no event":                  "prove --dir " + dir + " --id 00000000000000000000000000000000",
		"no checkpoint covers":      "prove --dir " + dir + " --seq 300",
		"use csv, jsonl or parquet": "export --dir " + dir + " --format pdf --out x",
		"not the form of one":       "verify --dir " + dir + " --proof " + filepath.Join(dir, "log.key"),
		"not a checkpoint":          "verify --dir " + dir + " --checkpoint " + filepath.Join(dir, "log.key"),
		"use md, html or json":      "report --dir " + dir + " --format pdf --out x",
		"is no day":                 "report --dir " + dir + " --from 24h --out x",
		"ends before it begins":     "report --dir " + dir + " --from 2026-11-02 --to 2026-11-01 --out x",
		"use 1 or more":             "tail --dir " + dir + " -n 0",
	} {
		if out, err := nyx(t, strings.Fields("audit "+args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}
