package setup

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// A key file is text: comment lines that begin with #, and one line with the
// kind and version, a space, and the key in base64. Secret files hold the seed
// from which the key pair derives.
const (
	kindIdentity  = "nyx-secret-identity-1"
	kindAuthority = "nyx-secret-authority-1"
	kindLink      = "nyx-secret-link-1"
	kindOnion     = "nyx-secret-onion-1"
	kindFleet     = "nyx-secret-fleet-1"
	kindReplica   = "nyx-secret-replica-1"
	kindSeed      = "nyx-secret-seed-1"
	kindPublic    = "nyx-public-authority-1"
)

// keyFileMax bounds a key file: the largest holds a public key of 2 KiB.
const keyFileMax = 8 << 10

// Key files of a node, in its keys directory. Onion keys are files by epoch.
const (
	identityFile  = "identity.key"
	linkFile      = "link.key"
	FleetFile     = "fleet.key" // of Stream nodes
	authorityFile = "authority.key"
	replicaFile   = "replica.key"
	publicFile    = "authority.pub"
	onionPrefix   = "onion-"
	keySuffix     = ".key"
)

// NodeKeys are the keys of a node.
type NodeKeys struct {
	Identity *seal.Signer
	Link     *seal.KEMPrivate
	// Onion are by epoch, the oldest first; one or more.
	Onion []OnionSecret
	// Fleet is the key that Stream nodes share, or nil.
	Fleet *seal.Key
}

// OnionSecret is a private key for route set-ups and its first epoch.
type OnionSecret struct {
	Epoch uint64
	Key   *seal.KEMPrivate
}

// ID is the node's name in the directory.
func (k *NodeKeys) ID() wire.NodeID { return directory.NodeID(k.Identity.Public()) }

// MakeNodeKeys makes the keys of a node in dir: identity, link and the onion
// key that is used from an epoch on. It never replaces a key. random is nil
// for the operating system's.
func MakeNodeKeys(dir string, onionEpoch uint64, random io.Reader) (*NodeKeys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the key directory: %w", err)
	}
	var sign [seal.SignSeedSize]byte
	var kem [seal.KEMSeedSize]byte
	defer clear(sign[:])
	defer clear(kem[:])
	if err := makeSecret(filepath.Join(dir, identityFile), kindIdentity, sign[:], random); err != nil {
		return nil, err
	}
	if err := makeSecret(filepath.Join(dir, linkFile), kindLink, kem[:], random); err != nil {
		return nil, err
	}
	if err := makeSecret(onionPath(dir, onionEpoch), kindOnion, kem[:], random); err != nil {
		return nil, err
	}
	return LoadNodeKeys(dir)
}

// LoadNodeKeys reads the keys of a node. The fleet key may be missing.
func LoadNodeKeys(dir string) (*NodeKeys, error) {
	k := &NodeKeys{}
	var err error
	if k.Identity, err = loadSigner(filepath.Join(dir, identityFile), kindIdentity); err != nil {
		return nil, err
	}
	if k.Link, err = loadKEM(filepath.Join(dir, linkFile), kindLink); err != nil {
		return nil, err
	}
	if k.Fleet, _, err = LoadFleet(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	epochs, err := onionEpochs(dir)
	if err != nil {
		return nil, err
	}
	if len(epochs) == 0 {
		return nil, fmt.Errorf("no onion key in %s; make one with nyx keygen", dir)
	}
	for _, epoch := range epochs {
		key, err := loadKEM(onionPath(dir, epoch), kindOnion)
		if err != nil {
			return nil, err
		}
		k.Onion = append(k.Onion, OnionSecret{Epoch: epoch, Key: key})
	}
	return k, nil
}

// LoadFleet reads the key that the Stream nodes of a fleet share, and when it was
// put in its place.
func LoadFleet(dir string) (key *seal.Key, placed time.Time, err error) {
	path := filepath.Join(dir, FleetFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, placed, fmt.Errorf("cannot read the key: %w", err)
	}
	key = &seal.Key{}
	if err := readSecret(path, kindFleet, key[:]); err != nil {
		return nil, placed, err
	}
	return key, info.ModTime(), nil
}

// RotateFleet puts a fresh fleet key in the place of the one in dir, if there is
// one. random is nil for the operating system's.
func RotateFleet(dir string, random io.Reader) error {
	var fleet seal.Key
	defer fleet.Clear()
	if err := fill(random, fleet[:]); err != nil {
		return err
	}
	return putSecret(filepath.Join(dir, FleetFile), kindFleet, fleet[:], true)
}

// RotateOnion makes the onion key of the period that begins at an epoch, if it
// is not there yet, and destroys those older than the newest that began before
// keep. Pass as keep the epoch of an hour ago, so that a key is kept as long
// as set-ups for it are accepted. The secrecy of past routes rests on this.
func RotateOnion(dir string, epoch, keep uint64, random io.Reader) error {
	var kem [seal.KEMSeedSize]byte
	defer clear(kem[:])
	if err := makeSecret(onionPath(dir, epoch), kindOnion, kem[:], random); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	epochs, err := onionEpochs(dir)
	if err != nil {
		return err
	}
	for i := 0; i+1 < len(epochs) && epochs[i+1] <= keep; i++ {
		if err := destroy(onionPath(dir, epochs[i])); err != nil {
			return err
		}
	}
	return nil
}

func onionPath(dir string, epoch uint64) string {
	return filepath.Join(dir, onionPrefix+strconv.FormatUint(epoch, 10)+keySuffix)
}

func onionEpochs(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list the keys: %w", err)
	}
	var epochs []uint64
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), onionPrefix)
		name, suffixed := strings.CutSuffix(name, keySuffix)
		if epoch, err := strconv.ParseUint(name, 10, 64); ok && suffixed && err == nil {
			epochs = append(epochs, epoch)
		}
	}
	slices.Sort(epochs)
	return epochs, nil
}

// MakeAuthorityKey makes an authority's signing key in dir, with the public key
// beside it for the network file.
func MakeAuthorityKey(dir string, random io.Reader) (*seal.Signer, error) {
	return makeSigner(dir, authorityFile, kindAuthority, publicFile, kindPublic, "a directory authority", random)
}

// makeSigner makes a signing key, and puts its public key beside it.
func makeSigner(dir, file, kind, publicFile, publicKind, whose string, random io.Reader) (*seal.Signer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the key directory: %w", err)
	}
	var seed [seal.SignSeedSize]byte
	defer clear(seed[:])
	if err := makeSecret(filepath.Join(dir, file), kind, seed[:], random); err != nil {
		return nil, err
	}
	signer, err := seal.NewSigner(&seed)
	if err != nil {
		return nil, err
	}
	public := fmt.Appendf(nil, "# Nyx public key of %s.\n%s %s\n", whose, publicKind, base64.StdEncoding.EncodeToString(signer.Public()))
	if err := writeFile(filepath.Join(dir, publicFile), public, 0o644, true); err != nil {
		return nil, fmt.Errorf("cannot write the public key: %w", err)
	}
	return signer, nil
}

// LoadAuthorityKey reads an authority's signing key from its directory.
func LoadAuthorityKey(dir string) (*seal.Signer, error) {
	return loadSigner(filepath.Join(dir, authorityFile), kindAuthority)
}

func loadSigner(path, kind string) (*seal.Signer, error) {
	var seed [seal.SignSeedSize]byte
	defer clear(seed[:])
	if err := readSecret(path, kind, seed[:]); err != nil {
		return nil, err
	}
	return seal.NewSigner(&seed)
}

func loadKEM(path, kind string) (*seal.KEMPrivate, error) {
	var seed [seal.KEMSeedSize]byte
	defer clear(seed[:])
	if err := readSecret(path, kind, seed[:]); err != nil {
		return nil, err
	}
	return seal.NewKEMPrivate(&seed)
}

// makeSecret fills secret with fresh randomness and writes it; an existing file
// is left as it is, and an error.
func makeSecret(path, kind string, secret []byte, random io.Reader) error {
	if err := fill(random, secret); err != nil {
		return err
	}
	return writeSecret(path, kind, secret)
}

func writeSecret(path, kind string, secret []byte) error {
	return putSecret(path, kind, secret, false)
}

func putSecret(path, kind string, secret []byte, replace bool) error {
	b := make([]byte, 0, keyFileMax)
	b = append(b, "# Nyx secret key. Whoever reads it can take its owner's place.\n"...)
	b = append(append(b, kind...), ' ')
	b = base64.StdEncoding.AppendEncode(b, secret)
	b = append(b, '\n')
	defer clear(b)
	if err := writeFile(path, b, 0o600, replace); err != nil {
		return fmt.Errorf("cannot write the key: %w", err)
	}
	return nil
}

// readSecret reads a key of exactly len(secret) bytes and of one kind.
func readSecret(path, kind string, secret []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("cannot read the key: %w", err)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return fmt.Errorf("%s can be read by others (mode %04o); run: chmod 600 %s", path, mode, path)
	}
	b, err := readFile(path, keyFileMax)
	if err != nil {
		return fmt.Errorf("cannot read the key: %w", err)
	}
	defer clear(b)
	return parseKey(path, kind, b, secret)
}

func parseKey(path, kind string, b, key []byte) error {
	found := false
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		got, encoded, _ := bytes.Cut(line, []byte(" "))
		if found || string(got) != kind {
			return fmt.Errorf("%s is not a key of kind %s; is it the right file?", path, kind)
		}
		if base64.StdEncoding.EncodedLen(len(key)) != len(encoded) {
			return fmt.Errorf("%s: the key is cut or has something added; restore it from a copy", path)
		}
		buffer := make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
		n, err := base64.StdEncoding.Strict().Decode(buffer, encoded)
		if err != nil || n != len(key) {
			return fmt.Errorf("%s: the key is damaged; restore it from a copy", path)
		}
		copy(key, buffer)
		clear(buffer)
		found = true
	}
	if !found {
		return fmt.Errorf("%s holds no key", path)
	}
	return nil
}

// destroy overwrites a secret file and removes it. On media that write
// elsewhere, the old blocks may last; keep keys on an encrypted disk.
func destroy(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot destroy the key: %w", err)
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, min(info.Size(), keyFileMax)), 0)
	}
	err = errors.Join(err, f.Sync(), f.Close(), os.Remove(path))
	if err != nil {
		return fmt.Errorf("cannot destroy the key: %w", err)
	}
	return nil
}
