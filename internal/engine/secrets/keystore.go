package secrets

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/seal/passphrase"
)

// rootFile holds the key of a store in a box, under a key that is made of what
// unlocks the store: text, comment lines that begin with #, and one line
//
//	nyx-keystore-1 argon2id PASSES MEMORY-KIB LANES SALT BOX
//	nyx-keystore-1 key BOX
//
// with salt and box in base64.
const (
	rootFile    = "keystore"
	rootKind    = "nyx-keystore-1"
	rootFileMax = 4 << 10
)

// Unlock is what unlocks a key store: a passphrase, or a key if there is one.
type Unlock struct {
	Passphrase []byte
	Key        *seal.Key
}

// errNothingUnlocks is an Unlock without either.
var errNothingUnlocks = errors.New("a key store needs a passphrase or a key file")

// CreateDisk makes a key store in a directory that is empty or not there.
func CreateDisk(dir string, u Unlock) (*Disk, error) {
	return createDisk(dir, u, passphrase.Recommended())
}

func createDisk(dir string, u Unlock, cost passphrase.Cost) (*Disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the key store: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot make the key store: %w", err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("cannot make the key store: %s is not empty; choose another directory", dir)
	}
	var root seal.Key
	var salt [seal.BoxSaltSize]byte
	var pass [passphrase.SaltSize]byte
	defer root.Clear()
	for _, b := range [][]byte{root[:], salt[:], pass[:]} {
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("no randomness: %w", err)
		}
	}
	how, under := "key", u.Key
	if under == nil {
		if len(u.Passphrase) == 0 {
			return nil, errNothingUnlocks
		}
		key := seal.Key(passphrase.Key(u.Passphrase, &pass, cost))
		defer key.Clear()
		how, under = fmt.Sprintf("argon2id %d %d %d %s", cost.Passes, cost.MemoryKiB, cost.Lanes, base64.StdEncoding.EncodeToString(pass[:])), &key
	}
	box := seal.SealBox(under, &salt, nil, root[:], []byte(rootKind))
	text := "# Nyx key store. Without this file none of its secrets can be read.\n" + rootKind + " " + how + " " + base64.StdEncoding.EncodeToString(box) + "\n"
	if err := placeFile(dir, rootFile, []byte(text)); err != nil {
		return nil, fmt.Errorf("cannot make the key store: %w", err)
	}
	return newDisk(dir, &root), nil
}

func newDisk(dir string, root *seal.Key) *Disk {
	return &Disk{dir: dir, key: seal.Derive(root, "keystore boxes"), names: seal.Derive(root, "keystore names")}
}

// OpenDisk opens a key store.
func OpenDisk(dir string, u Unlock) (*Disk, error) {
	path := filepath.Join(dir, rootFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no key store in %s; make one with nyx secret init", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the key store: %w", err)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o); run: chmod 600 %s", path, mode, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the key store: %w", err)
	}
	var root seal.Key
	defer root.Clear()
	if err := unlock(b, u, &root); err != nil {
		return nil, fmt.Errorf("cannot open the key store %s: %w", dir, err)
	}
	return newDisk(dir, &root), nil
}

var errRoot = errors.New("its file " + rootFile + " is damaged; restore it from a copy")

// unlock opens the box of a root file.
func unlock(b []byte, u Unlock, root *seal.Key) error {
	var fields []string
	for line := range bytes.Lines(b[:min(len(b), rootFileMax)]) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			fields = append(fields, strings.Fields(string(line))...)
		}
	}
	var under *seal.Key
	wrong := "the key is not its own; name another key file"
	switch {
	case len(fields) == 3 && fields[0] == rootKind && fields[1] == "key":
		if under = u.Key; under == nil {
			return errors.New("it opens with a key file; name that")
		}
	case len(fields) == 7 && fields[0] == rootKind && fields[1] == "argon2id":
		if len(u.Passphrase) == 0 {
			return errors.New("it opens with a passphrase; name the file that holds it")
		}
		var cost passphrase.Cost
		_, err := fmt.Sscan(strings.Join(fields[2:5], " "), &cost.Passes, &cost.MemoryKiB, &cost.Lanes)
		salt, err2 := base64.StdEncoding.Strict().DecodeString(fields[5])
		if err != nil || err2 != nil || !cost.Valid() || len(salt) != passphrase.SaltSize {
			return errRoot
		}
		key := seal.Key(passphrase.Key(u.Passphrase, (*[passphrase.SaltSize]byte)(salt), cost))
		defer key.Clear()
		under, wrong = &key, "the passphrase is wrong"
	default:
		return errRoot
	}
	box, err := base64.StdEncoding.Strict().DecodeString(fields[len(fields)-1])
	if err != nil || len(box) != seal.KeySize+seal.BoxOverhead {
		return errRoot
	}
	out, ok := seal.OpenBox(under, root[:0], box, []byte(rootKind))
	if !ok || len(out) != seal.KeySize {
		return errors.New(wrong)
	}
	return nil
}
