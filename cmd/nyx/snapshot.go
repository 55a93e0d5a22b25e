package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/cli"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/setup"
)

func snapshotCommand() *cobra.Command {
	var config, path string
	cmd := &cobra.Command{
		Use:   "snapshot --config FILE --to FILE",
		Short: "Write what a directory authority keeps into a file",
		Long: `Writes the descriptors, documents and the mark of what was signed that the
authority of a configuration keeps, as of one moment, and the SHA-256 by which
the file is verified. With etcd in the authority's process, which is the
default, the authority must not run meanwhile; with a cluster it may.`,
		Example: "  nyx directory snapshot --config network/authority-1/node.toml --to authority-1.snapshot",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, _, err := configuredStore(config)
			if err != nil {
				return err
			}
			defer store.Close()
			begun := time.Now()
			line := cli.Watch(cmd)
			line.Show("writing " + path)
			entries, sum, err := writeSnapshot(cmd.Context(), store, path)
			line.Done()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d entries in %.1f s, hash %x\n", entries, time.Since(begun).Seconds(), sum)
			return nil
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "configuration of the authority")
	cmd.Flags().StringVar(&path, "to", "", "the file, which must not exist")
	cmd.MarkFlagRequired("config")
	cmd.MarkFlagRequired("to")
	return cmd
}

func restoreCommand() *cobra.Command {
	var config, path, want string
	cmd := &cobra.Command{
		Use:   "restore --config FILE --from FILE",
		Short: "Put a snapshot into the empty store of a directory authority",
		Long: `Verifies a snapshot and puts it into the store of a configuration, which must be
empty. The authority may have signed documents since the snapshot was made: it
signs none of the present epoch, and goes on with the next.`,
		Example: "  nyx directory restore --config network/authority-1/node.toml --from authority-1.snapshot",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("cannot read the snapshot: %w", err)
			}
			defer f.Close()
			begun := time.Now()
			line := cli.Watch(cmd)
			defer line.Done()
			line.Show("verifying " + path)
			_, sum, err := registry.Verify(f)
			if err == nil && want != "" && want != fmt.Sprintf("%x", sum) {
				err = fmt.Errorf("the hash of %s is %x, not that of --hash", path, sum)
			}
			if err == nil {
				_, err = f.Seek(0, 0)
			}
			if err != nil {
				return err
			}
			store, params, err := configuredStore(config)
			if err != nil {
				return err
			}
			defer store.Close()
			signed := directory.Mark{Epoch: params.EpochAt(begun.Unix()), Revision: math.MaxUint32}
			line.Show("restoring " + path)
			entries, err := registry.Restore(cmd.Context(), store, f, signed)
			if errors.Is(err, registry.ErrNotEmpty) {
				return fmt.Errorf("%w; restore into another, or remove it if what it holds is not needed", err)
			}
			if err != nil {
				return err
			}
			line.Done()
			fmt.Fprintf(cmd.OutOrStdout(), "%d entries in %.1f s, hash %x; documents are signed from epoch %d on\n", entries, time.Since(begun).Seconds(), sum, signed.Epoch+1)
			return nil
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "configuration of the authority")
	cmd.Flags().StringVar(&path, "from", "", "the snapshot")
	cmd.Flags().StringVar(&want, "hash", "", "the hash that the snapshot must have")
	cmd.MarkFlagRequired("config")
	cmd.MarkFlagRequired("from")
	return cmd
}

// configuredStore opens the store of an authority's configuration.
func configuredStore(path string) (registry.Store, directory.Params, error) {
	cfg, err := setup.LoadConfig(path)
	if err != nil {
		return nil, directory.Params{}, err
	}
	if !cfg.Authority {
		return nil, directory.Params{}, fmt.Errorf("%s: not the configuration of a directory authority", path)
	}
	if cfg.Serve.Store.Kind == setup.StoreFiles {
		return nil, directory.Params{}, fmt.Errorf("%s: what an authority keeps in files is copied as files", path)
	}
	signer, err := daemon.AuthorityKey(cfg, openSecrets)
	if err != nil {
		return nil, directory.Params{}, err
	}
	network := cfg.Network.Trust.Network
	one, err := directory.NewAuthority(directory.AuthorityConfig{
		Network: network, Signer: signer, Threshold: cfg.Network.Trust.Threshold, Authorities: len(cfg.Network.Trust.Authorities), Params: cfg.Network.Params,
	})
	if err != nil {
		return nil, directory.Params{}, err
	}
	store, err := openStore(cfg.Serve.Store, cfg.State, network, signer.Public())
	return store, one.Params(), err
}

// writeSnapshot writes a file that is whole, on the disk, or not there.
func writeSnapshot(ctx context.Context, store registry.Store, path string) (entries int, sum [32]byte, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, sum, fmt.Errorf("cannot write the snapshot: %w", err)
	}
	entries, sum, err = registry.Snapshot(ctx, store, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = setup.SyncDirectory(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(path)
	}
	return entries, sum, err
}
