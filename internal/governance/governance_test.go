package governance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// TestRoles: what each role gets of each action, and of events by organisation,
// sensitivity and age.
func TestRoles(t *testing.T) {
	all := []Action{ReadEvents, Prove, MakeExport, ReadExport, MakeReport, ReadReport, ReadHistory, ReadFeed}
	for role, may := range map[Role][]Action{
		Viewer:   {ReadEvents, ReadReport, ReadHistory, ReadFeed},
		Operator: {ReadEvents, Prove, ReadReport, ReadHistory, ReadFeed},
		Admin:    {ReadEvents, Prove, MakeReport, ReadReport, ReadHistory, ReadFeed},
		Auditor:  all,
		"root":   nil,
		"":       nil,
	} {
		s := person(role)
		for _, a := range all {
			if ok, why := (Table{}).Decide(t.Context(), &s, a, &Resource{}); ok != slices.Contains(may, a) || !ok && why == "" {
				t.Errorf("%q %s: %v %q", role, a, ok, why)
			}
		}
	}
	for _, c := range []struct {
		what string
		s    Subject
		r    Resource
		ok   bool
	}{
		{"own organisation", Subject{"a", Auditor, "north", 2}, Resource{Org: "north", Age: -1}, true},
		{"another organisation", Subject{"a", Auditor, "north", 2}, Resource{Org: "south"}, false},
		{"the network's own", Subject{"a", Auditor, "north", 2}, Resource{Org: ""}, false},
		{"all organisations", Subject{"a", Auditor, "north", 2}, Resource{AllOrgs: true}, false},
		{"all, of the network", Subject{"a", Auditor, "", 2}, Resource{AllOrgs: true, Sensitivity: 2, Age: -1}, true},
		{"above the clearance", Subject{"a", Auditor, "", 1}, Resource{Sensitivity: 2}, false},
		{"above the role", Subject{"a", Operator, "", 2}, Resource{Sensitivity: 2}, false},
		{"in the window", Subject{"a", Operator, "", 2}, Resource{Age: 30 * day}, true},
		{"before the window", Subject{"a", Operator, "", 2}, Resource{Age: 30*day + 1}, false},
		{"of all times", Subject{"a", Operator, "", 2}, Resource{Age: -1}, false},
	} {
		if ok, why := (Table{}).Decide(t.Context(), &c.s, ReadEvents, &c.r); ok != c.ok {
			t.Errorf("%s: %v %s", c.what, ok, why)
		}
	}
}

// TestScope: who asks for everything gets what they may see, and who asks for more is
// refused.
func TestScope(t *testing.T) {
	f := newFixture(t)
	f.happen(60)
	count := func(s Subject, match func(*audit.Event) bool) {
		t.Helper()
		want := 0
		for _, e := range f.log.entries[:60] {
			if match(&e.Event) {
				want++
			}
		}
		seqs, _ := f.events(f.get(s, "audit-events?limit=1000&kind=config.change"))
		if len(seqs) != want || want == 0 {
			t.Errorf("%s of %q sees %d events, want %d", s.Name, s.Org, len(seqs), want)
		}
	}
	age := func(e *audit.Event) time.Duration { return f.now.Sub(e.Time) }
	count(person(Auditor), func(*audit.Event) bool { return true })
	count(person(Operator), func(e *audit.Event) bool { return e.Sensitivity <= 1 && age(e) <= 30*day })
	count(person(Viewer), func(e *audit.Event) bool { return e.Sensitivity == 0 && age(e) <= 7*day })
	count(Subject{"north-1", Auditor, "north", 1}, func(e *audit.Event) bool { return e.Org == "north" && e.Sensitivity <= 1 })
	for path, who := range map[string]Subject{
		"audit-events?sensitivity=2":             person(Operator),
		"audit-events?from=2026-01-01T00:00:00Z": person(Viewer),
		"audit-events?org=south":                 {"north-2", Auditor, "north", 2},
		"audit-events?org=":                      {"north-3", Auditor, "north", 2},
	} {
		f.refused(path, f.get(who, path), http.StatusForbidden, "policy")
		f.recorded(path, who.Name+" audit-events read refused policy")
	}
	restricted := f.log.entries[2].Event.ID.String() // of sensitivity 2
	f.refused("a proof that is not for operators", f.get(Subject{"operator-9", Operator, "", 2}, "audit-events/"+restricted+"/proof"), http.StatusNotFound, "nothing")
	if w := f.get(person(Auditor), "audit-events/"+restricted+"/proof"); w.Code != http.StatusOK || w.Body.String() != "proof of entry 2" {
		t.Errorf("proof: %d %s", w.Code, w.Body)
	}
	f.recorded("a proof", "auditor-1 audit-events prove ok")
}

// TestPages: cursors lead through everything once, and nowhere else.
func TestPages(t *testing.T) {
	f := newFixture(t)
	f.happen(25)
	s := person(Auditor)
	var seen []int64
	cursor, path := "", "audit-events?limit=10&kind=config.change&to=2026-11-24T00:00:00Z"
	for range 3 {
		seqs, next := f.events(f.get(s, path+cursor))
		seen = append(seen, seqs...)
		cursor = "&cursor=" + next
		if next == "" {
			break
		}
	}
	if len(seen) != 25 || cursor != "&cursor=" {
		t.Errorf("three pages hold %v, and then %q", seen, cursor)
	}
	_, next := f.events(f.get(s, path))
	changed := []byte(next)
	changed[len(changed)-3] ^= 1
	for what, c := range map[string]struct {
		s    Subject
		path string
	}{
		"somebody else's":    {Subject{"auditor-2", Auditor, "", 2}, path + "&cursor=" + next},
		"of another query":   {s, path + "&actor=alice&cursor=" + next},
		"in the other order": {s, path + "&order=newest&cursor=" + next},
		"changed":            {s, path + "&cursor=" + string(changed)},
		"invented":           {s, path + "&cursor=MTA"},
		"no base64":          {s, path + "&cursor=*"},
	} {
		f.refused(what, f.get(c.s, c.path), http.StatusBadRequest, "cursor")
	}
	f.now = f.now.Add(cursorLife + time.Second)
	f.refused("old", f.get(s, path+"&cursor="+next), http.StatusBadRequest, "cursor")
}

// TestRate: an actor has ten queries in any minute, whatever others do.
func TestRate(t *testing.T) {
	f := newFixture(t)
	ask := func() int { return f.get(person(Auditor), "audit-events").Code }
	for i := range 10 {
		if code := ask(); code != http.StatusOK {
			t.Fatalf("query %d: %d", i, code)
		}
		f.now = f.now.Add(time.Second)
	}
	w := f.get(person(Auditor), "audit-events")
	f.refused("the eleventh", w, http.StatusTooManyRequests, "rate")
	if w.Header().Get("Retry-After") != "50" {
		t.Errorf("come again after %q s", w.Header().Get("Retry-After"))
	}
	f.recorded("the eleventh", "auditor-1 audit-events read refused rate")
	if code := f.get(person(Operator), "audit-events").Code; code != http.StatusOK {
		t.Errorf("somebody else: %d", code)
	}
	f.now = f.now.Add(50 * time.Second)
	if code := ask(); code != http.StatusOK {
		t.Errorf("a minute after the first: %d", code)
	}
	if code := ask(); code != http.StatusTooManyRequests {
		t.Errorf("less than a minute after the second: %d", code)
	}
}

// TestRatesAreBounded: neither people nor names of things make the tables of limits
// grow without bound.
func TestRatesAreBounded(t *testing.T) {
	var r rates
	for i := range 3 * actorsMost {
		r.take(fmt.Sprint(i), 10, begin)
	}
	if len(r.since) != actorsMost {
		t.Errorf("%d actors are counted", len(r.since))
	}
	if r.take("late", 10, begin.Add(rateWindow)) != 0 || len(r.since) != 1 {
		t.Errorf("after a minute %d actors are counted", len(r.since))
	}
	var s spent
	for i := range spentMost {
		s.spend([32]byte{byte(i), byte(i >> 8)}, begin, begin)
	}
	if s.spend([32]byte{31: 1}, begin, begin) != spentFull || s.spend([32]byte{31: 1}, begin, begin.Add(2*time.Second)) != spentNow || len(s.until) != 1 {
		t.Errorf("%d bearers are known to be spent", len(s.until))
	}
}

// TestRecordedFirst: an answer leaves when its record is durable, and not without.
func TestRecordedFirst(t *testing.T) {
	f := newFixture(t)
	f.happen(3)
	if f.get(person(Auditor), "audit-events?kind=config.change"); true {
		f.recorded("a query", "auditor-1 audit-events read ok")
		e := f.log.entries[len(f.log.entries)-1].Event
		if e.Detail("query") != `kind="config.change"` || e.Detail("rows") != "3" || e.Detail("role") != "auditor" {
			t.Errorf("its record: %v", e.Details)
		}
	}
	f.log.fail = errTest
	f.refused("a recorder that fails", f.get(person(Auditor), "audit-events"), http.StatusServiceUnavailable, "record")
	f.log.fail = nil
	started, let := make(chan struct{}), make(chan struct{})
	f.api.cfg.Recorder = recorderFunc(func(ctx context.Context, events ...audit.Event) error {
		close(started)
		<-let
		return f.log.Record(ctx, events...)
	})
	answered := make(chan int)
	go func() { answered <- f.get(person(Auditor), "audit-events").Code }()
	<-started
	select {
	case <-answered:
		t.Error("the answer left before its record was durable")
	default:
	}
	close(let)
	if code := <-answered; code != http.StatusOK {
		t.Errorf("then: %d", code)
	}
}

type recorderFunc func(context.Context, ...audit.Event) error

func (r recorderFunc) Record(ctx context.Context, events ...audit.Event) error {
	return r(ctx, events...)
}

// history is one of three changes.
type history struct{}

func (history) Changes(_ context.Context, after uint64, limit int) (out []json.RawMessage, err error) {
	for i := after + 1; i <= 3 && len(out) < limit; i++ {
		out = append(out, json.RawMessage(fmt.Sprintf(`{"revision":%d}`, i)))
	}
	return out, nil
}

// TestHistory: the configuration's history is read page by page, by its revisions.
func TestHistory(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.History = history{} })
	w := f.get(person(Viewer), "configuration-history?after=1&limit=1")
	if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != `{"changes":[{"revision":2}]}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	f.recorded("it", "viewer-1 configuration-history read ok")
	f.refused("no revision", f.get(person(Viewer), "configuration-history?after=x"), http.StatusBadRequest, "request")
}
