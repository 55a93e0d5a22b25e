//go:build linux

package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
)

// oldLog makes the log of the control process of a network as if it had run on so many
// days before today, with a hundred events on each, and returns the IDs.
func oldLog(t *testing.T, state string, days int) (ids []string) {
	t.Helper()
	dir := filepath.Join(state, auditDir)
	keys, err := ledger.OpenFileKeys(filepath.Join(dir, auditKeysDir), true)
	if err != nil {
		t.Fatal(err)
	}
	now := audit.DayOf(time.Now()).Start().Add(-time.Duration(days) * 24 * time.Hour)
	l, err := ledger.Open(t.Context(), ledger.Config{Dir: dir, Origin: "nyx/test/audit/control-1", Node: "control-1", Signer: keys.Signer, Wrapper: keys.Wrapper, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for range days {
		events := make([]audit.Event, 100)
		for i := range events {
			events[i] = audit.Event{ID: audit.NewID(now, [10]byte{byte(i), 1}), Time: now, Kind: audit.AdminAction, Actor: "alice", Action: "drain", Subject: "mix-1", Count: 1}
			ids = append(ids, events[i].ID.String())
		}
		if err := l.Record(t.Context(), events...); err != nil {
			t.Fatal(err)
		}
		now = now.Add(24 * time.Hour)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return ids
}

// A control process that is configured to removes what is old from its log and from the
// index when it starts, says so in the log and in its metrics, and what commands then say
// of the log is true.
func TestRetentionRuns(t *testing.T) {
	network := networkFiles(t, 1)
	dir := filepath.Join(network, "control-1")
	ids := oldLog(t, filepath.Join(dir, "keys"), 5)
	log := []string{"--dir", filepath.Join(dir, "keys", auditDir)}
	run := func(want string, args ...string) string {
		t.Helper()
		return wantAudit(t, want, append(args, log...)...)
	}
	run("alice", "query", "--limit", "1") // an index of all of it
	run("with 2 days kept: 3 days", "retention", "--days", "2")
	configure(t, dir, "audit_days = 2\n")
	o := &operated{T: t, dir: network, temporary: t.TempDir(), metrics: map[string]string{}}
	port, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	o.metrics["control-1"] = listenMetrics(t, dir, port)
	p := o.start("control-1", nil, "node", "--config", filepath.Join(dir, "node.toml"))
	o.await(p, regexp.MustCompile(`msg="control process"`))
	o.await(p, regexp.MustCompile(`msg="days of the audit log were removed" .*events=300`))

	run("300 removed on the record", "verify")
	run("removed before: 300 events", "retention")
	run("with 2 days kept: nothing would go", "retention", "--days", "2")
	var page auditPage
	out := run("", "query", "--actor", "alice", "--limit", "1000", "--json")
	if err := json.Unmarshal([]byte(out), &page); err != nil || len(page.Events) != 200 || !strings.Contains(string(page.Events[0]), `"seq":300,`) {
		t.Errorf("%d events are found: %v, %.300s", len(page.Events), err, out)
	}
	run("control-1 remove audit.log", "query", "--kind", "retention")
	for want, args := range map[string][]string{"entry 10 was removed by retention": {"prove", "--seq", "10"}, "may be one of the 300 that retention has removed": {"prove", "--id", ids[10]}} {
		if out, err := nyx(t, append(append([]string{"audit"}, args...), log...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v", args, out, err)
		}
	}
	proof := filepath.Join(t.TempDir(), "proof")
	run("", "prove", "--id", ids[310], "--out", proof)
	wantAudit(t, "ok: it is entry 310", append([]string{"verify", "--proof", proof}, log...)...)
	export := filepath.Join(t.TempDir(), "export")
	run("200 events in 1 files", "export", "--actor", "alice", "--out", export)
	wantAudit(t, "ok: 200 events of entries 300 to", append([]string{"verify", "--export", export}, log...)...)
	report := t.TempDir()
	run("verified and signed", "report", "--format", "json", "--out", report)
	if b, err := os.ReadFile(filepath.Join(report, "report.json")); err != nil || !strings.Contains(string(b), "300 entries between the beginning and") {
		t.Errorf("%v: the report does not say what is missing: %.2000s", err, b)
	}
	metrics := string(o.pages()[0].content)
	for _, line := range []string{"audit_pruned_events_total", "audit_pruned_days_total", "audit_retention_overdue_days"} {
		value := map[string]string{"audit_pruned_events_total": "300", "audit_pruned_days_total": "3", "audit_retention_overdue_days": "0"}[line]
		if !regexp.MustCompile(`(?m)^` + line + `\{.*\} ` + value + `$`).MatchString(metrics) {
			t.Errorf("metrics do not say %s %s", line, value)
		}
	}
	o.stop()
	for _, line := range []string{"the index of the audit log is built anew", "the index forgets later", "are not removed"} {
		if strings.Contains(string(p.all()), line) {
			t.Errorf("it says %q:\n%s", line, p.all())
		}
	}
	run("the index equals them", "replay")
}

// listenMetrics has a process tell its metrics, and returns where.
func listenMetrics(t *testing.T, dir string, port uint16) string {
	t.Helper()
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String()
	f, err := os.OpenFile(filepath.Join(dir, "node.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("\n[metrics]\nlisten = \"" + at + "\"\n")
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Retention of a control process removes nothing that its copy does not have.
func TestRetentionWaitsForTheCopy(t *testing.T) {
	state := t.TempDir()
	oldLog(t, state, 4)
	store, err := openCompliance(state, "test", "control-1")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	copied := int64(0)
	store.copiedBy(func() int64 { return copied })
	today := audit.DayOf(time.Now())
	for _, step := range []struct {
		copied, removed int64
		waiting         int
	}{{0, 0, 3}, {199, 100, 2}, {300, 200, 0}} {
		copied = step.copied
		if r, err := store.prune(t.Context(), today-1); err != nil || r.Entries() != step.removed || r.Waiting != step.waiting {
			t.Errorf("%d entries copied: %+v, %v", copied, r, err)
		}
	}
}
