package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/usage"
)

const (
	// tellMost bounds what a command that has ended waits for its telemetry, if that is due:
	// every 6 hours at most, or every 10 minutes while nobody takes it.
	tellMost = 2 * time.Second
	// tendEvery is how often a command that lasts looks whether telemetry is due.
	tendEvery = 10 * time.Minute
	// sendMost bounds nyx telemetry send, and what a command that lasts sends.
	sendMost = time.Minute
)

// usageDir is where what the command line may tell of itself is kept.
func usageDir() (string, error) {
	dir, err := setup.DataDir("")
	return filepath.Join(dir, "telemetry"), err
}

// teller tells of the use of commands, if the user has said that it may. What goes wrong
// with it is nobody's trouble.
type teller struct {
	dir   string
	begun time.Time
	stop  func()
}

// beginTelling tends what is kept for as long as a command lasts.
func beginTelling(dir string) *teller {
	ctx, stop := context.WithCancel(context.Background())
	t := &teller{dir: dir, begun: time.Now(), stop: stop}
	go func() {
		tick := time.NewTicker(tendEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				if s, err := usage.Open(dir, nil, now); err == nil {
					within, cancel := context.WithTimeout(ctx, sendMost)
					s.Tend(within, now)
					cancel()
				}
			}
		}
	}()
	return t
}

// ended keeps a command that has ended, and tells what is kept if it is time.
func (t *teller) ended(ran *cobra.Command, result error) {
	t.stop()
	if ran == nil || ran.Hidden {
		return
	}
	now := time.Now()
	u := usage.Use{Command: ran.CommandPath(), Status: usage.OK, Took: now.Sub(t.begun)}
	switch {
	case errors.Is(result, context.Canceled):
		u.Status = usage.Interrupted
	case result != nil:
		u.Status = usage.Failed
	}
	ctx, cancel := context.WithTimeout(context.Background(), tellMost)
	defer cancel()
	usage.Ended(ctx, t.dir, nil, now, u)
}

func telemetryCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "telemetry", Short: "Say whether this command line may tell of its use, and see what it would tell", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(telemetryOn(), telemetryOff(), telemetryShow(), telemetrySend())
	return cmd
}

func telemetryOn() *cobra.Command {
	var s usage.Settings
	cmd := &cobra.Command{
		Use:   "on --url URL",
		Short: "Have the commands of this user counted, and the counts sent to a URL",
		Long: `From now on each command of nyx that ends is counted: its name without arguments,
how it ended, for how long it ran (under 1 s, 10 s, 1 min, 1 h, or longer), the day,
the release and the kind of operating system. Counts are kept encrypted in this
user's directory, for two days at least and three at most, and posted as JSON some
time in each 6 to 18 hours, at the end of a command or while one runs; while
nobody takes them, after 10 to 30 minutes again. Nothing in them names a user, a
machine, a network, a target or an address; who gets them sees the address that
they come from, unless --through names a proxy, as that of nyx proxy. It is off
until this command is given.`,
		Example: "  nyx telemetry on --url https://telemetry.example.org/nyx --through socks5://127.0.0.1:9150",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := usageDir()
			if err != nil {
				return err
			}
			if err := usage.Allow(dir, s); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "commands are counted, and the counts go to %s; nyx telemetry show prints what is held, nyx telemetry off ends it\n", s.URL)
			return nil
		},
	}
	cmd.Flags().StringVar(&s.URL, "url", "", "who gets the counts: https://, or http:// on this machine")
	cmd.Flags().StringVar(&s.Through, "through", "", "proxy by which it gets them, as socks5://127.0.0.1:9150, and by no other way")
	cmd.MarkFlagRequired("url")
	return cmd
}

func telemetryOff() *cobra.Command {
	return &cobra.Command{
		Use:     "off",
		Short:   "Count nothing from now on, and remove what is held",
		Example: "  nyx telemetry off",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := usageDir()
			if err != nil {
				return err
			}
			if err := usage.Forbid(dir); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "nothing is counted, and nothing is held")
			return nil
		},
	}
}

// shownUsage is what nyx telemetry show prints as JSON.
type shownUsage struct {
	On bool `json:"on"`
	usage.Settings
	Next   *time.Time    `json:"next,omitempty"` // not before this it is sent
	Report *usage.Report `json:"report,omitempty"`
}

func telemetryShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Print all that is held: exactly what would be sent",
		Example: "  nyx telemetry show\n  nyx telemetry show --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, now, err := openUsage()
			var shown shownUsage
			if err == nil {
				var r usage.Report
				if r, err = s.Report(now); err != nil {
					return err
				}
				next, err := s.Next()
				if err != nil {
					return err
				}
				shown = shownUsage{On: true, Settings: s.Settings, Report: &r}
				if !next.IsZero() {
					shown.Next = &next
				}
			} else if !errors.Is(err, usage.ErrOff) {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(shown)
			}
			return shown.write(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the settings")
	return cmd
}

func (s *shownUsage) write(out io.Writer) error {
	if !s.On {
		fmt.Fprintln(out, usage.ErrOff)
		return nil
	}
	way := "directly"
	if s.Through != "" {
		way = "through " + s.Through
	}
	fmt.Fprintf(out, "to %s, %s\n", s.URL, way)
	if s.Next != nil {
		fmt.Fprintf(out, "not before %s\n", s.Next.Format(time.DateTime+" MST"))
	}
	b, err := json.MarshalIndent(s.Report, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(out, "%s\n", b)
	}
	return err
}

func telemetrySend() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "send",
		Short:   "Send what is held now",
		Example: "  nyx telemetry send",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, now, err := openUsage()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), sendMost)
			defer cancel()
			n, err := s.Send(ctx, now)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]int{"sent": n})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the counts of %d commands were taken\n", n)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func openUsage() (*usage.Store, time.Time, error) {
	now := time.Now()
	dir, err := usageDir()
	if err != nil {
		return nil, now, err
	}
	s, err := usage.Open(dir, nil, now)
	return s, now, err
}
