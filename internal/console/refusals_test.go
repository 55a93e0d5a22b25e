package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/telemetry"
)

// refusedOf sums up the refusals on the record: events, and what they count.
func (b *board) refusedOf() (events int, counted uint64) {
	b.record.mu.Lock()
	defer b.record.mu.Unlock()
	for _, e := range b.record.events {
		if e.Outcome == audit.Refused {
			events, counted = events+1, counted+e.Count
		}
	}
	return events, counted
}

// TestRefusalsAreCounted: the first is recorded at once, those of the next minute as one
// event, what is counted when the console ends too; and none is left out.
func TestRefusalsAreCounted(t *testing.T) {
	b := newBoard(t, nil)
	w := b.as(Viewer)
	expect := func(what string, events int, counted uint64) {
		t.Helper()
		if e, n := b.refusedOf(); e != events || n != counted {
			t.Errorf("%s: %d events of %d refusals, want %d of %d", what, e, n, events, counted)
		}
	}
	try := func(times int) {
		for range times {
			r, _ := w.order("/relays/rotate", url.Values{})
			want(t, "an order", r, http.StatusForbidden)
		}
	}
	try(1)
	expect("the first", 1, 1)
	try(24)
	expect("those after it", 1, 1)
	b.advance(telemetry.RepeatsEvery)
	w.get("/relays")
	expect("a minute later", 2, 25)
	try(4)
	expect("the first of another minute", 3, 26)
	b.Close()
	expect("when the console has ended", 4, 29)
}

// TestRefusalsAreBounded: beyond so many kinds they are counted together.
func TestRefusalsAreBounded(t *testing.T) {
	b := newBoard(t, nil)
	for i := range 3 * telemetry.RepeatsMost {
		if kind, first := b.refused.Add(refusal{Person{Name: fmt.Sprint(i), Role: Viewer}, string(Operate)}, manyRefused, b.clock()); first {
			b.recordRefusals(t.Context(), kind, 1)
		}
	}
	if n := b.refused.Kinds(); n > telemetry.RepeatsMost+1 {
		t.Errorf("%d kinds are counted apart", n)
	}
	b.Close()
	if events, counted := b.refusedOf(); events > telemetry.RepeatsMost+2 || counted != 3*telemetry.RepeatsMost {
		t.Errorf("%d events of %d refusals", events, counted)
	}
}

// TestWhatFailsIsRecordedAsFailed, after that somebody wanted it.
func TestWhatFailsIsRecordedAsFailed(t *testing.T) {
	b := newBoard(t, nil)
	b.network.fails = errors.New("too few would be left")
	w := b.as(Operator)
	for path, event := range map[string]string{"/relays/drain": "console.drain mix-0", "/relays/rotate": "console.rotate fleet"} {
		r, page := w.order(path, url.Values{"node": {"mix-0"}})
		want(t, path, r, http.StatusBadRequest)
		if !strings.Contains(page, "too few would be left") {
			t.Errorf("%s: the page does not say why:\n%s", path, page)
		}
		has(t, path, b.record.actions(), event+" ok")
		has(t, path, b.record.actions(), event+" failed")
	}
}

// TestTheConfigurationChangesOnTheRecord: who, in which role, before the change is made
// and before it is taken back; and not at all where that cannot be recorded.
func TestTheConfigurationChangesOnTheRecord(t *testing.T) {
	b, log, _ := withSettings(t)
	w := b.as(Operator)
	change := func(id, level string) int {
		r, _ := w.order("/configuration", url.Values{"id": {strings.Repeat(id, 32)}, "seen": {fmt.Sprint(log.Revision())}, "set.log.level": {level}})
		return r.StatusCode
	}
	back := func(id string) int {
		r, _ := w.order("/configuration/rollback", url.Values{"id": {strings.Repeat(id, 32)}, "to": {"0"}})
		return r.StatusCode
	}
	fails := func(v bool) {
		b.record.mu.Lock()
		defer b.record.mu.Unlock()
		b.record.fails = v
	}
	fails(true)
	if got := change("1", "debug"); got != http.StatusServiceUnavailable || log.Revision() != 0 {
		t.Errorf("a change that cannot be recorded: %d, revision %d", got, log.Revision())
	}
	fails(false)
	if got := change("2", "debug"); got != http.StatusSeeOther || log.Revision() != 1 {
		t.Errorf("a change: %d, revision %d", got, log.Revision())
	}
	has(t, "a change", b.record.actions(), "console.configure "+strings.Repeat("2", 32)+" ok")
	fails(true)
	if got := back("3"); got != http.StatusServiceUnavailable || log.Revision() != 1 {
		t.Errorf("a way back that cannot be recorded: %d, revision %d", got, log.Revision())
	}
	fails(false)
	if got := back("4"); got != http.StatusSeeOther || log.Revision() != 2 {
		t.Errorf("a way back: %d, revision %d", got, log.Revision())
	}
	has(t, "a way back", b.record.actions(), "console.rollback "+strings.Repeat("4", 32)+" ok")
	last := b.record.events[len(b.record.events)-1]
	if last.Actor != "operator" || last.Details[0] != (audit.Detail{Key: "role", Value: "operator"}) {
		t.Errorf("it is recorded as %+v", last)
	}
}
