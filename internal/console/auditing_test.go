package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeAudit makes one export, and counts the questions about it.
type fakeAudit struct {
	mu    sync.Mutex
	state string
	asked int
	query url.Values // of the last question
}

func (f *fakeAudit) ServeAs(w http.ResponseWriter, r *http.Request, _ Person) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.query = r.URL.Query(); r.Method == http.MethodGet {
		f.asked++
	}
	if f.state == "" {
		http.Error(w, `{"message":"too many requests"}`, http.StatusTooManyRequests)
		return
	}
	fmt.Fprintf(w, `{"id":"one","state":%q,"format":"csv","rows":3,"files":["audit-%s.csv"]}`, f.state, f.state)
}

func (f *fakeAudit) is(state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.asked = state, 0
}

// TestAnExportIsAskedAboutWhileItIsMade and never after: each question is an event of a
// log that is appended to only, and one fewer that somebody may ask.
func TestAnExportIsAskedAboutWhileItIsMade(t *testing.T) {
	log := &fakeAudit{}
	b := newBoard(t, func(c *Config) { c.Audit = log })
	w := b.as(Auditor)
	look := func(what string, asked int, again bool, holds string) {
		t.Helper()
		for range 2 {
			if _, page := w.get("/audit"); strings.Contains(page, `id="made" data-refresh="5"`) != again || strings.Contains(page, "data-refresh") != again || !strings.Contains(page, holds) {
				t.Errorf("%s: the page asks again: not %v, or it lacks %q:\n%s", what, again, holds, page)
			}
		}
		log.mu.Lock()
		defer log.mu.Unlock()
		if log.asked != asked {
			t.Errorf("%s: %d questions, want %d", what, log.asked, asked)
		}
	}
	look("before there is one", 0, false, "")
	log.is("waiting")
	r, _ := w.order("/audit/exports", url.Values{"format": {"csv"}})
	want(t, "an export", r, http.StatusSeeOther)
	look("one that waits", 2, true, "waiting")
	log.is("running")
	look("one that runs", 2, true, "running")
	log.is("") // the reader has asked too much
	look("one of which nothing is told", 2, true, "running")
	log.is("done")
	look("one that is done", 1, false, "audit-done.csv")
	log.is("done")
	look("one that has been done", 0, false, "audit-done.csv")
	w.order("/role", url.Values{"role": {"viewer"}})
	if _, page := w.get("/audit"); strings.Contains(page, "audit-done.csv") {
		t.Error("in another role the export is shown")
	}
}

// TestTimesOfASearch: what a form or a button says is asked of the API in its own form, a
// link that holds that form works as it did, and the form shows either.
func TestTimesOfASearch(t *testing.T) {
	log := &fakeAudit{state: "done"}
	b := newBoard(t, func(c *Config) { c.Audit = log })
	b.nowMu.Lock()
	b.now = time.Date(2126, 11, 23, 12, 0, 0, 0, time.UTC)
	b.nowMu.Unlock()
	w := b.as(Auditor)
	for _, c := range []struct{ query, from, to, shows string }{
		{"from=2026-11-23T09:00&to=2026-11-23T18:00:05", "2026-11-23T09:00:00Z", "2026-11-23T18:00:05Z", `value="2026-11-23T09:00:00"`},
		{"from=2026-11-23T09:00:00.250", "2026-11-23T09:00:00.25Z", "", `value="2026-11-23T09:00:00.25"`},
		{"from=2026-11-23T18:00:00%2B09:00", "2026-11-23T18:00:00+09:00", "", `value="2026-11-23T09:00:00"`},
		{"from=yesterday", "yesterday", "", `name="from" type="datetime-local" step="any" value=""`},
		{"last=24h&to=2026-11-23T18:00&from=2026-11-23T09:00", "2126-11-22T12:00:00Z", "", `value="2126-11-22T12:00:00"`},
	} {
		r, page := w.get("/audit?search=1&" + c.query)
		want(t, c.query, r, http.StatusOK)
		log.mu.Lock()
		if from, to := log.query.Get("from"), log.query.Get("to"); from != c.from || to != c.to {
			t.Errorf("%s: from %q to %q", c.query, from, to)
		}
		log.mu.Unlock()
		if !strings.Contains(page, c.shows) {
			t.Errorf("%s: the form does not show %s:\n%s", c.query, c.shows, page)
		}
	}
	r, _ := w.get("/audit?search=1&last=banana")
	want(t, "no such time", r, http.StatusBadRequest)
}
