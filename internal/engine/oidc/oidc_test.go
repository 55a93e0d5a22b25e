package oidc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/nyxnet/nyx/internal/engine/oidc/oidctest"
)

var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// double is an issuer, which counts how often its keys are asked for.
type double struct {
	*testing.T
	keys    map[string]*ecdsa.PrivateKey // by name; those it publishes
	fetched atomic.Int64
	down    bool
}

func newDouble(t *testing.T) *double {
	d := &double{T: t, keys: map[string]*ecdsa.PrivateKey{}}
	d.keys["a"] = newKey(t)
	return d
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// RoundTrip answers with the keys.
func (d *double) RoundTrip(r *http.Request) (*http.Response, error) {
	d.fetched.Add(1)
	if d.down {
		return nil, errors.New("no route to host")
	}
	published := oidctest.Keys{}
	for name, k := range d.keys {
		published[name] = k.Public()
	}
	return published.RoundTrip(r)
}

func (d *double) verifier() *Verifier {
	v, err := New([]Issuer{{URL: "https://id.example", Keys: "https://id.example/keys", Audience: "governance"}}, &http.Client{Transport: d})
	if err != nil {
		d.Fatal(err)
	}
	return v
}

// sign makes a token with a key; claims replace or remove (nil) those of a good one.
func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": "https://id.example", "aud": "governance", "sub": "alice", "jti": "1", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	maps.Copy(all, claims)
	return oidctest.Sign(t, alg, key, kid, all)
}

// TestVerify: a good token says who presents it; each that is not good is refused for
// its reason.
func TestVerify(t *testing.T) {
	d := newDouble(t)
	v := d.verifier()
	good := sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"nyx_role": "auditor", "cnf": map[string]string{"x5t#S256": base64.RawURLEncoding.EncodeToString(make([]byte, 32))}})
	token, err := v.Verify(t.Context(), good, now)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Role string `json:"nyx_role"`
	}
	if err := token.Claims(&claims); err != nil || token.Subject != "alice" || token.ID != "1" || len(token.Bound) != 32 || claims.Role != "auditor" {
		t.Fatalf("%+v %+v %v", token, claims, err)
	}
	parts := strings.Split(good, ".")
	other := newKey(t)
	public, _ := json.Marshal(jose.JSONWebKey{Key: d.keys["a"].Public(), KeyID: "a"})
	encode := base64.RawURLEncoding.EncodeToString
	for what, c := range map[string]struct {
		raw  string
		want error
	}{
		"no token":           {"hello", ErrToken},
		"too large":          {strings.Repeat("a", TokenMax+1), ErrToken},
		"another's key":      {sign(t, jose.ES256, other, "a", nil), ErrToken},
		"changed":            {parts[0] + "." + encode([]byte(`{"iss":"https://id.example","aud":"governance","sub":"root","exp":99999999999}`)) + "." + parts[2], ErrToken},
		"no signature":       {encode([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", ErrAlgorithm},
		"public key as MAC":  {sign(t, jose.HS256, public, "a", nil), ErrAlgorithm},
		"another algorithm":  {sign(t, jose.ES384, p384(t), "a", nil), ErrAlgorithm},
		"another issuer":     {sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"iss": "https://evil.example"}), ErrToken},
		"another audience":   {sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"aud": "shop"}), ErrToken},
		"nobody":             {sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"sub": nil}), ErrToken},
		"expired":            {sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"exp": now.Add(-time.Second).Unix()}), ErrExpired},
		"no expiry":          {sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"exp": nil}), ErrExpired},
		"of the future":      {sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"iat": now.Add(5 * time.Minute).Unix(), "exp": now.Add(time.Hour).Unix()}), ErrExpired},
		"not yet":            {sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"nbf": now.Add(2 * time.Minute).Unix()}), ErrExpired},
		"lives for ever":     {sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"exp": now.Add(25 * time.Hour).Unix()}), ErrToken},
		"issued at no time":  {sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"iat": nil}), ErrToken},
		"bound to something": {sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"cnf": map[string]string{"x5t#S256": "AA"}}), ErrToken},
		"claims of a type":   {sign(t, jose.ES256, d.keys["a"], "a", map[string]any{"jti": 7}), ErrToken},
	} {
		_, err := v.Verify(t.Context(), c.raw, now)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

func p384(t *testing.T) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeys: a thousand forged tokens make one request for keys; a new key is found,
// and one that was withdrawn is forgotten within an hour.
func TestKeys(t *testing.T) {
	d := newDouble(t)
	synctest.Test(t, func(t *testing.T) {
		v := d.verifier()
		verify := func(key *ecdsa.PrivateKey, kid string, at time.Duration) error {
			_, err := v.Verify(t.Context(), sign(t, jose.ES256, key, kid, map[string]any{"iat": now.Add(at).Unix(), "exp": now.Add(at + time.Minute).Unix()}), now.Add(at))
			return err
		}
		if err := verify(d.keys["a"], "a", 0); err != nil {
			t.Fatal(err)
		}
		forger := newKey(t)
		for range 1000 {
			if verify(forger, "b", 0) == nil {
				t.Fatal("a forged token was accepted")
			}
		}
		if n := d.fetched.Load(); n != 1 {
			t.Errorf("keys were fetched %d times", n)
		}
		time.Sleep(fetchGap)
		d.keys["b"] = newKey(t)
		if err := verify(d.keys["b"], "b", fetchGap); err != nil {
			t.Errorf("a new key: %v", err)
		}
		old := d.keys["a"]
		delete(d.keys, "a")
		time.Sleep(keysAge)
		if verify(old, "a", fetchGap+keysAge) == nil {
			t.Error("a key that was withdrawn more than an hour ago was accepted")
		}
		d.down = true
		time.Sleep(2 * keysAge)
		for range 2 {
			if err := verify(d.keys["b"], "b", fetchGap+3*keysAge); !errors.Is(err, ErrKeys) {
				t.Errorf("an issuer that is down: %v", err)
			}
		}
	})
}

// TestConfiguration: what would weaken verification is refused.
func TestConfiguration(t *testing.T) {
	good := Issuer{URL: "https://id.example", Keys: "https://id.example/keys", Audience: "governance"}
	for what, change := range map[string]func(*Issuer){
		"keys over plain HTTP": func(i *Issuer) { i.Keys = "http://id.example/keys" },
		"no audience":          func(i *Issuer) { i.Audience = "" },
		"a MAC":                func(i *Issuer) { i.Algorithms = []string{"HS256"} },
		"no algorithm":         func(i *Issuer) { i.Algorithms = []string{"none"} },
	} {
		i := good
		change(&i)
		if _, err := New([]Issuer{i}, nil); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if _, err := New([]Issuer{good, good}, nil); err == nil {
		t.Error("two issuers of one name were taken")
	}
}
