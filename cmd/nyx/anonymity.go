package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/anonymity"
	"github.com/nyxnet/nyx/internal/wire"
)

func anonymityCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "anonymity",
		Short:   "Attack simulated networks and report how well flows are told",
		Example: "  nyx anonymity report --quick",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(anonymityReportCommand())
	return cmd
}

func anonymityReportCommand() *cobra.Command {
	var o anonymity.Options
	var levels []string
	var asJSON, quick, markdown bool
	var svg string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Report what flow correlation finds at each level",
		Long: `Run networks of the real cores in the simulator with web, chat, voice and bulk
traffic, attack what is to be seen of them (every wire; entry and exit; one mix of
each path), and report how well flows are told: AUC, top-1 and true positives at one
false in a thousand, with intervals, and the entropy that mixes leave. The command
succeeds only if every gate holds: attackers stay below the bounds of the levels,
and find what FAST does not hide. Bounds above chance hold for load 1.

At its full size it takes half an hour of processor time.`,
		Example: "  nyx anonymity report --quick\n  nyx anonymity report --levels standard,high --seeds 3 --flows 100 --svg plots\n  nyx anonymity report --quick --levels high,extreme --load 0.5,1,2",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if quick {
				small := anonymity.Quick()
				for flag, set := range map[string]func(){
					"flows":  func() { o.Size.Flows = small.Size.Flows },
					"length": func() { o.Size.Length = small.Size.Length },
					"seeds":  func() { o.Seeds = small.Seeds },
				} {
					if !cmd.Flags().Changed(flag) {
						set()
					}
				}
			}
			for _, name := range levels {
				l, ok := wire.ParseLevel(name)
				if !ok {
					return fmt.Errorf("--levels: %q is none of fast, standard, high and extreme", name)
				}
				o.Levels = append(o.Levels, l)
			}
			if err := o.Validate(); err != nil {
				return err
			}
			if stderr, err := os.Stderr.Stat(); err == nil && stderr.Mode()&os.ModeCharDevice != 0 {
				o.Progress = func(line string) { fmt.Fprintln(os.Stderr, line) }
			}
			r, err := makeReport(cmd.Context(), o)
			if err != nil {
				return err
			}
			if svg != "" {
				if err := writePlots(r, svg); err != nil {
					return err
				}
			}
			switch out := cmd.OutOrStdout(); {
			case asJSON:
				err = printJSON(out, r)
			case markdown:
				err = r.Markdown(out)
			default:
				err = r.Print(out)
			}
			if err != nil {
				return err
			}
			return gatesOf(r)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&levels, "levels", []string{"fast", "standard", "high", "extreme"}, "levels to attack")
	f.Float64SliceVar(&o.Loads, "load", []float64{1}, "loads, as multiples of the traffic that docs/anonymity.md describes")
	f.IntVar(&o.Seeds, "seeds", 3, "runs of each level and load, with seeds from 1 on")
	f.IntVar(&o.Size.Flows, "flows", 200, "flows of each run, a quarter of each kind of traffic")
	f.DurationVar(&o.Size.Length, "length", 30*time.Second, "virtual time for which flows are watched")
	f.BoolVar(&quick, "quick", false, "the size of the test gate: few flows, one seed")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&markdown, "markdown", false, "print Markdown, as in the documentation")
	f.StringVar(&svg, "svg", "", "write plots into this directory")
	return cmd
}

// makeReport returns as soon as ctx ends: runs in the simulator hear of it between
// them only, and the process is about to end.
func makeReport(ctx context.Context, o anonymity.Options) (*anonymity.Report, error) {
	type result struct {
		report *anonymity.Report
		err    error
	}
	done := make(chan result, 1)
	go func() {
		r, err := anonymity.Make(ctx, o)
		done <- result{r, err}
	}()
	select {
	case r := <-done:
		return r.report, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func writePlots(r *anonymity.Report, dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("cannot write plots: %w", err)
	}
	for name, draw := range map[string]func(io.Writer) error{
		"anonymity-auc.svg": r.AUC, "anonymity-kinds.svg": r.KindAUC, "anonymity-entropy.svg": r.Bits,
	} {
		var b strings.Builder
		if err := draw(&b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b.String()), 0o666); err != nil {
			return fmt.Errorf("cannot write plots: %w", err)
		}
	}
	return nil
}

// gatesOf is an error that names the gates that do not hold, or nil.
func gatesOf(r *anonymity.Report) error {
	var failed []string
	for _, o := range r.Failed() {
		failed = append(failed, o.String())
	}
	if len(failed) == 0 {
		return nil
	}
	return errors.New(strings.Join(failed, "; "))
}
