package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	index "github.com/nyxnet/nyx/internal/engine/sql"
)

// indexFile is the index beside the log.
const indexFile = "index.db"

const indexHelp = "index: a SQLite file, or postgres://… (default: index.db in the log's directory)"

// openIndex opens the index of a log. The one beside the log is built anew if it is
// damaged; any other is left alone.
func (a *auditPlace) openIndex(cmd *cobra.Command, where string, key *audit.LogKey) (*index.Index, error) {
	if where == "" {
		return index.Of(cmd.Context(), filepath.Join(a.dir, indexFile), key.ID())
	}
	x, err := index.Open(cmd.Context(), where)
	if err != nil {
		return nil, err
	}
	if err = x.Claim(cmd.Context(), key.ID()); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// printPage writes a page for people.
func (a *auditPlace) printPage(w io.Writer, entries []audit.Entry, cursor string) {
	for i := range entries {
		a.print(w, &entries[i])
	}
	if cursor != "" {
		fmt.Fprintln(w, "more: --cursor", cursor)
	}
}

func (a *auditPlace) query() *cobra.Command {
	var f auditFilter
	var q index.Query
	var where string
	var api auditAPI
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Find events, page by page",
		Long: `Find events in the index, which first follows the log to its end. Each page ends with
the cursor of the next, if there is one.`,
		Example: "  nyx audit query --dir control-1/audit --kind config.change --from 24h --newest\n  nyx audit query --severity warning --limit 1000 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if q.Filter, err = f.filter(time.Now()); err != nil {
				return err
			}
			if api.url != "" {
				return api.query(cmd, a, &q.Filter, q.Newest, q.Cursor, q.Limit)
			}
			store, key, _, err := a.open()
			if err != nil {
				return err
			}
			x, err := a.openIndex(cmd, where, key)
			if err != nil {
				return err
			}
			defer x.Close()
			if _, err := x.Project(cmd.Context(), store); err != nil {
				return err
			}
			page, err := x.Query(cmd.Context(), q)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if a.json {
				events := make([]json.RawMessage, 0, len(page.Entries))
				for i := range page.Entries {
					events = append(events, audit.AppendJSON(nil, &page.Entries[i]))
				}
				return json.NewEncoder(out).Encode(auditPage{events, page.Cursor})
			}
			a.printPage(out, page.Entries, page.Cursor)
			return nil
		},
	}
	f.flags(cmd)
	cmd.Flags().BoolVar(&q.Newest, "newest", false, "newest first")
	cmd.Flags().IntVar(&q.Limit, "limit", 100, "events of a page, 1 to 1000")
	cmd.Flags().StringVar(&q.Cursor, "cursor", "", "that of the page before")
	cmd.Flags().StringVar(&where, "index", "", indexHelp)
	api.flags(cmd)
	return cmd
}

func (a *auditPlace) replay() *cobra.Command {
	var where string
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Verify the log and build its index anew",
		Long: `Verify the whole log, drop the index, build it anew from the log, and compare the two,
entry by entry. The index is a projection: nothing is lost with it.`,
		Example: "  nyx audit replay --dir control-1/audit",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, key, _, err := a.open()
			if err != nil {
				return err
			}
			x, err := a.openIndex(cmd, where, key)
			if err != nil {
				return err
			}
			defer x.Close()
			begun := time.Now()
			show, done := progress(cmd, "verified")
			v, _, err := store.Verify(cmd.Context(), key, nil, show)
			done()
			if err != nil {
				return err
			}
			verified := time.Since(begun)
			if err := x.Drop(cmd.Context()); err != nil {
				return err
			}
			n, err := x.Project(cmd.Context(), store)
			if err != nil {
				return err
			}
			if err := x.Compare(cmd.Context(), store); err != nil {
				return err
			}
			rate := float64(v.Entries) / max(verified.Seconds(), 1e-6)
			if a.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]float64{"entries": float64(n), "audit_replay_throughput": rate, "seconds": time.Since(begun).Seconds()})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "ok: %d entries verified at %.0f a second, and the index equals them\n", n, rate)
			return nil
		},
	}
	cmd.Flags().StringVar(&where, "index", "", indexHelp)
	return cmd
}

func (a *auditPlace) export() *cobra.Command {
	var f auditFilter
	var format, out string
	var api auditAPI
	cmd := &cobra.Command{
		Use:   "export --out DIR",
		Short: "Copy events to CSV, JSON Lines or Parquet, signed",
		Long: `Copy what the log has signed to files of at most 100,000 events, with a manifest of
their digests that is signed with the log's key. An export that was interrupted goes
on where it was, with the same command. Verify one with nyx audit verify --export.`,
		Example: "  nyx audit export --dir control-1/audit --format parquet --from 2026-11-01 --to 2026-12-01 --out november",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			x := &ledger.Export{Dir: out, Now: time.Now()}
			var err error
			if x.Format, err = audit.ParseFormat(format); err != nil {
				return err
			}
			if x.Filter, err = f.filter(x.Now.Truncate(time.Second)); err != nil {
				return err
			}
			if api.url != "" {
				return a.exportFrom(cmd, &api, x)
			}
			store, key, keys, err := a.open()
			if err != nil {
				return err
			}
			x.Signer = keys.Signer
			show, done := progress(cmd, "exported")
			x.Done = func(p audit.Part) { show(audit.Entry{Seq: p.Before &^ 4095}) }
			begun := time.Now()
			m, err := x.Run(cmd.Context(), store, key)
			done()
			if err != nil {
				return err
			}
			if a.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(m)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d events in %d files in %s, after %v\n", m.Rows(), len(m.Parts), out, time.Since(begun).Round(time.Millisecond))
			return nil
		},
	}
	f.flags(cmd)
	cmd.Flags().StringVar(&format, "format", "jsonl", "csv, jsonl or parquet")
	cmd.Flags().StringVar(&out, "out", "", "directory for the files")
	cmd.MarkFlagRequired("out")
	api.flags(cmd)
	return cmd
}

// exportFrom takes an export from the API, and verifies it if the log's key is known.
func (a *auditPlace) exportFrom(cmd *cobra.Command, api *auditAPI, x *ledger.Export) error {
	got, err := api.export(cmd, x.Format, &x.Filter, x.Dir)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if a.key == "" {
		_, err = fmt.Fprintf(out, "%d events in %d files in %s, not verified: nyx audit verify --key log.key --export %s\n", got.Rows, len(got.Files), x.Dir, x.Dir)
		return err
	}
	return a.verifyCopies(cmd, nil, []string{x.Dir})
}

func (a *auditPlace) prove() *cobra.Command {
	var seq int64
	var id, out string
	var api auditAPI
	cmd := &cobra.Command{
		Use:   "prove --seq N | --id ID",
		Short: "Prove that an event is in the log",
		Long: `Make a proof that an event is in the log, which anybody can verify who has the log's
key (nyx audit verify --proof), without the log and without its other events.`,
		Example: "  nyx audit prove --dir control-1/audit --seq 1234 --out event.proof",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("seq") == (id != "") || api.url != "" && id == "" {
				return errors.New("name one event: --seq N or --id ID, of the API --id ID")
			}
			b, err := a.proof(cmd, &api, seq, id)
			if err != nil {
				return err
			}
			if out == "" || out == "-" {
				_, err = cmd.OutOrStdout().Write(b)
				return err
			}
			return os.WriteFile(out, b, 0o644)
		},
	}
	cmd.Flags().Int64Var(&seq, "seq", 0, "place of the event in the log, as query prints it")
	cmd.Flags().StringVar(&id, "id", "", "ID of the event")
	cmd.Flags().StringVar(&out, "out", "", "file (default: standard output)")
	api.flags(cmd)
	return cmd
}

// proof makes the proof of an event, or has the API make it.
func (a *auditPlace) proof(cmd *cobra.Command, api *auditAPI, seq int64, id string) ([]byte, error) {
	if api.url != "" {
		return api.prove(cmd, id)
	}
	store, key, _, err := a.open()
	if err != nil {
		return nil, err
	}
	if id != "" {
		if seq, err = store.Find(cmd.Context(), id); err != nil {
			return nil, err
		}
	}
	p, err := store.Prove(cmd.Context(), key, seq)
	if err != nil {
		return nil, err
	}
	return p.Encode(), nil
}
