// Package cli holds the commands that nyx and nyx-lite share.
package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/wire"
)

// ClassMax is the greatest emission class that can be pinned, in cells per
// second.
const ClassMax = 10000

// OneLine makes an error of several lines one.
func OneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// logger writes lines of a level and above, which may be changed; quiet leaves errors
// only, whatever is changed.
func logger(to io.Writer, level, format string, quiet bool) (*slog.Logger, *slog.LevelVar) {
	least, changed := new(slog.LevelVar), (*slog.LevelVar)(nil)
	if quiet || least.UnmarshalText([]byte(level)) != nil {
		least.Set(slog.LevelError)
	} else {
		changed = least
	}
	options := &slog.HandlerOptions{Level: least}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(to, options)), changed
	}
	return slog.New(slog.NewTextHandler(to, options)), changed
}

// logOutput is where lines go: the files that a configuration names, of which the
// metrics tell, or else.
func logOutput(cfg *setup.Config, otherwise io.Writer, servers *daemon.Servers) (to io.Writer, done func() error, err error) {
	if cfg.LogFile == "" {
		return otherwise, func() error { return nil }, nil
	}
	files, err := telemetry.OpenFiles(cfg.LogFile, cfg.LogBudget)
	if err != nil {
		return nil, nil, err
	}
	servers.Figures = append(servers.Figures, files.WriteMetrics)
	return files, files.Close, nil
}

// Carrier finds what --carrier NAME means among the carriers of the program.
func Carrier(name string, kinds []joint.Kind) (joint.Use, []joint.Kind, error) {
	names := "auto, udp"
	for _, k := range kinds {
		if k.Kind.String() == name {
			return joint.Only, []joint.Kind{k}, nil
		}
		names += ", " + k.Kind.String()
	}
	switch name {
	case "auto":
		return joint.Auto, kinds, nil
	case "udp":
		return joint.UDP, nil, nil
	}
	return 0, nil, fmt.Errorf("--carrier %q is not one that this program has; use one of %s", name, names)
}

// Node is the command that runs the roles of a configuration. Roles beyond
// allowed are refused; zero allows all.
func Node(allowed directory.Roles, kinds []joint.Kind, compress daemon.Compressor, servers daemon.Servers) *cobra.Command {
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
			if allowed != 0 && (cfg.Authority || cfg.Replica || cfg.Witness || cfg.Roles&^allowed != 0) {
				return fmt.Errorf("%s: roles: this program runs %v and client only; use nyx for the others", path, allowed)
			}
			if check {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", path)
				return nil
			}
			to, closeLog, err := logOutput(cfg, cmd.ErrOrStderr(), &servers)
			if err != nil {
				return err
			}
			defer closeLog()
			log, level := logger(to, cfg.LogLevel, cfg.LogFormat, quiet)
			servers.Level, servers.Standing = level, Shown()
			return daemon.Run(cmd.Context(), cfg, kinds, compress, servers, log)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file (TOML)")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print nothing but errors")
	cmd.Flags().BoolVar(&check, "check", false, "check the configuration and stop")
	cmd.MarkFlagRequired("config")
	return cmd
}

// Proxy is the command that joins an existing network as a client.
func Proxy(kinds []joint.Kind) *cobra.Command {
	var network, socks, level, profile, ready, carrier string
	var class, kem int
	var quiet bool
	var passes passFlags
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
				return NoLevel(level)
			}
			shape, ok := wire.ParseProfile(profile)
			if !ok {
				return NoProfile(profile)
			}
			if class < 0 || class > ClassMax {
				return fmt.Errorf("--class %d is out of range; use 1 to %d cells per second", class, ClassMax)
			}
			if kem != int(seal.KEM768) && kem != int(seal.KEM1024) {
				return fmt.Errorf("--kem %d is not a KEM; use 1 for X25519 with ML-KEM-768, or 2 to begin with X25519 and ML-KEM-1024", kem)
			}
			use, kinds, err := Carrier(carrier, kinds)
			if err != nil {
				return err
			}
			wallet, order, err := passes.forProxy(n)
			if err != nil {
				return err
			}
			p, err := daemon.StartProxy(daemon.ProxyConfig{
				Network: n, Socks: socks, Use: use, Carriers: kinds, Wallet: wallet, PassOrder: order,
				Client: client.Config{Level: l, Profile: shape, Class: obfs.Class(class), Stream: stream.Config{KEM: seal.KEM(kem)}},
			})
			if err != nil {
				return err
			}
			defer p.Close()
			shows, err := p.ServeStanding(Shown(), n, level)
			if err != nil && !quiet {
				fmt.Fprintln(cmd.ErrOrStderr(), err)
			}
			defer shows.Close()
			if !quiet {
				fmt.Fprintf(cmd.OutOrStdout(), "proxy %s (SOCKS5 and HTTP), level %v; waiting for the network\n", p.Addr(), l)
			}
			tell := func(why error) { fmt.Fprintln(cmd.ErrOrStderr(), "still waiting:", why) }
			if err := waitReady(cmd.Context(), p.Client.WaitReady, tell); err != nil {
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
	fs.StringVar(&profile, "profile", "full", ProfileHelp)
	fs.IntVar(&class, "class", 0, "pin the emission class of shaped routes, cells per second")
	fs.IntVar(&kem, "kem", 1, "strongest key exchange of sessions: 1 (X25519 and ML-KEM-768), 2 (X25519 and ML-KEM-1024)")
	fs.StringVar(&carrier, "carrier", "auto", "how datagrams reach the entry: auto (UDP, else what passes), udp, quic, websocket")
	fs.StringVar(&ready, "ready", "", "write this JSON file when traffic can flow")
	fs.BoolVar(&quiet, "quiet", false, "print nothing but errors")
	passes.register(cmd)
	cmd.MarkFlagRequired("network")
	return cmd
}

// ProfileHelp is the help of a flag for the profile, NoProfile the error of a wrong
// one.
const ProfileHelp = "what shaped routes are for: full, mobile (10 to 50 cells a second), low (5, a screen that is off)"

// NoLevel is the error of a flag that names no level.
func NoLevel(name string) error {
	return fmt.Errorf("--level %q is not a level; use fast, standard, high or extreme", name)
}

// NoProfile is the error of a flag that names no profile.
func NoProfile(name string) error {
	return fmt.Errorf("--profile %q is not a profile; use full, mobile or low", name)
}

// tellWaiting is after what time of waiting for a network the reason is told, and
// told again if it has become another.
const tellWaiting = 10 * time.Second

// waitReady waits with wait, and tells why it takes so long.
func waitReady(ctx context.Context, wait func(context.Context) error, tell func(error)) error {
	said := ""
	for {
		some, cancel := context.WithTimeout(ctx, tellWaiting)
		err := wait(some)
		over := some.Err() != nil
		cancel()
		if err == nil || !over || ctx.Err() != nil {
			return err
		}
		if err.Error() != said {
			said = err.Error()
			tell(err)
		}
	}
}
