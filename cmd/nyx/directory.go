package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/setup"
)

func directoryCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "directory", Short: "Look into a network's directory, and after it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var network string
	var asJSON bool
	verify := &cobra.Command{
		Use:   "verify DIR|FILE...",
		Short: "Check documents, logs, checkpoints and evidence, without asking anybody",
		Long: `Check what authorities, witnesses, replicas, nodes and clients keep of the directory,
by the network file alone: documents by their signatures and by the logs, marks of
the newest document by the logs, logs by their checkpoints, the checkpoints of all
parties by their witnesses and against the logs, the logs against each other, and
evidence of two documents of one number or of a log that forks. It succeeds only if
all is in order and nothing is missing that belongs to what is there; evidence never
is.`,
		Example: "  nyx directory verify network\n  nyx directory verify --network network.toml --json authority-1/keys evidence-documents-495623-0.json",
		Args: func(_ *cobra.Command, paths []string) error {
			if len(paths) == 0 {
				return errors.New("say what to verify: the directory of a network or of one party, or files of theirs, as in nyx directory verify network")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, paths []string) error {
			load := func() (*setup.Network, error) { return setup.LoadNetwork(network) }
			if network == "" {
				load = func() (*setup.Network, error) { return setup.FindNetwork(paths[0]) }
			}
			n, err := load()
			if err != nil {
				return err
			}
			found, err := setup.Verify(n, paths)
			if err != nil {
				return err
			}
			out, wrong := cmd.OutOrStdout(), 0
			for _, f := range found {
				if !f.OK {
					wrong++
				}
				if !asJSON {
					fmt.Fprintf(out, "%-5s %-10s %s: %s\n", map[bool]string{true: "ok", false: "WRONG"}[f.OK], f.Kind, f.File, f.Says)
				}
			}
			if asJSON {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				if err := e.Encode(found); err != nil {
					return err
				}
			}
			switch {
			case wrong > 0:
				return fmt.Errorf("%d of %d are not in order", wrong, len(found))
			}
			return nil
		},
	}
	verify.Flags().StringVar(&network, "network", "", "network file (default: network.toml beside the files, or up to three directories above)")
	verify.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(verify, snapshotCommand(), restoreCommand(), distrustCommand())
	return cmd
}
