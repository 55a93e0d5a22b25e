package report

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/aggregate"
	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

// TestReport: what three days hold is in the report of two of them, in all formats, and
// the report verifies by the log's key.
func TestReport(t *testing.T) {
	f := newFixture(t)
	for range 3 {
		f.day()
	}
	r := f.make(days(0, 2))
	if r.Events != 18 || r.Above != 0 || len(r.Days) != 2 || r.Verified.First != 0 || r.Verified.Before != 18 || r.Verified.Checkpoints != 4 {
		t.Errorf("%+v", r)
	}
	for _, want := range []struct {
		events, count uint64
		table         string
		key           []string
	}{
		{2, 2, "actions", []string{"alice", "drain", "ok"}},
		{2, 2, "changes", []string{"control-1", "rollback", "ok"}},
		{2, 2, "keys", []string{"onion", "rotate", "ok"}},
		{2, 80, "refusals", []string{"rate", "stream-1", ""}},
		{2, 14, "sessions", []string{"time-out", "count", "stream-1"}},
		{2, 2, "access", []string{"auditor-1", "audit-events", "ok"}},
		{2, 2, "exports", []string{"auditor-1", "complete", "ok"}},
		{2, 2, "incidents", []string{"neighbour.lost", "critical", "stream-1"}},
		{2, 2, "events", []string{"incident", "critical", "ok"}},
	} {
		if events, count := f.row(r, want.table, want.key...); events != want.events || count != want.count {
			t.Errorf("%s %v: %d events, %d things, want %d and %d", want.table, want.key, events, count, want.events, want.count)
		}
	}
	if len(r.Incidents) != 2 || r.Incidents[0].WithinSeconds != 13 || r.Figures[0].Max != 13 {
		t.Errorf("incidents: %+v, %+v", r.Incidents, r.Figures)
	}
	golden := filepath.Join("testdata", "report.md")
	if *rewrite {
		if err := os.WriteFile(golden, r.Markdown(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != f.bytes(r, Markdown) {
		t.Errorf("the report is not %s (%v); go test -run TestReport -args -rewrite, and look at the difference:\n%s", golden, err, r.Markdown())
	}
	for _, format := range []audit.Format{Markdown, HTML, JSON} {
		dir := filepath.Join(t.TempDir(), "report")
		if _, err := f.config().Write(t.Context(), dir, format, days(0, 2), f.now); err != nil {
			t.Fatal(err)
		}
		m, err := ledger.CheckExport(dir, &f.key)
		if err != nil || m.Rows() != 18 || m.Before != 18 {
			t.Errorf("%s: %+v, %v", format, m, err)
		}
		if c, err := f.key.Open([]byte(m.Checkpoint)); err != nil || c.Size < m.Before {
			t.Errorf("%s: the checkpoint does not cover the report: %v", format, err)
		}
		f.edit(filepath.Join(dir, "report."+string(format)), flip)
		if _, err := ledger.CheckExport(dir, &f.key); !errors.Is(err, audit.ErrBroken) {
			t.Errorf("%s: a report that was changed verifies: %v", format, err)
		}
	}
}

// TestSameBytes: whoever makes the report of a period that is over, whenever and from
// whatever was kept, makes the same bytes.
func TestSameBytes(t *testing.T) {
	f := newFixture(t)
	for range 3 {
		f.day()
	}
	p := days(0, 2)
	anew := f.config()
	anew.Days.Anew = true
	r, _, err := anew.Make(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []audit.Format{Markdown, HTML, JSON} {
		want := f.bytes(r, format)
		if first := f.bytes(f.make(p), format); first != want {
			t.Errorf("%s, counted day by day:\n%s\nall anew:\n%s", format, first, want)
		}
		f.day() // the log grows
		if later := f.bytes(f.make(p), format); later != want {
			t.Errorf("%s, of a log that has grown:\n%s\nbefore:\n%s", format, later, want)
		}
	}
}

// TestDaysAreCountedOnce: a second report reads the segments of days that are not over,
// and of no others.
func TestDaysAreCountedOnce(t *testing.T) {
	f := newFixture(t)
	for range 5 {
		f.day()
	}
	f.make(days(0, 5))
	if f.unwraps != 5 {
		t.Errorf("the first report has read %d segments, not 5", f.unwraps)
	}
	f.unwraps = 0
	if r := f.make(days(0, 5)); f.unwraps != 1 || r.Events != 45 {
		t.Errorf("the second report has read %d segments, not that of the last day; %d events", f.unwraps, r.Events)
	}
}

// TestLogThatWasChanged: of a log in which something was changed after it was counted
// there is no report, and the error says where.
func TestLogThatWasChanged(t *testing.T) {
	for what, change := range map[string]func(f *fixture){
		"a bit of a day that was counted": func(f *fixture) { f.edit(f.segments()[1], flip) },
		"a bit of the day that is not over": func(f *fixture) {
			f.edit(f.segments()[3], flip)
		},
		"a segment is gone": func(f *fixture) { os.Remove(f.segments()[1]) },
		"the first is gone": func(f *fixture) { os.Remove(f.segments()[0]) },
		"the last is gone":  func(f *fixture) { os.Remove(f.segments()[3]) },
		"a segment is cut":  func(f *fixture) { f.edit(f.segments()[1], func(b []byte) []byte { return b[:len(b)-40] }) },
		"checkpoints are cut": func(f *fixture) {
			f.edit(filepath.Join(f.dir, "checkpoints"), func(b []byte) []byte { return b[:len(b)/4] })
		},
	} {
		f := newFixture(t)
		for range 4 {
			f.day()
		}
		f.make(days(0, 4))
		change(f)
		if r, _, err := f.config().Make(t.Context(), days(0, 4)); !errors.Is(err, audit.ErrBroken) {
			t.Errorf("%s: %v, %+v", what, err, r)
		}
	}
}

// TestKeptDaysThatWereChanged: what is kept of days is signed; where it was changed or
// lost, the days are counted anew, and the report is the same.
func TestKeptDaysThatWereChanged(t *testing.T) {
	f := newFixture(t)
	for range 4 {
		f.day()
	}
	want := f.bytes(f.make(days(0, 4)), JSON)
	kept, err := filepath.Glob(filepath.Join(f.dir, "days", "*.day"))
	if err != nil || len(kept) != 3 {
		t.Fatalf("kept: %q, %v", kept, err)
	}
	for what, change := range map[string]func(){
		"a number": func() {
			f.edit(kept[1], func(b []byte) []byte { return []byte(strings.Replace(string(b), `"count":40`, `"count":4`, 1)) })
		},
		"one is another's": func() { f.edit(kept[1], func([]byte) []byte { b, _ := os.ReadFile(kept[0]); return b }) },
		"one is empty":     func() { f.edit(kept[0], func([]byte) []byte { return nil }) },
		"one is lost":      func() { os.Remove(kept[1]) },
		"all are":          func() { os.RemoveAll(filepath.Join(f.dir, "days")) },
	} {
		change()
		if got := f.bytes(f.make(days(0, 4)), JSON); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", what, got, want)
		}
	}
}

// TestRetention: days that were counted before they were removed are in reports as
// before; the report of later ones says what was removed, and that its hashes fit. What
// nobody had counted is named as missing.
func TestRetention(t *testing.T) {
	f := newFixture(t)
	for range 4 {
		f.day()
	}
	before := f.make(days(0, 2))
	if _, err := f.log.Prune(t.Context(), first+2); err != nil {
		t.Fatal(err)
	}
	f.sign()
	if after := f.make(days(0, 2)); f.bytes(after, Markdown) != f.bytes(before, Markdown) || after.Verified.Removed != 18 {
		t.Errorf("of the removed days: %+v", after)
	}
	r := f.make(days(2, 5))
	if len(r.Removals) != 1 || !r.Removals[0].Fits || r.Removals[0].Count != 18 || r.Verified.Removed != 18 {
		t.Errorf("removals: %+v of %+v", r.Removals, r.Verified)
	}

	other := f.config()
	other.Days.Dir = t.TempDir() // where nothing was counted
	hole, _, err := other.Make(t.Context(), days(0, 4))
	if err != nil || len(hole.Days) != 2 || !strings.Contains(strings.Join(hole.Gaps, "\n"), "18 entries between the beginning and 2026-11-03 were removed before a report counted them") {
		t.Errorf("%v: %q", err, hole.Gaps)
	}
	f.edit(filepath.Join(f.dir, "hashes"), func(b []byte) []byte { b[20] ^= 1; return b })
	for what, c := range map[string]*Config{"counted": f.config(), "not counted": {Days: &Days{Store: other.Days.Store, Key: &f.key, Signer: f.keys.Signer, Dir: t.TempDir()}}} {
		if _, _, err := c.Make(t.Context(), days(0, 4)); !errors.Is(err, audit.ErrBroken) {
			t.Errorf("%s, with another hash: %v", what, err)
		}
	}
}

// TestRetentionMeanwhile: days that are removed while a report reads them are in it.
func TestRetentionMeanwhile(t *testing.T) {
	f := newFixture(t)
	for range 4 {
		f.day()
	}
	want := f.bytes(f.make(days(0, 2)), Markdown)
	pruned := false
	ctx := WithStep(t.Context(), func(ctx context.Context, _ int64) error {
		if pruned {
			return nil
		}
		pruned = true
		_, err := f.log.Prune(ctx, first+2)
		return err
	})
	r, _, err := f.config().Make(ctx, days(0, 2))
	if err != nil || r.Verified.Removed != 18 || f.bytes(r, Markdown) != want {
		t.Errorf("%v: %+v", err, r)
	}
}

// TestRetentionInterrupted: of a removal that ended half-way the event says that more went
// than did; reports are as before.
func TestRetentionInterrupted(t *testing.T) {
	f := newFixture(t)
	for range 4 {
		f.day()
	}
	want := f.bytes(f.make(days(0, 2)), Markdown)
	second := f.segments()[1]
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.log.Prune(t.Context(), first+2); err != nil {
		t.Fatal(err)
	}
	f.sign()
	if err := os.WriteFile(second, b, 0o400); err != nil {
		t.Fatal(err)
	}
	if r := f.make(days(0, 2)); r.Verified.Removed != 9 || f.bytes(r, Markdown) != want {
		t.Errorf("%+v", r.Verified)
	}
	c := f.config()
	c.Days.Dir = t.TempDir() // where nothing was counted
	if r, _, err := c.Make(t.Context(), days(1, 5)); err != nil || len(r.Days) < 3 || !r.Removals[0].Fits {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestRemovedOffTheRecord: a day whose segment is gone, with hashes in its place but no
// event that says so, is no retention.
func TestRemovedOffTheRecord(t *testing.T) {
	f := newFixture(t)
	f.day()
	f.day()
	f.make(days(0, 2))
	hashes, chain := []byte(audit.HashesHead), audit.Chain{}
	err := f.log.Store().Read(t.Context(), 0, 9, func(e audit.Entry) error {
		chain.Append(nil, audit.Append(nil, &e.Event))
		hashes = append(hashes, chain.Last[:]...)
		return nil
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(f.dir, "hashes"), hashes, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.segments()[0]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.config().Make(t.Context(), days(0, 2)); !errors.Is(err, audit.ErrBroken) || !strings.Contains(err.Error(), "no retention event") {
		t.Errorf("%v", err)
	}
}

// TestSensitivity: of what is more sensitive than asked for there is a number and
// nothing else.
func TestSensitivity(t *testing.T) {
	f := newFixture(t)
	f.day()
	f.day()
	p := days(0, 1)
	p.Sensitivity = 0
	r := f.make(p)
	if r.Events != 9 || r.Above != 3 {
		t.Errorf("%d events, %d above", r.Events, r.Above)
	}
	if s := f.bytes(r, JSON); strings.Contains(s, "auditor-1") || strings.Contains(s, "drain") || !strings.Contains(s, "rollback") {
		t.Errorf("it tells of what is more sensitive:\n%s", s)
	}
}

// TestHostileTexts: texts of events are text in every format.
func TestHostileTexts(t *testing.T) {
	f := newFixture(t)
	evil := "<script>alert(1)</script>|`x`[a](javascript:b)"
	f.record(audit.Event{Kind: audit.AdminAction, Actor: evil, Action: "*set*"}, audit.Event{Kind: audit.Incident, Actor: "mix-1", Action: "x", Details: []audit.Detail{{Key: "summary", Value: evil + "\" onload=\"x"}}})
	f.now = f.now.Add(24 * time.Hour)
	f.record(audit.Event{Kind: audit.AdminAction, Actor: "alice", Action: "start"})
	r := f.make(days(0, 1))
	page, md := f.bytes(r, HTML), f.bytes(r, Markdown)
	for _, bad := range []string{"<script", `" onload`, "src=", "href=", "url("} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q:\n%s", bad, page)
		}
	}
	if !strings.Contains(page, "@media print") || !strings.Contains(page, "&lt;script&gt;") {
		t.Error("the page is not ready for paper, or lacks the text")
	}
	for _, bad := range []string{"<script", "](", "`x`", "|`"} {
		if strings.Contains(md, bad) && !strings.Contains(md, `\`+bad) {
			t.Errorf("the Markdown holds %q:\n%s", bad, md)
		}
	}
	columns := 0
	for line := range strings.Lines(md) {
		n := strings.Count(line, "|") - strings.Count(line, `\|`)
		if n > 0 && columns > 0 && n != columns {
			t.Errorf("a text has made a column of its own: %s", line)
		}
		columns = n
	}
}

// TestManyRows: who fills the log with texts fills no report.
func TestManyRows(t *testing.T) {
	f := newFixture(t)
	var events []audit.Event
	for n := range 3 * rowsOfDay {
		events = append(events, audit.Event{Kind: audit.AuditAccess, Actor: "nobody-" + strings.Repeat("x", n%50) + string(rune('a'+n/50)), Subject: "api", Action: "read", Outcome: audit.Refused, Severity: audit.Warning})
	}
	f.record(events...)
	f.now = f.now.Add(24 * time.Hour)
	f.record(audit.Event{Kind: audit.AdminAction, Actor: "alice", Action: "start"})
	r := f.make(days(0, 1))
	sum := uint64(0)
	for _, s := range r.Tables {
		if s.Name == "access" {
			if len(s.Rows) != rowsShown+1 {
				t.Errorf("%d rows", len(s.Rows))
			}
			for _, row := range s.Rows {
				sum += row.Events
			}
		}
	}
	if sum != 3*rowsOfDay {
		t.Errorf("the rows sum up to %d events, not %d", sum, 3*rowsOfDay)
	}
}

// TestFigures: figures of the service by days are in the report; days without them are
// gaps.
func TestFigures(t *testing.T) {
	f := newFixture(t)
	f.day()
	f.day()
	f.day()
	c := f.config()
	c.Figures = func(day audit.Day) (*aggregate.Aggregate, error) {
		if day != first {
			return nil, nil
		}
		a := aggregate.New(aggregate.Span{Start: day.Start().Unix(), Seconds: aggregate.Day})
		a.Observe(aggregate.Key{Name: "node_load_permille", Region: "eu"}, 400, 1000)
		return a, nil
	}
	r, _, err := c.Make(t.Context(), days(0, 2))
	if err != nil {
		t.Fatal(err)
	}
	if last := r.Figures[len(r.Figures)-1]; last.Name != "node_load_permille" || last.Count != 1000 || last.P95 != 400 {
		t.Errorf("%+v", r.Figures)
	}
	if !strings.Contains(strings.Join(r.Gaps, "\n"), "No figures of the service are kept of 2026-11-02.") {
		t.Errorf("%q", r.Gaps)
	}
}

// TestMistakes: each says what to do.
func TestMistakes(t *testing.T) {
	f := newFixture(t)
	if _, _, err := f.config().Make(t.Context(), days(0, 1)); !errors.Is(err, ledger.ErrUnsigned) {
		t.Errorf("of an empty log: %v", err)
	}
	f.day()
	for want, p := range map[string]Period{"ends before it begins": days(1, 1), "the most are": days(0, 500), "the most is 2": {From: first, To: first + 1, Sensitivity: 3}} {
		if _, _, err := f.config().Make(t.Context(), p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if r := f.make(days(-20, -10)); r.Events != 0 || len(r.Gaps) == 0 {
		t.Errorf("of days before the log: %+v", r)
	}
	if r := f.make(days(0, 1)); !r.Days[0].Open || !strings.Contains(strings.Join(r.Gaps, "\n"), "is not over") {
		t.Errorf("of a day that is not over: %q", r.Gaps)
	}
}
