package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/report"
)

// reportDays is the period of a report of which nothing is said.
const reportDays = 30

func (a *auditPlace) report() *cobra.Command {
	var from, to, format, out, days string
	var sensitivity uint8
	cmd := &cobra.Command{
		Use:   "report --out DIR",
		Short: "Make a compliance report of a period, signed",
		Long: `Make a compliance report of whole days (UTC): what the log took on them, that it
verifies, who did what, and what is missing. Each day that is over is counted once and
kept (--days); a later report verifies and counts what came since, and compares the
segments of the others with what they were. The file has a manifest as exports have:
verify it with nyx audit verify --export.`,
		Example: "  nyx audit report --dir control-1/audit --from 2026-11-01 --to 2026-12-01 --format html --out november",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			p, err := reportPeriod(from, to, now)
			if err != nil {
				return err
			}
			p.Sensitivity = sensitivity
			f, err := report.ParseFormat(format)
			if err != nil {
				return err
			}
			store, key, keys, err := a.open()
			if err != nil {
				return err
			}
			show, done := progress(cmd, "counted")
			ctx := report.WithStep(cmd.Context(), func(ctx context.Context, entries int64) error {
				show(audit.Entry{Seq: entries &^ 4095})
				return ctx.Err()
			})
			c := report.Config{Days: &report.Days{Store: store, Key: key, Signer: keys.Signer, Dir: days}}
			m, err := c.Write(ctx, out, f, p, now)
			done()
			if err != nil {
				return err
			}
			if a.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(m)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d events of %s to %s, verified and signed, after %v\n", filepath.Join(out, m.Parts[0].File), m.Rows(), p.From, p.To-1, time.Since(now).Round(time.Millisecond))
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&from, "from", "", "first day, as 2026-11-01 (default: 30 days before --to)")
	fs.StringVar(&to, "to", "", "the day after the last (default: tomorrow, so that today is in it)")
	fs.StringVar(&format, "format", "html", "md, html or json")
	fs.Uint8Var(&sensitivity, "sensitivity", audit.SensitivityMax, "tell of events of this sensitivity and below: 0 to 2")
	fs.StringVar(&days, "days", "", "directory of what was counted of days (default: days in the log's directory)")
	fs.StringVar(&out, "out", "", "directory for the report")
	cmd.MarkFlagRequired("out")
	return cmd
}

// reportPeriod reads the days of a report.
func reportPeriod(from, to string, now time.Time) (p report.Period, err error) {
	p.To = audit.DayOf(now) + 1
	if to != "" {
		if p.To, err = parseDay("--to", to); err != nil {
			return p, err
		}
	}
	p.From = p.To - min(p.To, reportDays)
	if from != "" {
		p.From, err = parseDay("--from", from)
	}
	return p, err
}

func parseDay(flag, s string) (audit.Day, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil || t.Unix() < 0 {
		return 0, fmt.Errorf("%s %q is no day; use 2026-11-01", flag, s)
	}
	return audit.DayOf(t), nil
}
