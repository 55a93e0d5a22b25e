package report

import (
	"slices"
	"sort"
	"time"

	"github.com/nyxnet/nyx/internal/aggregate"
	"github.com/nyxnet/nyx/internal/audit"
)

const (
	// dayVersion changes with what a day counts: days of another version are counted
	// anew.
	dayVersion = 1
	// incidentsOfDay bounds the incidents of a day, of one sensitivity, that are kept
	// one by one.
	incidentsOfDay = 1000
)

// Day is what reports need of a day of the log. It is counted while its entries are
// verified, and does not change after the day.
type Day struct {
	Version     int        `json:"version"`
	Origin      string     `json:"origin"`
	Date        string     `json:"date"`
	Start       audit.Mark `json:"start"`
	End         audit.Mark `json:"end"`
	Checkpoints int        `json:"checkpoints"` // whose roots were compared
	Segments    []Segment  `json:"segments"`
	Late        uint64     `json:"late"` // events that came about on an earlier day
	// Levels are the events by their sensitivity.
	Levels [audit.SensitivityMax + 1]Counts `json:"levels"`
	// Measured is an aggregate.Aggregate of the day.
	Measured []byte `json:"measured"`

	day  audit.Day
	open bool // it is not over, or not signed to its end
}

// Segment is a file of the log, as it was when its entries were counted.
type Segment struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // ledger.Store.Digest
}

// Counts is what was counted of events.
type Counts struct {
	Events    uint64           `json:"events"`
	Tables    map[string]table `json:"tables,omitempty"`
	Incidents []Incident       `json:"incidents,omitempty"`
	Unlisted  uint64           `json:"unlisted,omitempty"` // incidents beyond the first
	Removals  []Removal        `json:"removals,omitempty"`
}

// Incident is one. It stood in the log when a checkpoint had covered it: WithinSeconds
// after it came about or sooner.
type Incident struct {
	Seq           int64     `json:"seq"`
	Time          time.Time `json:"time"`
	Severity      string    `json:"severity"`
	Actor         string    `json:"actor"`
	Action        string    `json:"action"`
	Subject       string    `json:"subject"`
	Summary       string    `json:"summary"`
	WithinSeconds int64     `json:"recorded_within_seconds"`
}

// Removal is a retention event: entries before Count were removed.
type Removal struct {
	Seq   int64     `json:"seq"`
	Time  time.Time `json:"time"`
	Actor string    `json:"actor"`
	Day   string    `json:"day"` // the last that was removed
	Count int64     `json:"count"`
	Root  string    `json:"root"` // over them, as the event says it
	// Fits says that their hashes were found to have that root.
	Fits bool `json:"fits"`
}

// keyRecorded is how long incidents took to the log at most, in seconds.
var keyRecorded = aggregate.Key{Name: "incident_recorded_within_s"}

// counter counts a day.
type counter struct {
	*Day
	checkpoints []*audit.Checkpoint // by size
	measured    *aggregate.Aggregate
}

func newCounter(origin string, day audit.Day, start audit.Mark, checkpoints []*audit.Checkpoint) *counter {
	d := &Day{Version: dayVersion, Origin: origin, Date: day.String(), Start: start, day: day}
	return &counter{d, checkpoints, aggregate.New(aggregate.Span{Start: day.Start().Unix(), Seconds: aggregate.Day})}
}

// add counts an entry.
func (c *counter) add(e *audit.Entry) {
	v := &e.Event
	if v.Time.Before(c.day.Start()) {
		c.Late++
	}
	l := &c.Levels[v.Sensitivity]
	l.Events++
	if l.Tables == nil {
		l.Tables = map[string]table{}
	}
	for i := range counted {
		k := &counted[i]
		if k.kind != 0 && k.kind != v.Kind {
			continue
		}
		t := l.Tables[k.name]
		if t == nil {
			t = table{}
			l.Tables[k.name] = t
		}
		t.add(k.of(v), tally{1, v.Count})
	}
	switch v.Kind {
	case audit.Incident:
		c.incident(l, e)
	case audit.Retention:
		if count, root, ok := v.Removed(); ok {
			l.Removals = append(l.Removals, Removal{Seq: e.Seq, Time: v.Time, Actor: v.Actor, Day: v.Detail("day"), Count: count, Root: root})
		}
	}
}

func (c *counter) incident(l *Counts, e *audit.Entry) {
	v := &e.Event
	n := sort.Search(len(c.checkpoints), func(i int) bool { return c.checkpoints[i].Size > e.Seq })
	within := int64(0)
	if n < len(c.checkpoints) { // times of checkpoints are whole seconds
		within = max(0, int64(c.checkpoints[n].Time.Add(time.Second).Sub(v.Time)/time.Second))
	}
	c.measured.Observe(keyRecorded, uint64(within), 1)
	if len(l.Incidents) == incidentsOfDay {
		l.Unlisted++
		return
	}
	l.Incidents = append(l.Incidents, Incident{Seq: e.Seq, Time: v.Time, Severity: v.Severity.String(), Actor: v.Actor, Action: v.Action, Subject: v.Subject, Summary: v.Detail("summary"), WithinSeconds: within})
}

// finish ends the day at a mark.
func (c *counter) finish(end audit.Mark) *Day {
	c.End, c.Measured = end, c.measured.Append(nil)
	for _, p := range c.checkpoints {
		if p.Size > c.Start.Size && p.Size <= end.Size {
			c.Checkpoints++
		}
	}
	return c.Day
}

// figures are what was measured of the day.
func (d *Day) figures() *aggregate.Aggregate {
	a, err := aggregate.Parse(d.Measured)
	if err != nil { // a day is signed: it is as it was written
		panic("report: a day that does not hold what it measured: " + err.Error())
	}
	return a
}

// names are the segments' of the day.
func (d *Day) names() (out []string) {
	for _, s := range d.Segments {
		out = append(out, s.Name)
	}
	return out
}

// removals of a day are those of all sensitivities.
func (d *Day) removals() (out []Removal) {
	for i := range d.Levels {
		out = append(out, d.Levels[i].Removals...)
	}
	return slices.Clip(out)
}
