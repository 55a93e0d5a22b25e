package governance

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
)

// faulty fails after one part, and stops at another until its process ends.
type faulty struct {
	Copier
	parts, failAt, stopAt int
	stopped               chan struct{}
	settled               chan State
}

func (y *faulty) Copy(ctx context.Context, dir string, format audit.Format, f audit.Filter, now time.Time, done func(audit.Part)) (*audit.Manifest, error) {
	try, stop := context.WithCancel(ctx)
	defer stop()
	return y.Copier.Copy(try, dir, format, f, now, func(p audit.Part) {
		done(p)
		switch y.parts++; y.parts {
		case y.failAt:
			stop()
		case y.stopAt:
			close(y.stopped)
			<-ctx.Done()
		}
	})
}

// exporting is an API with exports of a store on disk.
func exporting(t *testing.T, failAt int, change func(*ExportConfig)) (*fixture, *Compliance, *faulty) {
	f, l, c := stored(t)
	var events []audit.Event
	for n := range 100 {
		at := begin.Add(-time.Hour + time.Duration(n)*time.Second)
		events = append(events, audit.Event{ID: audit.NewID(at, [10]byte{byte(n)}), Time: at, Kind: audit.KeyEvent, Actor: "stream-1", Subject: "=1+1", Action: "rotate", Org: []string{"", "north"}[n%2], Count: 1})
	}
	if err := l.Record(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
	c.PartRows = 10
	y := &faulty{Copier: c, failAt: failAt, stopped: make(chan struct{}), settled: make(chan State, 10)}
	cfg := ExportConfig{Dir: filepath.Join(t.TempDir(), "exports"), Copier: y, Recorder: l, Node: "control-1", Entropy: f.draw, Now: func() time.Time { return f.now },
		Settled: func(_ string, s State) { y.settled <- s }}
	change(&cfg)
	x, err := OpenExports(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	f.api.cfg.Exports = x
	return f, c, y
}

type exportStatus struct {
	ID, State string
	Rows      int64
	Parts     int
	Files     []string
}

func (f *fixture) export(s Subject, body string) (out exportStatus) {
	f.Helper()
	w := f.ask(f.as(s), "POST", Prefix+"exports", body)
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusAccepted {
		f.Fatalf("%d %s", w.Code, w.Body)
	}
	return out
}

// TestExport: an export is made, survives a fault in its middle and the end of its
// process, and what is downloaded verifies by the log's key and holds each event once.
func TestExport(t *testing.T) {
	f, c, y := exporting(t, 4, func(*ExportConfig) {})
	y.stopAt = 7
	e := f.export(person(Auditor), `{"format":"csv","filter":{"kind":"key.event"}}`)
	<-y.stopped
	f.api.cfg.Exports.Close() // and another process goes on
	var err error
	if f.api.cfg.Exports, err = OpenExports(f.api.cfg.Exports.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.api.cfg.Exports.Close)
	<-y.settled
	if y.parts > 12 {
		t.Errorf("%d parts were written: it did not go on where it was", y.parts)
	}
	w := f.get(person(Auditor), "exports/"+e.ID)
	var now exportStatus
	if err := json.Unmarshal(w.Body.Bytes(), &now); err != nil || now.State != string(Done) || now.Rows != 100 || len(now.Files) != now.Parts+2 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	dir, rows := t.TempDir(), 0
	for _, name := range now.Files {
		w := f.get(person(Auditor), "exports/"+e.ID+"/files/"+name)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		f.log0(c)
		f.recorded(name, "auditor-1 exports download ok")
		if err := os.WriteFile(filepath.Join(dir, name), w.Body.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "part-") {
			rows += strings.Count(w.Body.String(), "\r\n") - 1
			if strings.Contains(w.Body.String(), ",=1+1") {
				t.Error("a spreadsheet would compute a subject")
			}
		}
	}
	if _, err := ledger.CheckExport(dir, c.Key); err != nil || rows != 100 {
		t.Errorf("%d rows: %v", rows, err)
	}
	if all := f.log0(c); !slices.Contains(all, "auditor-1 exports make ok") || !slices.Contains(all, "auditor-1 export/"+e.ID+" complete ok") {
		t.Errorf("on the record: %q", all)
	}
}

// log0 are the accesses in a store on disk.
func (f *fixture) log0(c *Compliance) []string {
	f.Helper()
	m := &memory{}
	if err := c.Store.Read(f.Context(), 0, 1<<62, func(e audit.Entry) error { m.entries = append(m.entries, e); return nil }); err != nil {
		f.Fatal(err)
	}
	f.log = m
	return m.accesses()
}

// TestExportOfOthers: exports are made and read by whom the policy lets, of what they
// may see; nothing beside an export's files leaves.
func TestExportOfOthers(t *testing.T) {
	f, _, y := exporting(t, 0, func(*ExportConfig) {})
	body := `{"format":"jsonl","filter":{"kind":"key.event"}}`
	for _, role := range []Role{Viewer, Operator, Admin} {
		w := f.ask(f.as(person(role)), "POST", Prefix+"exports", body)
		f.refused(string(role), w, http.StatusForbidden, "policy")
	}
	north := Subject{"north-1", Auditor, "north", 2}
	own := f.export(north, body)
	<-y.settled
	all := f.export(person(Auditor), body)
	<-y.settled
	var said exportStatus
	if err := json.Unmarshal(f.get(north, "exports/"+own.ID).Body.Bytes(), &said); err != nil || said.Rows != 50 {
		t.Errorf("an organisation's own: %+v", said)
	}
	f.refused("all, to an organisation", f.get(north, "exports/"+all.ID), http.StatusNotFound, "nothing")
	f.refused("an operator", f.get(person(Operator), "exports/"+own.ID), http.StatusNotFound, "nothing")
	f.refused("what is kept beside the files", f.get(person(Auditor), "exports/"+all.ID+"/files/job.json"), http.StatusNotFound, "nothing")
	f.refused("a part that is not there", f.get(person(Auditor), "exports/"+all.ID+"/files/part-999999.jsonl"), http.StatusNotFound, "nothing")
	for what, c := range map[string]struct {
		body   string
		status int
		reason string
	}{
		"a large body":   {`{"format":"` + strings.Repeat("a", 2*bodyMax) + `"}`, http.StatusRequestEntityTooLarge, "body"},
		"no JSON":        {`{"format":`, http.StatusBadRequest, "request"},
		"two objects":    {body + body, http.StatusBadRequest, "request"},
		"an unknown key": {`{"format":"csv","dir":"/etc"}`, http.StatusBadRequest, "request"},
		"a format":       {`{"format":"../../etc/passwd"}`, http.StatusBadRequest, "request"},
		"a filter":       {`{"format":"csv","filter":{"sql":"1"}}`, http.StatusBadRequest, "request"},
	} {
		s := Subject{"auditor " + what, Auditor, "", 2}
		f.refused(what, f.ask(f.as(s), "POST", Prefix+"exports", c.body), c.status, c.reason)
	}
}

// TestExportFails: an export that fails again and again says so, and goes on where it
// was when it is asked to.
func TestExportFails(t *testing.T) {
	f, _, y := exporting(t, 3, func(c *ExportConfig) { c.Once = true })
	e := f.export(person(Auditor), `{"format":"jsonl","filter":{"kind":"key.event"}}`)
	<-y.settled
	var said exportStatus
	if err := json.Unmarshal(f.get(person(Auditor), "exports/"+e.ID).Body.Bytes(), &said); err != nil || said.State != string(Broken) || said.Rows == 100 {
		t.Errorf("after a fault: %+v", said)
	}
	if w := f.ask(f.as(person(Auditor)), "POST", Prefix+"exports/"+e.ID+"/resume", ""); w.Code != http.StatusAccepted {
		t.Fatalf("resume: %d %s", w.Code, w.Body)
	}
	<-y.settled
	if err := json.Unmarshal(f.get(person(Auditor), "exports/"+e.ID).Body.Bytes(), &said); err != nil || said.State != string(Done) || said.Rows != 100 {
		t.Errorf("after it was resumed: %+v", said)
	}
}
