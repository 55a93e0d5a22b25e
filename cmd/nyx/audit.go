package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/engine/worm"
)

// auditCommand reads the audit log: its files, beside the process that writes them
// or without one, and its index.
func auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read, verify, prove and export the audit log",
		Long: `Read the audit log of a control node. Its files say who did what to the network,
never who used it. Commands read them beside the running node or without it, with the
keys beside them (--keys). From elsewhere, query, tail, prove and export ask the
governance API of a running control process (--api), which knows who you are and
records that you asked.`,
		Example: "  nyx audit query --dir control-1/audit --actor alice --from 24h\n  nyx audit verify --dir control-1/audit",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	a := &auditPlace{}
	for _, sub := range []*cobra.Command{a.query(), a.tail(), a.verify(), a.replay(), a.export(), a.report(), a.prove(), a.retention()} {
		fs := sub.Flags()
		fs.StringVar(&a.dir, "dir", "audit", "directory of the log")
		fs.StringVar(&a.keys, "keys", "", "directory of its keys (default: keys in the log's directory)")
		fs.StringVar(&a.key, "key", "", "log.key file, kept elsewhere, by which to verify (default: that of the log's directory)")
		fs.BoolVar(&a.json, "json", false, "print JSON")
		cmd.AddCommand(sub)
	}
	cmd.AddCommand(a.bearer(), restoreLogCommand())
	return cmd
}

// auditPlace is where a log lies.
type auditPlace struct {
	dir, keys, key string
	json           bool
}

// open returns the store, the key by which it is verified, and the keys under which it
// is kept.
func (a *auditPlace) open() (*ledger.Store, *audit.LogKey, ledger.FileKeys, error) {
	path, keysDir := a.key, a.keys
	if path == "" {
		path = filepath.Join(a.dir, "log.key")
	}
	if keysDir == "" {
		keysDir = filepath.Join(a.dir, "keys")
	}
	key, err := ledger.ReadKey(path)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%s is no audit log (there is no %s); say where it is with --dir", a.dir, path)
	}
	if err != nil {
		return nil, nil, ledger.FileKeys{}, err
	}
	keys, err := ledger.OpenFileKeys(keysDir, false)
	if err != nil {
		return nil, nil, keys, fmt.Errorf("%w; say where they are with --keys", err)
	}
	return &ledger.Store{Dir: a.dir, Wrapper: keys.Wrapper}, key, keys, nil
}

// print writes an entry for people or programs.
func (a *auditPlace) print(w io.Writer, e *audit.Entry) {
	if a.json {
		w.Write(append(audit.AppendJSON(nil, e), '\n'))
		return
	}
	v := &e.Event
	fmt.Fprintf(w, "%8d  %s  %-8v %-17v %-7v %s %s %s", e.Seq, v.Time.Format("2006-01-02 15:04:05.000"), v.Severity, v.Kind, v.Outcome, v.Actor, v.Action, v.Subject)
	if v.Reason != "" {
		fmt.Fprintf(w, " (%s)", v.Reason)
	}
	if v.Count > 1 {
		fmt.Fprintf(w, " ×%d", v.Count)
	}
	for _, d := range v.Details {
		fmt.Fprintf(w, " %s=%s", d.Key, d.Value)
	}
	fmt.Fprintln(w)
}

// auditFilter is what flags say of the events that are wanted.
type auditFilter struct{ from, to, kind, severity, actor, subject, action, org, outcome string }

func (f *auditFilter) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.from, "from", "", "not before this time: 2026-11-23T09:00:00Z, 2026-11-23, or how long ago, 24h")
	fs.StringVar(&f.to, "to", "", "before this time")
	fs.StringVar(&f.kind, "kind", "", "kind of event, as config.change")
	fs.StringVar(&f.severity, "severity", "", "this severity and above: info, notice, warning, critical")
	fs.StringVar(&f.actor, "actor", "", "who did it: an operator or a node")
	fs.StringVar(&f.subject, "subject", "", "what it is about")
	fs.StringVar(&f.action, "action", "", "what was done")
	fs.StringVar(&f.org, "org", "", "organisation")
	fs.StringVar(&f.outcome, "outcome", "", "ok, refused or failed")
}

// filter reads the flags at a time.
func (f *auditFilter) filter(now time.Time) (out audit.Filter, err error) {
	if out.From, err = parseMoment("--from", f.from, now); err != nil {
		return out, err
	}
	if out.To, err = parseMoment("--to", f.to, now); err != nil {
		return out, err
	}
	if f.kind != "" {
		if out.Kind, err = audit.ParseKind(f.kind); err != nil {
			return out, err
		}
	}
	if f.severity != "" {
		if out.Severity, err = audit.ParseSeverity(f.severity); err != nil {
			return out, err
		}
	}
	if f.outcome != "" {
		outcome, err := audit.ParseOutcome(f.outcome)
		if err != nil {
			return out, err
		}
		out.Outcome = &outcome
	}
	if f.org != "" {
		out.Org = &f.org
	}
	out.Actor, out.Subject, out.Action = f.actor, f.subject, f.action
	return out, nil
}

func parseMoment(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(s); err == nil {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %q is no time; use 2026-11-23T09:00:00Z, 2026-11-23, or how long ago, as 24h", flag, s)
}

func (a *auditPlace) tail() *cobra.Command {
	var last int
	var api auditAPI
	cmd := &cobra.Command{
		Use: "tail", Short: "Print the newest events", Example: "  nyx audit tail --dir control-1/audit -n 50", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if last < 1 {
				return errors.New("-n is a count; use 1 or more")
			}
			if api.url != "" {
				return api.tail(cmd, a, last)
			}
			store, _, _, err := a.open()
			if err != nil {
				return err
			}
			end, err := store.End(cmd.Context())
			if err != nil {
				return err
			}
			return store.Read(cmd.Context(), max(0, end-int64(last)), end, func(e audit.Entry) error {
				a.print(cmd.OutOrStdout(), &e)
				return nil
			})
		},
	}
	cmd.Flags().IntVarP(&last, "number", "n", 20, "how many")
	api.flags(cmd)
	return cmd
}

func (a *auditPlace) verify() *cobra.Command {
	var checkpoints, exports, proofs []string
	var locked copyFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify the whole log, by its key and by what was kept elsewhere",
		Long: `Verify that every event is there, unchanged and in its order: each entry carries the
hash of the one before, every signed checkpoint has the root of the entries, and what
is missing was removed by retention, on the record. Checkpoints that were kept
elsewhere (--checkpoint) show a log that was made anew or cut. With --from, the copy
under object lock is verified in place of the log, with the same keys, and objects that
are not locked though they should be are a fault. With --proof or --export, only these
are verified, by the key alone: no log is needed.`,
		Example: "  nyx audit verify --dir control-1/audit --key auditor/log.key --checkpoint auditor/2026-10.note\n  nyx audit verify --key log.key --proof event.proof",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(proofs)+len(exports) > 0 {
				return a.verifyCopies(cmd, proofs, exports)
			}
			var others [][]byte
			for _, path := range checkpoints {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				others = append(others, b)
			}
			if locked.from != "" {
				return a.verifyFrom(cmd, &locked, others)
			}
			return a.verifyLog(cmd, others, nil)
		},
	}
	cmd.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "signed checkpoint that was kept elsewhere (may be given again)")
	cmd.Flags().StringArrayVar(&proofs, "proof", nil, "proof of an event (may be given again)")
	cmd.Flags().StringArrayVar(&exports, "export", nil, "directory of an export (may be given again)")
	locked.add(cmd)
	return cmd
}

// verifyLog verifies the log in the directory; restored says of which copy it was made,
// if of any.
func (a *auditPlace) verifyLog(cmd *cobra.Command, others [][]byte, restored *worm.Restored) error {
	store, key, _, err := a.open()
	if err != nil {
		return err
	}
	begun := time.Now()
	show, done := progress(cmd, "verified")
	v, torn, err := store.Verify(cmd.Context(), key, others, show)
	done()
	if err != nil {
		return err
	}
	rate := float64(v.Entries) / max(time.Since(begun).Seconds(), 1e-6)
	if a.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
			audit.Verified
			Unfinished int64          `json:"unfinished_bytes"`
			Replay     float64        `json:"audit_replay_throughput"`
			Copy       *worm.Restored `json:"copy,omitempty"`
		}{v, torn, rate, restored})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "ok: %d events in %d segments, %d removed on the record, %d checkpoints, %d events not signed yet; %.0f events/s\n",
		v.Entries, v.Segments, v.Removed, v.Checkpoints, v.Unsigned, rate)
	return nil
}

// progress shows to who watches how far a command is that goes through events; done takes
// that away.
func progress(cmd *cobra.Command, what string) (show func(audit.Entry) error, done func()) {
	line := cli.Watch(cmd)
	return func(e audit.Entry) error {
		if e.Seq%4096 == 0 {
			line.Bar(what+" events:", uint64(e.Seq), 0)
		}
		return nil
	}, line.Done
}

// verifyCopies verifies what left the log.
func (a *auditPlace) verifyCopies(cmd *cobra.Command, proofs, exports []string) error {
	path := a.key
	if path == "" {
		path = filepath.Join(a.dir, "log.key")
	}
	key, err := ledger.ReadKey(path)
	if err != nil {
		return fmt.Errorf("%w; name the log's key with --key", err)
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	defer out.Flush()
	for _, path := range proofs {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		p, err := ledger.ParseProof(b)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		c, e, err := audit.CheckProof(key, p.Entry, p.Proof)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		a.print(out, &audit.Entry{Seq: p.Index, Event: e})
		if !a.json {
			fmt.Fprintf(out, "ok: it is entry %d of the %d that %s had signed by %s\n", p.Index, c.Size, c.Origin, c.Time.Format(time.RFC3339))
		}
	}
	for _, dir := range exports {
		m, err := ledger.CheckExport(dir, key)
		if err != nil {
			return err
		}
		if a.json {
			if err := json.NewEncoder(out).Encode(m); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(out, "ok: %d events of entries %d to %d of %s, in %d parts (%s)\n", m.Rows(), m.First, m.Before-1, m.Origin, len(m.Parts), m.Format)
	}
	return nil
}
