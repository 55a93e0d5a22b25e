package telemetry

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/aggregate"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// Paths of the control plane.
const (
	// ReportPath takes the reports of nodes, one after the other in a body.
	ReportPath = "/control/v1/telemetry"
	// RatesPath hands ADJUST_RATEs of the next epoch to authorities, one after the
	// other in a body.
	RatesPath = "/control/v1/rates"
)

const (
	// reportsMax bounds the reports of a body.
	reportsMax = 64
	// figuresEvery is how often figures of all nodes are made: of a minute, a P95 by one
	// report in ten would be off by more than the 5 % that are allowed (DF-025).
	figuresEvery = obfs.ReportWindow
	// RetryWindow is for how long a body may be on its way and still be known, when it
	// comes, as one that was posted again meanwhile; and after which a node that tells
	// nothing is no more waited for.
	RetryWindow = 15 * time.Minute
)

// Collector is the control plane's end of telemetry: it takes the reports of nodes,
// steers rates by them (control.Scheduler), makes the figures of five minutes, and
// keeps them by hours and days. Its methods may be called by any goroutine.
type Collector struct {
	node func(wire.NodeID) (region string, capacity uint32, ok bool)

	mu        sync.Mutex
	scheduler *control.Scheduler
	estimator *control.Estimator
	calendar  *aggregate.Calendar
	figures   control.Figures // of the last whole window
	since     time.Time       // of the present one
	begun     time.Time
	malformed uint64
	newest    map[wire.NodeID]heard // of each node, for RetryWindow
	stale     uint64                // reports that came after newer ones
	held      uint64                // sessions that nodes refused for want of room
	days      int                   // that are over
	batch     time.Duration         // that the last of them took to be summed up
}

// NewCollector returns a collector that has heard nothing at a time. node is what the
// directory lists of a node; ok is false where it lists none.
func NewCollector(now time.Time, node func(wire.NodeID) (region string, capacity uint32, ok bool)) *Collector {
	return &Collector{node: node, scheduler: control.NewScheduler(), estimator: control.NewEstimator(),
		calendar: aggregate.NewCalendar(now.Unix()), newest: map[wire.NodeID]heard{}, since: now, begun: now}
}

// at is the scheduler's time.
func (c *Collector) at(now time.Time) machine.Time { return machine.Time(now.Sub(c.begun)) }

// Routes are what a control process serves, by pattern, to whom it knows.
func (c *Collector) Routes() map[string]func(w http.ResponseWriter, r *http.Request, from wire.NodeID) {
	return map[string]func(http.ResponseWriter, *http.Request, wire.NodeID){
		"POST " + ReportPath: c.takeReports, "GET " + RatesPath: c.serveRates,
	}
}

func (c *Collector) takeReports(w http.ResponseWriter, r *http.Request, from wire.NodeID) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, reportsMax*wire.TelemetryMax))
	if err == nil {
		err = c.Take(time.Now(), from, b)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// Take takes a body of reports of a node: all of it, or nothing.
func (c *Collector) Take(now time.Time, from wire.NodeID, body []byte) error {
	region, capacity, ok := c.node(from)
	if !ok {
		return fmt.Errorf("the directory does not list node %x; its telemetry is taken when it does", from[:4])
	}
	var all []wire.Telemetry
	for len(body) > 0 {
		t, n, err := wire.ParseTelemetry(body)
		if err != nil || len(all) == reportsMax {
			return c.refuse("telemetry report %d of at most %d is malformed: both ends must be of one version", len(all)+1, reportsMax)
		}
		if ahead := time.UnixMilli(t.Millis).Sub(now); ahead > directory.ClockGrace { // it would refuse its node's next ones
			return c.refuse("telemetry report %d is of a time %v ahead, and at most %v is taken: set the clock of the node", len(all)+1, ahead.Round(time.Second), directory.ClockGrace)
		}
		control.Bound(&t, capacity)
		all, body = append(all, t), body[n:]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range all {
		if t := &all[i]; c.newer(now, from, t) && c.scheduler.Take(c.at(now), now.UnixMilli(), from, region, t) {
			c.estimator.Take(from, t)
			c.keep(region, t)
		}
	}
	return nil
}

// refuse counts a body that is refused, and says why.
func (c *Collector) refuse(format string, args ...any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.malformed++
	return fmt.Errorf(format, args...)
}

// heard is the newest report of a node: its time by the node's clock, when it came, and
// what it and those before it come to.
type heard struct {
	millis  int64
	at      time.Time
	figures NodeFigures
}

// newer reports whether a report is newer than all that were taken of its node. What was
// late, and posted again, is not: its node may have been silent since for so long that
// the scheduler knows nothing of it, and would go by what was long ago.
func (c *Collector) newer(now time.Time, from wire.NodeID, t *wire.Telemetry) bool {
	h, known := c.newest[from]
	if known && t.Millis <= h.millis {
		c.stale++
		return false
	}
	c.newest[from] = heard{t.Millis, now, h.figures.after(now.Sub(h.at), t)}
	c.held += uint64(t.Refused) * uint64(t.StandsFor)
	return true
}

// Names of quantities in the calendar.
const (
	keepLoad  = "node_load_permille"
	keepQueue = "node_queue_ms"
	keepUse   = "class_use_percent"
)

func (c *Collector) keep(region string, t *wire.Telemetry) {
	unix, n := t.Millis/1000, uint64(t.StandsFor)
	c.calendar.Observe(unix, aggregate.Key{Name: keepLoad, Region: region}, uint64(1000*t.Load()), n)
	c.calendar.Observe(unix, aggregate.Key{Name: keepQueue, Region: region}, uint64(t.Queue), n)
	for _, k := range t.Classes {
		c.calendar.Observe(unix, aggregate.Key{Name: keepUse, Region: region, Class: uint16(obfs.Classes[k.Place])}, uint64(k.Use), n)
	}
}

// Follow says what plan is in force, and which regions there are.
func (c *Collector) Follow(now time.Time, plan *wire.CoverPlan, regions []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scheduler.Follow(c.at(now), plan, regions)
}

// Turn has the loop make its step; call it each control.SchedulePeriod. It returns
// the hours that are over, for whoever keeps them, and after them the days.
func (c *Collector) Turn(now time.Time) []*aggregate.Aggregate {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scheduler.Turn(c.at(now))
	maps.DeleteFunc(c.newest, func(_ wire.NodeID, h heard) bool { return now.Sub(h.at) > RetryWindow })
	if now.Sub(c.since) >= figuresEvery {
		c.since, c.figures = now, c.estimator.Next()
	}
	begun := time.Now()
	closed := c.calendar.Turn(now.Unix())
	if days := c.calendar.Over(now.Unix()); len(days) > 0 {
		closed, c.batch, c.days = append(closed, days...), time.Since(begun), c.days+len(days)
	}
	return closed
}

// Freshness is the age of the newest report of the node of which the newest is oldest; of
// nodes of which nothing came for RetryWindow, none: they are gone.
func (c *Collector) Freshness(now time.Time) (oldest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.freshness(now)
}

func (c *Collector) freshness(now time.Time) (oldest time.Duration) {
	for _, h := range c.newest {
		oldest = max(oldest, now.Sub(time.UnixMilli(h.millis)))
	}
	return oldest
}

// Adjust is what is to change in the plan of the epoch after now.
func (c *Collector) Adjust(now time.Time) []wire.AdjustRate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scheduler.Adjust(obfs.EpochAt(now.Unix()) + 1)
}

func (c *Collector) serveRates(w http.ResponseWriter, _ *http.Request, _ wire.NodeID) {
	var b []byte
	for _, a := range c.Adjust(time.Now()) {
		b = a.Append(b)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(b)
}

// WriteMetrics writes what the collector knows, of a part of a process.
func (c *Collector) WriteMetrics(to *metric.Page, part string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, f := c.scheduler, &c.figures
	to.Distribute("telemetry_pipeline_lag_seconds", metric.Summed([]float64{0.5, 0.95, 0.99},
		func(q float64) float64 { return float64(s.Lag.Quantile(q)) / 1000 }, float64(s.Lag.Sum)/1000, s.Lag.Count), "part", part)
	if len(c.newest) > 0 {
		to.Add("telemetry_freshness", c.freshness(time.Now()).Seconds(), "part", part)
	}
	if rate, ok := f.SamplingError(); ok {
		to.Add("telemetry_sampling_error_rate", rate, "part", part)
	}
	to.Add("telemetry_reports_refused_total", float64(s.Refused+c.stale+c.malformed), "part", part)
	to.Add("telemetry_fallback_used_total", float64(s.Fallbacks), "part", part)
	to.Add("telemetry_fallback_regions", float64(len(s.Safe())), "part", part)
	to.Add("control_nodes_overloaded", float64(s.Overloaded()), "part", part)
	if c.days > 0 {
		to.Add("analytics_batch_duration", c.batch.Seconds(), "part", part)
	}
	if swing, ok := s.Oscillation(); ok {
		to.Add("control_feedback_oscillation", swing, "part", part)
	}
}
