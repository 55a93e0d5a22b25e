package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	index "github.com/nyxnet/nyx/internal/engine/sql"
	"github.com/nyxnet/nyx/internal/governance"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/wire"
)

// governing is a control process that serves governance, as far as a test looks into
// it.
type governing struct {
	*testing.T
	dir    string
	people *people
	store  *compliance
	beside *governed
	url    string
}

// newGoverning is one that is not there yet.
func newGoverning(t *testing.T) *governing {
	return &governing{T: t, dir: t.TempDir(), people: newPeople(t)}
}

// configure has a control process serve governance to the people of the test.
func (g *governing) configure(cfg *daemon.ControlConfig) {
	cfg.StateDir = g.dir
	cfg.Plane.Governance = netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Plane.People = g.people.file
}

// equip gives it its engines.
func (g *governing) equip(cfg *daemon.ControlConfig) error {
	var err error
	if g.store, err = openCompliance(cfg.StateDir, cfg.Trust.Network, cfg.Name); err != nil {
		return err
	}
	if g.beside, err = equip(cfg, g.store); err != nil {
		return err
	}
	certificate, err := front.Issue(cfg.Key, time.Now())
	if err != nil {
		return err
	}
	pin, err := front.Pin(&certificate)
	g.url = mirror.Server{URL: "https://" + g.beside.listener.Addr().String(), Pin: pin, Replica: true}.String()
	return err
}

// alone runs its engines without the control process itself.
func (g *governing) alone(change func(*daemon.ControlConfig)) (close func()) {
	g.Helper()
	cfg := daemon.ControlConfig{Name: "control", Key: &[front.KeySize]byte{7}}
	cfg.Trust.Network = "local"
	g.configure(&cfg)
	if change != nil {
		change(&cfg)
	}
	if err := g.equip(&cfg); err != nil {
		g.Fatal(err)
	}
	return func() {
		for _, c := range []interface{ Close() error }{g.beside, cfg.Bus, cfg.Settings, g.store} {
			if err := c.Close(); err != nil {
				g.Error(err)
			}
		}
	}
}

// await waits for an entry of the log.
func (g *governing) await(what string, wanted func(*audit.Event) bool) audit.Entry {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.Context(), time.Minute)
	defer cancel()
	var found *audit.Entry
	for from := int64(0); found == nil; {
		size, err := g.store.Wait(ctx, from)
		if err == nil {
			err = g.store.Read(ctx, from, size, func(e audit.Entry) error {
				if found == nil && wanted(&e.Event) {
					found = &e
				}
				return nil
			})
		}
		if err != nil {
			g.Fatalf("%s: %v", what, err)
		}
		from = size
	}
	return *found
}

// sign has the log sign what it holds.
func (g *governing) sign() {
	g.Helper()
	if _, err := g.store.log.Checkpoint(g.Context()); err != nil {
		g.Fatal(err)
	}
}

// as are the flags of somebody with a certificate, who asks the API.
func (g *governing) as(name, role string) []string {
	certificate, key := g.people.files(name, role)
	return []string{"--api", g.url, "--certificate", certificate, "--certificate-key", key}
}

// nyx runs a command that must do what it says.
func (g *governing) nyx(flags []string, args ...string) string {
	g.Helper()
	out, err := nyx(g.T, append(append([]string{"audit"}, args...), flags...)...)
	if err != nil {
		g.Fatalf("nyx audit %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// refuse runs one that must be refused.
func (g *governing) refuse(want string, flags []string, args ...string) {
	g.Helper()
	if out, err := nyx(g.T, append(append([]string{"audit"}, args...), flags...)...); err == nil || !strings.Contains(err.Error(), want) {
		g.Errorf("nyx audit %s: %v, want %q\n%.300s", strings.Join(args, " "), err, want, out)
	}
}

// TestGovernance follows what nodes of a network do through a running control process
// to those who read it: query, proof, export, each as the person that a certificate
// names, each on the record; and the index is built anew when it is lost.
func TestGovernance(t *testing.T) {
	g := newGoverning(t)
	l, err := daemon.StartLocal(daemon.LocalConfig{
		Seed: [32]byte{51}, Streams: 2, Mixes: 3, Regions: 1, Client: client.Config{Level: wire.Fast}, ControlDir: g.dir,
		Control: func(cfg daemon.ControlConfig) (*daemon.Control, error) {
			g.configure(&cfg)
			if err := g.equip(&cfg); err != nil {
				return nil, err
			}
			return daemon.StartControl(cfg)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			l.Close()
		}
	}()
	own := g.await("the start of the control process", func(e *audit.Event) bool { return e.Action == "start" && e.Actor == "control" })
	node := g.await("the start of a node", func(e *audit.Event) bool { return e.Action == "start" && e.Subject == "mix-0" })
	g.sign()
	g.reads(&node)
	g.copies(&own)
	g.follows()
	g.isRecorded()
	g.isMeasured()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	closed = true
	g.rebuilds()
}

// reads: an auditor finds what a node told, by the API as from the files, and proves it
// to who has the log's key alone.
func (g *governing) reads(node *audit.Entry) {
	auditor := g.as("alice", "auditor")
	var page struct{ Events []struct{ ID, Actor string } }
	out := g.nyx(auditor, "query", "--kind", "admin.action", "--subject", "mix-0", "--json")
	if err := json.Unmarshal([]byte(out), &page); err != nil || len(page.Events) != 1 || page.Events[0].Actor != node.Event.Actor {
		g.Errorf("the query finds %s (%v)", out, err)
	}
	files := g.nyx(nil, "query", "--dir", filepath.Join(g.dir, auditDir), "--subject", "mix-0")
	if api := g.nyx(auditor, "query", "--subject", "mix-0"); api != files || strings.Count(api, "\n") != 1 {
		g.Errorf("by the API\n%sfrom the files\n%s", api, files)
	}
	if out := g.nyx(auditor, "tail", "-n", "3"); strings.Count(out, "\n") != 3 || !strings.Contains(out, "alice read audit-events") {
		g.Errorf("the newest are\n%s", out)
	}
	kept := g.TempDir()
	proof := filepath.Join(kept, "event.proof")
	g.nyx(auditor, "prove", "--id", node.Event.ID.String(), "--out", proof)
	if out := g.nyx(nil, "verify", "--key", g.logKey(), "--proof", proof); !strings.Contains(out, "ok: it is entry") {
		g.Errorf("the proof: %s", out)
	}
}

// logKey is a copy of the log's public key, as somebody keeps it elsewhere.
func (g *governing) logKey() string {
	g.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, auditDir, "log.key"))
	if err != nil {
		g.Fatal(err)
	}
	path := filepath.Join(g.TempDir(), "log.key")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		g.Fatal(err)
	}
	return path
}

// copies: an auditor takes an export, which verifies; a viewer takes neither one nor a
// proof; a bearer of this machine works once.
func (g *governing) copies(own *audit.Entry) {
	for _, format := range []string{"csv", "parquet"} {
		out := g.nyx(g.as("alice", "auditor"), "export", "--format", format, "--kind", "admin.action", "--out", filepath.Join(g.TempDir(), format), "--key", g.logKey())
		if !strings.Contains(out, "ok: ") || !strings.Contains(out, "in 1 parts ("+format+")") {
			g.Errorf("the export: %s", out)
		}
	}
	viewer := g.as("victor", "viewer")
	g.refuse("(policy): role viewer may not do exports.make", viewer, "export", "--out", g.TempDir())
	g.refuse("(nothing)", viewer, "prove", "--id", own.Event.ID.String())
	g.refuse("(identity)", g.as("eve", "root"), "query")
	g.refuse("(credential)", []string{"--api", g.url}, "query")

	dir := filepath.Join(g.dir, auditDir)
	bearer := filepath.Join(g.TempDir(), "bearer")
	out := g.nyx(nil, "bearer", "--dir", dir, "--name", "bob", "--role", "operator")
	if err := os.WriteFile(bearer, []byte(out), 0o600); err != nil {
		g.Fatal(err)
	}
	once := []string{"--api", g.url, "--bearer", bearer}
	g.nyx(once, "query", "--limit", "1")
	g.refuse("(replayed)", once, "query", "--limit", "1")
	g.refuse("is no role", nil, "bearer", "--dir", dir, "--name", "bob", "--role", "root")
}

// follows: a viewer's feed begins with the figures of the log, and an auditor has a
// report made.
func (g *governing) follows() {
	g.Helper()
	ask := func(name, role, method, path, body string) *http.Response {
		certificate, key := g.people.files(name, role)
		own, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			g.Fatal(err)
		}
		server, err := mirror.ParseServer(g.url)
		if err != nil {
			g.Fatal(err)
		}
		r, err := http.NewRequestWithContext(g.Context(), method, server.URL+governance.Prefix+path, strings.NewReader(body))
		if err != nil {
			g.Fatal(err)
		}
		answer, err := server.Client(own).Do(r)
		if err != nil {
			g.Fatal(err)
		}
		return answer
	}
	feed := ask("victor", "viewer", http.MethodGet, "insights", "")
	defer feed.Body.Close()
	for lines := bufio.NewScanner(feed.Body); ; {
		if !lines.Scan() {
			g.Fatalf("the feed ends (%s): %v", feed.Status, lines.Err())
		}
		if strings.HasPrefix(lines.Text(), "data: ") {
			break
		}
	}
	day := time.Now().UTC().Truncate(24 * time.Hour)
	made := ask("alice", "auditor", http.MethodPost, "reports", fmt.Sprintf(`{"format": "html", "filter": {"from": %q, "to": %q}}`, day.Format(time.RFC3339), day.AddDate(0, 0, 1).Format(time.RFC3339)))
	defer made.Body.Close()
	if made.StatusCode != http.StatusAccepted {
		b, _ := io.ReadAll(made.Body)
		g.Errorf("the report: %s, %s", made.Status, b)
	}
	g.await("the report", func(e *audit.Event) bool {
		return e.Subject == "reports" && e.Outcome == audit.OK && e.Action == "make"
	})
}

// isRecorded: who read what, and who was refused what, is in the log.
func (g *governing) isRecorded() {
	for _, want := range []struct {
		actor, subject, action string
		outcome                audit.Outcome
		reason                 string
	}{
		{"alice", "audit-events", "read", audit.OK, ""},
		{"alice", "audit-events", "prove", audit.OK, ""},
		{"alice", "exports", "make", audit.OK, ""},
		{"alice", "exports", "download", audit.OK, ""},
		{"victor", "exports", "read", audit.Refused, "policy"},
		{"victor", "audit-events", "read", audit.Refused, "nothing"},
		{"control", "api", "read", audit.Refused, "credential"},
		{"control", "api", "read", audit.Refused, "identity"},
		{"bob", "audit-events", "read", audit.OK, ""},
		{"control", "api", "read", audit.Refused, "replayed"},
	} {
		g.await(want.actor+" "+want.action+" "+want.reason, func(e *audit.Event) bool {
			return e.Actor == want.actor && e.Subject == want.subject && e.Action == want.action && e.Outcome == want.outcome && e.Reason == want.reason
		})
	}
}

// isMeasured: the path that each metric names has written it.
func (g *governing) isMeasured() {
	var b metric.Page
	g.beside.WriteMetrics(&b, "control")
	for _, want := range []string{
		`audit_export_duration_count{part="control"} 2`, `audit_export_duration{part="control",quantile="1"} `, `db_query_latency_p95{part="control"} `,
		`audit_query_latency_count{part="control"} `, `audit_index_lag_seconds{part="control"} `, `analytics_partial_export_rate{part="control"} 0`, `governance_decision_latency_count{part="control"} `,
		`report_generation_duration{part="control"} `, `compliance_export_latency`,
	} {
		if !strings.Contains(b.String(), want) {
			g.Errorf("the metrics lack %s:\n%s", want, &b)
		}
	}
}

// rebuilds: an index that was lost while the process did not run is there again, and
// equals the log.
func (g *governing) rebuilds() {
	path := filepath.Join(g.dir, auditDir, indexFile)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		os.Remove(path + suffix)
	}
	closing := g.alone(nil)
	defer closing()
	if out := g.nyx(g.as("alice", "auditor"), "query", "--subject", "mix-0", "--action", "start"); strings.Count(out, "\n") != 1 {
		g.Errorf("the index that was built anew finds\n%s", out)
	}
	key := g.store.log.Key()
	x, err := index.Of(g.Context(), path, key.ID())
	if err != nil {
		g.Fatal(err)
	}
	defer x.Close()
	if next, err := x.Next(g.Context()); err != nil || next == 0 {
		g.Errorf("the index is at %d (%v)", next, err)
	}
	if err := x.Compare(g.Context(), g.store); err != nil {
		g.Error(err)
	}
	if _, _, err := (&ledger.Store{Dir: g.store.Dir, Wrapper: g.store.Wrapper}).Verify(g.Context(), &key, nil, nil); err != nil {
		g.Error(err)
	}
}
