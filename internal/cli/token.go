package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

// walletDir is the wallet that a flag names, or one of the network's own in this user's
// directory: what an issuer said before is held against it, and not against another.
func walletDir(dir string, n *setup.Network) (string, error) {
	if dir != "" {
		return dir, nil
	}
	if n.Issuer == nil {
		return "", errNoIssuer
	}
	base, err := setup.DataDir("")
	if err != nil {
		return "", fmt.Errorf("%w, or the wallet with --wallet", err)
	}
	issuer := seal.SHA256(n.Issuer.Key)
	return filepath.Join(base, fmt.Sprintf("wallet-%s-%x", n.Trust.Network, issuer[:4])), nil
}

var errNoIssuer = errors.New("the network file has no table [issuer]: its entries ask for no unlinkable tokens")

const walletHelp = "directory of unlinkable tokens (default: one of the network's own, in this user's directory of nyx)"

// passFlags are how unlinkable tokens are had.
type passFlags struct{ wallet, token, through string }

func (f *passFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.wallet, "wallet", "", walletHelp)
	fs.StringVar(&f.token, "oidc-token", "", "file with a token of your identity provider, by which the issuer knows you")
	fs.StringVar(&f.through, "through", "", "proxy by which the issuer is reached, as socks5://127.0.0.1:9150, so that it does not see your address")
}

// order opens the wallet and says how tokens are fetched.
func (f *passFlags) order(n *setup.Network) (*daemon.PassOrder, error) {
	dir, err := walletDir(f.wallet, n)
	if err != nil {
		return nil, err
	}
	w, err := daemon.OpenWallet(dir)
	return &daemon.PassOrder{Network: n, Wallet: w, Token: f.token, Through: f.through}, err
}

// forProxy is the wallet of a proxy: that of the flag, or the default one where the
// network asks for tokens. More are fetched while it runs if a flag says how.
func (f *passFlags) forProxy(n *setup.Network) (wallet string, order *daemon.PassOrder, err error) {
	if f.wallet == "" && n.Issuer == nil {
		return "", nil, nil
	}
	if wallet, err = walletDir(f.wallet, n); err != nil {
		return "", nil, err
	}
	if n.Issuer != nil && (f.token != "" || f.through != "" || n.PSK != nil) {
		order = &daemon.PassOrder{Token: f.token, Through: f.through}
	}
	return wallet, order, nil
}

// Token is the group of commands for unlinkable tokens.
func Token() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Get unlinkable tokens, by which entries admit", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(tokenGet(), tokenList())
	return cmd
}

func tokenGet() *cobra.Command {
	var network, level string
	var asJSON bool
	var f passFlags
	cmd := &cobra.Command{
		Use:   "get --network FILE",
		Short: "Fetch a batch of unlinkable tokens into the wallet",
		Long: `Fetches 32 tokens, always, for four entries: those for which the wallet has some,
and drawn ones. The issuer learns who asks and when, and cannot tell the tokens
afterwards. Whoever sees both the issuer's and an entry's side can compare times
and addresses: fetch long before use, and with --through.`,
		Example: "  nyx token get --network network.toml --oidc-token id.jwt",
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
			order, err := f.order(n)
			if err != nil {
				return err
			}
			got, err := daemon.FetchPasses(cmd.Context(), *order, client.Config{Level: l})
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]int{"taken": got})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d tokens are in the wallet; nyx proxy shows them\n", got)
			return nil
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&network, "network", "", "network file (TOML)")
	cmd.Flags().StringVar(&level, "level", "standard", "anonymity level at which paths are drawn: fast, standard, high, extreme")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagRequired("network")
	return cmd
}

func tokenList() *cobra.Command {
	var network, dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list --network FILE",
		Short:   "List the unlinkable tokens in the wallet, by entry",
		Example: "  nyx token list --network network.toml --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := setup.LoadNetwork(network)
			if err != nil {
				return err
			}
			dir, err := walletDir(dir, n)
			if err != nil {
				return err
			}
			w, err := daemon.OpenWallet(dir)
			if err != nil {
				return err
			}
			state, err := w.State(time.Now())
			if err != nil {
				return err
			}
			return printWallet(cmd.OutOrStdout(), state, asJSON)
		},
	}
	cmd.Flags().StringVar(&network, "network", "", "network file (TOML)")
	cmd.Flags().StringVar(&dir, "wallet", "", walletHelp)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagRequired("network")
	return cmd
}

func printWallet(out io.Writer, state []daemon.WalletState, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(state)
	}
	if len(state) == 0 {
		fmt.Fprintln(out, "no tokens; get some with nyx token get")
	}
	for _, s := range state {
		fmt.Fprintf(out, "%.16s  %d tokens, good until %s\n", s.Entry, s.Passes, s.Until.Format(time.RFC3339))
	}
	return nil
}
