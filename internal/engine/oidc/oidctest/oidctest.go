// Package oidctest is an issuer of tokens for tests: what it publishes, and what it signs.
package oidctest

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Keys are the public keys that an issuer publishes, by name. They are a server, and a
// transport to one.
type Keys map[string]any

// ServeHTTP writes the keys.
func (k Keys) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var set jose.JSONWebKeySet
	for _, name := range slices.Sorted(maps.Keys(k)) {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k[name], KeyID: name, Algorithm: "ES256", Use: "sig"})
	}
	json.NewEncoder(w).Encode(set)
}

// RoundTrip answers every request with the keys.
func (k Keys) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	k.ServeHTTP(w, r)
	return w.Result(), nil
}

// Sign makes a token of claims with a key that has a name. Claims that are nil are left
// out.
func Sign(t testing.TB, alg jose.SignatureAlgorithm, key any, name string, claims map[string]any) string {
	t.Helper()
	claims = maps.Clone(claims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", name))
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
