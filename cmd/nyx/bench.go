package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/bench"
)

func benchCommand() *cobra.Command {
	var asJSON bool
	var o bench.Options
	var profile string
	names := make([]string, 0, 8)
	var about strings.Builder
	for _, b := range bench.All() {
		names = append(names, b.Name)
		fmt.Fprintf(&about, "\n  %-10s %s", b.Name, b.About)
	}
	cmd := &cobra.Command{
		Use:       "bench NAME",
		Short:     "Measure this machine, each figure with its floor",
		Long:      "Measure this machine. Each figure comes with the floor measured in the same run\nand their ratio.\n" + about.String(),
		Example:   "  nyx bench hop\n  nyx bench stream --json",
		Args:      cobra.ExactArgs(1),
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := bench.Find(args[0])
			if err != nil {
				return err
			}
			if o.Seconds < 0 || o.Sessions < 0 || o.Events < 0 {
				return errors.New("--seconds, --sessions and --events are counts; use 1 or more")
			}
			if stderr, err := os.Stderr.Stat(); err == nil && stderr.Mode()&os.ModeCharDevice != 0 {
				o.Progress = func(line string) { fmt.Fprintln(os.Stderr, line) }
			}
			if profile != "" {
				f, err := os.Create(profile)
				if err != nil {
					return fmt.Errorf("cannot write the profile: %w", err)
				}
				defer f.Close()
				if err := pprof.StartCPUProfile(f); err != nil {
					return err
				}
				defer pprof.StopCPUProfile()
			}
			figures, err := b.Run(cmd.Context(), o)
			if err != nil {
				return fmt.Errorf("bench %s: %w", b.Name, err)
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(figures)
			}
			bench.Print(cmd.OutOrStdout(), figures)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().IntVar(&o.Seconds, "seconds", 0, "time for each throughput figure (default 3); of bench capacity, virtual time with traffic (default 60)")
	cmd.Flags().IntVar(&o.Sessions, "sessions", 0, "sessions that bench idle holds (default 20000), or bench capacity (default 10000)")
	cmd.Flags().IntVar(&o.Events, "events", 0, "events that bench audit verifies (default 1000000)")
	cmd.Flags().StringVar(&o.Phase, "phase", "", "phase that bench capacity simulates: alpha, beta, gamma or delta (default alpha)")
	cmd.Flags().StringVar(&profile, "cpuprofile", "", "write a CPU profile to this file")
	return cmd
}
