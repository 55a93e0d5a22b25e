package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// topLeast bounds --every: below it, what is shown is mostly the looking.
const topLeast = 200 * time.Millisecond

// Top is the command that shows the processes of this user as they run.
func Top() *cobra.Command {
	var dir string
	var every time.Duration
	var once, asJSON bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch what runs here: datagrams, cells, drops, memory and processor",
		Long: `Shows the parts of each process of this user with what they sent, took and dropped
each second. Cells are counted together, content and cover: what it shows is what
the wire does. It ends with an interrupt.`,
		Example: "  nyx top\n  nyx top --once\n  nyx top --json --every 5s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := runDir(dir)
			if err != nil {
				return err
			}
			if every < topLeast {
				return fmt.Errorf("--every %v is too short; use %v or more", every, topLeast)
			}
			if !once && !asJSON && !Terminal(os.Stdout) {
				return errors.New("stdout is no terminal; use --once, or --json for a line each time")
			}
			t := top{dir: dir, every: every, once: once, json: asJSON, out: cmd.OutOrStdout()}
			return t.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "run", "", runHelp)
	f.DurationVar(&every, "every", time.Second, "time between two looks")
	f.BoolVar(&once, "once", false, "show one interval and stop")
	f.BoolVar(&asJSON, "json", false, "print JSON, a line for each interval")
	return cmd
}

// Terminal reports whether a file is one.
func Terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

type top struct {
	dir        string
	every      time.Duration
	once, json bool
	out        io.Writer
}

// anew begins a screen: home, and what is below is erased.
const anew = "\x1b[H\x1b[J"

func (t *top) run(ctx context.Context) error {
	before, err := daemon.Standings(ctx, t.dir)
	for {
		if len(before) == 0 && (t.once || t.json) {
			return errors.Join(err, errors.New(noneFound))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(t.every):
		}
		var now []daemon.Standing
		if now, err = daemon.Standings(ctx, t.dir); ctx.Err() != nil {
			return nil
		}
		seen := compare(before, now)
		before = now
		if t.json {
			if err := json.NewEncoder(t.out).Encode(seen); err != nil {
				return err
			}
		} else {
			var screen bytes.Buffer
			if !t.once {
				screen.WriteString(anew)
			}
			printTop(&screen, seen, err)
			if _, err := t.out.Write(screen.Bytes()); err != nil {
				return err
			}
		}
		if t.once {
			return err
		}
	}
}

// activity is what a process did between two looks.
type activity struct {
	Program   string         `json:"program"`
	Name      string         `json:"name,omitempty"`
	PID       int            `json:"pid"`
	Network   string         `json:"network"`
	Running   float64        `json:"running_seconds"`
	Processor float64        `json:"processors"` // that it used of its own code, on average
	Memory    uint64         `json:"memory_bytes"`
	Parts     []partActivity `json:"parts"`
}

// partActivity is what a part did each second.
type partActivity struct {
	Name    string  `json:"name"`
	State   string  `json:"state"`
	In      float64 `json:"datagrams_in"`
	Out     float64 `json:"datagrams_out"`
	Cells   float64 `json:"cells"` // that passed, ended or began here
	Dropped float64 `json:"dropped"`
	Setups  float64 `json:"setups"`
}

// compare says what happened between two looks. A process that was not there at the first
// is left out: what it did before has no second.
func compare(before, now []daemon.Standing) (out []activity) {
	for _, s := range now {
		for _, was := range before {
			if was.PID != s.PID || !was.Since.Equal(s.Since) || was.Program != s.Program || !s.At.After(was.At) {
				continue
			}
			seconds := s.At.Sub(was.At).Seconds()
			a := activity{Program: s.Program, Name: s.Name, PID: s.PID, Network: s.Network, Running: s.At.Sub(s.Since).Seconds(), Processor: (s.CPU - was.CPU) / seconds, Memory: s.Memory}
			for _, p := range s.Parts {
				a.Parts = append(a.Parts, partBetween(was.Parts, &p, seconds))
			}
			out = append(out, a)
		}
	}
	return out
}

// cellCounters are the counters of cells that a hop or an end handled.
var cellCounters = []string{trace.CellForwarded.String(), trace.CellDelivered.String(), daemon.CellsOut}

func partBetween(before []daemon.StandingPart, p *daemon.StandingPart, seconds float64) partActivity {
	was := map[string]uint64{}
	for i := range before {
		if before[i].Name == p.Name {
			was = before[i].Counts
		}
	}
	rate := func(name string) float64 {
		if p.Counts[name] < was[name] {
			return 0 // the part has started again
		}
		return float64(p.Counts[name]-was[name]) / seconds
	}
	out := partActivity{Name: p.Name, State: p.State, In: rate(trace.LinkIn.String()), Out: rate(trace.LinkOut.String()), Setups: rate(trace.SetupDone.String())}
	for _, name := range cellCounters {
		out.Cells += rate(name)
	}
	for name := range p.Counts {
		if strings.HasPrefix(name, "drop_") {
			out.Dropped += rate(name)
		}
	}
	return out
}

// megabits are those of datagrams on the wire.
func megabits(datagrams float64) float64 { return datagrams * wire.DatagramSize * 8 / 1e6 }

func printTop(w io.Writer, seen []activity, err error) {
	if err != nil {
		fmt.Fprintln(w, OneLine(err))
	}
	if len(seen) == 0 {
		fmt.Fprintln(w, noneFound)
	}
	for _, a := range seen {
		name := a.Program
		if a.Name != "" {
			name += " " + a.Name
		}
		fmt.Fprintf(w, "nyx %s  process %d  network %s  up %v  %.2f processors  %.0f MiB\n", name, a.PID, a.Network,
			time.Duration(a.Running*float64(time.Second)).Round(time.Second), a.Processor, float64(a.Memory)/(1<<20))
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, "part\tin/s\tout/s\tMbit/s\tcells/s\tdrops/s\tset-ups/s\t state")
		for _, p := range a.Parts {
			fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.1f\t%.0f\t%.1f\t%.1f\t %s\n", p.Name, p.In, p.Out, megabits(p.In+p.Out), p.Cells, p.Dropped, p.Setups, p.State)
		}
		t.Flush()
	}
}
