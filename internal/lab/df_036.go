package lab

import (
	"context"
	"encoding/json"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/insight"
)

// dashboardDelay is DF-036: events come to the audit log one after the other while many
// dashboards ask, and those who look see each of them soon. Dashboards read what the
// stream has summed up once (insight.Feed); in the control each sums the log up anew when
// somebody looks, as queries of a dashboard without a cache do.
func dashboardDelay(r *Run) error {
	l, err := r.newAuditLogAt(func() time.Time { return time.Now() })
	if err != nil {
		return err
	}
	defer l.remove()
	if err := l.record(r.Scaled("events")); err != nil {
		return err
	}
	feed := &insight.Feed{}
	open := func(name string, feed *insight.Feed) (*insight.Stream, error) {
		return insight.OpenStream(insight.Config{Log: l.Store(), Wait: l.Wait, Dir: filepath.Join(l.dir, name), Feed: feed})
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if r.Protected {
		s, err := open("hours", feed)
		if err != nil {
			return err
		}
		if err := s.Pass(ctx); err != nil { // the log of before
			return err
		}
		ended := make(chan struct{})
		go func() { defer close(ended); s.Run(ctx) }()
		defer func() { cancel(); <-ended }()
	}
	viewers, refreshes := int(r.Param("viewers")), int(r.Param("refreshes"))
	asked := 0
	for i := range refreshes {
		if err := l.record(1); err != nil {
			return err
		}
		recorded, want := time.Now(), l.Size()
		for v := range viewers {
			if r.Protected {
				if err := awaitUpdate(ctx, feed, want); err != nil {
					return err
				}
			} else {
				s, err := open("query-"+string(rune('a'+i))+"-"+string(rune('a'+v)), &insight.Feed{})
				if err != nil {
					return err
				}
				if err := s.Pass(ctx); err != nil {
					return err
				}
			}
			asked++
			r.Observe("dashboard_refresh_latency", time.Since(recorded).Seconds())
			if !r.Protected && time.Since(recorded) > 2*r.Duration("bound_seconds", time.Second) {
				break // the rest would be later still
			}
		}
	}
	r.Note("%d events in the log; %d dashboards saw %d new events", r.Scaled("events"), viewers, refreshes)
	return nil
}

// awaitUpdate waits until an update holds so many entries, and reads it as a dashboard
// does.
func awaitUpdate(ctx context.Context, feed *insight.Feed, want int64) error {
	for after := int64(-1); ; {
		id, b, err := feed.Next(ctx, after)
		if err != nil {
			return err
		}
		var u insight.Update
		if err := json.Unmarshal(b, &u); err != nil {
			return err
		}
		if after = id; id >= want {
			return nil
		}
	}
}
