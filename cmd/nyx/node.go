package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/wire"
)

func nodeCommand() *cobra.Command {
	var path string
	var quiet, check bool
	cmd := &cobra.Command{
		Use:     "node --config FILE",
		Short:   "Run the roles that a configuration names",
		Example: "  nyx node --config network/mix-1/node.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := setup.LoadConfig(path)
			if err != nil {
				return err
			}
			if check {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", path)
				return nil
			}
			return daemon.Run(cmd.Context(), cfg, func(line string) {
				if !quiet {
					fmt.Fprintln(cmd.OutOrStdout(), line)
				}
			})
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file (TOML)")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print nothing but errors")
	cmd.Flags().BoolVar(&check, "check", false, "check the configuration and stop")
	cmd.MarkFlagRequired("config")
	return cmd
}

func proxyCommand() *cobra.Command {
	var network, socks, level, ready string
	var class int
	var quiet bool
	cmd := &cobra.Command{
		Use:     "proxy --network FILE",
		Short:   "Join an existing network as a client with a SOCKS5 and HTTP proxy",
		Example: "  nyx proxy --network network.toml --socks 127.0.0.1:9150 --level standard",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := setup.LoadNetwork(network)
			if err != nil {
				return err
			}
			l, ok := wire.ParseLevel(level)
			if !ok {
				return fmt.Errorf("--level %q is not a level; use fast, standard, high or extreme", level)
			}
			if class < 0 || class > classMax {
				return fmt.Errorf("--class %d is out of range; use 1 to %d cells per second", class, classMax)
			}
			p, err := daemon.StartProxy(daemon.ProxyConfig{
				Network: n, Socks: socks,
				Client: client.Config{Level: l, Class: obfs.Class(class), Stream: stream.Config{UnixStart: time.Now().Unix()}},
			})
			if err != nil {
				return err
			}
			defer p.Close()
			if !quiet {
				fmt.Fprintf(cmd.OutOrStdout(), "proxy %s (SOCKS5 and HTTP), level %v; waiting for the network\n", p.Addr(), l)
			}
			if err := p.Client.WaitReady(cmd.Context()); err != nil {
				if cmd.Context().Err() != nil {
					return nil
				}
				return err
			}
			if !quiet {
				fmt.Fprintln(cmd.OutOrStdout(), "ready")
			}
			if ready != "" {
				if err := setup.WriteReady(ready, setup.Ready{Socks: p.Addr(), PID: os.Getpid()}); err != nil {
					return err
				}
				defer os.Remove(ready)
			}
			select {
			case <-cmd.Context().Done():
				return nil
			case <-p.Client.Done():
				return fmt.Errorf("the client stopped by itself")
			}
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&network, "network", "", "network file (TOML)")
	fs.StringVar(&socks, "socks", "127.0.0.1:9150", "address of the SOCKS5 and HTTP proxy")
	fs.StringVar(&level, "level", "standard", "anonymity level: fast, standard, high, extreme")
	fs.IntVar(&class, "class", 0, "pin the emission class of shaped routes, cells per second")
	fs.StringVar(&ready, "ready", "", "write this JSON file when traffic can flow")
	fs.BoolVar(&quiet, "quiet", false, "print nothing but errors")
	cmd.MarkFlagRequired("network")
	return cmd
}

func keygenCommand() *cobra.Command {
	var dir string
	var authority bool
	cmd := &cobra.Command{
		Use:     "keygen --keys DIR",
		Short:   "Make the keys of a node or of a directory authority",
		Example: "  nyx keygen --keys mix-7/keys\n  nyx keygen --keys authority-4/keys --authority",
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
		Example: "  nyx network init --dir network --stream 3 --mix 6\n  nyx node --config network/stream-1/node.toml\n  nyx proxy --network network/network.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Wall = time.Now().Unix()
			made, err := setup.Init(dir, c)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "network %s in %s; for clients: %s\nstart each with nyx node --config FILE:\n", c.Network, dir, made.NetworkFile)
			for _, files := range [][]string{made.Authorities, made.Streams, made.Mixes} {
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
	fs.IntVar(&c.Threshold, "threshold", 0, "authorities that must sign a document (default: more than half)")
	fs.IntVar(&c.Regions, "regions", 1, "number of regions over which nodes are spread")
	fs.Uint16Var(&c.Port, "port", setup.DefaultPort, "first port; nodes of one machine have ports in a row")
	fs.BoolVar(&c.AllowPrivate, "allow-private", false, "let exits open private and loopback targets")
	fs.BoolVar(&c.PSK, "psk", false, "make a pre-shared key that clients need")
	initialise.MarkFlagRequired("dir")
	cmd.AddCommand(initialise)
	return cmd
}

// classMax is the greatest emission class that can be pinned.
const classMax = 10000

// processNetwork makes or finds the files of a network whose nodes run as
// processes of their own.
func processNetwork(f upFlags) (dir string, files []string, network string, err error) {
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
	port, err := freePort()
	if err != nil {
		return "", nil, "", err
	}
	dir, err = os.MkdirTemp(base, "processes-*")
	if err != nil {
		return "", nil, "", fmt.Errorf("cannot make a directory for the processes: %w", err)
	}
	made, err := setup.Init(filepath.Join(dir, "network"), setup.InitConfig{
		Network: "local", Streams: f.streams, Mixes: f.mixes, Authorities: 3, Regions: max(f.regions, 1),
		Port: port, AllowPrivate: true, Wall: time.Now().Unix(),
	})
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, "", err
	}
	files = append(append(append(files, made.Authorities...), made.Streams...), made.Mixes...)
	return dir, files, made.NetworkFile, nil
}

// freePort finds a port with free ones behind it, as far as one can tell.
func freePort() (uint16, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("no free port: %w", err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	return uint16(min(port, 65535-400)), nil
}
