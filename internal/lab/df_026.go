package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/insight"
	"github.com/nyxnet/nyx/internal/lab/cpu"
)

// slowExport is DF-026: analytics have half of their throughput and more reports and
// copies to make than that carries; how late are events in the aggregates? Hours of it
// pass on virtual time, in turns as package insight gives them. What one processor
// really takes in, and how soon an update is there, is measured with the log and the
// stream themselves. In the control who comes first is served first, to the end.
func slowExport(r *Run) error {
	o := &overloadedAnalytics{
		rate: r.Param("entries_per_second"), capacity: r.Param("throughput") * r.Param("throughput_left"),
		jobGap: time.Duration(3600 / r.Param("jobs_per_hour") * float64(time.Second)), jobSize: r.Param("job_entries"),
		batch: r.Param("batch"), jobBatch: r.Param("job_batch"), allowed: r.Duration("job_allowed_min", time.Minute), fifo: !r.Protected,
	}
	end := r.Duration("hours", time.Hour)
	o.run(end, func(latency time.Duration) { r.Observe("compliance_export_latency", latency.Minutes()) })
	r.Note("virtual: %v at %.0f entries a second, %.0f of which come to the log and %.0f of which the jobs would need; %d of %d jobs were done, %d of them in %v", end, o.capacity, o.rate, o.jobSize/o.jobGap.Seconds(), o.done, o.came, o.inTime, o.allowed)
	if !r.Protected {
		return nil
	}
	return r.measureStream()
}

// overloadedAnalytics are a stream export and jobs that share one processor on virtual
// time, as insight.Stream and governance.Reporter do: each asks for a turn for each of
// its batches.
type overloadedAnalytics struct {
	rate, capacity         float64 // entries a second: that come, that are carried
	jobGap                 time.Duration
	jobSize                float64 // entries
	batch, jobBatch        float64
	allowed                time.Duration // for a job
	fifo                   bool
	jobs                   []etlJob
	came, done, inTime     int
	exported, passed, from time.Duration // up to when events are counted, are in this pass; since when it waits
}

type etlJob struct {
	since time.Duration
	left  float64
}

// epoch makes virtual times those that turns have.
var epoch = time.Unix(0, 0)

// run runs it for a time; each gets the age of the oldest event of every batch of the
// stream when it was counted.
func (o *overloadedAnalytics) run(end time.Duration, each func(time.Duration)) {
	var now time.Duration
	due := o.jobGap
	begun := false // a pass
	for now < end {
		for ; due <= now; due += o.jobGap {
			o.jobs = append(o.jobs, etlJob{due, o.jobSize})
			o.came++
		}
		if waiting := now-o.exported >= time.Second; waiting && !begun { // a stream rests for a second
			begun, o.from, o.passed = true, now, now
		}
		switch next := o.choose(now, begun); {
		case next == 0: // of the stream
			n := min(o.batch, (o.passed-o.exported).Seconds()*o.rate)
			now += time.Duration(n / o.capacity * float64(time.Second))
			each(now - o.exported)
			o.exported += time.Duration(n / o.rate * float64(time.Second))
			begun = o.passed-o.exported > time.Millisecond
		case next > 0:
			now = o.work(next-1, now)
		default: // nothing to do
			now = min(due, o.exported+time.Second)
		}
	}
	if begun || o.exported < now-time.Second { // what was never counted is as late as it is now
		each(now - o.exported)
	}
}

// choose is 0 for the stream, n + 1 for the n-th job, −1 for nobody.
func (o *overloadedAnalytics) choose(now time.Duration, stream bool) int {
	if o.fifo {
		switch {
		case len(o.jobs) > 0 && (!stream || o.jobs[0].since <= o.from):
			return 1
		case stream:
			return 0
		}
		return -1
	}
	var turns []insight.Turn
	first := 1
	if stream {
		turns, first = append(turns, insight.Turn{Since: epoch.Add(o.from), Allowed: insight.UpdateMost}), 0
	}
	for _, j := range o.jobs {
		turns = append(turns, insight.Turn{Since: epoch.Add(j.since), Allowed: o.allowed})
	}
	if len(turns) == 0 {
		return -1
	}
	return first + insight.Choose(turns, epoch.Add(now))
}

// work does a batch of a job, or all of it where it is not cut up.
func (o *overloadedAnalytics) work(at int, now time.Duration) time.Duration {
	j := &o.jobs[at]
	n := j.left
	if !o.fifo {
		n = min(n, o.jobBatch)
	}
	now += time.Duration(n / o.capacity * float64(time.Second))
	if j.left -= n; j.left < 1 {
		if o.done++; now-j.since <= o.allowed {
			o.inTime++
		}
		o.jobs = append(o.jobs[:at], o.jobs[at+1:]...)
	}
	return now
}

// measureStream has the stream itself count a log on this machine's disk, compares what
// it has counted with the log, and calculates from its throughput when the statistics of
// a day of the given size are there; then it follows the log and updates are timed.
func (r *Run) measureStream() error {
	l, err := r.newAuditLog()
	if err != nil {
		return err
	}
	defer l.remove()
	events := r.Scaled("events")
	if err := l.record(events); err != nil {
		return err
	}
	r.Progress("%d events recorded", events)
	last := auditBegin.Add(time.Duration(events) * auditGap)
	dir := filepath.Join(l.dir, "insights")
	s, err := insight.OpenStream(insight.Config{Log: l.Store(), Wait: l.Wait, Dir: dir, Now: func() time.Time { return last }})
	if err != nil {
		return err
	}
	before := cpu.Time() // of the process, its collector with it
	if err := s.Pass(context.Background()); err != nil {
		return err
	}
	perEvent := (cpu.Time() - before).Seconds() / float64(events)
	wrong, err := l.differs(s.Hours())
	if err != nil {
		return err
	}
	r.Tally("stream_export_wrong", wrong, uint64(events))
	r.Observe("stream_export_throughput", 1/perEvent)
	bytes := float64(l.Counts().Bytes) / float64(events)
	day, cores := r.Param("bytes_per_day"), r.Param("processors")
	r.Observe("analytics_batch_duration", perEvent/bytes*day/24/cores/60)
	r.Note("measured: %.0f events of %.0f bytes a second and processor, %.1f MB/s, with the reading of the log; calculated from it: %g processors are busy %.0f %% of a day of %.2g bytes, and its statistics are there %.1f min after its end if all of its last hour is late", 1/perEvent, bytes, 1e-6*bytes/perEvent, cores, 100*perEvent/bytes*day/86400/cores, day, perEvent/bytes*day/24/cores/60)
	return r.timeUpdates(l, dir)
}

// differs counts the entries of the log that are not in the hours as often as in it.
func (l *auditLog) differs(h *insight.Hours) (wrong uint64, err error) {
	want := map[time.Time]uint64{}
	err = l.Store().Read(context.Background(), 0, 1<<62, func(e audit.Entry) error {
		want[e.Event.Time.Truncate(time.Hour)]++
		return nil
	})
	for at, n := range want {
		a, err := h.Hour(at)
		if err != nil {
			return 0, err
		}
		got := uint64(0)
		for _, k := range a.Keys() {
			got += a.Of(k).Count
		}
		if got /= 3; got != n { // each is counted by kind, by severity and by outcome
			wrong += max(got, n) - min(got, n)
		}
	}
	return wrong, err
}

// timeUpdates records events one by one and waits for each in an update.
func (r *Run) timeUpdates(l *auditLog, dir string) error {
	feed := &insight.Feed{}
	s, err := insight.OpenStream(insight.Config{Log: l.Store(), Wait: l.Wait, Dir: dir, Feed: feed})
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() { end(); <-ended }()
	for range int(r.Param("updates")) {
		e := l.event()
		e.Time = time.Now().UTC()
		if err := l.Record(ctx, e); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, time.Minute)
		_, _, err := feed.Next(wait, l.Size()-1)
		cancel()
		if err != nil {
			return fmt.Errorf("no update within a minute: %w", err)
		}
		r.Observe("insight_update_latency", time.Since(e.Time).Seconds())
	}
	return nil
}
