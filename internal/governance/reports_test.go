package governance

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/insight"
	"github.com/nyxnet/nyx/internal/report"
)

// reporting is an API that makes reports of a store on disk.
func reporting(t *testing.T) (*fixture, *Compliance, chan State) {
	f, l, c := stored(t)
	at := begin.Add(-time.Hour)
	events := []audit.Event{
		{ID: audit.NewID(at, [10]byte{1}), Time: at, Kind: audit.KeyEvent, Actor: "mix-1", Subject: "onion", Action: "rotate", Count: 1},
		{ID: audit.NewID(at, [10]byte{2}), Time: at, Kind: audit.AdminAction, Actor: "secret-operator", Action: "drain", Count: 1, Sensitivity: 2},
	}
	if err := l.Record(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	settled := make(chan State, 10)
	x, err := OpenExports(ExportConfig{Dir: filepath.Join(t.TempDir(), "reports"), One: "report", Recorder: l, Node: "control-1", Entropy: f.draw, Now: func() time.Time { return f.now },
		Copier:  &Reporter{Report: report.Config{Days: &report.Days{Store: c.Store, Key: c.Key, Signer: c.Signer}}, Turns: insight.NewTurns(1, nil)},
		Settled: func(_ string, s State) { settled <- s }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	f.api.cfg.Reports = x
	return f, c, settled
}

const aDay = `{"format":"html","filter":{"from":"2026-11-23T00:00:00Z","to":"2026-11-24T00:00:00Z"}}`

func (f *fixture) report(s Subject, body string) (out exportStatus) {
	f.Helper()
	w := f.ask(f.as(s), "POST", Prefix+"reports", body)
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusAccepted {
		f.Fatalf("%d %s", w.Code, w.Body)
	}
	return out
}

// TestReports: an admin makes a report, a viewer reads one of what viewers may see, what
// is downloaded verifies by the log's key, and all of it is on the record.
func TestReports(t *testing.T) {
	f, c, settled := reporting(t)
	r := f.report(person(Admin), aDay)
	if s := <-settled; s != Done {
		t.Fatal(s)
	}
	var now exportStatus
	if err := json.Unmarshal(f.get(person(Admin), "reports/"+r.ID).Body.Bytes(), &now); err != nil || now.State != string(Done) || !slices.Equal(now.Files, []string{"report.html", "manifest.json", "manifest.sig"}) {
		t.Fatalf("%+v, %v", now, err)
	}
	dir := t.TempDir()
	for _, name := range now.Files {
		w := f.get(person(Admin), "reports/"+r.ID+"/files/"+name)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		if err := os.WriteFile(filepath.Join(dir, name), w.Body.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ledger.CheckExport(dir, c.Key); err != nil {
		t.Error(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil || !strings.Contains(string(page), "rotate") || strings.Contains(string(page), "secret-operator") {
		t.Errorf("an admin's report, up to sensitivity 1: %v\n%s", err, page)
	}
	f.refused("an admin's report, to a viewer", f.get(person(Viewer), "reports/"+r.ID), http.StatusNotFound, "nothing")
	public := f.report(person(Admin), strings.Replace(aDay, `"from"`, `"sensitivity":"0","from"`, 1))
	<-settled
	if w := f.get(person(Viewer), "reports/"+public.ID+"/files/report.html"); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "admin-1") {
		t.Errorf("a public report, to a viewer: %d %s", w.Code, w.Body)
	}
	for _, want := range []string{"admin-1 reports make ok", "admin-1 report/" + r.ID + " complete ok", "admin-1 reports download ok", "viewer-1 reports download ok"} {
		if all := f.log0(c); !slices.Contains(all, want) {
			t.Errorf("%q is not on the record: %q", want, all)
		}
	}
}

// TestReportsOfOthers: who may not make one is refused, and so is what no report is of.
func TestReportsOfOthers(t *testing.T) {
	f, _, _ := reporting(t)
	for _, role := range []Role{Viewer, Operator} {
		f.refused(string(role), f.ask(f.as(person(role)), "POST", Prefix+"reports", aDay), http.StatusForbidden, "policy")
	}
	f.refused("of an organisation", f.ask(f.as(Subject{"north-1", Auditor, "north", 2}), "POST", Prefix+"reports", aDay), http.StatusForbidden, "policy")
	f.refused("above the clearance", f.ask(f.as(person(Admin)), "POST", Prefix+"reports", strings.Replace(aDay, `"from"`, `"sensitivity":"2","from"`, 1)), http.StatusForbidden, "policy")
	for what, body := range map[string]string{
		"no period":        `{"format":"html"}`,
		"half a day":       strings.Replace(aDay, "T00:00:00Z", "T12:00:00Z", 1),
		"backwards":        strings.Replace(aDay, "2026-11-24", "2026-11-22", 1),
		"an actor":         strings.Replace(aDay, `"from"`, `"actor":"alice","from"`, 1),
		"a format of more": strings.Replace(aDay, "html", "csv", 1),
	} {
		f.refused(what, f.ask(f.as(Subject{"auditor " + what, Auditor, "", 2}), "POST", Prefix+"reports", body), http.StatusBadRequest, "request")
	}
	f.api.cfg.Reports = nil
	f.refused("where none are made", f.ask(f.as(person(Admin)), "POST", Prefix+"reports", aDay), http.StatusNotFound, "path")
}

// viewing is an API in front of a feed, over a socket, and a client of it.
func viewing(t *testing.T) (*fixture, *insight.Feed, func(s Subject, after string) *http.Response) {
	feed := &insight.Feed{}
	f := newFixture(t, func(c *Config) { c.Feed = feed })
	server := httptest.NewServer(f.api)
	t.Cleanup(server.Close)
	return f, feed, func(s Subject, after string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+Prefix+"insights", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", f.as(s))
		if after != "" {
			r.Header.Set("Last-Event-ID", after)
		}
		w, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Body.Close() })
		return w
	}
}

// nextID reads up to the next update and returns its ID.
func nextID(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			return strings.TrimSpace(id)
		}
	}
}

// TestInsights: a viewer follows the feed as updates come, goes on after the last that
// came, and that they did is on the record before the first leaves.
func TestInsights(t *testing.T) {
	f, feed, follow := viewing(t)
	feed.Publish(insight.Update{ID: 3})
	w := follow(person(Viewer), "")
	if w.StatusCode != http.StatusOK || w.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", w.StatusCode, w.Header)
	}
	f.recorded("who follows", "viewer-1 insights read ok")
	r := bufio.NewReader(w.Body)
	if id := nextID(t, r); id != "3" {
		t.Errorf("first comes %s", id)
	}
	feed.Publish(insight.Update{ID: 5})
	feed.Publish(insight.Update{ID: 8})
	if a, b := nextID(t, r), nextID(t, r); a != "5" || b != "8" {
		t.Errorf("then come %s and %s", a, b)
	}
	again := follow(person(Viewer), "5")
	if id := nextID(t, bufio.NewReader(again.Body)); id != "8" {
		t.Errorf("after 5 comes %s", id)
	}
}

// TestInsightsBounds: of viewers there are few at a time, and who leaves makes room;
// what is no ID is refused, and so is who is of an organisation.
func TestInsightsBounds(t *testing.T) {
	f, _, follow := viewing(t)
	var all []*http.Response
	for n := range viewersMost {
		w := follow(Subject{"viewer-" + string(rune('a'+n)), Viewer, "", 0}, "")
		if w.StatusCode != http.StatusOK {
			t.Fatal(w.StatusCode)
		}
		all = append(all, w)
	}
	if w := follow(person(Viewer), ""); w.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more: %d", w.StatusCode)
	}
	all[0].Body.Close()
	f.api.viewers <- struct{}{} // as soon as the one who left is gone
	<-f.api.viewers
	f.log.fail = errTest
	if w := follow(person(Viewer), ""); w.StatusCode != http.StatusServiceUnavailable || len(f.api.viewers) != viewersMost-1 {
		t.Errorf("unrecorded: %d, and %d viewers", w.StatusCode, len(f.api.viewers))
	}
	f.log.fail = nil
	if w := follow(person(Viewer), "x"); w.StatusCode != http.StatusBadRequest {
		t.Errorf("no ID: %d", w.StatusCode)
	}
	if w := follow(Subject{"north-1", Viewer, "north", 0}, ""); w.StatusCode != http.StatusForbidden {
		t.Errorf("of an organisation: %d", w.StatusCode)
	}
	if w := follow(person(Viewer), "1"); w.StatusCode != http.StatusOK {
		t.Errorf("after one has left: %d", w.StatusCode)
	}
}

// TestInsightsBeat: who follows hears something every ten seconds where nothing happens,
// and for ten minutes.
func TestInsightsBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), viewMax)
		defer cancel()
		begun, beats := time.Now(), 0
		err := follow(ctx, &insight.Feed{}, -1, func(text string) bool {
			if text == beat {
				beats++
			}
			return true
		})
		if took := time.Since(begun); err != nil || took != viewMax || beats < int(viewMax/beatEvery) {
			t.Errorf("%d beats in %v: %v", beats, took, err)
		}
		if err := follow(t.Context(), &insight.Feed{}, -1, func(string) bool { return false }); err != nil {
			t.Errorf("of a client that is gone: %v", err)
		}
	})
}
