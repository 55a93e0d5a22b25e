package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/lab/cpu"
	"github.com/nyxnet/nyx/internal/report"
)

// complianceReports is SCL-048: the reports of a day, all due at one moment, of a month
// of the log beside who writes it. Each is verified and compared with what was recorded;
// in the end a bit of a day that was counted long ago is changed, of which there must be
// no report. In the control nothing is kept of days: each report counts all anew.
func complianceReports(r *Run) error {
	m, err := r.newMonth(int(r.Param("days")), r.Scaled("events"))
	if err != nil {
		return err
	}
	defer m.remove()
	r.Progress("%d events of %d days recorded", m.made, m.days)
	key := m.Key()
	c := &report.Config{Days: &report.Days{Store: m.Store(), Key: &key, Signer: m.keys.Signer, Anew: !r.Protected}}
	stop := m.write()
	reports, scheduled := int(r.Param("reports")), int(r.Param("reports"))
	if !r.Protected {
		reports = int(r.Param("control_reports"))
	}
	begun, took := time.Now(), make([]time.Duration, reports)
	for i := range reports { // one at a time is counted, and they are due together
		before := cpu.Time()
		wrong, fresh, err := m.report(c, i)
		took[i] = cpu.Time() - before
		if err != nil {
			return errors.Join(err, stop())
		}
		r.Observe("report_generation_duration", time.Since(begun).Minutes())
		r.Observe("report_data_freshness", fresh.Minutes())
		r.Trial("report_wrong", wrong)
		r.Progress("%d of %d reports", i+1, reports)
	}
	fixed, err := m.fixedCost(c.Days)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	rest := time.Duration(0)
	for _, d := range took[1:] {
		rest += d
	}
	each := rest.Seconds() / float64(reports-1)
	grows := max(0, each-fixed) // with the number of events
	all := (took[0].Seconds() + grows*float64(scheduled-1)) / r.Scale
	all += fixed * float64(scheduled-1)
	r.Observe("report_at_full_scale", all/60)
	r.Note("measured, of a processor: the first report of %d events of %d days takes %.2f s, each later one %.3f s, %.3f s of them whatever the number of events, the writer's time with it; calculated from it: the last of %d that are due together is there after %.1f min, of %.3g events on one processor", m.whole, m.days, took[0].Seconds(), each, min(fixed, each), scheduled, all/60, r.Param("events"))
	if !r.Protected {
		return nil
	}
	if err := flipBit(m.dir); err != nil {
		return err
	}
	_, _, err = c.Make(context.Background(), m.period())
	r.Trial("report_wrong", !errors.Is(err, audit.ErrBroken))
	r.Note("with one bit of the first day changed: %v", err)
	return nil
}

// month is a log of some days, of which the last goes on.
type month struct {
	*auditLog
	clock *atomic.Int64 // Unix nanoseconds at which its present day began to be written
	live  *atomic.Int64 // and when that was here; 0 before it
	days  int
	whole int64 // entries of the days that are over
}

// newMonth records events evenly over days that are over.
func (r *Run) newMonth(days, events int) (*month, error) {
	m := &month{clock: &atomic.Int64{}, live: &atomic.Int64{}, days: days}
	m.clock.Store(auditBegin.Add(time.Hour).UnixNano())
	now := func() time.Time {
		t := time.Unix(0, m.clock.Load())
		if since := m.live.Load(); since > 0 {
			t = t.Add(time.Since(time.Unix(0, since)))
		}
		return t
	}
	var err error
	if m.auditLog, err = r.newAuditLogAt(now); err != nil {
		return nil, err
	}
	for range days {
		if err := m.auditLog.record(max(1, events/days)); err != nil {
			m.remove()
			return nil, err
		}
		m.clock.Add(int64(24 * time.Hour))
	}
	m.whole = m.Size()
	m.live.Store(time.Now().UnixNano())
	if err := m.auditLog.record(1000); err != nil {
		m.remove()
		return nil, err
	}
	return m, nil
}

// write records an event every few milliseconds until it is stopped.
func (m *month) write() (stop func() error) {
	ctx, end := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	var failed error
	writing.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for failed == nil {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				failed = m.Record(context.Background(), m.event())
			}
		}
	})
	return func() error { end(); writing.Wait(); return failed }
}

// fixedCost is the processor time, in seconds, of a report that tells of no day that is
// over, where all of these were counted before: what a report takes whatever the number
// of events.
func (m *month) fixedCost(days *report.Days) (float64, error) {
	const times = 5
	c := &report.Config{Days: &report.Days{Store: days.Store, Key: days.Key, Signer: days.Signer}}
	p := m.period()
	p.From = p.To - 1
	var before time.Duration
	for n := range times + 1 {
		if n == 1 { // after the first all is counted
			before = cpu.Time()
		}
		if _, err := c.Write(context.Background(), filepath.Join(m.dir, "fixed"), report.HTML, p, time.Now()); err != nil {
			return 0, err
		}
	}
	return (cpu.Time() - before).Seconds() / times, nil
}

// period is the days that are over, and the present one.
func (m *month) period() report.Period {
	first := audit.DayOf(auditBegin)
	return report.Period{From: first, To: first + audit.Day(m.days) + 1, Sensitivity: audit.SensitivityMax}
}

// report makes and verifies one; every third is of the days that are over, and compared
// with what was recorded on them. fresh is how old the newest that is in it can be.
func (m *month) report(c *report.Config, i int) (wrong bool, fresh time.Duration, err error) {
	format := []audit.Format{report.HTML, report.Markdown, report.JSON}[i%3]
	p := m.period()
	if i%3 == 0 {
		p.To--
	}
	dir := filepath.Join(m.dir, fmt.Sprint("report-", i))
	defer os.RemoveAll(dir)
	made, err := c.Write(context.Background(), dir, format, p, time.Now())
	if err != nil {
		return false, 0, err
	}
	key := m.Key()
	checked, err := ledger.CheckExport(dir, &key)
	wrong = err != nil || checked.Rows() != made.Before-made.First || made.Before < m.whole || i%3 == 0 && checked.Rows() != m.whole
	note, err := c.Days.Store.Last()
	if err != nil {
		return wrong, 0, err
	}
	newest, err := key.Open(note)
	if err != nil {
		return wrong, 0, err
	}
	return wrong, m.now().Sub(newest.Time), nil
}
