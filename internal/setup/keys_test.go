package setup

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

func TestNodeKeysComeBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	made, err := MakeNodeKeys(dir, 48, nil)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadNodeKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	if made.ID() != loaded.ID() || !bytes.Equal(made.Link.Public().Bytes(), loaded.Link.Public().Bytes()) {
		t.Error("other keys came back")
	}
	if len(loaded.Onion) != 1 || loaded.Onion[0].Epoch != 48 || loaded.Fleet != nil {
		t.Errorf("%d onion keys, fleet %v", len(loaded.Onion), loaded.Fleet != nil)
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if _, err := MakeNodeKeys(dir, 48, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("keys are replaced: %v", err)
	}
	again, err := LoadNodeKeys(dir)
	if err != nil || again.ID() != made.ID() {
		t.Errorf("the refused call changed the keys: %v", err)
	}
}

// A fleet key is replaced by a fresh one, whole and with the time at which that
// came, and by its owner only.
func TestRotateFleet(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := LoadFleet(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no key: %v", err)
	}
	seen := map[seal.Key]bool{}
	for range 3 {
		before := time.Now().Add(-time.Second) // a file's time is coarser
		if err := RotateFleet(dir, nil); err != nil {
			t.Fatal(err)
		}
		key, placed, err := LoadFleet(dir)
		if err != nil || seen[*key] || placed.Before(before) || placed.After(time.Now().Add(time.Second)) {
			t.Fatalf("%v, seen before %v, placed at %v", err, seen[*key], placed)
		}
		seen[*key] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(filepath.Join(dir, FleetFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadFleet(dir); err == nil {
		t.Error("a key that others can read is taken")
	}
}

// Two nodes never get one key, and one source of randomness gives one key.
func TestKeysAreFresh(t *testing.T) {
	make := func(seed uint64) *NodeKeys {
		k, err := MakeNodeKeys(filepath.Join(t.TempDir(), "k"), 0, prng.FromUint64(seed).Stream("keys"))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	a, b, c := make(1), make(2), make(1)
	if a.ID() == b.ID() || a.ID() != c.ID() {
		t.Error("keys do not follow the randomness")
	}
	if bytes.Equal(a.Link.Public().Bytes(), a.Onion[0].Key.Public().Bytes()) {
		t.Error("link and onion key are one")
	}
	if _, err := MakeNodeKeys(filepath.Join(t.TempDir(), "k"), 0, bytes.NewReader(nil)); err == nil {
		t.Error("keys without randomness")
	}
}

func TestRotateOnion(t *testing.T) {
	dir := t.TempDir()
	if _, err := MakeNodeKeys(dir, 24, nil); err != nil {
		t.Fatal(err)
	}
	epochs := func() []uint64 {
		k, err := LoadNodeKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		var out []uint64
		for _, o := range k.Onion {
			out = append(out, o.Epoch)
		}
		return out
	}
	steps := []struct {
		epoch, keep uint64
		want        []uint64
	}{
		{48, 30, []uint64{24, 48}}, // the next, ahead of need
		{48, 47, []uint64{24, 48}}, // still the next
		{72, 48, []uint64{48, 72}}, // the first is no longer accepted
		{72, 71, []uint64{48, 72}},
		{96, 96, []uint64{96}},
	}
	for _, s := range steps {
		if err := RotateOnion(dir, s.epoch, s.keep, nil); err != nil {
			t.Fatal(err)
		}
		if got := epochs(); !slices.Equal(got, s.want) {
			t.Errorf("rotate to %d keeping %d: keys of %v, want %v", s.epoch, s.keep, got, s.want)
		}
	}
	if err := RotateOnion(filepath.Join(dir, "none"), 1, 1, nil); err == nil {
		t.Error("rotated keys that are not there")
	}
}

func TestKeyFilesRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := MakeNodeKeys(dir, 1, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, identityFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	link, err := os.ReadFile(filepath.Join(dir, linkFile))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		what string
		b    []byte
		mode fs.FileMode
		want string
	}{
		{"readable by others", good, 0o644, "run: chmod 600"},
		{"another kind", link, 0o600, "is not a key of kind nyx-secret-identity-1"},
		{"cut", good[:len(good)-10], 0o600, "the key is cut"},
		{"damaged", bytes.Replace(good, []byte("-1 "), []byte("-1 !"), 1)[:len(good)], 0o600, "the key"},
		{"bad character", append(slices.Clone(good[:len(good)-6]), "!!!==\n"...), 0o600, "the key is damaged"},
		{"two keys", append(slices.Clone(good), good...), 0o600, "is it the right file"},
		{"empty", nil, 0o600, "holds no key"},
		{"comments only", []byte("# nothing\n"), 0o600, "holds no key"},
		{"huge", make([]byte, keyFileMax+1), 0o600, "is larger than 8192 bytes"},
	}
	for _, tt := range tests {
		if runtime.GOOS == "windows" && tt.mode != 0o600 {
			continue
		}
		os.Remove(path)
		if err := os.WriteFile(path, tt.b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadNodeKeys(dir); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.what, err, tt.want)
		}
	}
	for _, name := range []string{identityFile, linkFile, "onion-1.key"} {
		dir := t.TempDir()
		if _, err := MakeNodeKeys(dir, 1, nil); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(dir, name))
		if _, err := LoadNodeKeys(dir); err == nil {
			t.Errorf("%s is missing, and nothing is said", name)
		}
	}
}

func TestAuthorityKey(t *testing.T) {
	dir := t.TempDir()
	made, err := MakeAuthorityKey(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadAuthorityKey(dir)
	if err != nil || !bytes.Equal(made.Public(), loaded.Public()) {
		t.Errorf("another key came back: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, publicFile))
	if err != nil {
		t.Fatal(err)
	}
	public := make([]byte, seal.SignPublicSize)
	if err := parseKey(publicFile, kindPublic, b, public); err != nil || !bytes.Equal(public, made.Public()) {
		t.Errorf("the public key file holds another key: %v", err)
	}
	if _, err := MakeAuthorityKey(dir, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the key is replaced: %v", err)
	}
}

func TestSeed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data")
	a, err := LoadOrMakeSeed(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadOrMakeSeed(dir)
	if err != nil || a != b || a == [prng.SeedSize]byte{} {
		t.Errorf("the seed changes or is zero: %v", err)
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AppData", t.TempDir())
	if c, err := LoadOrMakeSeed(""); err != nil || c == a {
		t.Errorf("the default directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, seedFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrMakeSeed(dir); err == nil {
		t.Error("a damaged seed is replaced")
	}
}

func TestWriteReady(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ready.json")
	for pid := range 2 { // the second replaces the first
		if err := WriteReady(path, Ready{Socks: "127.0.0.1:9150", Console: "http://c/", Metrics: "http://c/metrics", PID: pid}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r Ready
	if err := json.Unmarshal(b, &r); err != nil || r.Socks != "127.0.0.1:9150" || r.PID != 1 {
		t.Errorf("%s: %v", b, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("%d files are left", len(entries))
	}
	if err := WriteReady(filepath.Join(path, "x"), r); err == nil {
		t.Error("wrote below a file")
	}
}
