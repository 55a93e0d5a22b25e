package main

import "github.com/spf13/cobra"

func directoryCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "directory", Short: "Look after a network's directory", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(snapshotCommand(), restoreCommand())
	return cmd
}
