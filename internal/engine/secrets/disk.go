// Package secrets holds the engines behind secret.Store: an encrypted key store on
// disk, and a server with Vault's API.
package secrets

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/secret"
)

// Disk is a secret.Store in a directory:
//
//	keystore          how the store's key is had of a passphrase or of a key file
//	HASH/VERSION      one version of one secret, in a box; empty: destroyed
//
// HASH hides the name and VERSION is decimal. A version comes to be by a link to a
// finished file, so that it is there whole or not at all, and of several who follow
// one version one comes through, in any number of processes, without a lock. On
// disk it is when Put returns. Whoever can write the directory can put an old copy
// of it in its place; nobody without the key can make or move a version.
type Disk struct {
	dir   string
	key   seal.Key // of the boxes
	names seal.Key // of the hashes
}

const (
	// versionDigits has versions in order by their file names.
	versionDigits = 19
	// markersKept is how many destroyed versions keep their empty file, by which
	// nobody who was long between a look and a Put takes their number again.
	markersKept = 64
	// newPrefix begins files that are not finished; they are dead after staleAfter.
	newPrefix  = ".new-"
	staleAfter = time.Minute
	// fileMax bounds the file of a version.
	fileMax = secret.ValueMax + secret.NameMax + 9 + seal.BoxOverhead
)

// place is the directory of a secret.
func (d *Disk) place(name string) string {
	hash := seal.MAC(&d.names, []byte(name))
	return filepath.Join(d.dir, hex.EncodeToString(hash[:]))
}

// additional binds the box of a version to where it stands.
func additional(place string, version uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("secret "+filepath.Base(place)+" "), version)
}

func versionFile(version uint64) string { return fmt.Sprintf("%0*d", versionDigits, version) }

// found are the versions of a secret on disk, the newest first, destroyed ones
// among them.
func found(place string) (versions []uint64, err error) {
	entries, err := os.ReadDir(place)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if version, err := strconv.ParseUint(e.Name(), 10, 63); err == nil && len(e.Name()) == versionDigits {
			versions = append(versions, version)
		}
	}
	slices.SortFunc(versions, func(a, b uint64) int { return cmp.Compare(b, a) })
	return versions, nil
}

// Get implements secret.Store.
func (d *Disk) Get(_ context.Context, name string, version uint64) (s secret.Secret, err error) {
	if err := secret.CheckName(name); err != nil {
		return s, err
	}
	own, place := name, d.place(name)
	if version == 0 {
		s, own, err = d.present(place)
	} else {
		s, own, err = d.read(place, version)
	}
	if err == nil && own != name {
		clear(s.Value)
		err = errDamaged
	}
	if err != nil {
		return secret.Secret{}, fmt.Errorf("secret %s: %w", name, err)
	}
	return s, nil
}

// present reads the newest version of a secret, and tells its name.
func (d *Disk) present(place string) (s secret.Secret, name string, err error) {
	for newest := uint64(0); ; {
		versions, err := found(place)
		if err != nil {
			return s, "", err
		}
		if len(versions) == 0 {
			return s, "", secret.ErrNone
		}
		if versions[0] == newest {
			return s, "", errDamaged // it cannot be read, and is not old
		}
		newest = versions[0]
		if s, name, err = d.read(place, newest); err == nil {
			return s, name, nil
		}
	}
}

// errDamaged is a secret.ErrRefused in words that say what to do.
var errDamaged error = damaged{}

type damaged struct{}

func (damaged) Error() string {
	return "its file is damaged, or is not one of this store; restore it from a copy"
}

func (damaged) Is(target error) bool { return target == secret.ErrRefused }

// read opens a version: [box of: unix ms 8, length of the name 1, name, value].
func (d *Disk) read(place string, version uint64) (s secret.Secret, name string, err error) {
	box, err := readFile(filepath.Join(place, versionFile(version)))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.Trim(box, "\x00")) == 0 {
		return s, "", secret.ErrNone
	}
	if err != nil {
		return s, "", err
	}
	plain, ok := seal.OpenBox(&d.key, nil, box, additional(place, version))
	defer clear(plain)
	if !ok || len(plain) < 9 || len(plain) < 9+int(plain[8]) {
		return s, "", errDamaged
	}
	name, value := string(plain[9:9+plain[8]]), plain[9+plain[8]:]
	return secret.Secret{Value: bytes.Clone(value), Version: version, Placed: time.UnixMilli(int64(binary.BigEndian.Uint64(plain))).UTC()}, name, nil
}

// Put implements secret.Store.
func (d *Disk) Put(_ context.Context, name string, value []byte, was uint64) (uint64, error) {
	if err := secret.Check(name, value); err != nil {
		return 0, err
	}
	place, version := d.place(name), was+1
	versions, err := found(place)
	if err != nil {
		return 0, fmt.Errorf("secret %s: %w", name, err)
	}
	if len(versions) == 0 && was != 0 || len(versions) > 0 && versions[0] != was {
		return 0, fmt.Errorf("secret %s: %w", name, secret.ErrChanged)
	}
	if len(versions) == 0 {
		if err := os.Mkdir(place, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return 0, fmt.Errorf("secret %s: %w", name, err)
		}
		if err := syncDir(d.dir); err != nil {
			return 0, fmt.Errorf("secret %s: %w", name, err)
		}
	}
	plain := make([]byte, 0, 9+len(name)+len(value))
	defer func() { clear(plain) }()
	plain = binary.BigEndian.AppendUint64(plain, uint64(time.Now().UnixMilli()))
	plain = append(append(append(plain, byte(len(name))), name...), value...)
	var salt [seal.BoxSaltSize]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return 0, fmt.Errorf("no randomness: %w", err)
	}
	err = placeFile(place, versionFile(version), seal.SealBox(&d.key, &salt, nil, plain, additional(place, version)))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) { // another's, or deleted meanwhile
		err = secret.ErrChanged
	}
	if err != nil {
		return 0, fmt.Errorf("secret %s: %w", name, err)
	}
	return version, nil
}

// Destroy implements secret.Store.
func (d *Disk) Destroy(_ context.Context, name string, before uint64) error {
	if err := secret.CheckName(name); err != nil {
		return err
	}
	place := d.place(name)
	versions, err := found(place)
	if err != nil || len(versions) == 0 {
		return err
	}
	for _, version := range versions[1:] {
		if version >= before {
			continue
		}
		if err := wipe(filepath.Join(place, versionFile(version)), version+markersKept >= versions[0]); err != nil {
			return fmt.Errorf("secret %s: cannot destroy version %d: %w", name, version, err)
		}
	}
	d.sweep(place)
	return nil
}

// Delete implements secret.Store.
func (d *Disk) Delete(_ context.Context, name string) error {
	if err := secret.CheckName(name); err != nil {
		return err
	}
	place := d.place(name)
	versions, err := found(place)
	for _, version := range slices.Backward(versions) { // the present one last
		err = errors.Join(err, wipe(filepath.Join(place, versionFile(version)), false))
	}
	if err == nil {
		err = os.RemoveAll(place)
	}
	if err == nil {
		err = syncDir(d.dir)
	}
	if err != nil {
		return fmt.Errorf("secret %s: cannot delete it: %w", name, err)
	}
	return nil
}

// sweep removes what a process left that ended in a Put.
func (d *Disk) sweep(place string) {
	entries, _ := os.ReadDir(place)
	for _, e := range entries {
		if info, err := e.Info(); strings.HasPrefix(e.Name(), newPrefix) && err == nil && time.Since(info.ModTime()) > staleAfter {
			os.Remove(filepath.Join(place, e.Name()))
		}
	}
}

// List implements secret.Store.
func (d *Disk) List(ctx context.Context, prefix string) (out []secret.Info, err error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list the secrets: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || len(e.Name()) != 2*seal.MACSize {
			continue
		}
		s, name, err := d.present(filepath.Join(d.dir, e.Name()))
		clear(s.Value)
		if errors.Is(err, secret.ErrNone) {
			continue // it is being made, or deleted
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list the secrets: %s: %w", filepath.Join(d.dir, e.Name()), err)
		}
		if strings.HasPrefix(name, prefix) {
			out = append(out, secret.Info{Name: name, Version: s.Version, Placed: s.Placed})
		}
	}
	secret.SortInfos(out)
	return out, nil
}

// Close implements secret.Store.
func (d *Disk) Close() error {
	d.key.Clear()
	d.names.Clear()
	return nil
}

// placeFile has a file of a name appear whole, on disk, and fails with fs.ErrExist
// if there is one.
func placeFile(dir, name string, b []byte) (err error) {
	f, err := os.CreateTemp(dir, newPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// wipe overwrites a file, and empties or removes it.
func wipe(path string, keepMarker bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		_, err = f.WriteAt(make([]byte, info.Size()), 0)
		err = errors.Join(err, f.Sync(), f.Truncate(0))
	}
	if err == nil && !keepMarker {
		err = os.Remove(path)
	}
	return err
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // which keeps names by itself
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// readFile reads a file that can be a version's.
func readFile(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > fileMax {
		return nil, errDamaged
	}
	return os.ReadFile(path)
}
