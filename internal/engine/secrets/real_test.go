package secrets

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/lab/servers"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/secret/secrettest"
)

// begun tells this run's secrets from those of others in a server that goes on.
var begun = time.Now().Format("-20060102-150405/")

// startVault starts a real server whose tokens live for lease, renewed up to most.
func startVault(t *testing.T, lease, most time.Duration) *servers.Vault {
	t.Helper()
	program, err := servers.FindVault()
	if err != nil {
		t.Skip(err)
	}
	v, err := servers.StartVault(t.Context(), program, t.TempDir(), lease, most)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Stop() })
	t.Logf("version %s", v.Version)
	return v
}

// openReal opens a store in a real server, below nyx/ as its policy has it.
func openReal(t *testing.T, v *servers.Vault, edit ...func(*VaultConfig)) *Vault {
	t.Helper()
	cfg := VaultConfig{URL: v.URL, Prefix: "nyx/" + strings.ToLower(t.Name()) + begun, RoleID: v.RoleID, SecretID: func() ([]byte, error) { return []byte(v.SecretID), nil }}
	for _, e := range edit {
		e(&cfg)
	}
	s, err := OpenVault(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// What holds for every store of secrets holds for one in a real server, under the policy
// that docs/secrets.md gives: versions, check-and-set, destruction, lists, and two
// clients at once.
func TestRealVault(t *testing.T) {
	v, ok := servers.RunningVault()
	if !ok {
		v = startVault(t, 15*time.Minute, time.Hour)
	}
	first := openReal(t, v)
	secrettest.Run(t, first, func() secret.Store { return openReal(t, v) })
	if f := first.Figures(); f.Logins.Count != 1 || f.Failures != 0 {
		t.Errorf("%d logins and %d failures of one client", f.Logins.Count, f.Failures)
	}
	// Beyond the prefix the role may do nothing.
	other := openReal(t, v, func(c *VaultConfig) { c.Prefix = "others/" })
	if _, err := other.Put(t.Context(), "a", []byte("x"), 0); !errors.Is(err, secret.ErrRefused) {
		t.Errorf("put beyond the policy: %v", err)
	}
	if _, err := other.Get(t.Context(), "a", 0); !errors.Is(err, secret.ErrRefused) {
		t.Errorf("got beyond the policy: %v", err)
	}
	wrong := openReal(t, v, func(c *VaultConfig) { c.SecretID = func() ([]byte, error) { return []byte("planted-secret-id"), nil } })
	if _, err := wrong.Get(t.Context(), "a", 0); err == nil || errors.Is(err, secret.ErrNone) || strings.Contains(err.Error(), "planted") || strings.Contains(err.Error(), "\n") {
		t.Errorf("with another secret id: %v", err)
	}
}

// A lease of 3 s that renewals take to 9 s: the one token is renewed, and asked for anew
// when renewals have come to their end, while somebody reads without a pause.
func TestRealLease(t *testing.T) {
	v := startVault(t, 3*time.Second, 9*time.Second)
	s := openReal(t, v, func(c *VaultConfig) { c.Lease = 3 * time.Second })
	secrettest.Put(t, s, "a", "here", 0)
	over := time.After(25 * time.Second)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			secrettest.Want(t, s, "a", 0, "here")
			continue
		case <-over:
		}
		break
	}
	f := s.Figures()
	t.Logf("%d logins, %d renewals in 25 s", f.Logins.Count, f.Renewals)
	if f.Logins.Count < 2 || f.Logins.Count > 5 || f.Renewals < 5 || f.Failures != 0 {
		t.Errorf("%d logins, %d renewals and %d failures in 25 s of tokens of 3 s, at most 9", f.Logins.Count, f.Renewals, f.Failures)
	}
}

// A token that a real server has revoked costs one login.
func TestRealRevoked(t *testing.T) {
	v := startVault(t, 15*time.Minute, time.Hour)
	s := openReal(t, v)
	secrettest.Put(t, s, "a", "here", 0)
	if err := v.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	secrettest.Want(t, s, "a", 0, "here")
	if n := s.Figures().Logins.Count; n != 2 {
		t.Errorf("%d logins", n)
	}
}

// A real server that is sealed says so, one that was stopped is waited for, and what was
// put is there when it is back.
func TestRealAway(t *testing.T) {
	v := startVault(t, 15*time.Minute, time.Hour)
	s := openReal(t, v)
	secrettest.Put(t, s, "a", "here", 0)
	if err := v.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := s.Get(ctx, "a", 0); err == nil || errors.Is(err, secret.ErrNone) || !strings.Contains(err.Error(), "sealed") {
		t.Errorf("of a sealed server: %v", err)
	}
	if err := v.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	secrettest.Want(t, s, "a", 0, "here")

	if err := v.Stop(); err != nil {
		t.Fatal(err)
	}
	came := make(chan error, 1)
	go func() {
		_, err := s.Get(t.Context(), "a", 0)
		came <- err
	}()
	if err := v.Start(); err != nil {
		t.Fatal(err)
	}
	if err := v.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-came; err != nil {
		t.Errorf("who waited while it was away: %v", err)
	}
	secrettest.Put(t, s, "a", "again", 1)
}
