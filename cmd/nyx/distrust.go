package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

// distrusted is a node of the list, for JSON.
type distrusted struct {
	Node   string    `json:"node"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

func distrustCommand() *cobra.Command {
	var config, reason string
	var lift, asJSON bool
	cmd := &cobra.Command{
		Use:   "distrust --config FILE [NODE... (--reason TEXT | --lift)]",
		Short: "Say that nodes are not to be used, as the operator of an authority",
		Long: `Has the bulletins of the authority of a configuration say that nodes are not to be
used, until --lift; without nodes it lists those of which it says so. The word is
signed with the authority's key and kept in its state directory, and a running
authority follows within ten seconds. Routes leave a node when as many authorities
as the network's threshold distrust it: the operator of one alone moves nothing.
The reason stays with the authority. NODE is a node's ID, 64 hexadecimal digits.`,
		Example: "  nyx directory distrust --config network/authority-1/node.toml\n  nyx directory distrust --config network/authority-1/node.toml --reason \"drops cells\" 3f0a…e1",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := setup.LoadConfig(config)
			if err != nil {
				return err
			}
			if !cfg.Authority {
				return fmt.Errorf("%s is not the configuration of a directory authority; give that of one", config)
			}
			change, err := distrustChange(args, reason, lift)
			if err != nil {
				return err
			}
			d, err := daemon.ChangeDistrust(cfg, servers.Secrets, change)
			if err != nil {
				return err
			}
			list := []distrusted{}
			for _, n := range d.Nodes {
				list = append(list, distrusted{hex.EncodeToString(n.Node[:]), time.Unix(n.Since, 0).UTC(), n.Reason})
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(list)
			}
			for _, n := range list {
				fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %s\n", n.Node, n.Since.Format(time.RFC3339), n.Reason)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "configuration of the authority")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who run the authority")
	cmd.Flags().BoolVar(&lift, "lift", false, "the nodes may be used again")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagRequired("config")
	return cmd
}

// distrustChange is what is to be said of the nodes that are named; nil if none is.
func distrustChange(args []string, reason string, lift bool) (func(*directory.Distrust) error, error) {
	if len(args) == 0 {
		if reason != "" || lift {
			return nil, errors.New("no node is named; give its ID, 64 hexadecimal digits")
		}
		return nil, nil
	}
	if lift == (reason != "") {
		return nil, errors.New("say either why the nodes are distrusted, with --reason, or that they are no more, with --lift")
	}
	var ids []wire.NodeID
	for _, arg := range args {
		b, err := hex.DecodeString(arg)
		if err != nil || len(b) != len(wire.NodeID{}) {
			return nil, fmt.Errorf("%q is not the ID of a node: give 64 hexadecimal digits", arg)
		}
		ids = append(ids, wire.NodeID(b))
	}
	return func(d *directory.Distrust) error {
		d.Time = time.Now().Unix()
		for _, id := range ids {
			switch {
			case !lift:
				d.Set(directory.DistrustedNode{Node: id, Since: d.Time, Reason: reason})
			case !d.Lift(id):
				return fmt.Errorf("node %x is not distrusted; the list is shown without nodes", id[:4])
			}
		}
		return nil
	}, nil
}
