package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/engine/secrets"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/setup"
)

// openSecrets opens the store of a configuration.
func openSecrets(c *setup.SecretsConfig) (secret.Store, error) {
	if c.Dir != "" {
		u, err := unlockOf(c)
		if err != nil {
			return nil, err
		}
		d, err := secrets.OpenDisk(c.Dir, u)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	v, err := secrets.OpenVault(secrets.VaultConfig{URL: c.URL, Mount: c.Mount, Prefix: c.Prefix, CA: c.CA, RoleID: c.RoleID,
		SecretID: func() ([]byte, error) { return setup.LoadLine(c.SecretIDFile) }})
	if err != nil {
		return nil, err
	}
	return v, nil
}

func unlockOf(c *setup.SecretsConfig) (u secrets.Unlock, err error) {
	if c.PassphraseFile != "" {
		u.Passphrase, err = setup.LoadLine(c.PassphraseFile)
	} else {
		u.Key, err = setup.LoadStoreKey(c.KeyFile)
	}
	if errors.Is(err, fs.ErrNotExist) && c.KeyFile != "" {
		err = fmt.Errorf("%w; nyx secret init makes one", err)
	}
	if err != nil {
		err = fmt.Errorf("cannot open the key store: %w", err)
	}
	return u, err
}

// secretFlags say which store is meant.
type secretFlags struct {
	config, store string
	c             setup.SecretsConfig
}

func (f *secretFlags) add(cmd *cobra.Command) {
	fs := cmd.PersistentFlags()
	fs.StringVar(&f.config, "config", "", "configuration of a node whose store is meant, in place of the other flags")
	fs.StringVar(&f.store, "store", "", "directory of a key store, or URL of a server with Vault's API")
	fs.StringVar(&f.c.KeyFile, "key-file", "", "key file that opens the key store")
	fs.StringVar(&f.c.PassphraseFile, "passphrase-file", "", "file whose first line opens the key store")
	fs.StringVar(&f.c.Mount, "mount", "", "KV engine of the server (default secret)")
	fs.StringVar(&f.c.Prefix, "prefix", "", "what names begin with in the server, as nyx/")
	fs.StringVar(&f.c.CA, "ca", "", "PEM file of who vouches for the server")
	fs.StringVar(&f.c.RoleID, "role-id", "", "AppRole by which to log in")
	fs.StringVar(&f.c.SecretIDFile, "secret-id-file", "", "file whose first line is the secret id of the role")
}

// figures returns the store that the flags mean, and the configuration that they name,
// or nil.
func (f *secretFlags) figures() (*setup.SecretsConfig, *setup.Config, error) {
	if f.config != "" {
		cfg, err := setup.LoadConfig(f.config)
		if err != nil {
			return nil, nil, err
		}
		if !cfg.Secrets.Used() {
			return nil, nil, fmt.Errorf("%s has no [secrets]; name the store with --store", f.config)
		}
		return &cfg.Secrets, cfg, nil
	}
	if f.store == "" {
		return nil, nil, errors.New("no store; name it with --store, or a node's configuration with --config")
	}
	c := f.c
	c.Locate(f.store)
	if err := c.Check(); err != nil {
		return nil, nil, fmt.Errorf("the store cannot be opened: %w", err)
	}
	return &c, nil, nil
}

// open opens the store. What is done with that of a configuration is recorded in the
// name of its node or authority.
func (f *secretFlags) open() (secret.Store, error) {
	c, cfg, err := f.figures()
	if err != nil {
		return nil, err
	}
	s, err := openSecrets(c)
	if err != nil || cfg == nil {
		return s, err
	}
	recorded, err := daemon.RecordKeys(cfg, s)
	if err != nil {
		s.Close()
		return nil, err
	}
	return recorded, nil
}

// in makes a command's run of what it does in the store.
func (f *secretFlags) in(do func(cmd *cobra.Command, args []string, s secret.Store) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s, err := f.open()
		if err != nil {
			return err
		}
		defer s.Close()
		return do(cmd, args, s)
	}
}

func secretCommand() *cobra.Command {
	f := &secretFlags{}
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Keep keys in an encrypted store or in a server with Vault's API",
		Example: "  nyx secret init --store keystore --key-file keystore.key\n" +
			"  nyx secret keygen stream-1 --store keystore --key-file keystore.key\n" +
			"  nyx secret rotate fleet --config stream-1/node.toml",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(cmd)
	cmd.AddCommand(secretInit(f), secretPut(f), secretGet(f), secretList(f), secretRotate(f), secretKeygen(f), secretDelete(f))
	return cmd
}

func secretInit(f *secretFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "init --store DIR",
		Short:   "Make a key store on disk, and its key file if there is none",
		Example: "  nyx secret init --store keystore --key-file keystore.key\n  nyx secret init --store keystore --passphrase-file passphrase",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := f.figures()
			if err != nil {
				return err
			}
			if c.Dir == "" {
				return errors.New("a server's engine is made by its own tools; --store must be a directory")
			}
			if c.KeyFile != "" {
				if _, err := setup.MakeStoreKey(c.KeyFile, nil); err != nil && !errors.Is(err, fs.ErrExist) {
					return err
				}
			}
			u, err := unlockOf(c)
			if err != nil {
				return err
			}
			d, err := secrets.CreateDisk(c.Dir, u)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "key store in %s\n", c.Dir)
			return d.Close()
		},
	}
}

func secretPut(f *secretFlags) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:     "put NAME",
		Short:   "Make what is read from standard input, or a file, the next version of a secret",
		Example: "  nyx secret put stream-1/identity --from keys/identity.key --store keystore --key-file keystore.key",
		Args:    cobra.ExactArgs(1),
		RunE: f.in(func(cmd *cobra.Command, args []string, s secret.Store) error {
			in := cmd.InOrStdin()
			if from != "" {
				file, err := os.Open(from)
				if err != nil {
					return err
				}
				defer file.Close()
				in = file
			}
			value, err := io.ReadAll(io.LimitReader(in, secret.ValueMax+1))
			if err != nil {
				return err
			}
			defer clear(value)
			version, err := secret.Replace(cmd.Context(), s, args[0], value)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s version %d\n", args[0], version)
			return nil
		}),
	}
	cmd.Flags().StringVar(&from, "from", "", "file to read, in place of standard input")
	return cmd
}

func secretGet(f *secretFlags) *cobra.Command {
	var version uint64
	cmd := &cobra.Command{
		Use:     "get NAME",
		Short:   "Print a secret",
		Example: "  nyx secret get stream-1/fleet --store keystore --key-file keystore.key",
		Args:    cobra.ExactArgs(1),
		RunE: f.in(func(cmd *cobra.Command, args []string, s secret.Store) error {
			got, err := s.Get(cmd.Context(), args[0], version)
			if err != nil {
				return err
			}
			defer clear(got.Value)
			_, err = cmd.OutOrStdout().Write(got.Value)
			return err
		}),
	}
	cmd.Flags().Uint64Var(&version, "version", 0, "version (default the present one)")
	return cmd
}

func secretList(f *secretFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list [PREFIX]",
		Short:   "List secrets with their versions, never their values",
		Example: "  nyx secret list stream-1/ --config stream-1/node.toml --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: f.in(func(cmd *cobra.Command, args []string, s secret.Store) error {
			all, err := s.List(cmd.Context(), append(args, "")[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				return e.Encode(append([]secret.Info{}, all...))
			}
			for _, i := range all {
				fmt.Fprintf(out, "%-40s version %-6d %s\n", i.Name, i.Version, i.Placed.UTC().Format(time.RFC3339))
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func secretRotate(f *secretFlags) *cobra.Command {
	var wrapping bool
	cmd := &cobra.Command{
		Use:     "rotate NAME",
		Short:   "Put a fresh key in the place of a fleet key, or of a key that wraps others",
		Example: "  nyx secret rotate fleet --config stream-1/node.toml\n  nyx secret rotate audit/segments --wrapping --store keystore --key-file keystore.key",
		Args:    cobra.ExactArgs(1),
		RunE: f.in(func(cmd *cobra.Command, args []string, s secret.Store) error {
			var err error
			if wrapping {
				err = (&secret.Wrapper{Store: s, Name: args[0]}).Rotate(cmd.Context())
			} else {
				_, err = (&setup.StoredKeys{Store: s, Fleet: args[0]}).RotateFleet(cmd.Context(), nil)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is rotated\n", args[0])
			return nil
		}),
	}
	cmd.Flags().BoolVar(&wrapping, "wrapping", false, "a key that wraps others, of which the versions before stay")
	return cmd
}

func secretKeygen(f *secretFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "keygen NAME",
		Short:   "Make the keys of a node in a store",
		Example: "  nyx secret keygen mix-7 --store keystore --key-file keystore.key",
		Args:    cobra.ExactArgs(1),
		RunE: f.in(func(cmd *cobra.Command, args []string, s secret.Store) error {
			params := directory.Params{}
			keys, err := (&setup.StoredKeys{Store: s, Name: args[0]}).Make(cmd.Context(), params.OnionFrom(params.EpochAt(time.Now().Unix())), nil)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "node %x: keys in %s%s\n", keys.ID(), secret.Scheme, args[0])
			return nil
		}),
	}
}

func secretDelete(f *secretFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Destroy a secret with all its versions",
		Example: "  nyx secret delete mix-7/identity --store keystore --key-file keystore.key",
		Args:    cobra.ExactArgs(1),
		RunE: f.in(func(cmd *cobra.Command, args []string, s secret.Store) error {
			if got, err := s.Get(cmd.Context(), args[0], 0); err != nil {
				return err
			} else {
				clear(got.Value)
			}
			if err := s.Delete(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is deleted\n", args[0])
			return nil
		}),
	}
}
