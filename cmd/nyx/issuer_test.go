package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/oidc"
	"github.com/nyxnet/nyx/internal/engine/oidc/oidctest"
	"github.com/nyxnet/nyx/internal/setup"
)

// An issuer knows people by tokens of the provider that its configuration trusts.
func TestIssuerIdentifies(t *testing.T) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v, err := oidc.New([]oidc.Issuer{{URL: "https://id.example", Keys: "https://id.example/keys", Audience: "nyx"}}, &http.Client{Transport: oidctest.Keys{"a": own.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	known, now := identifyBy(v), time.Now()
	claims := func(change string, to any) map[string]any {
		c := map[string]any{"iss": "https://id.example", "aud": "nyx", "sub": "alice", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
		if change != "" {
			c[change] = to
		}
		return c
	}
	ask := func(raw string) (string, error) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		if raw != "" {
			r.Header.Set("Authorization", "Bearer "+raw)
		}
		return known(r, nil)
	}
	alice, err := ask(oidctest.Sign(t, jose.ES256, own, "a", claims("", nil)))
	if err != nil {
		t.Fatal(err)
	}
	if bob, err := ask(oidctest.Sign(t, jose.ES256, own, "a", claims("sub", "bob"))); err != nil || bob == alice {
		t.Errorf("two people are one: %v", err)
	}
	for name, raw := range map[string]string{
		"no token": "", "another's signature": oidctest.Sign(t, jose.ES256, other, "a", claims("", nil)), "for another service": oidctest.Sign(t, jose.ES256, own, "a", claims("aud", "governance")),
		"expired":                oidctest.Sign(t, jose.ES256, own, "a", claims("exp", now.Add(-time.Hour).Unix())),
		"bound to a certificate": oidctest.Sign(t, jose.ES256, own, "a", claims("cnf", map[string]string{"x5t#S256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})),
	} {
		if who, err := ask(raw); err == nil {
			t.Errorf("%s: taken for %q", name, who)
		}
	}
}

// Whom an issuer knows by providers is wired up where its configuration says so only.
func TestIssuersAreWired(t *testing.T) {
	cfg := daemon.ControlConfig{Issuer: &daemon.IssuerConfig{}, Plane: setup.ControlConfig{Passes: setup.Passes{To: setup.PassesOpen}}}
	if err := identifying(&cfg); err != nil || cfg.Issuer.Identify != nil {
		t.Errorf("an open issuer: %v", err)
	}
	cfg.Plane.Passes = setup.Passes{To: setup.PassesOIDC}
	cfg.Plane.Issuers = []setup.IssuerConfig{{URL: "https://id.example", Keys: "https://id.example/keys", Audience: "nyx"}}
	if err := identifying(&cfg); err != nil || cfg.Issuer.Identify == nil {
		t.Errorf("by a provider: %v", err)
	}
	cfg.Plane.Issuers[0].Keys = "http://elsewhere/keys"
	if err := identifying(&cfg); err == nil {
		t.Error("keys over plain HTTP were taken")
	}
}
