package cli

import (
	"testing"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/setup"
)

// Each network has a wallet of its own, by its issuer, unless a flag names one.
func TestWalletDir(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	network := func(name string, issuer byte) *setup.Network {
		return &setup.Network{Trust: directory.Trust{Network: name}, Issuer: &setup.Issuer{Key: []byte{issuer}}}
	}
	seen := map[string]bool{}
	for _, n := range []*setup.Network{network("a", 1), network("a", 2), network("b", 1)} {
		dir, err := walletDir("", n)
		if err != nil || seen[dir] {
			t.Errorf("%s: %v", dir, err)
		}
		seen[dir] = true
	}
	if dir, err := walletDir("mine", &setup.Network{}); dir != "mine" || err != nil {
		t.Errorf("%s: %v", dir, err)
	}
	if _, err := walletDir("", &setup.Network{}); err == nil {
		t.Error("a wallet for a network without an issuer")
	}
}
