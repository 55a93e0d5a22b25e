package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/setup"
)

func keygenCommand() *cobra.Command {
	var dir string
	var authority, witness, issuer, fleet bool
	cmd := &cobra.Command{
		Use:     "keygen --keys DIR",
		Short:   "Make the keys of a node, a directory authority or a witness",
		Example: "  nyx keygen --keys mix-7/keys\n  nyx keygen --keys authority-4/keys --authority\n  nyx keygen --keys stream-1/keys --fleet",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if authority {
				signer, err := setup.MakeAuthorityKey(dir, nil)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "authority %x: key in %s\n", directory.AuthorityID(signer.Public()), dir)
				return nil
			}
			if witness {
				if _, err := setup.MakeWitnessKey(dir, nil); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "witness: key in %s; name its public key in the network file\n", dir)
				return nil
			}
			if issuer {
				if _, err := setup.MakeIssuerKey(dir, nil); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "issuer of unlinkable tokens: key in %s; name its public key in the table [issuer] of the network file\n", dir)
				return nil
			}
			if fleet {
				if err := setup.RotateFleet(dir, nil); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "fleet key in %s: copy it to every Stream node of the fleet\n", filepath.Join(dir, setup.FleetFile))
				return nil
			}
			params := directory.Params{}
			keys, err := setup.MakeNodeKeys(dir, params.OnionFrom(params.EpochAt(time.Now().Unix())), nil)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "node %x: keys in %s\n", keys.ID(), dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "keys", "", "directory for the key files")
	cmd.Flags().BoolVar(&authority, "authority", false, "make an authority's key instead of a node's")
	cmd.Flags().BoolVar(&witness, "witness", false, "make a witness's key instead of a node's")
	cmd.Flags().BoolVar(&issuer, "issuer", false, "make the key of an issuer of unlinkable tokens instead of a node's")
	cmd.Flags().BoolVar(&fleet, "fleet", false, "a fresh fleet key in the place of the one in the directory")
	cmd.MarkFlagsMutuallyExclusive("authority", "witness", "issuer", "fleet")
	cmd.MarkFlagRequired("keys")
	return cmd
}

func networkCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "network", Short: "Make a network", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var c setup.InitConfig
	var dir string
	initialise := &cobra.Command{
		Use:     "init --dir DIR",
		Short:   "Make the keys and configurations of a new network",
		Example: "  nyx network init --dir network --stream 3 --mix 6\n  nyx network init --dir big --stream 8 --mix 24 --regions 3 --replicas 2\n  nyx node --config network/stream-1/node.toml\n  nyx proxy --network network/network.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Wall = time.Now().Unix()
			line := cli.Watch(cmd)
			line.Show("making keys")
			made, err := setup.Init(dir, c)
			line.Done()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "network %s in %s; for clients: %s\nstart each with nyx node --config FILE:\n", c.Network, dir, made.NetworkFile)
			for _, files := range [][]string{made.Authorities, made.Witnesses, made.Replicas, made.Controls, made.Streams, made.Mixes} {
				for _, f := range files {
					fmt.Fprintln(out, "  "+f)
				}
			}
			return nil
		},
	}
	fs := initialise.Flags()
	fs.StringVar(&dir, "dir", "", "directory for the network's files; must be empty or not exist")
	fs.StringVar(&c.Network, "name", "nyx", "name of the network")
	fs.IntVar(&c.Streams, "stream", 3, "number of Stream nodes")
	fs.IntVar(&c.Mixes, "mix", 6, "number of Mix nodes")
	fs.IntVar(&c.Authorities, "authorities", 3, "number of directory authorities")
	fs.IntVar(&c.Replicas, "replicas", 0, "number of directory replicas")
	fs.IntVar(&c.Controls, "control", 1, "number of control processes, to which nodes tell events for the audit log; 0: none")
	fs.IntVar(&c.Witnesses, "witnesses", 3, "number of witnesses of the authorities' logs, more than half of which must have seen a document; 0: no logs")
	fs.IntVar(&c.Threshold, "threshold", 0, "authorities that must sign a document (default: more than half)")
	fs.IntVar(&c.Regions, "regions", 1, "number of regions over which nodes are spread")
	fs.Uint16Var(&c.Port, "port", setup.DefaultPort, "first port; nodes of one machine have ports in a row")
	fs.BoolVar(&c.AllowPrivate, "allow-private", false, "let exits open private and loopback targets")
	fs.BoolVar(&c.Carriers, "carriers", false, "let entries take links by QUIC and WebSocket too")
	fs.DurationVar(&c.Probe, "probe", 0, "how often each Stream node probes the network, as in 1m, with traces for nyx trace (default: never)")
	fs.BoolVar(&c.PSK, "psk", false, "make a pre-shared key that clients need")
	fs.BoolVar(&c.Passes, "tokens", false, "have entries admit by unlinkable tokens only, which the first control process issues")
	initialise.MarkFlagRequired("dir")
	cmd.AddCommand(initialise)
	return cmd
}

// processNetwork makes or finds the files of a network whose nodes run as
// processes of their own.
func processNetwork(f upFlags, carriers bool) (dir string, files []string, network string, err error) {
	base := f.data
	if base == "" {
		config, err := os.UserConfigDir()
		if err != nil {
			return "", nil, "", fmt.Errorf("no directory for this user's configuration: %w; choose one with --data", err)
		}
		base = filepath.Join(config, "nyx")
	}
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", nil, "", fmt.Errorf("cannot make the data directory: %w", err)
	}
	init := setup.InitConfig{
		Network: "local", Streams: f.streams, Mixes: f.mixes, Authorities: 3, Witnesses: f.witnesses, Controls: f.control, Regions: max(f.regions, 1),
		AllowPrivate: true, Carriers: carriers, Probe: f.probe, Wall: time.Now().Unix(),
	}
	init.Port, err = freePorts(init.Ports())
	if err != nil {
		return "", nil, "", err
	}
	dir, err = os.MkdirTemp(base, "processes-*")
	if err != nil {
		return "", nil, "", fmt.Errorf("cannot make a directory for the processes: %w", err)
	}
	made, err := setup.Init(filepath.Join(dir, "network"), init)
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, "", err
	}
	files = slices.Concat(made.Authorities, made.Witnesses, made.Controls, made.Streams, made.Mixes)
	return dir, files, made.NetworkFile, nil
}

// freePorts finds n free ports in a row, as far as one can tell. They lie below
// those that systems give to outgoing connections, so that none of these takes
// one before it is used.
func freePorts(n int) (uint16, error) {
	const first, last, tries = 10000, 30000, 100
	for i := range tries {
		port := first + (os.Getpid()*53+i*499)%(last-first)
		if portsFree(port, n) {
			return uint16(port), nil
		}
	}
	return 0, fmt.Errorf("no %d free ports in a row between %d and %d", n, first, last)
}

func portsFree(port, n int) bool {
	for i := range n {
		at := fmt.Sprintf("127.0.0.1:%d", port+i)
		ln, err := net.Listen("tcp", at)
		if err != nil {
			return false
		}
		ln.Close()
		conn, err := net.ListenPacket("udp", at)
		if err != nil {
			return false
		}
		conn.Close()
	}
	return true
}
