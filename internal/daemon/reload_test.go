package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/setup"
)

// A Stream node takes the fleet key that is put in its directory while it runs,
// once, and says how long that took. It goes on with its own while the file is
// damaged or missing, and tells of it.
func TestFleetKeyIsReloaded(t *testing.T) {
	dir := t.TempDir()
	rotate := func() *seal.Key {
		t.Helper()
		if err := setup.RotateFleet(dir, nil); err != nil {
			t.Fatal(err)
		}
		key, _, err := setup.LoadFleet(dir)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	first := rotate()
	cfg, err := localNode(LocalConfig{Streams: 1}, 0, prng.FromUint64(3), directory.Params{})
	if err != nil {
		t.Fatal(err)
	}
	own := *first
	cfg.Fleet, cfg.LoadFleet = &own, func() (*seal.Key, time.Time, error) { return setup.LoadFleet(dir) }
	n := startAlone(t, cfg)
	n.cancel() // what it does by itself
	n.running.Wait()
	var taken []seal.Key
	rotateFleet := n.rotateFleet
	n.rotateFleet = func(now machine.Time, key *seal.Key) {
		taken = append(taken, *key)
		rotateFleet(now, key)
	}
	look := func(what string, want int, wrong bool) {
		t.Helper()
		if err := n.reloadFleet(time.Now()); (err != nil) != wrong || len(taken) != want {
			t.Errorf("%s: %d keys taken, want %d; %v", what, len(taken), want, err)
		}
	}
	look("nothing new", 0, false)
	second := rotate()
	look("replaced", 1, false)
	look("looked at again", 1, false)
	if taken[0] != *second || *n.cfg.Fleet != *second || own != (seal.Key{}) {
		t.Error("another key was taken, or the replaced one is not overwritten")
	}
	path := filepath.Join(dir, setup.FleetFile)
	if err := os.WriteFile(path, []byte("nyx-secret-fleet-1 AAAA"), 0o600); err != nil {
		t.Fatal(err)
	}
	look("cut", 1, true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look("missing", 1, true)
	rotate()
	look("there again", 2, false)
	n.reloads.observe(90 * time.Second)
	var page metric.Page
	writeReloads(&page, []part{n.part()})
	for _, want := range []string{`_bucket{part="stream-0",le="5"} 2`, `_bucket{part="stream-0",le="+Inf"} 3`, `_count{part="stream-0"} 3`} {
		if !strings.Contains(page.String(), "key_reload_duration"+want) {
			t.Errorf("the metrics lack %s:\n%s", want, page.String())
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// A node takes a rotated fleet key from a secret store, and its onion keys turn
// there; while the store gives nothing it goes on with its own.
func TestKeysFromASecretStore(t *testing.T) {
	s := secret.NewMemory()
	stored := &setup.StoredKeys{Store: s, Name: "stream-1", Fleet: "fleet"}
	ring := &keyring{stored: stored, whole: true, store: s}
	if _, err := stored.RotateFleet(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	params := directory.Params{}
	present := params.OnionFrom(params.EpochAt(time.Now().Unix()))
	if _, err := stored.Make(t.Context(), present, nil); err != nil {
		t.Fatal(err)
	}
	keys, err := ring.node()
	if err != nil || keys.Fleet == nil || ring.where() != "secret://stream-1" {
		t.Fatalf("%+v, %v", keys, err)
	}
	cfg, err := localNode(LocalConfig{Streams: 1}, 0, prng.FromUint64(3), params)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Identity, cfg.Link, cfg.Onions, cfg.Fleet, cfg.LoadFleet = keys.Identity, keys.Link, ring.onions(), keys.Fleet, ring.fleet
	n := startAlone(t, cfg)
	n.cancel()
	n.running.Wait()
	before := *n.cfg.Fleet
	if _, err := stored.RotateFleet(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := n.reloadFleet(time.Now()); err != nil || *n.cfg.Fleet == before {
		t.Errorf("the rotated key was not taken: %v", err)
	}
	took := *n.cfg.Fleet
	if err := s.Delete(t.Context(), "fleet"); err != nil {
		t.Fatal(err)
	}
	if err := n.reloadFleet(time.Now()); !errors.Is(err, secret.ErrNone) || *n.cfg.Fleet != took {
		t.Errorf("without a key in the store: %v", err)
	}
	onions := ring.onions()
	next := params.OnionFrom(present + 1000)
	made, err := onions.Make(next)
	if err != nil || made == nil {
		t.Fatal(err)
	}
	if again, err := onions.Make(next); err != nil || string(again.Public().Bytes()) != string(made.Public().Bytes()) {
		t.Errorf("another key of the same period: %v", err)
	}
	if held, err := onions.Held(); err != nil || len(held) < 2 {
		t.Errorf("%d keys are held, %v", len(held), err)
	}
	if err := onions.Retire(next); err != nil {
		t.Fatal(err)
	}
	if held, err := onions.Held(); err != nil || len(held) != 1 {
		t.Errorf("%d keys are held, %v", len(held), err)
	}
	if old, err := onions.Load(present); err != nil || old != nil {
		t.Errorf("a retired key is loaded: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// Without a program that has stores, or without the store, nothing starts.
func TestKeyringRefuses(t *testing.T) {
	cfg := &setup.Config{Secrets: setup.SecretsConfig{Dir: "keystore", Node: "a"}}
	if _, err := openKeyring(cfg, nil); !errors.Is(err, errNoSecrets) {
		t.Errorf("without stores: %v", err)
	}
	away := errors.New("away")
	if _, err := openKeyring(cfg, func(*setup.SecretsConfig) (secret.Store, error) { return nil, away }); !errors.Is(err, away) {
		t.Errorf("without the store: %v", err)
	}
}
