// Package report makes compliance reports of the audit log: what a period holds, that
// it verifies, and what is missing, in Markdown, HTML and JSON, signed as exports are.
//
// A report is put together from days. What a report needs of a day is counted once,
// when the day is over, while its entries are verified, and kept beside the log under
// the log's signature (Day, Days). A later report reads these, compares the segments
// with what they were, and verifies only what came since. So a month costs its newest
// day.
//
// A day is that on which the log took an event, not that of the event's own time:
// what comes late is in a report all the same, and every event is in one day.
package report

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/aggregate"
	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
)

const (
	// reportVersion changes with what a report says.
	reportVersion = 1
	// daysMost bounds the days of a report: a year and a day.
	daysMost = 367
	// rowsShown bounds the rows of a table that a report has; the rest are summed up.
	rowsShown = 200
	// incidentsShown bounds the incidents that it lists.
	incidentsShown = 1000
)

// Period says of what a report is: days of the log, From and before To. Sensitivity
// bounds what it tells of: of events above it only how many there are.
type Period struct {
	From, To    audit.Day
	Sensitivity uint8
}

// Report is what is known of a period. Equal logs and periods make equal reports,
// byte for byte, once the period is over and signed.
type Report struct {
	Version     int    `json:"version"`
	Origin      string `json:"origin"`
	From        string `json:"from"` // first day
	To          string `json:"to"`   // the day after the last
	Sensitivity uint8  `json:"sensitivity"`

	Verified Verification `json:"verified"`
	Events   uint64       `json:"events"`
	Above    uint64       `json:"above"` // of Events, those that are more sensitive
	Late     uint64       `json:"late"`  // of Events, those that came about on an earlier day

	Tables    []Section  `json:"tables"`
	Incidents []Incident `json:"incidents"`
	Removals  []Removal  `json:"removals"`
	Figures   []Figure   `json:"figures"`
	Days      []Line     `json:"days"`
	Gaps      []string   `json:"gaps"`
}

// Verification is what was verified.
type Verification struct {
	First       int64  `json:"first"`  // entries from this place on
	Before      int64  `json:"before"` // and before this one
	Removed     int64  `json:"removed"`
	Checkpoints int    `json:"checkpoints"`
	Segments    int    `json:"segments"`
	Root        string `json:"root"` // over all entries before Before
	// The first checkpoint that covers all of them: its entries, root and time.
	Size     int64     `json:"checkpoint_size"`
	SizeRoot string    `json:"checkpoint_root"`
	Signed   time.Time `json:"checkpoint_time"`
}

// Section is a table of what was counted.
type Section struct {
	Name  string   `json:"name"`
	Title string   `json:"-"`
	Head  []string `json:"head"`
	Rows  []Row    `json:"rows"`
}

// Row is how often something came: in how many events, which stand for how many
// things.
type Row struct {
	Key    []string `json:"key"`
	Events uint64   `json:"events"`
	Count  uint64   `json:"count"`
}

// Figure is what is known of a quantity: in Unit, where it has one.
type Figure struct {
	Name   string `json:"name"`
	Region string `json:"region,omitempty"`
	Class  uint16 `json:"class,omitempty"`
	Count  uint64 `json:"count"`
	P50    uint64 `json:"p50"`
	P95    uint64 `json:"p95"`
	P99    uint64 `json:"p99"`
	Max    uint64 `json:"max"`
}

// Line is a day of the period.
type Line struct {
	Day    string `json:"day"`
	Events uint64 `json:"events"`
	First  int64  `json:"first"`
	Before int64  `json:"before"`
	Root   string `json:"root"` // over all entries before Before
	Open   bool   `json:"open,omitempty"`
}

// Config says from where reports are made. Zero values take the defaults.
type Config struct {
	Days *Days
	// Figures is what is kept of the service level of a day, or nil; nil: nothing is.
	Figures func(audit.Day) (*aggregate.Aggregate, error)
}

// Make makes the report of a period. The note is the checkpoint that covers it. An
// error that wraps audit.ErrBroken says where the log was changed.
func (c *Config) Make(ctx context.Context, p Period) (r *Report, note []byte, err error) {
	switch {
	case p.To <= p.From:
		return nil, nil, errors.New("report: the period ends before it begins; --to is the day after its last")
	case p.To-p.From > daysMost:
		return nil, nil, fmt.Errorf("report: a period of %d days; the most are %d", p.To-p.From, daysMost)
	case p.Sensitivity > audit.SensitivityMax:
		return nil, nil, fmt.Errorf("report: sensitivity %d; the most is %d", p.Sensitivity, audit.SensitivityMax)
	}
	log, err := c.Days.Read(ctx, p.From, p.To)
	if err != nil {
		return nil, nil, err
	}
	r = &Report{Version: reportVersion, Origin: c.Days.Key.Origin, From: p.From.String(), To: p.To.String(), Sensitivity: p.Sensitivity,
		Incidents: []Incident{}, Removals: []Removal{}, Figures: []Figure{}, Gaps: []string{}, Days: []Line{}}
	whole := r.fold(log, p)
	if err := c.figures(r, whole, p); err != nil {
		return nil, nil, err
	}
	r.gaps(log, p)
	checkpoint, note, err := c.Days.Store.Covering(c.Days.Key, r.Verified.Before)
	if err != nil || checkpoint == nil {
		return nil, nil, errors.Join(err, ledger.ErrUnsigned)
	}
	r.Verified.Signed = checkpoint.Time
	r.Verified.Size, r.Verified.SizeRoot = checkpoint.Size, hex.EncodeToString(checkpoint.Root[:])
	return r, note, nil
}

// fold adds the days of the period up, and returns what they measured.
func (r *Report) fold(log *Log, p Period) *aggregate.Aggregate {
	whole := aggregate.New(aggregate.Span{Start: p.From.Start().Unix(), Seconds: int64(p.To-p.From) * aggregate.Day})
	tables := map[string]table{}
	v := &r.Verified
	v.First, v.Before, v.Root, v.Removed = log.At.Size, log.At.Size, rootOf(&log.At), log.Removed
	for i, d := range log.Days {
		if i == 0 {
			v.First = d.Start.Size
		}
		v.Before, v.Root = d.End.Size, rootOf(&d.End)
		v.Checkpoints += d.Checkpoints
		v.Segments += len(d.Segments)
		r.Late += d.Late
		r.Days = append(r.Days, Line{Day: d.Date, Events: uint64(d.End.Size - d.Start.Size), First: d.Start.Size, Before: d.End.Size, Root: rootOf(&d.End), Open: d.open})
		r.Events += uint64(d.End.Size - d.Start.Size)
		for level := range d.Levels {
			c := &d.Levels[level]
			if level > int(p.Sensitivity) {
				r.Above += c.Events
				continue
			}
			r.Incidents = append(r.Incidents, c.Incidents...)
			r.Removals = append(r.Removals, c.Removals...)
			for name, t := range c.Tables {
				if tables[name] == nil {
					tables[name] = table{}
				}
				tables[name].merge(t)
			}
		}
		whole.Merge(d.figures()) // it lies in the period
	}
	slices.SortFunc(r.Incidents, func(a, b Incident) int { return int(a.Seq - b.Seq) })
	slices.SortFunc(r.Removals, func(a, b Removal) int { return int(a.Seq - b.Seq) })
	for _, k := range counted {
		r.Tables = append(r.Tables, Section{Name: k.name, Title: k.title, Head: k.head[:], Rows: tables[k.name].shown(rowsShown)})
	}
	return whole
}

// figures adds what was measured: by the days of the log, and of the service.
func (c *Config) figures(r *Report, whole *aggregate.Aggregate, p Period) error {
	if c.Figures != nil {
		for day := p.From; day < p.To; day++ {
			a, err := c.Figures(day)
			if err != nil {
				return err
			}
			if a == nil {
				r.Gaps = append(r.Gaps, "No figures of the service are kept of "+day.String()+".")
				continue
			}
			if err := whole.Merge(a); err != nil {
				return err
			}
		}
	}
	for _, k := range whole.Keys() {
		s := whole.Of(k)
		r.Figures = append(r.Figures, Figure{Name: k.Name, Region: k.Region, Class: k.Class, Count: s.Count, P50: s.Quantile(0.5), P95: s.Quantile(0.95), P99: s.Quantile(0.99), Max: s.Max})
	}
	if c.Figures == nil {
		r.Gaps = append(r.Gaps, "No figures of the service (loads, waits, use of classes) are kept with this log.")
	}
	return nil
}

// gaps says what the report cannot show.
func (r *Report) gaps(log *Log, p Period) {
	add := func(format string, args ...any) { r.Gaps = append(r.Gaps, fmt.Sprintf(format, args...)) }
	next, empty := p.From, 0
	for _, d := range log.Days {
		empty += int(d.day - next)
		next = d.day + 1
		if d.open {
			add("%s is not over: it is counted up to entry %d, the last that is signed.", d.Date, d.End.Size-1)
		}
	}
	if empty += int(p.To - next); empty > 0 {
		add("Of %d of the %d days no entry is counted.", empty, p.To-p.From)
	}
	for _, h := range log.Holes {
		after := "the beginning"
		if h.After != "" {
			after = h.After
		}
		add("%d entries between %s and %s were removed before a report counted them: they are in none. Their hashes are there, and fit.", h.Entries, after, h.Before)
	}
	if r.Above > 0 {
		add("%d events are more sensitive than %d: they are verified, and told of nowhere else here.", r.Above, r.Sensitivity)
	}
	if r.Late > 0 {
		add("%d events came about on an earlier day than that on which the log took them.", r.Late)
	}
	if n := len(r.Incidents); n > incidentsShown {
		r.Incidents = r.Incidents[:incidentsShown]
		add("Of %d incidents the first %d are listed.", n, incidentsShown)
	}
	for i := range log.Days {
		for level := range min(int(p.Sensitivity)+1, len(log.Days[i].Levels)) {
			if c := &log.Days[i].Levels[level]; c.Unlisted > 0 {
				add("%d incidents of %s beyond the first %d of that day are counted and not listed.", c.Unlisted, log.Days[i].Date, incidentsOfDay)
			}
		}
	}
}

// JSON is the report for programs.
func (r *Report) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}
