package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/storetest"
	"github.com/nyxnet/nyx/internal/setup"
)

// TestSnapshotAndRestore: what an authority keeps in etcd goes through a file into
// an empty etcd, and the authority signs nothing of the present epoch.
func TestSnapshotAndRestore(t *testing.T) {
	dir := t.TempDir()
	made, err := setup.Init(filepath.Join(dir, "n"), setup.InitConfig{Network: "testnet", Streams: 2, Mixes: 3, Authorities: 1, Port: 20000, Wall: time.Now().Unix()})
	if err != nil {
		t.Fatal(err)
	}
	config, file := made.Authorities[0], filepath.Join(dir, "snapshot")
	store, params, err := configuredStore(config)
	if err != nil {
		t.Fatal(err)
	}
	descriptor := storetest.NewNetwork(t).Descriptor(t, 0, 1)
	if err := registry.New(store).Keep(t.Context(), descriptor); err != nil {
		t.Fatal(err)
	}
	store.Close()
	out, err := nyx(t, "directory", "snapshot", "--config", config, "--to", file)
	if err != nil || !strings.Contains(out, "1 entries") {
		t.Fatalf("%s%v", out, err)
	}
	hash := regexp.MustCompile("hash ([0-9a-f]{64})").FindStringSubmatch(out)[1]
	if _, err := nyx(t, "directory", "snapshot", "--config", config, "--to", file); err == nil {
		t.Error("a snapshot is written over another")
	}
	if _, err := nyx(t, "directory", "restore", "--config", config, "--from", file); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("restored over what is there: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(filepath.Dir(config), "keys", etcdDir)); err != nil {
		t.Fatal(err)
	}
	if _, err := nyx(t, "directory", "restore", "--config", config, "--from", file, "--hash", strings.Repeat("0", 64)); err == nil {
		t.Error("a snapshot with another hash is restored")
	}
	out, err = nyx(t, "directory", "restore", "--config", config, "--from", file, "--hash", hash)
	if err != nil {
		t.Fatalf("%s%v", out, err)
	}
	if store, _, err = configuredStore(config); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r := registry.New(store)
	var kept []byte
	if _, err := r.Load(t.Context(), func(b []byte) { kept = b }); err != nil || !bytes.Equal(kept, descriptor) {
		t.Errorf("the descriptor is not there: %v", err)
	}
	if _, err := r.Sign(t.Context(), directory.Mark{Epoch: params.EpochAt(time.Now().Unix()) - 1}); err == nil {
		t.Error("what may have been signed is signed again")
	}
}
