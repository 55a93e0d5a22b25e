package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/telemetry/span"
)

// traced opens the file of a network on this machine.
func (f *upFlags) traced(say func(string, ...any)) (*span.File, error) {
	dir, err := setup.DataDir(f.data)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, span.FileName)
	return span.Open(path, func(err error) { say("a span is not kept: %v", err) })
}

// shownTrace is a trace as JSON shows it.
type shownTrace struct {
	Trace span.TraceID `json:"trace"`
	// Missing is what the trace of a probe lacks of the sequence, or has out of order.
	Missing string      `json:"missing,omitempty"`
	Spans   []span.Span `json:"spans"`
}

func shown(t span.Trace) shownTrace {
	s := shownTrace{Trace: t[0].Trace, Spans: t}
	if t.Root().Name == span.Probe {
		s.Missing = t.Missing()
	}
	return s
}

func traceCommand() *cobra.Command {
	var id, of string
	var list, asJSON bool
	cmd := &cobra.Command{
		Use:   "trace [FILE|DIR...]",
		Short: "Show how a probe went through the network, or a change of its configuration",
		Long: `Show a trace, put together from what processes keep of it in ` + span.FileName + `, in the
directories that are named and below: how a probe's session came about, step by
step, or how a change of the configuration reached the nodes and the audit log.
Without a name it is the newest, in the data directory of nyx up. There is no trace
of what users do.`,
		Example: "  nyx trace\n  nyx trace network\n  nyx trace --list network\n  nyx trace --of config --json network",
		RunE: func(cmd *cobra.Command, paths []string) error {
			if _, ok := traceRoots[of]; !ok {
				return fmt.Errorf("--of %q: traces are of a probe or of a config", of)
			}
			spans, broken, err := readSpans(paths)
			if err != nil {
				return err
			}
			if broken > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d lines of the files are no spans, and are passed over: a full disk, or a process that ended, leaves such\n", broken)
			}
			found, err := chosenTraces(span.Traces(spans), id, of)
			if err != nil {
				return err
			}
			if !list {
				found = found[len(found)-1:]
			}
			var all []shownTrace
			for _, t := range found {
				all = append(all, shown(t))
			}
			out := cmd.OutOrStdout()
			switch {
			case asJSON && list:
				return json.NewEncoder(out).Encode(all)
			case asJSON:
				return json.NewEncoder(out).Encode(all[0])
			case list:
				for i, t := range found {
					fmt.Fprintln(out, traceLine(t, all[i].Missing))
				}
			default:
				found[0].Write(out)
				if all[0].Missing != "" {
					fmt.Fprintln(out, "not whole: "+all[0].Missing)
				}
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&id, "id", "", "the trace whose id begins so")
	fs.StringVar(&of, "of", "probe", "what traces are of: probe or config")
	fs.BoolVar(&list, "list", false, "one line for each trace")
	fs.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// readSpans reads what is named, or what nyx up keeps.
func readSpans(paths []string) (spans []span.Span, broken int, err error) {
	if len(paths) > 0 {
		return span.Read(paths...)
	}
	dir, err := setup.DataDir("")
	if err != nil {
		return nil, 0, err
	}
	if spans, broken, err = span.Read(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	return spans, broken, err
}

// traceRoots are how traces of a kind begin. Of a change the first span may be in a file
// that is not read.
var traceRoots = map[string][]span.Name{"probe": {span.Probe}, "config": {span.ConfigChange, span.ConfigApply, span.AuditEvent}}

// chosenTraces are those that are asked for, the oldest first.
func chosenTraces(traces []span.Trace, id, of string) ([]span.Trace, error) {
	found := slices.DeleteFunc(traces, func(t span.Trace) bool {
		if id != "" {
			return !strings.HasPrefix(t[0].Trace.String(), id)
		}
		return !slices.Contains(traceRoots[of], t.Root().Name)
	})
	switch {
	case len(found) > 0:
		return found, nil
	case id != "":
		return nil, fmt.Errorf("no trace here has an id that begins with %q; see nyx trace --list", id)
	case of == "probe":
		return nil, errors.New("no trace of a probe here; run nyx up --probe 1m, or write probe and traces into [telemetry] of a Stream node, and name its directory")
	}
	return nil, errors.New("no trace of a change of the configuration here; write traces = true into [telemetry] of control processes and nodes, and name their directories")
}

// traceLine is a trace in one line.
func traceLine(t span.Trace, missing string) string {
	root := t.Root()
	line := fmt.Sprintf("%s  %s  %-13s %9.1f ms  %2d spans", t[0].Trace, root.Begin.UTC().Format("2006-01-02 15:04:05"), root.Name, root.End.Sub(root.Begin).Seconds()*1e3, len(t))
	if o := root.Attributes[span.Outcome]; o != "" {
		line += "  " + o
	}
	if missing != "" {
		line += "  " + missing
	}
	return line
}
