package governance

import (
	"context"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/insight"
	"github.com/nyxnet/nyx/internal/report"
)

// reportDesk makes reports as exportDesk makes copies: of whole days, of all
// organisations together, up to a sensitivity.
var reportDesk = desk{"reports", MakeReport, ReadReport, []audit.Format{report.HTML, report.Markdown, report.JSON}, []string{"from", "to", "sensitivity"}, func(c *Config) *Exports { return c.Reports }, wholeDays}

// wholeDays refuses a period that reports cannot be of. What is in a report is of all
// organisations.
func wholeDays(f *audit.Filter, r *Resource) error {
	for _, t := range []time.Time{f.From, f.To} {
		if t.IsZero() || !t.Equal(audit.DayOf(t).Start()) {
			return malformed("a report is of whole days (UTC): from the beginning of one, to that of the day after the last, as 2026-11-01T00:00:00Z")
		}
	}
	if !f.From.Before(f.To) {
		return malformed("the period ends before it begins")
	}
	r.AllOrgs = true
	return nil
}

// reportAllowed is how long a report may take, and by what the Turns of its batches
// are given.
const reportAllowed = 20 * time.Minute

// Reporter makes reports where Exports wants a Copier.
type Reporter struct {
	Report report.Config
	// Turns are shared with what else analytics do; nil: there is nothing else.
	Turns *insight.Turns
}

// Copy implements Copier: the file and its manifest are made anew each time.
func (r *Reporter) Copy(ctx context.Context, dir string, format audit.Format, f audit.Filter, made time.Time, done func(audit.Part)) (*audit.Manifest, error) {
	turn := insight.Turn{Since: made, Allowed: reportAllowed}
	giveBack, err := r.Turns.Take(ctx, turn)
	if err != nil {
		return nil, err
	}
	defer func() {
		if giveBack != nil {
			giveBack()
		}
	}()
	ctx = report.WithStep(ctx, func(ctx context.Context, _ int64) (err error) {
		giveBack()
		giveBack = nil
		giveBack, err = r.Turns.Take(ctx, turn)
		return err
	})
	p := report.Period{From: audit.DayOf(f.From), To: audit.DayOf(f.To), Sensitivity: *f.Sensitivity}
	m, err := r.Report.Write(ctx, dir, format, p, made)
	if err == nil {
		done(m.Parts[0])
	}
	return m, err
}

// longest is how long what was asked for took, at most, of the last thousand.
func (x *Exports) longest() (most time.Duration) {
	for _, d := range x.Stats().Durations {
		most = max(most, d)
	}
	return most
}
