// Package setup is what a network needs before it runs, as files that people
// own: keys, the configuration of each node, and the network file by which a
// client knows whom to believe.
//
// Keys stand in files of their own, readable by their owner only, never in a
// configuration. A configuration is TOML; unknown keys are refused, and an
// error names file, line and key, and says what to write instead.
package setup

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/nyxnet/nyx/internal/prng"
)

// seedFile holds the seed of a network on one machine.
const seedFile = "seed.key"

// DataDir is the data directory that was chosen, or if it is "" the directory nyx in
// the user's configuration directory.
func DataDir(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no directory for this user's configuration: %w; choose one with --data", err)
	}
	return filepath.Join(base, "nyx"), nil
}

// LoadOrMakeSeed returns the seed from which a network on one machine derives
// its keys, and makes it at the first call. An empty dir means the directory
// nyx in the user's configuration directory.
func LoadOrMakeSeed(dir string) (seed [prng.SeedSize]byte, err error) {
	if dir, err = DataDir(dir); err != nil {
		return seed, err
	}
	path := filepath.Join(dir, seedFile)
	err = readSecret(path, kindSeed, seed[:])
	if !errors.Is(err, fs.ErrNotExist) {
		return seed, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return seed, fmt.Errorf("cannot make the data directory: %w", err)
	}
	return seed, makeSecret(path, kindSeed, seed[:], nil)
}

// Ready is what a started network tells the tools around it.
type Ready struct {
	// Socks is host:port of the proxy; Console and Metrics are URLs.
	Socks   string `json:"socks"`
	Console string `json:"console"`
	Metrics string `json:"metrics"`
	PID     int    `json:"pid"`
}

// WriteReady writes a ready file, which appears whole or not at all.
func WriteReady(path string, r Ready) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	if err := writeFile(path, append(b, '\n'), 0o644, true); err != nil {
		return fmt.Errorf("cannot write the ready file: %w", err)
	}
	return nil
}

// ReplaceFile writes a file, for its owner alone, that appears whole or not at all and
// is on disk when it returns, in place of one that may be there.
func ReplaceFile(path string, b []byte) error { return writeFile(path, b, 0o600, true) }

// writeFile writes a file that appears whole or not at all and is on disk when
// it returns. Without replace an existing file is an error (fs.ErrExist).
func writeFile(path string, b []byte, mode fs.FileMode, replace bool) (err error) {
	if !replace {
		if _, err := os.Lstat(path); err == nil {
			return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDirectory(filepath.Dir(path))
}

// SyncDirectory has the names of files on disk. Windows has no such call, and
// keeps them by itself.
func SyncDirectory(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile reads a file of at most max bytes.
func readFile(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("%s is larger than %d bytes; is it the right file?", path, max)
	}
	return b, nil
}

// fill fills b with fresh randomness from source, or from the operating system
// if source is nil.
func fill(source io.Reader, b []byte) error {
	if source == nil {
		source = rand.Reader
	}
	if _, err := io.ReadFull(source, b); err != nil {
		return fmt.Errorf("no randomness: %w", err)
	}
	return nil
}
