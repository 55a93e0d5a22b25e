// Command nyx-lite is the small binary of Nyx: a client with its proxy, and a
// Mix node. It links nothing of what only an operator's side needs.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/carrier/websocket"
	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
)

// carriers are those beside UDP. QUIC is the full program's: it does not fit
// this one's size. Nor does the server's side, which only entries need.
var carriers = []joint.Kind{{Kind: directory.CarrierWebSocket, Dial: websocket.Dial}}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "nyx-lite",
		Short:         "A client or Mix node of a private transport network",
		Example:       "  nyx-lite proxy --network network.toml\n  nyx-lite node --config mix-1/node.toml",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(cli.Proxy(carriers), cli.Node(directory.RoleMix, carriers, nil, daemon.Servers{}), cli.Token(), cli.Status(), cli.Doctor(carriers))
	cli.Finish(root)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "nyx-lite: "+cli.OneLine(err))
		os.Exit(1)
	}
}
