package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
)

// startRetention removes from the log, and from its index, what is older than the
// configuration keeps; nil: it keeps all.
func (g *governed) startRetention() *ledger.Retention {
	days := g.cfg.Plane.AuditDays
	if days == 0 {
		return nil
	}
	return ledger.Retain(ledger.RetentionConfig{Days: days, Log: g.log, Prune: func(ctx context.Context, before audit.Day) (ledger.Removal, error) {
		r, err := g.store.prune(ctx, before)
		if err == nil { // also if no day goes: the index may still have bytes of one that went
			if err := g.index.Forget(ctx, r.Before); err != nil {
				g.log.Warn("the index forgets later what was removed from the audit log", "why", err)
			}
		}
		return r, err
	}})
}

// prune removes days from the log.
func (s *compliance) prune(ctx context.Context, before audit.Day) (ledger.Removal, error) {
	log, err := s.open()
	if err != nil {
		return ledger.Removal{}, err
	}
	return log.Prune(ctx, before)
}

func writeRetention(m figures, f ledger.RetentionFigures) {
	m.one("audit_pruned_events_total", float64(f.Events))
	m.one("audit_pruned_days_total", float64(f.Days))
	m.one("audit_pruned_bytes_total", float64(f.Bytes))
	m.one("audit_retention_overdue_days", float64(f.Overdue))
	m.one("nyx_audit_retention_faults_total", float64(f.Faults))
}

// retention says what a number of days would leave of a log.
func (a *auditPlace) retention() *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use:   "retention",
		Short: "Say what is left of the log, and what retention would remove",
		Long: `Say which days of the log are there, what retention has removed, and with --days what
it would remove today if events were kept for so many days (control.audit_days).
Nothing is removed. Where there is to be a copy under object lock, days without one
stay, and this command does not know of them.`,
		Example: "  nyx audit retention --dir control-1/audit --days 400",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if days < 0 {
				return errors.New("--days is a count; use 1 or more, as control.audit_days")
			}
			store, _, _, err := a.open()
			if err != nil {
				return err
			}
			v, err := viewRetention(store, days, time.Now())
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if a.json {
				return json.NewEncoder(out).Encode(v)
			}
			fmt.Fprintf(out, "there: %d days, %s to %s; removed before: %d events\n", v.Days, v.From, v.To, v.Removed)
			switch {
			case v.Would == nil:
			case v.Would.Days == 0:
				fmt.Fprintf(out, "with %d days kept: nothing would go\n", days)
			default:
				fmt.Fprintf(out, "with %d days kept: %d days, %s to %s, with %d events in %d segments of %d bytes would go\n",
					days, v.Would.Days, v.Would.From, v.Would.To, v.Would.Events, v.Would.Segments, v.Would.Bytes)
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&days, "days", 0, "for how many days events would be kept; 0: not asked")
	return cmd
}

// retentionView is what nyx audit retention tells.
type retentionView struct {
	Days    int             `json:"days"` // that are there
	From    string          `json:"from"`
	To      string          `json:"to"`
	Removed int64           `json:"removed_events"`
	Would   *retentionWould `json:"would_remove,omitempty"`
}

type retentionWould struct {
	Days     int    `json:"days"`
	From     string `json:"from,omitempty"`
	To       string `json:"to,omitempty"`
	Events   int64  `json:"events"`
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"`
}

func viewRetention(store *ledger.Store, days int, now time.Time) (v retentionView, err error) {
	segments, err := store.Segments()
	if err != nil {
		return v, err
	}
	if len(segments) == 0 {
		return v, errors.New("the log has no events yet")
	}
	v.From, v.To, v.Removed = segments[0].Day.String(), segments[len(segments)-1].Day.String(), segments[0].First
	for i := range segments {
		if i == 0 || segments[i].Day != segments[i-1].Day {
			v.Days++
		}
	}
	if days == 0 {
		return v, nil
	}
	r, err := store.Removable(ledger.KeptFrom(now, days), math.MaxInt64)
	if err != nil {
		return v, err
	}
	v.Would = &retentionWould{Days: r.Days, Events: r.Entries(), Segments: r.Segments, Bytes: r.Bytes}
	if r.Days > 0 {
		v.Would.From, v.Would.To = r.From.String(), r.To.String()
	}
	return v, nil
}
