package daemon

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nyxnet/nyx/internal/prng"
)

// DataDir returns dir, or the per-user default if it is empty, and makes it.
func DataDir(dir string) (string, error) {
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return "", fmt.Errorf("no directory for configuration: %w; name one with --data", err)
		}
		dir = filepath.Join(base, "nyx")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make the data directory %s: %w; choose another with --data", dir, err)
	}
	return dir, nil
}

// LoadOrMakeSeed returns the seed of the network whose data lies in dir, and
// makes it the first time.
func LoadOrMakeSeed(dir string) (seed [prng.SeedSize]byte, err error) {
	path := filepath.Join(dir, "network.seed")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		rand.Read(seed[:])
		return seed, WriteFile(path, []byte(hex.EncodeToString(seed[:])+"\n"))
	}
	if err != nil {
		return seed, fmt.Errorf("cannot read the network's seed: %w", err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(raw) != len(seed) {
		return seed, fmt.Errorf("%s: not a seed of %d hexadecimal digits; remove the file to make a new network", path, 2*len(seed))
	}
	copy(seed[:], raw)
	return seed, nil
}

// Ready is what nyx up tells who waits for it.
type Ready struct {
	Socks   string `json:"socks"`
	Console string `json:"console"`
	Metrics string `json:"metrics"`
	PID     int    `json:"pid"`
}

// WriteReady writes the ready file at once: who reads it reads all of it.
func WriteReady(path string, r Ready) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return WriteFile(path, append(b, '\n'))
}

// WriteFile replaces a file at once, readable by its owner only.
func WriteFile(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	if _, err = tmp.Write(b); err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}
