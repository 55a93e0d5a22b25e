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
