// Package insight is what analytics make of the audit log: STREAM_EXPORT, which sums
// its events up by hours and days as they come (Stream, Hours), INSIGHT_UPDATE, which
// tells dashboards (Feed), and the order in which what analytics have to do is done
// (Turns).
package insight

import (
	"context"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/aggregate"
	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/metric"
)

const (
	// batchMost is how many entries a batch takes in one turn: some ten milliseconds,
	// and one write for each hour in it.
	batchMost = 4096
	// defaultRest is between two looks at the log: what comes one by one is written
	// once a second, and an update is a second late.
	defaultRest = time.Second
	// UpdateMost is within what an event is to be in an update.
	UpdateMost = 10 * time.Second
	// pastMost and aheadMost bound the hours that there can be: times of events come
	// from nodes, whose clocks may be wrong.
	pastMost  = 400 * 24 * time.Hour
	aheadMost = 24 * time.Hour
)

// Log is what a stream follows: an engine/ledger.Store, or a fake.
type Log interface {
	// Read calls each with the entries from a place on, before another, that are there.
	Read(ctx context.Context, from, before int64, each func(audit.Entry) error) error
}

// Config says what a stream follows and where it leads.
type Config struct {
	Log Log
	// Wait returns as soon as the log has more than so many entries, as
	// engine/ledger.Log does.
	Wait func(ctx context.Context, after int64) (int64, error)
	// Dir is where aggregates lie; the stream is the only one who writes there.
	Dir string
	// Feed is told; nil: nobody is.
	Feed *Feed
	// Turns are shared with what else analytics do; nil: there is nothing else.
	Turns *Turns
	// Rest is the time between two looks at the log; 0 is a second.
	Rest time.Duration
	// Now is the clock; time.Now.
	Now func() time.Time
}

// Stream is STREAM_EXPORT: it follows a log and counts each entry in its hour, once,
// also where a process ended half-way.
type Stream struct {
	cfg   Config
	hours *Hours

	mu       sync.Mutex
	next     int64
	exported uint64
	strange  uint64           // entries whose times are out of bounds
	delay    aggregate.Sketch // from an event until it was counted, in ms
	refresh  aggregate.Sketch // from the oldest event that is new in an update until it was published, in ms
	updates  uint64
	said     time.Time // when the last update was published
	oldest   time.Time // event that is in none
}

// OpenStream opens a stream where it ended.
func OpenStream(cfg Config) (*Stream, error) {
	if cfg.Rest == 0 {
		cfg.Rest = defaultRest
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	hours, err := OpenHours(cfg.Dir)
	if err != nil {
		return nil, err
	}
	next, err := hours.next()
	return &Stream{cfg: cfg, hours: hours, next: next}, err
}

// Hours are what was counted so far.
func (s *Stream) Hours() *Hours { return s.hours }

// Next is the place in the log before which all is counted.
func (s *Stream) Next() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// Run follows the log until ctx ends, or the log does.
func (s *Stream) Run(ctx context.Context) error {
	rest := time.NewTimer(s.cfg.Rest)
	defer rest.Stop()
	for {
		if _, err := s.cfg.Wait(ctx, s.Next()); err != nil {
			return err
		}
		if err := s.Pass(ctx); err != nil {
			return err
		}
		rest.Reset(s.cfg.Rest)
		select {
		case <-rest.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Pass counts what the log has now, batch by batch, and publishes what is new.
func (s *Stream) Pass(ctx context.Context) (err error) {
	since := s.cfg.Now()
	b := &batch{hours: map[int64]hour{}, next: s.Next()}
	var giveBack func()
	defer func() {
		if giveBack != nil {
			giveBack()
		}
	}()
	if giveBack, err = s.cfg.Turns.Take(ctx, Turn{since, UpdateMost}); err != nil {
		return err
	}
	err = s.cfg.Log.Read(ctx, b.next, 1<<62, func(e audit.Entry) error {
		if err := s.add(b, &e); err != nil || len(b.times) < batchMost {
			return err
		}
		if err := s.flush(b); err != nil {
			return err
		}
		giveBack()
		giveBack = nil
		giveBack, err = s.cfg.Turns.Take(ctx, Turn{since, UpdateMost})
		return err
	})
	if err == nil {
		err = s.flush(b)
	}
	if err == nil {
		err = s.publish(true)
	}
	return err
}

// batch is what is counted and not written.
type batch struct {
	hours map[int64]hour
	times []time.Time // of its events
	next  int64
}

// names are those of quantities in the aggregates: a value is for how many things an
// event stands.
func kindKey(k audit.Kind) aggregate.Key { return aggregate.Key{Name: "kind " + k.String()} }
func severityKey(v audit.Severity) aggregate.Key {
	return aggregate.Key{Name: "severity " + v.String()}
}
func outcomeKey(o audit.Outcome) aggregate.Key { return aggregate.Key{Name: "outcome " + o.String()} }

func (s *Stream) add(b *batch, e *audit.Entry) error {
	v := &e.Event
	b.next = e.Seq + 1
	b.times = append(b.times, v.Time)
	now := s.cfg.Now()
	if v.Time.Before(now.Add(-pastMost)) || v.Time.After(now.Add(aheadMost)) {
		s.mu.Lock()
		s.strange++
		s.mu.Unlock()
		return nil
	}
	start := v.Time.Truncate(time.Hour).Unix()
	a, there := b.hours[start]
	if !there {
		var err error
		if a, err = s.hours.read(start); err != nil {
			return err
		}
		b.hours[start] = a
	}
	if e.Seq < a.next {
		return nil // it was counted before the process ended
	}
	a.Observe(kindKey(v.Kind), v.Count, 1)
	a.Observe(severityKey(v.Severity), v.Count, 1)
	a.Observe(outcomeKey(v.Outcome), v.Count, 1)
	return nil
}

// flush writes a batch: its hours, and then that it is counted.
func (s *Stream) flush(b *batch) error {
	if len(b.times) == 0 {
		return nil
	}
	for _, a := range b.hours { // each in a file of its own: the order is no matter
		if err := s.hours.write(a, b.next); err != nil {
			return err
		}
	}
	if err := s.hours.advance(b.next); err != nil {
		return err
	}
	now := s.cfg.Now()
	s.mu.Lock()
	s.next, s.exported = b.next, s.exported+uint64(len(b.times))
	for _, t := range b.times {
		s.delay.Observe(uint64(max(0, now.Sub(t)).Milliseconds()))
		if s.oldest.IsZero() || t.Before(s.oldest) {
			s.oldest = t
		}
	}
	s.mu.Unlock()
	*b = batch{hours: map[int64]hour{}, next: b.next, times: b.times[:0]}
	return s.publish(false)
}

// publish tells the feed, once a second or, at the end of a pass, at once.
func (s *Stream) publish(end bool) error {
	now := s.cfg.Now()
	s.mu.Lock()
	u := Update{Type: updateType, ID: s.next, Time: now.UTC(), AgeMillis: max(0, now.Sub(s.oldest)).Milliseconds()}
	due := s.cfg.Feed != nil && !s.oldest.IsZero() && (end || now.Sub(s.said) >= s.cfg.Rest)
	s.mu.Unlock()
	if !due {
		return nil
	}
	hour, err := s.hours.Hour(now)
	if err != nil {
		return err
	}
	day, err := s.hours.Day(now)
	if err != nil {
		return err
	}
	u.Hour, u.Day = figuresOf(hour), figuresOf(day)
	s.cfg.Feed.Publish(u)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh.Observe(uint64(max(0, s.cfg.Now().Sub(s.oldest)).Milliseconds()))
	s.said, s.oldest = now, time.Time{}
	s.updates++
	return nil
}

// figuresOf are those of an aggregate.
func figuresOf(a *aggregate.Aggregate) Figures {
	f := Figures{Start: time.Unix(a.Start, 0).UTC(), Kinds: map[string]Tally{}, Severities: map[string]Tally{}, Outcomes: map[string]Tally{}}
	take := func(m map[string]Tally, name string, k aggregate.Key) {
		if s := a.Of(k); s != nil {
			m[name] = Tally{s.Count, s.Sum}
		}
	}
	for k := audit.Kind(1); k.Valid(); k++ {
		take(f.Kinds, k.String(), kindKey(k))
	}
	for v := audit.Severity(0); v.Valid(); v++ {
		take(f.Severities, v.String(), severityKey(v))
	}
	for o := audit.Outcome(0); o.Valid(); o++ {
		take(f.Outcomes, o.String(), outcomeKey(o))
	}
	return f
}

// WriteMetrics writes what the stream has done, of a part of a process.
func (s *Stream) WriteMetrics(to *metric.Page, part string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	summed := func(name string, v *aggregate.Sketch) {
		to.Distribute(name, metric.Summed([]float64{0.5, 0.95, 0.99},
			func(q float64) float64 { return float64(v.Quantile(q)) / 1e3 }, float64(v.Sum)/1e3, v.Count), "part", part)
	}
	summed("compliance_export_latency", &s.delay)
	summed("dashboard_refresh_latency", &s.refresh)
	to.Add("nyx_stream_export_entries_total", float64(s.exported), "part", part)
	to.Add("nyx_stream_export_strange_total", float64(s.strange), "part", part)
	to.Add("nyx_insight_updates_total", float64(s.updates), "part", part)
}
