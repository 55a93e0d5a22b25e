package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/doctor"
)

// Doctor is the command that finds out what is wrong.
func Doctor(kinds []joint.Kind) *cobra.Command {
	p := doctor.Patient{Kinds: kinds}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong, each finding with a reason code and what to do",
		Long: `Looks at the processes of this user that run, and with --network or --config at
what a client or a node needs before it starts: files, addresses, the clock, NAT,
the directory, the control plane, and whether entries answer by UDP. It asks whom a
client or node would ask, as they would, and tells nobody what it found. It fails
if there is something to mend; notes are no failure.`,
		Example: "  nyx doctor\n  nyx doctor --network network.toml --socks 127.0.0.1:9150\n  nyx doctor --config mix-1/node.toml --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSocks(p.Socks, p.NetworkFile); err != nil {
				return err
			}
			named := p.Run != ""
			var err error
			if p.Run, err = runDir(p.Run); err != nil && (named || p.NetworkFile == "" && p.ConfigFile == "") {
				return err
			}
			line := Watch(cmd)
			p.Tell = line.Show
			r := doctor.Examine(cmd.Context(), p)
			line.Done()
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if asJSON {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(r); err != nil {
					return err
				}
			} else {
				printFindings(cmd.OutOrStdout(), &r)
			}
			if r.Sick() {
				return errors.New("there is something to mend; see what was found")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.NetworkFile, "network", "", "network file of a network that a client is to join")
	f.StringVar(&p.ConfigFile, "config", "", "configuration of a node that is to run here")
	f.StringVar(&p.Socks, "socks", "", "address on which a proxy is to listen, with --network")
	f.StringVar(&p.Run, "run", "", runHelp)
	f.DurationVar(&p.Patience, "wait", 0, "time for which entries are waited for (default 15s)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// checkSocks refuses an address of a proxy that would not be looked at, or is none.
func checkSocks(socks, network string) error {
	if socks == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(socks)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("--socks %q is not an address; use one as 127.0.0.1:9150", socks)
	}
	if network == "" {
		return errors.New("--socks is looked at for a client that is to join a network; name its file with --network")
	}
	return nil
}

func printFindings(w io.Writer, r *doctor.Report) {
	fmt.Fprintln(w, "looked at:")
	for _, c := range r.Checked {
		fmt.Fprintln(w, "  "+c)
	}
	if len(r.Unlooked) > 0 {
		fmt.Fprintln(w, "not looked at:")
	}
	for _, u := range r.Unlooked {
		fmt.Fprintf(w, "  %s, without %s\n", u.What, u.Without)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(w, "found nothing in what was looked at")
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s (%s)\n  %s\n  do: %s\n", f.Code, f.Kind, f.What, f.Do)
	}
}
