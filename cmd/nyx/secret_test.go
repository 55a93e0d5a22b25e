package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/setup"
)

// TestSecretCommands: a key store is made, filled, read, listed and rotated, and
// what cannot be is one line that says why.
func TestSecretCommands(t *testing.T) {
	dir := t.TempDir()
	store, key := filepath.Join(dir, "store"), filepath.Join(dir, "store.key")
	secret := func(args ...string) (string, error) {
		return nyx(t, append(append([]string{"secret"}, args...), "--store", store, "--key-file", key)...)
	}
	run := func(want string, args ...string) {
		t.Helper()
		if out, err := secret(args...); err != nil || !strings.Contains(out, want) {
			t.Fatalf("nyx secret %s: %q, error %v; want %q", strings.Join(args, " "), out, err, want)
		}
	}
	fails := func(want string, args ...string) {
		t.Helper()
		if out, err := secret(args...); err == nil || !strings.Contains(oneLine(err), want) || strings.Contains(out, "planted") {
			t.Errorf("nyx secret %s: %q, error %v; want %q", strings.Join(args, " "), out, err, want)
		}
	}
	fails("nyx secret init", "list") // not made yet: no key file either
	run("key store in", "init")
	fails("not empty", "init")
	run("keys in secret://stream-1", "keygen", "stream-1")
	fails("there already", "keygen", "stream-1")
	value := filepath.Join(dir, "value")
	if err := os.WriteFile(value, []byte("planted value"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("other/thing version 1", "put", "other/thing", "--from", value)
	run("other/thing version 2", "put", "other/thing", "--from", value)
	run("planted value", "get", "other/thing", "--version", "1")
	run("fleet is rotated", "rotate", "fleet")
	run("nyx-secret-fleet-1 ", "get", "fleet")
	run("segments is rotated", "rotate", "audit/segments", "--wrapping")
	run(`"name": "other/thing"`, "list", "--json")
	run("version 2", "list", "other/")
	run("is deleted", "delete", "other/thing")
	fails("no such secret", "delete", "other/thing")
	fails("no such secret", "get", "other/thing")
	fails("not a secret's name", "get", "../other")
	if _, err := setup.MakeStoreKey(key+"2", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := nyx(t, "secret", "list", "--store", store, "--key-file", key+"2"); err == nil || !strings.Contains(err.Error(), "not its own") {
		t.Errorf("opened with another key: %v", err)
	}
	if _, err := nyx(t, "secret", "list", "--store", "https://vault.test"); err == nil || !strings.Contains(err.Error(), "role_id") {
		t.Errorf("a server without a role: %v", err)
	}
}
