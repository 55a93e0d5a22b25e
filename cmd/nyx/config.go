package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/daemon"
)

// configFlags are those of every command of nyx config.
type configFlags struct {
	operator string
	json     bool
}

func configCommand() *cobra.Command {
	var f configFlags
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Change the configuration of a running network",
		Long: `Reads and changes what a network's nodes take while they run. Every change is an
event with a revision, accepted or refused as a whole, and can be taken back.`,
		Example: "  nyx config get\n  nyx config set admission.per_minute=60 --comment \"release day\"\n  nyx config rollback 12",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(configGet(&f), configSet(&f), configHistory(&f), configDiff(&f), configRollback(&f), configRollout(&f), configStatus(&f), configRetry(&f))
	return cmd
}

// desk is the control plane as an operator reaches it.
type desk struct {
	daemon.OperatorFile
	client *http.Client
}

func (f *configFlags) desk() (*desk, error) {
	path := f.operator
	if path == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return nil, fmt.Errorf("no directory for this user's configuration: %w; name the file with --operator", err)
		}
		path = filepath.Join(base, "nyx", daemon.OperatorFileName)
	}
	file, err := daemon.LoadOperatorFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; start nyx up, or name the file with --operator", err)
	}
	client, err := file.Client()
	return &desk{file, client}, err
}

// ask makes a request; post nil asks, else orders.
func (d *desk) ask(ctx context.Context, path string, post, answer any) error {
	method, body := http.MethodGet, []byte(nil)
	if post != nil {
		b, err := json.Marshal(post)
		if err != nil {
			return err
		}
		method, body = http.MethodPost, b
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(d.Address(), "/")+daemon.OperatorPath+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+d.Token)
	resp, err := d.client.Do(r)
	if err != nil {
		return fmt.Errorf("the control plane does not answer: %w; does it run?", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerMost))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(b)))
	}
	return json.Unmarshal(b, answer)
}

// answerMost bounds what the control plane says.
const answerMost = 64 << 20

// told prints JSON, or what text writes.
func (f *configFlags) told(cmd *cobra.Command, v any, text func(w io.Writer)) error {
	if f.json {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// withDesk is a command that asks the control plane.
func withDesk(f *configFlags, use, short, example string, args cobra.PositionalArgs, run func(cmd *cobra.Command, d *desk, args []string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
		d, err := f.desk()
		if err != nil {
			return err
		}
		return run(cmd, d, args)
	}}
	cmd.Flags().StringVar(&f.operator, "operator", "", "operator file of the control plane (default: "+daemon.OperatorFileName+" where nyx up keeps its data)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func configGet(f *configFlags) *cobra.Command {
	return withDesk(f, "get [KEY]", "Print what is set, or all keys with what they take", "  nyx config get\n  nyx config get log.level", cobra.MaximumNArgs(1),
		func(cmd *cobra.Command, d *desk, args []string) error {
			var v daemon.SettingsView
			if err := d.ask(cmd.Context(), "", nil, &v); err != nil {
				return err
			}
			if len(args) == 1 {
				for _, k := range v.Keys {
					if k.Name == args[0] {
						return f.told(cmd, v.Values[k.Name], func(w io.Writer) { fmt.Fprintln(w, v.Values[k.Name]) })
					}
				}
				return fmt.Errorf("%s: there is no such key; nyx config get lists them", args[0])
			}
			return f.told(cmd, v, func(w io.Writer) {
				fmt.Fprintf(w, "revision %d, hash %.16s\nKEY\tVALUE\tTAKES\tFOR\n", v.Revision, v.Hash)
				for _, k := range v.Keys {
					value := v.Values[k.Name]
					if value == "" {
						value = "-"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.Name, value, k.Wants, k.Roles)
				}
			})
		})
}

// pairs reads KEY=VALUE.
func pairs(args []string) (map[string]string, error) {
	set := map[string]string{}
	for _, a := range args {
		key, value, ok := strings.Cut(a, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not KEY=VALUE; to leave a key to the nodes' own files write KEY=", a)
		}
		if _, twice := set[key]; twice {
			return nil, fmt.Errorf("%s twice; set it once", key)
		}
		set[key] = value
	}
	return set, nil
}

func accepted(w io.Writer, c *settings.Change) {
	switch {
	case c.Revision == 0:
		fmt.Fprintln(w, "nothing to change")
	case c.Effective.After(c.At):
		fmt.Fprintf(w, "revision %d, from %s on\n", c.Revision, c.Effective.Format(time.RFC3339))
	default:
		fmt.Fprintf(w, "revision %d\n", c.Revision)
	}
}

func configSet(f *configFlags) *cobra.Command {
	var comment, at string
	var seen uint64
	var keep bool
	cmd := withDesk(f, "set KEY=VALUE...", "Change keys, all of them or none",
		"  nyx config set log.level=debug\n  nyx config set admission.per_minute=60 exit.ports=80,443 --comment \"release day\"\n  nyx config set log.level= --at 2026-03-01T12:00:00Z", cobra.MinimumNArgs(1),
		func(cmd *cobra.Command, d *desk, args []string) error {
			o := daemon.SettingsOrder{ID: daemon.NewChangeID(), Comment: comment, Seen: seen, Keep: keep}
			var err error
			if o.Set, err = pairs(args); err != nil {
				return err
			}
			if at != "" {
				if o.Effective, err = time.Parse(time.RFC3339, at); err != nil {
					return fmt.Errorf("--at %q is not a time; write it as in 2026-03-01T12:00:00Z", at)
				}
			}
			var c settings.Change
			if err := d.ask(cmd.Context(), "", o, &c); err != nil {
				return err
			}
			return f.told(cmd, c, func(w io.Writer) { accepted(w, &c) })
		})
	cmd.Flags().StringVar(&comment, "comment", "", "why, for the history")
	cmd.Flags().StringVar(&at, "at", "", "from when it holds, as in 2026-03-01T12:00:00Z (default: at once)")
	cmd.Flags().Uint64Var(&seen, "if-revision", 0, "refuse the change if one of the keys was changed after this revision")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep a change that cannot be had as a dead letter, to be corrected with nyx config retry")
	return cmd
}

func configHistory(f *configFlags) *cobra.Command {
	var from uint64
	cmd := withDesk(f, "history", "Print the changes, oldest first", "  nyx config history --from 10", cobra.NoArgs,
		func(cmd *cobra.Command, d *desk, _ []string) error {
			var all []settings.Change
			if err := d.ask(cmd.Context(), "/history?from="+strconv.FormatUint(from, 10), nil, &all); err != nil {
				return err
			}
			return f.told(cmd, all, func(w io.Writer) {
				fmt.Fprintln(w, "REVISION\tTIME\tACTOR\tCHANGE\tCOMMENT")
				for i := range all {
					c := &all[i]
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", c.Revision, c.At.Format(time.RFC3339), c.Actor, changed(c), c.Comment)
				}
			})
		})
	cmd.Flags().Uint64Var(&from, "from", 1, "first revision")
	return cmd
}

// changed writes what a change sets.
func changed(c *settings.Change) string {
	var parts []string
	for _, difference := range (settings.Values{}).Diff(c.Set) {
		parts = append(parts, difference.Key+"="+difference.To)
	}
	for key, value := range c.Set {
		if value == "" {
			parts = append(parts, key+"=")
		}
	}
	text := strings.Join(parts, " ")
	if c.Stage != nil {
		text += fmt.Sprintf(" (at %d %% of the nodes)", c.Stage.Percent)
	}
	if c.Effective.After(c.At) {
		text += " (from " + c.Effective.Format(time.RFC3339) + " on)"
	}
	return text
}

func configDiff(f *configFlags) *cobra.Command {
	return withDesk(f, "diff FROM [TO]", "Print what differs between two revisions", "  nyx config diff 10 12\n  nyx config diff 10", cobra.RangeArgs(1, 2),
		func(cmd *cobra.Command, d *desk, args []string) error {
			var views [2]daemon.SettingsView
			for i := range views {
				path := ""
				if i < len(args) {
					if _, err := strconv.ParseUint(args[i], 10, 64); err != nil {
						return fmt.Errorf("%q is not a revision; nyx config history lists them", args[i])
					}
					path = "/at?revision=" + args[i]
				}
				if err := d.ask(cmd.Context(), path, nil, &views[i]); err != nil {
					return err
				}
			}
			all := views[0].Values.Diff(views[1].Values)
			return f.told(cmd, all, func(w io.Writer) {
				for _, x := range all {
					fmt.Fprintf(w, "%s\t%s\t→ %s\n", x.Key, orDash(x.From), orDash(x.To))
				}
			})
		})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func configRollback(f *configFlags) *cobra.Command {
	return withDesk(f, "rollback REVISION", "Have all keys be as they were at a revision, by a new change", "  nyx config rollback 12", cobra.ExactArgs(1),
		func(cmd *cobra.Command, d *desk, args []string) error {
			to, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("%q is not a revision; nyx config history lists them", args[0])
			}
			var c settings.Change
			if err := d.ask(cmd.Context(), "/rollback", daemon.SettingsOrder{ID: daemon.NewChangeID(), To: &to}, &c); err != nil {
				return err
			}
			return f.told(cmd, c, func(w io.Writer) { accepted(w, &c) })
		})
}

func configRollout(f *configFlags) *cobra.Command {
	var comment string
	var stages []int
	var hold time.Duration
	var worse int
	cmd := withDesk(f, "rollout KEY=VALUE...", "Change keys at a share of the nodes first, and take it back if more fails there",
		"  nyx config rollout admission.per_minute=60 --stages 5,25 --hold 10m", cobra.MinimumNArgs(1),
		func(cmd *cobra.Command, d *desk, args []string) error {
			set, err := pairs(args)
			if err != nil {
				return err
			}
			if len(stages) == 0 {
				return errors.New("--stages needs at least one share of the nodes from 1 to 99 percent")
			}
			o := daemon.SettingsOrder{ID: daemon.NewChangeID(), Set: set, Comment: comment}
			o.Stage = &settings.Stage{Rollout: o.ID, Percent: stages[0], Next: stages[1:], Hold: hold, Worse: worse}
			var c settings.Change
			if err := d.ask(cmd.Context(), "", o, &c); err != nil {
				return err
			}
			return f.told(cmd, c, func(w io.Writer) {
				fmt.Fprintf(w, "revision %d at %d %% of the nodes; nyx config status shows how it goes\n", c.Revision, stages[0])
			})
		})
	cmd.Flags().StringVar(&comment, "comment", "", "why, for the history")
	cmd.Flags().IntSliceVar(&stages, "stages", []int{5, 25}, "growing shares of the nodes in percent, before all of them")
	cmd.Flags().DurationVar(&hold, "hold", 10*time.Minute, "how long each stage must go well")
	cmd.Flags().IntVar(&worse, "worse", 1, "by how many percent more may fail at these nodes than at the others")
	return cmd
}

func configStatus(f *configFlags) *cobra.Command {
	return withDesk(f, "status", "Print what nodes have of the configuration, trials and dead letters", "  nyx config status --json", cobra.NoArgs,
		func(cmd *cobra.Command, d *desk, _ []string) error {
			var s daemon.SettingsStatus
			if err := d.ask(cmd.Context(), "/status", nil, &s); err != nil {
				return err
			}
			return f.told(cmd, s, func(w io.Writer) { writeConfigStatus(w, &s) })
		})
}

func writeConfigStatus(w io.Writer, s *daemon.SettingsStatus) {
	fmt.Fprintf(w, "revision %d, hash %.16s, %d changes wait to be accepted\n", s.Revision, s.Hash, s.Queue)
	for _, c := range s.Waiting {
		fmt.Fprintf(w, "later\t%s\n", changed(c))
	}
	for _, t := range s.Trials {
		fmt.Fprintf(w, "trial %v\tat %d %% of the nodes since %s\n", t.Stage.Rollout, t.Stage.Percent, t.Since.Format(time.RFC3339))
	}
	for i := range s.Dead {
		fmt.Fprintf(w, "dead letter %v\t%s\t%s\n", s.Dead[i].Change.ID, s.Dead[i].Since.Format(time.RFC3339), s.Dead[i].Why)
	}
	for _, n := range s.Nodes {
		state := "has it"
		switch {
		case n.Refused != 0:
			state = fmt.Sprintf("cannot have revision %d: %s", n.Refused, n.Why)
		case n.Revision < s.Revision:
			state = "behind"
		case n.Failing:
			state = "has it, and does not work fully"
		}
		fmt.Fprintf(w, "node %.16s\trevision %d\t%s\n", n.Node, n.Revision, state)
	}
}

func configRetry(f *configFlags) *cobra.Command {
	return withDesk(f, "retry ID [KEY=VALUE...]", "Correct a dead letter and try it again; without values give it up",
		"  nyx config retry 07010000000000000000000000000000 admission.per_minute=60", cobra.MinimumNArgs(1),
		func(cmd *cobra.Command, d *desk, args []string) error {
			id, err := settings.ParseID(args[0])
			if err != nil {
				return err
			}
			o := daemon.SettingsOrder{ID: id}
			if o.Set, err = pairs(args[1:]); err != nil {
				return err
			}
			return d.ask(cmd.Context(), "/retry", o, &id)
		})
}
