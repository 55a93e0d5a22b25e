package setup

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/secret"
)

// StoredKeys are the keys of a node, an authority, a witness or a replica in a
// secret.Store. Each has the text of its key file as its value, under the node's
// name and its own: stream-1/identity. The onion keys of all periods are one secret,
// a line each that begins with the epoch, so that they turn at once.
type StoredKeys struct {
	Store secret.Store
	// Name is what the names of the keys begin with.
	Name string
	// Fleet is the name of the fleet key that several nodes share; "" for the node's
	// own fleet.
	Fleet string
}

// Names of keys below a node's.
const (
	storedIdentity  = "/identity"
	storedLink      = "/link"
	storedOnion     = "/onion"
	storedFleet     = "/fleet"
	storedAuthority = "/authority"
	storedWitness   = "/witness"
	storedReplica   = "/replica"
	storedControl   = "/control"
	storedIssuer    = "/pass-issuer"
)

// Load reads the keys of a node. The fleet key may be missing.
func (k *StoredKeys) Load(ctx context.Context) (*NodeKeys, error) {
	n := &NodeKeys{}
	var err error
	if n.Identity, err = k.signer(ctx, storedIdentity, kindIdentity); err != nil {
		return nil, err
	}
	var kem [seal.KEMSeedSize]byte
	defer clear(kem[:])
	if err = k.read(ctx, k.Name+storedLink, kindLink, kem[:]); err != nil {
		return nil, err
	}
	if n.Link, err = seal.NewKEMPrivate(&kem); err != nil {
		return nil, err
	}
	if n.Fleet, _, err = k.LoadFleet(ctx); err != nil && !errors.Is(err, secret.ErrNone) {
		return nil, err
	}
	if n.Onion, err = k.Onions(ctx); err == nil && len(n.Onion) == 0 {
		err = fmt.Errorf("no onion key in the secret store under %s; make one with nyx keygen", k.Name)
	}
	return n, err
}

// Make makes the keys of a node, as MakeNodeKeys does. It never replaces a key.
func (k *StoredKeys) Make(ctx context.Context, onionEpoch uint64, random io.Reader) (*NodeKeys, error) {
	if err := k.make(ctx, storedIdentity, kindIdentity, seal.SignSeedSize, random); err != nil {
		return nil, err
	}
	if err := k.make(ctx, storedLink, kindLink, seal.KEMSeedSize, random); err != nil {
		return nil, err
	}
	if err := k.MakeOnion(ctx, onionEpoch, random); err != nil {
		return nil, err
	}
	return k.Load(ctx)
}

// Identity reads a node's signing key.
func (k *StoredKeys) Identity(ctx context.Context) (*seal.Signer, error) {
	return k.signer(ctx, storedIdentity, kindIdentity)
}

// Authority reads an authority's signing key.
func (k *StoredKeys) Authority(ctx context.Context) (*seal.Signer, error) {
	return k.signer(ctx, storedAuthority, kindAuthority)
}

// Witness reads a witness's signing key.
func (k *StoredKeys) Witness(ctx context.Context) (*seal.Signer, error) {
	return k.signer(ctx, storedWitness, kindWitness)
}

// Issuer reads the signing key of an issuer of unlinkable tokens.
func (k *StoredKeys) Issuer(ctx context.Context) (*seal.Signer, error) {
	return k.signer(ctx, storedIssuer, kindIssuer)
}

// Control reads the key of a control process's certificate.
func (k *StoredKeys) Control(ctx context.Context) (*[front.KeySize]byte, error) {
	key := new([front.KeySize]byte)
	return key, k.read(ctx, k.Name+storedControl, kindControl, key[:])
}

// Replica reads the key of a replica's certificate.
func (k *StoredKeys) Replica(ctx context.Context) (*[front.KeySize]byte, error) {
	key := new([front.KeySize]byte)
	return key, k.read(ctx, k.Name+storedReplica, kindReplica, key[:])
}

func (k *StoredKeys) fleetName() string { return cmp.Or(k.Fleet, k.Name+storedFleet) }

// LoadFleet reads the fleet key, and when it was put in its place.
func (k *StoredKeys) LoadFleet(ctx context.Context) (key *seal.Key, placed time.Time, err error) {
	s, err := k.Store.Get(ctx, k.fleetName(), 0)
	if err != nil {
		return nil, placed, err
	}
	defer clear(s.Value)
	key = &seal.Key{}
	if err := parseKey("secret "+k.fleetName(), kindFleet, s.Value, key[:]); err != nil {
		return nil, placed, err
	}
	return key, s.Placed, nil
}

// RotateFleet puts a fresh fleet key in the place of the present one, and returns
// its version. Versions before the one that it follows are destroyed.
func (k *StoredKeys) RotateFleet(ctx context.Context, random io.Reader) (version uint64, err error) {
	name := k.fleetName()
	value, err := freshKey(kindFleet, seal.KeySize, random)
	if err != nil {
		return 0, err
	}
	defer clear(value)
	if version, err = secret.Replace(ctx, k.Store, name, value); err != nil {
		return 0, err
	}
	return version, k.Store.Destroy(ctx, name, version-1)
}

// Onions returns the onion keys of all periods, the oldest first.
func (k *StoredKeys) Onions(ctx context.Context) ([]OnionSecret, error) {
	s, err := k.Store.Get(ctx, k.Name+storedOnion, 0)
	if errors.Is(err, secret.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer clear(s.Value)
	lines, err := k.onionLines(s.Value)
	var out []OnionSecret
	for _, l := range lines {
		var seed [seal.KEMSeedSize]byte
		if err := parseKey("secret "+k.Name+storedOnion, kindOnion, l.key, seed[:]); err != nil {
			return nil, err
		}
		key, err := seal.NewKEMPrivate(&seed)
		clear(seed[:])
		if err != nil {
			return nil, err
		}
		out = append(out, OnionSecret{l.epoch, key})
	}
	return out, err
}

// onionLine is a period's key in the secret of all.
type onionLine struct {
	epoch uint64
	key   []byte // as in a key file
}

func (k *StoredKeys) onionLines(b []byte) (out []onionLine, err error) {
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		number, key, _ := bytes.Cut(line, []byte(" "))
		epoch, err := strconv.ParseUint(string(number), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("secret %s%s: a line does not begin with an epoch; restore an earlier version", k.Name, storedOnion)
		}
		out = append(out, onionLine{epoch, key})
	}
	slices.SortFunc(out, func(a, b onionLine) int { return cmp.Compare(a.epoch, b.epoch) })
	return out, nil
}

// errAsIs ends a change of onion keys that has nothing to change.
var errAsIs = errors.New("nothing to change")

// MakeOnion makes the onion key of the period that begins at an epoch, if it is not
// there yet.
func (k *StoredKeys) MakeOnion(ctx context.Context, epoch uint64, random io.Reader) error {
	return k.changeOnions(ctx, func(lines []onionLine) ([]onionLine, error) {
		if slices.ContainsFunc(lines, func(l onionLine) bool { return l.epoch == epoch }) {
			return nil, errAsIs
		}
		key, err := freshKey(kindOnion, seal.KEMSeedSize, random)
		return append(lines, onionLine{epoch, bytes.TrimSpace(key)}), err
	})
}

// RetireOnions destroys the onion keys of periods before the one that was present
// at an epoch.
func (k *StoredKeys) RetireOnions(ctx context.Context, keep uint64) error {
	return k.changeOnions(ctx, func(lines []onionLine) ([]onionLine, error) {
		n := 0
		for n+1 < len(lines) && lines[n+1].epoch <= keep {
			n++
		}
		if n == 0 {
			return nil, errAsIs
		}
		return lines[n:], nil
	})
}

// changeOnions makes another set of onion keys the present one, and destroys the
// versions before it, in which retired keys are.
func (k *StoredKeys) changeOnions(ctx context.Context, change func([]onionLine) ([]onionLine, error)) error {
	name := k.Name + storedOnion
	var value []byte
	defer func() { clear(value) }()
	version, err := secret.Change(ctx, k.Store, name, func(present secret.Secret) ([]byte, error) {
		lines, err := k.onionLines(present.Value)
		if err != nil {
			return nil, err
		}
		if lines, err = change(lines); err != nil {
			return nil, err
		}
		clear(value)
		value = nil
		for _, l := range lines {
			value = fmt.Appendf(value, "%d %s\n", l.epoch, l.key)
		}
		return value, nil
	})
	if errors.Is(err, errAsIs) {
		return nil
	}
	if err != nil {
		return err
	}
	return k.Store.Destroy(ctx, name, version)
}

func (k *StoredKeys) signer(ctx context.Context, part, kind string) (*seal.Signer, error) {
	var seed [seal.SignSeedSize]byte
	defer clear(seed[:])
	if err := k.read(ctx, k.Name+part, kind, seed[:]); err != nil {
		return nil, err
	}
	return seal.NewSigner(&seed)
}

// read reads a key of exactly len(key) bytes and of one kind.
func (k *StoredKeys) read(ctx context.Context, name, kind string, key []byte) error {
	s, err := k.Store.Get(ctx, name, 0)
	if err != nil {
		return err
	}
	defer clear(s.Value)
	return parseKey("secret "+name, kind, s.Value, key)
}

func (k *StoredKeys) make(ctx context.Context, part, kind string, size int, random io.Reader) error {
	value, err := freshKey(kind, size, random)
	if err != nil {
		return err
	}
	defer clear(value)
	if _, err = k.Store.Put(ctx, k.Name+part, value, 0); errors.Is(err, secret.ErrChanged) {
		err = fmt.Errorf("secret %s%s is there already; choose another name, or delete it", k.Name, part)
	}
	return err
}

// freshKey is the line of a key file with a fresh key.
func freshKey(kind string, size int, random io.Reader) ([]byte, error) {
	key := make([]byte, size)
	defer clear(key)
	if err := fill(random, key); err != nil {
		return nil, err
	}
	b := make([]byte, 0, keyFileMax)
	b = append(append(b, kind...), ' ')
	return append(base64.StdEncoding.AppendEncode(b, key), '\n'), nil
}
