package secrets

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/lab/vault"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/secret/secrettest"
)

// openDouble opens a double without a network.
func openDouble(t *testing.T, s *vault.Server, prefix string) *Vault {
	t.Helper()
	v, err := OpenVault(VaultConfig{URL: "http://vault.test", Prefix: prefix, RoleID: vault.RoleID,
		SecretID: func() ([]byte, error) { return []byte(vault.SecretID), nil }, Transport: s})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVaultDouble(t *testing.T) {
	s := vault.New()
	secrettest.Run(t, openDouble(t, s, "nyx/"), func() secret.Store { return openDouble(t, s, "nyx/") })
	if s.Logins != 2 {
		t.Errorf("%d logins of 2 clients in %d answers", s.Logins, s.Answers)
	}
	// Another prefix sees nothing of it.
	if all, err := openDouble(t, s, "other/").List(t.Context(), ""); err != nil || len(all) != 0 {
		t.Errorf("%v, error %v", all, err)
	}
}

// A token is asked for once, however many wait for it, renewed before it ends, and
// asked for anew when renewals have come to their end.
func TestTokenIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vault.New()
		v := openDouble(t, s, "")
		secrettest.Put(t, v, "a", "here", 0)
		if s.Logins != 1 {
			t.Fatalf("%d logins", s.Logins)
		}
		var running sync.WaitGroup
		for range 32 {
			running.Go(func() {
				for range 3 * 3600 / 10 { // three hours, a look every 10 s
					if _, err := v.Get(t.Context(), "a", 0); err != nil {
						t.Error(err)
						return
					}
					time.Sleep(10 * time.Second)
				}
			})
		}
		running.Wait()
		synctest.Wait()
		if s.Logins > 4 || s.Renewals < 9 || s.Renewals > 24 {
			t.Errorf("%d logins and %d renewals in three hours of tokens of 15 minutes, at most an hour", s.Logins, s.Renewals)
		}
		if f := v.Figures(); f.Logins.Count != uint64(s.Logins) || f.Failures != 0 {
			t.Errorf("counted %d logins and %d failures", f.Logins.Count, f.Failures)
		}
	})
}

// A token that the server no longer knows costs one login.
func TestRevokedToken(t *testing.T) {
	s := vault.New()
	v := openDouble(t, s, "")
	secrettest.Put(t, v, "a", "here", 0)
	s.Revoke()
	secrettest.Want(t, v, "a", 0, "here")
	if s.Logins != 2 {
		t.Errorf("%d logins", s.Logins)
	}
	s.Do(func() { s.Denied = true })
	if _, err := v.Get(t.Context(), "a", 0); !errors.Is(err, secret.ErrRefused) || !strings.Contains(err.Error(), "policy") {
		t.Errorf("a role without rights: %v", err)
	}
}

// A server that is sealed or away is asked again with growing pauses, and all is
// well when it is back. Who waits is told why within the time of a call.
func TestServerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vault.New()
		v := openDouble(t, s, "")
		secrettest.Put(t, v, "a", "here", 0)
		s.Do(func() { s.Sealed = true })
		begun, before := time.Now(), s.Answers
		_, err := v.Get(t.Context(), "a", 0)
		if took := time.Since(begun); err == nil || errors.Is(err, secret.ErrRefused) || took > callMax || !strings.Contains(err.Error(), "sealed") {
			t.Errorf("after %v: %v", took, err)
		}
		if n := s.Answers - before; n < 3 || n > 12 {
			t.Errorf("it was asked %d times in %v", n, callMax)
		}
		go func() {
			time.Sleep(3 * time.Second)
			s.Do(func() { s.Sealed = false })
		}()
		secrettest.Want(t, v, "a", 0, "here")

		// Logins too: without a token, an hour of looks does not become a flood.
		s.Do(func() { s.Sealed = true })
		v, before = openDouble(t, s, ""), s.Answers
		for range 3600 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := v.Get(ctx, "a", 0); err == nil {
				t.Fatal("a sealed server gives secrets")
			}
			cancel()
			time.Sleep(time.Second)
		}
		if n := s.Answers - before; n > 600 {
			t.Errorf("a sealed server was asked %d times in an hour", n)
		}
		s.Do(func() { s.Sealed = false })
		time.Sleep(backOffMax)
		secrettest.Want(t, v, "a", 0, "here")
	})
}

// What a server says wrongly is an error of one line that holds no secret.
func TestStrangeServers(t *testing.T) {
	for what, answer := range map[string]http.HandlerFunc{
		"a page":   func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>planted")) },
		"no token": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"auth":null}`)) },
		"many lines": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			w.Write([]byte(`{"errors":["a\nb\nc"]}`))
		},
		"endless": func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, answerMax+1)) },
		"wrong values": func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"auth":{"client_token":"x","lease_duration":900},"data":{"data":{"value":"***"}}}`))
		},
	} {
		server := httptest.NewServer(answer)
		v, _ := OpenVault(VaultConfig{URL: server.URL, RoleID: "r", SecretID: func() ([]byte, error) { return []byte("planted-secret-id"), nil }})
		_, err := v.Get(t.Context(), "a", 0)
		if err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "planted") || errors.Is(err, secret.ErrNone) {
			t.Errorf("%s: %v", what, err)
		}
		v.Close()
		server.Close()
	}
}
