package daemon

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/setup"
)

// keyring is where the keys of a process are: files of a directory, or secrets of a
// store.
type keyring struct {
	dir    string
	stored *setup.StoredKeys // nil: none is in a store
	whole  bool              // the store has all keys, not the fleet's alone
	store  secret.Store      // nil: none; what is done with it is told by events
	events *keyEvents
}

// keyTimeout bounds each look into a store.
const keyTimeout = 15 * time.Second

var errNoSecrets = errors.New("this program has no secret stores; use nyx, or write the directory of key files into keys")

// openKeyring opens the store of a configuration, if it has one.
func openKeyring(cfg *setup.Config, open func(*setup.SecretsConfig) (secret.Store, error)) (*keyring, error) {
	k := &keyring{dir: cfg.Keys, events: &keyEvents{}}
	if cfg.State != "" {
		if err := os.MkdirAll(cfg.State, 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the state directory: %w", err)
		}
	}
	if !cfg.Secrets.Used() {
		return k, nil
	}
	if open == nil {
		return nil, errNoSecrets
	}
	store, err := open(&cfg.Secrets)
	if err != nil {
		return nil, err
	}
	k.store = &secret.Recorded{Store: store, Record: k.events.record}
	k.stored = &setup.StoredKeys{Store: k.store, Name: cfg.Secrets.Node, Fleet: cfg.Secrets.Fleet}
	k.whole = cfg.Secrets.Node != ""
	return k, nil
}

func (k *keyring) close() {
	if k.store != nil {
		k.store.Close()
	}
}

// where names the place of the keys for people.
func (k *keyring) where() string {
	if k.whole {
		return secret.Scheme + k.stored.Name
	}
	return k.dir
}

// in calls f with the time that a look may take.
func in[T any](f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keyTimeout)
	defer cancel()
	return f(ctx)
}

func (k *keyring) identity() (*seal.Signer, error) {
	if k.whole {
		return in(k.stored.Identity)
	}
	keys, err := setup.LoadNodeKeys(k.dir)
	if err != nil {
		return nil, err
	}
	return keys.Identity, nil
}

func (k *keyring) authority() (*seal.Signer, error) {
	if k.whole {
		return in(k.stored.Authority)
	}
	return setup.LoadAuthorityKey(k.dir)
}

func (k *keyring) witness() (*seal.Signer, error) {
	if k.whole {
		return in(k.stored.Witness)
	}
	return setup.LoadWitnessKey(k.dir)
}

func (k *keyring) control() (*[front.KeySize]byte, error) {
	if k.whole {
		return in(k.stored.Control)
	}
	return setup.LoadControlKey(k.dir)
}

func (k *keyring) issuer() (*seal.Signer, error) {
	if k.whole {
		return in(k.stored.Issuer)
	}
	return setup.LoadIssuerKey(k.dir)
}

// indexed resolves the reference to where a control process has its index.
func (k *keyring) indexed(c setup.ControlConfig) (setup.ControlConfig, error) {
	if c.IndexSecret == "" {
		return c, nil
	}
	s, err := in(func(ctx context.Context) (secret.Secret, error) { return k.store.Get(ctx, c.IndexSecret, 0) })
	if err != nil {
		return c, err
	}
	defer clear(s.Value)
	if c.Index = strings.TrimSpace(string(s.Value)); !setup.ValidIndex(c.Index) {
		return c, fmt.Errorf("secret %s is not the URL of a database; put postgres://… there", c.IndexSecret)
	}
	return c, nil
}

// copied reads the secret with which a control process copies its log, if it is in the
// store.
func (k *keyring) copied(c *setup.CopiesConfig) error {
	if c.SecretName == "" {
		return nil
	}
	s, err := in(func(ctx context.Context) (secret.Secret, error) { return k.store.Get(ctx, c.SecretName, 0) })
	c.Secret = bytes.TrimSpace(s.Value)
	return err
}

// token reads the token of remote write, wherever it is.
func (k *keyring) token(ctx context.Context, p *setup.Push) ([]byte, error) {
	if p.TokenName == "" {
		return setup.LoadLine(p.TokenFile)
	}
	s, err := k.store.Get(ctx, p.TokenName, 0)
	return bytes.TrimSpace(s.Value), err
}

// spool is the key of what is kept of telemetry, which is made when it is first needed: with
// the others, or in the state directory of a process that has none.
func (k *keyring) spool(state string) (*seal.Key, error) {
	if k.whole {
		return in(k.stored.Spool)
	}
	return setup.LoadOrMakeSpoolKey(cmp.Or(k.dir, state))
}

func (k *keyring) replica() (*[front.KeySize]byte, error) {
	if k.whole {
		return in(k.stored.Replica)
	}
	return setup.LoadReplicaKey(k.dir)
}

func (k *keyring) node() (keys *setup.NodeKeys, err error) {
	if k.whole {
		return in(k.stored.Load)
	}
	if keys, err = setup.LoadNodeKeys(k.dir); err != nil || k.stored == nil {
		return keys, err
	}
	keys.Fleet, _, err = k.fleet()
	return keys, err
}

// fleet is NodeConfig.LoadFleet.
func (k *keyring) fleet() (key *seal.Key, placed time.Time, err error) {
	if k.stored == nil {
		return setup.LoadFleet(k.dir)
	}
	ctx, cancel := context.WithTimeout(context.Background(), keyTimeout)
	defer cancel()
	return k.stored.LoadFleet(ctx)
}

func (k *keyring) onions() OnionKeys {
	if k.whole {
		return secretOnions{k.stored}
	}
	return storedOnions(k.dir)
}

// secretOnions keeps onion keys in a secret store.
type secretOnions struct{ keys *setup.StoredKeys }

func (s secretOnions) Make(epoch uint64) (*seal.KEMPrivate, error) {
	_, err := in(func(ctx context.Context) (none struct{}, err error) { return none, s.keys.MakeOnion(ctx, epoch, nil) })
	if err != nil {
		return nil, err
	}
	key, err := s.Load(epoch)
	if key == nil && err == nil {
		err = fmt.Errorf("it is not in the secret store under %s", s.keys.Name)
	}
	return key, err
}

func (s secretOnions) Load(epoch uint64) (*seal.KEMPrivate, error) {
	keys, err := in(s.keys.Onions)
	for _, k := range keys {
		if k.Epoch == epoch {
			return k.Key, err
		}
	}
	return nil, err
}

func (s secretOnions) Held() (held []*seal.KEMPrivate, err error) {
	keys, err := in(s.keys.Onions)
	for _, k := range keys {
		held = append(held, k.Key)
	}
	return held, err
}

func (s secretOnions) Retire(before uint64) error {
	_, err := in(func(ctx context.Context) (none struct{}, err error) { return none, s.keys.RetireOnions(ctx, before) })
	return err
}

// AuthorityKey reads the signing key of a configured authority, wherever it is.
func AuthorityKey(cfg *setup.Config, open func(*setup.SecretsConfig) (secret.Store, error)) (*seal.Signer, error) {
	k, err := openKeyring(cfg, open)
	if err != nil {
		return nil, err
	}
	defer k.close()
	return k.authority()
}
