package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	runHelp    = "directory in which processes show themselves (default: run in this user's directory of nyx)"
	noneFound  = "no process of this user runs; start one with nyx up, nyx proxy or nyx node, or name the directory of another user's with --run"
	timeFormat = "2006-01-02 15:04:05"
)

// runDir is the directory that a flag names, which must be there, or this user's.
func runDir(dir string) (string, error) {
	if dir == "" {
		return daemon.StandingDir()
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is no directory")
	}
	if err != nil {
		return "", fmt.Errorf("--run %s cannot be looked into: %w; name the directory run in the directory of nyx of the user whose processes are meant", dir, err)
	}
	return dir, nil
}

// Shown is the directory in which the processes of this program show themselves, or "" if
// this user has none.
func Shown() string {
	dir, err := daemon.StandingDir()
	if err != nil {
		return ""
	}
	return dir
}

// Status is the command that says what runs, what is protected and what is not.
func Status() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what runs here, what is protected, what is not, and what to do",
		Long: `Says of each process of this user that runs, nyx up, nyx proxy or nyx node, since
when it and its parts work, what is protected by it, what is not, and what to do
about that; and which ended without a word. It fails if none runs, if one ended so,
or if a part does not work fully.`,
		Example: "  nyx status\n  nyx status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := runDir(dir)
			if err != nil {
				return err
			}
			all, err := daemon.Standings(cmd.Context(), dir)
			if err != nil {
				return fmt.Errorf("%w; nyx doctor says more", err)
			}
			lost, err := daemon.LostIn(dir)
			if err != nil {
				return fmt.Errorf("%w; nyx doctor says more", err)
			}
			if len(all) == 0 && len(lost) == 0 {
				return errors.New(noneFound)
			}
			var states []state
			for _, s := range all {
				states = append(states, state{s, claims(&s)})
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(states)
			} else {
				printStates(cmd.OutOrStdout(), states)
				printLost(cmd.OutOrStdout(), lost)
			}
			if err != nil {
				return err
			}
			return broken(all, lost)
		},
	}
	cmd.Flags().StringVar(&dir, "run", "", runHelp)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// broken is the error of processes that ended without a word, and of those with parts that
// do not work fully, or nil.
func broken(all []daemon.Standing, lost []daemon.Lost) error {
	if len(lost) > 0 {
		return fmt.Errorf("%s ended without a word; nyx doctor says what to do", title(&lost[0].Standing))
	}
	parts, bad, first := 0, 0, ""
	for _, s := range all {
		for _, p := range s.Parts {
			if parts++; !p.Works {
				if bad++; first == "" {
					first = p.Name + ": " + p.State
				}
			}
		}
	}
	if bad == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d parts do not work fully (%s); nyx doctor says what to do", bad, parts, first)
}

// state is what nyx status says of a process.
type state struct {
	daemon.Standing
	Claims []claim `json:"claims"`
}

// claim is one thing that is protected, or not.
type claim struct {
	Holds bool      `json:"holds"`
	What  string    `json:"what"`
	Since time.Time `json:"since,omitzero"` // of one that holds
	Do    string    `json:"do,omitempty"`   // about one that does not
}

// claims are what a process protects and what it does not. Only a client has somebody to
// protect: a node protects others, and what is to be known of it are its parts.
func claims(s *daemon.Standing) (out []claim) {
	for i := range s.Parts {
		if s.Parts[i].Client {
			out = append(out, clientClaims(s, &s.Parts[i])...)
		}
	}
	return out
}

func clientClaims(s *daemon.Standing, p *daemon.StandingPart) (out []claim) {
	holds := func(what string) { out = append(out, claim{Holds: p.Works, What: what, Since: p.Since}) }
	lacks := func(what, do string) { out = append(out, claim{What: what, Do: do}) }
	if !p.Works {
		lacks("nothing is: traffic does not flow ("+p.State+")", "wait a moment; nyx doctor says what is in the way. Nothing leaves unprotected meanwhile: the proxy has no way out but the network")
		return out
	}
	holds("who talks to whom, from any one relay and from the target, which sees an exit's address")
	if level, ok := wire.ParseLevel(s.Level); ok && level != wire.Fast {
		holds(fmt.Sprintf("the same from who watches wires, as far as docs/anonymity.md measures it: level %v delays cells at %d mixes, and sends at a rate that does not follow use", level, level.Mixes()))
	} else {
		lacks("who talks to whom, from who watches both ends: level fast neither delays nor covers", "start with --level standard, or higher")
	}
	holds("what is said, from all but the exit and what lies behind it: keys of X25519 and ML-KEM-768 together")
	holds(fmt.Sprintf("which relays are believed: documents that %d of %d authorities have signed", s.Threshold, s.Authorities))
	if s.WitnessThreshold > 0 {
		holds(fmt.Sprintf("that all are told of the same relays: %d of %d witnesses have seen each document in a log", s.WitnessThreshold, s.Witnesses))
	} else {
		lacks("that all are told of the same relays: no witnesses watch what is signed", "ask the network's operators for witnesses")
	}
	lacks("programs that do not use the proxy", "set "+s.Socks+" as their SOCKS5 or HTTP proxy, names to be resolved by it")
	lacks("what leaves an exit without encryption of its own, and who one says one is there", "use https; log in nowhere that knows you otherwise")
	if s.Local {
		lacks("anything, from who owns this machine: all relays are on it", "this is for trying out; join others' relays with nyx proxy")
	}
	return out
}

func printStates(w io.Writer, states []state) {
	for i, s := range states {
		if i > 0 {
			fmt.Fprintln(w)
		}
		printState(w, &s)
	}
}

func printLost(w io.Writer, lost []daemon.Lost) {
	for _, l := range lost {
		fmt.Fprintf(w, "! %s ended without a word; it was last seen at %s\n", title(&l.Standing), l.Seen.Local().Format(timeFormat))
	}
}

func printState(w io.Writer, s *state) {
	fmt.Fprintf(w, "%s, network %s", title(&s.Standing), s.Network)
	if s.Level != "" {
		fmt.Fprintf(w, ", level %s, proxy %s", s.Level, s.Socks)
	}
	fmt.Fprintf(w, "\nruns since %s (%v)\n", s.Since.Local().Format(timeFormat), s.At.Sub(s.Since).Round(time.Second))
	works := 0
	for _, p := range s.Parts {
		if p.Works {
			works++
		}
	}
	fmt.Fprintf(w, "%d of %d parts work\n", works, len(s.Parts))
	for _, p := range s.Parts {
		if !p.Works {
			fmt.Fprintf(w, "  ! %s does not work fully since %s: %s\n", p.Name, p.Since.Local().Format(timeFormat), p.State)
		}
		if p.Overloaded {
			fmt.Fprintf(w, "  ! %s is overloaded and holds back what it admits\n", p.Name)
		}
		if p.Alone {
			fmt.Fprintf(w, "  ! %s has no answer of the control plane, and goes by what was decided last\n", p.Name)
		}
	}
	if len(s.Claims) == 0 {
		return
	}
	heading := true
	for _, c := range s.Claims {
		if !c.Holds {
			continue
		}
		if heading {
			fmt.Fprintf(w, "protected since %s\n", c.Since.Local().Format(timeFormat)) // all hold while the client works
			heading = false
		}
		fmt.Fprintf(w, "  + %s\n", c.What)
	}
	fmt.Fprintln(w, "not protected")
	for _, c := range s.Claims {
		if !c.Holds {
			fmt.Fprintf(w, "  - %s\n    do: %s\n", c.What, c.Do)
		}
	}
}

// title names a process.
func title(s *daemon.Standing) string {
	name := "nyx " + s.Program
	if s.Name != "" {
		name += " " + s.Name
	}
	return fmt.Sprintf("%s (process %d)", name, s.PID)
}
