// Command nyx runs a private transport network: a complete one on this machine
// (nyx up), one node of many (nyx node), or a client with a proxy (nyx proxy).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/carrier/quic"
	"github.com/nyxnet/nyx/internal/carrier/websocket"
	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/engine/etcd"
	"github.com/nyxnet/nyx/internal/pack"
)

// carriers are those beside UDP, in the order in which they are tried.
var carriers = []joint.Kind{
	{Kind: directory.CarrierQUIC, Dial: quic.Dial, Listen: quic.Listen},
	{Kind: directory.CarrierWebSocket, Dial: websocket.Dial, Listen: websocket.Listen},
}

func main() {
	etcd.RunMember()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "nyx: "+oneLine(err))
		os.Exit(1)
	}
}

// run runs the command line, and tells of it if the user has said that it may.
func run(ctx context.Context) error {
	dir, err := usageDir()
	if err != nil {
		return root().ExecuteContext(ctx)
	}
	t := beginTelling(dir)
	ran, err := root().ExecuteContextC(ctx)
	if err == nil && ctx.Err() != nil {
		t.ended(ran, ctx.Err())
		return nil
	}
	t.ended(ran, err)
	return err
}

// root is the whole command line.
func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nyx",
		Short: "A private transport network",
		Long: `Nyx carries ordinary streams through a mix network, so that neither an observer
of every wire nor any single relay learns who talks to whom.`,
		Example:       "  nyx up\n  curl --socks5-hostname 127.0.0.1:9150 http://example.com/",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		Version:       version(),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, c.CommandPath())
	})
	cmd.AddCommand(upCommand(), consoleCommand(), cli.Node(0, carriers, new(pack.Codec), servers), cli.Proxy(carriers), cli.Token(), keygenCommand(), secretCommand(), networkCommand(), configCommand(), directoryCommand(), benchCommand(), scenarioCommand(), anonymityCommand(), auditCommand(), traceCommand(), telemetryCommand(), sloCommand(), cli.Status(), cli.Top(), cli.Doctor(carriers))
	cli.Finish(cmd)
	return cmd
}

// version is the module's version and the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	out := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			out += " " + s.Value[:12]
		}
	}
	return strings.TrimSpace(out)
}

// oneLine makes an error of several lines one.
func oneLine(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return cli.OneLine(err)
}
