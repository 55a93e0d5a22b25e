package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/oidc"
	"github.com/nyxnet/nyx/internal/setup"
)

// provider is an identity provider that publishes a key.
type provider struct{ key *ecdsa.PrivateKey }

func (p provider) RoundTrip(*http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "a", Algorithm: "ES256", Use: "sig"}}})
	return w.Result(), nil
}

// token signs claims.
func token(t *testing.T, key *ecdsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "a"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

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
	v, err := oidc.New([]oidc.Issuer{{URL: "https://id.example", Keys: "https://id.example/keys", Audience: "nyx"}}, &http.Client{Transport: provider{own}})
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
	alice, err := ask(token(t, own, claims("", nil)))
	if err != nil {
		t.Fatal(err)
	}
	if bob, err := ask(token(t, own, claims("sub", "bob"))); err != nil || bob == alice {
		t.Errorf("two people are one: %v", err)
	}
	for name, raw := range map[string]string{
		"no token": "", "another's signature": token(t, other, claims("", nil)), "for another service": token(t, own, claims("aud", "governance")),
		"expired":                token(t, own, claims("exp", now.Add(-time.Hour).Unix())),
		"bound to a certificate": token(t, own, claims("cnf", map[string]string{"x5t#S256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})),
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
