package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/scenarios"
)

// evidenceDir is where evidence and ledger lie unless --out says otherwise.
const evidenceDir = "evidence"

func scenarioCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scenario",
		Short: "Run the scenarios of the specification and keep the evidence",
		Long: `Run the scenarios of the specification. Each is measured, judged by its
objective, and run a second time with its protection switched off: that
negative control must miss the objective, or the verdict is void.`,
		Example: "  nyx scenario list\n  nyx scenario run DF-045\n  nyx scenario report",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(scenarioListCommand(), scenarioRunCommand(), scenarioReportCommand())
	return cmd
}

func openLab() (*lab.Lab, error) {
	c, err := lab.Load(scenarios.Files)
	if err != nil {
		return nil, fmt.Errorf("the catalogue in this program is damaged: %w", err)
	}
	return &lab.Lab{Catalogue: c, Funcs: lab.Funcs(), Version: version(), Program: ownProgram}, nil
}

// listed is a scenario as list --json prints it.
type listed struct {
	ID         string   `json:"id"`
	Title      string   `json:"title"`
	Mode       lab.Mode `json:"mode"`
	Objectives []string `json:"objectives"`
	Scale      float64  `json:"default_scale"`
	FullLoad   string   `json:"full_load"`
}

func scenarioListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the scenarios with their objectives",
		Example: "  nyx scenario list\n  nyx scenario list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := openLab()
			if err != nil {
				return err
			}
			all := make([]listed, 0, len(l.Catalogue.Scenarios))
			for _, s := range l.Catalogue.Scenarios {
				e := listed{ID: s.ID, Title: s.Title, Mode: s.Mode, Scale: s.Scale.Default, FullLoad: s.Scale.Full}
				for _, o := range s.SLO {
					e.Objectives = append(e.Objectives, o.String())
				}
				all = append(all, e)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tTITLE\tMODE\tOBJECTIVE")
			for _, e := range all {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", e.ID, e.Title, e.Mode, strings.Join(e.Objectives, "; "))
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func scenarioRunCommand() *cobra.Command {
	var asJSON bool
	var out string
	var o lab.Options
	cmd := &cobra.Command{
		Use:   "run ID...",
		Short: "Run scenarios and write their evidence",
		Long: `Run scenarios, each with its negative control, and write the evidence: seed,
versions, scale, samples, measured values and the computed verdict. The command
fails if an objective is missed or something speaks against a run. A sample too
small to bear its bound is said to be so; a greater --scale brings more.`,
		Example:           "  nyx scenario run DF-045\n  nyx scenario run SCL-001 --seed 7 --scale 0.1 --repeat\n  nyx scenario run DF-003 DF-012 --no-control --json",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: cli.Among(0, scenarioNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLab()
			if err != nil {
				return err
			}
			if o.Scale < 0 || o.Scale > 1 || cmd.Flags().Changed("scale") && o.Scale == 0 {
				return fmt.Errorf("--scale %g is not above 0 and at most 1", o.Scale)
			}
			var failed []string
			for _, id := range args {
				o.Progress = progressOf(id)
				e, err := runScenario(cmd.Context(), l, id, o)
				if err != nil {
					return err
				}
				path, err := e.Write(out)
				if err != nil {
					return err
				}
				if asJSON {
					err = printJSON(cmd.OutOrStdout(), e)
				} else {
					err = printEvidence(cmd.OutOrStdout(), e, path)
				}
				if err != nil {
					return err
				}
				if !e.Held() {
					failed = append(failed, fmt.Sprintf("%s: %s: %s", e.Scenario, e.Verdict, e.Reason))
				}
			}
			if len(failed) > 0 {
				return errors.New(strings.Join(failed, "; "))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&o.Seed, "seed", 1, "the seed that repeats the run")
	f.Float64Var(&o.Scale, "scale", 0, "fraction of the specified load, above 0 and at most 1 (default: the scenario's own)")
	f.BoolVar(&o.Repeat, "repeat", false, "run twice with the seed and compare everything measured")
	f.BoolVar(&o.SkipControl, "no-control", false, `leave out the negative control; the verdict is then "met without control" at most`)
	f.StringVar(&out, "out", evidenceDir, "directory for the evidence")
	f.BoolVar(&asJSON, "json", false, "print the evidence as JSON")
	return cmd
}

// scenarioNames are the ids of the catalogue with their titles, for shells.
func scenarioNames() (all []cobra.Completion) {
	l, err := openLab()
	if err != nil {
		return nil
	}
	for _, s := range l.Catalogue.Scenarios {
		all = append(all, cobra.CompletionWithDesc(s.ID, s.Title))
	}
	return all
}

// runScenario returns as soon as ctx ends: a run in the simulator hears of it
// between executions only, and the process is about to end.
func runScenario(ctx context.Context, l *lab.Lab, id string, o lab.Options) (*lab.Evidence, error) {
	type result struct {
		evidence *lab.Evidence
		err      error
	}
	done := make(chan result, 1)
	go func() {
		e, err := l.Run(ctx, id, o)
		done <- result{e, err}
	}()
	select {
	case r := <-done:
		return r.evidence, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// progressOf returns what shows progress to whoever watches, or nil.
func progressOf(id string) func(string) {
	if stderr, err := os.Stderr.Stat(); err != nil || stderr.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return func(line string) { fmt.Fprintf(os.Stderr, "%s: %s\n", id, line) }
}

func printEvidence(w io.Writer, e *lab.Evidence, path string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\t%s\n", e.Scenario, e.Title)
	fmt.Fprintf(t, "mode\t%s, scale %g of: %s\n", e.Mode, e.Scale, e.FullLoad)
	for _, r := range e.Run.Results {
		fmt.Fprintf(t, "measured\t%v, %d samples\n", r, r.Samples)
	}
	if e.Control != nil {
		fmt.Fprintf(t, "control\twithout: %s\n", e.ControlOff)
		for _, r := range e.Control.Results {
			fmt.Fprintf(t, "\t%v\n", r)
		}
	}
	for _, n := range e.Run.Notes {
		fmt.Fprintf(t, "note\t%s\n", n)
	}
	if e.Repeated != nil && *e.Repeated {
		fmt.Fprintln(t, "repeated\tthe second run with the seed was the same")
	}
	fmt.Fprintf(t, "verdict\t%s\n", e.Verdict)
	fmt.Fprintf(t, "duration\t%.1f s, %.0f s of virtual time, %d datagrams\n", e.DurationSeconds, e.Run.VirtualSeconds, e.Run.Datagrams)
	if x := &e.Run; x.StalledMost > 0 {
		fmt.Fprintf(t, "machine\tof %.1f s of the run the process had no processor for %.1f s, %.0f ms at a time at the most\n", x.WallSeconds, x.StalledSeconds, 1000*x.StalledMost)
	}
	fmt.Fprintf(t, "evidence\t%s\n", path)
	fmt.Fprintf(t, "repeat\t%s\n", e.Replay)
	return t.Flush()
}

func scenarioReportCommand() *cobra.Command {
	var asJSON bool
	var out string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Make the ledger from the evidence",
		Long: `Make the ledger, which links each scenario to its indicator, metric, evidence and
definition of done: ledger.md, ledger.json and ledger.html beside the evidence.`,
		Example: "  nyx scenario report\n  nyx scenario report --out evidence --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := openLab()
			if err != nil {
				return err
			}
			all, err := lab.ReadEvidence(out)
			if err != nil {
				return err
			}
			g := l.NewLedger(all)
			paths, err := g.Write(out)
			if err != nil {
				return err
			}
			if asJSON {
				return g.WriteJSON(cmd.OutOrStdout())
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tVERDICT\tMEASURED")
			for _, r := range g.Rows {
				fmt.Fprintf(t, "%s\t%s\t%s\n", r.Scenario, r.Verdict, strings.Join(r.Measured, "; "))
			}
			if err := t.Flush(); err != nil {
				return err
			}
			for _, gap := range g.Gaps {
				fmt.Fprintf(cmd.OutOrStdout(), "%s (%d): %s\n", gap.What, len(gap.Scenarios), strings.Join(gap.Scenarios, ", "))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "\n%d of %d scenarios are done. Written: %s\n", g.Done, g.Total, strings.Join(paths, ", "))
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", evidenceDir, "directory of the evidence, and for the ledger")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the ledger as JSON too")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
