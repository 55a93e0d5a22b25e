package main

import (
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/slo"
)

func sloCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "slo",
		Short:   "What the service promises, as rules of Prometheus, Alertmanager and Grafana",
		Example: "  nyx slo list\n  nyx slo write --out deploy",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(sloListCommand(), sloWriteCommand())
	return cmd
}

// promise is an objective as list --json prints it.
type promise struct {
	Name   string   `json:"name"`
	Title  string   `json:"title"`
	Bound  string   `json:"bound"`
	Target float64  `json:"target"`
	Series []string `json:"series"`
}

func sloListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "list [NAME]",
		Short:             "List the objectives",
		Example:           "  nyx slo list\n  nyx slo list errors --json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cli.Among(1, objectiveNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			objectives := slo.Objectives
			if len(args) == 1 {
				one, err := slo.Find(args[0])
				if err != nil {
					return err
				}
				objectives = []slo.Objective{*one}
			}
			var all []promise
			for _, o := range objectives {
				all = append(all, promise{o.Name, o.Title, o.Bound, o.Target, o.Series})
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "NAME\tPROMISE\tGOOD\tWHAT")
			for _, p := range all {
				fmt.Fprintf(t, "%s\t%s\t%.4g %%\t%s\n", p.Name, p.Bound, 100*p.Target, p.Title)
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// objectiveNames are those of the objectives with their titles, for shells.
func objectiveNames() (all []cobra.Completion) {
	for _, o := range slo.Objectives {
		all = append(all, cobra.CompletionWithDesc(o.Name, o.Title))
	}
	return all
}

func sloWriteCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "write --out DIR",
		Short:   "Write the rules, the routes of alerts, and the dashboards",
		Example: "  nyx slo write --out deploy",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, f := range slo.Files() {
				path := filepath.Join(out, filepath.FromSlash(f.Path))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					return fmt.Errorf("cannot write %s: %w", path, err)
				}
				if err := os.WriteFile(path, f.Content, 0o644); err != nil {
					return fmt.Errorf("cannot write %s: %w", path, err)
				}
				fmt.Fprintln(cmd.OutOrStdout(), path)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "directory that the files go to")
	cmd.MarkFlagRequired("out")
	return cmd
}
