package report

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// BenchmarkReport makes the report of a month of 300,000 events of which all days but
// the last were counted before.
func BenchmarkReport(b *testing.B) {
	f := newFixture(b)
	for range 30 {
		var events []audit.Event
		for n := range 10_000 {
			events = append(events, audit.Event{Kind: audit.SessionTerminate, Actor: "stream-1", Subject: "sessions", Action: "count", Reason: "time-out", Count: uint64(n + 1)})
		}
		f.record(events...)
		f.now = f.now.Add(24 * time.Hour)
	}
	f.record(audit.Event{Kind: audit.AdminAction, Actor: "alice", Action: "start"})
	c := f.config()
	if _, _, err := c.Make(b.Context(), days(0, 31)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := f.config().Make(b.Context(), days(0, 31)); err != nil {
			b.Fatal(err)
		}
	}
}
