// Package vault is for tests and scenarios: a server that speaks as much of Vault's
// API as package secrets asks for, from its documentation. It keeps everything in
// memory and proves nothing about a real server.
package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The role of a new Server.
const (
	RoleID   = "nyx-role"
	SecretID = "nyx-secret-id"
)

// Server is the double. Set its fields before the first request, or by Do.
type Server struct {
	// Lease is the life of a token, LeaseMax how far renewals take it.
	Lease, LeaseMax time.Duration
	// Sealed has every request answered by 503, Denied every one under a token by
	// 403.
	Sealed, Denied bool
	// Issuing is called for each token that is issued, before the answer.
	Issuing func()

	mu                        sync.Mutex
	tokens                    map[string]*token
	kept                      map[string][]version // by path, from version 1
	Logins, Renewals, Answers int
}

type token struct{ from, until time.Time }

type version struct {
	data      json.RawMessage
	created   time.Time
	destroyed bool
}

// New returns an empty server with tokens of 15 minutes.
func New() *Server {
	return &Server{Lease: 15 * time.Minute, LeaseMax: time.Hour, tokens: map[string]*token{}, kept: map[string][]version{}}
}

// Do runs f while no request is answered.
func (s *Server) Do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Revoke revokes all tokens.
func (s *Server) Revoke() { s.Do(func() { clear(s.tokens) }) }

// RoundTrip implements http.RoundTripper without a network.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// bodyMax bounds a request.
const bodyMax = 1 << 20

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(io.LimitReader(r.Body, bodyMax))
	var body struct {
		RoleID   string `json:"role_id"`
		SecretID string `json:"secret_id"`
		Options  struct {
			CAS *int `json:"cas"`
		} `json:"options"`
		Data     json.RawMessage `json:"data"`
		Versions []int           `json:"versions"`
	}
	if err != nil || len(b) > 0 && json.Unmarshal(b, &body) != nil {
		fail(w, http.StatusBadRequest, "failed to parse JSON input")
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	if issuing := s.Issuing; issuing != nil && path == "auth/approle/login" {
		issuing()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Answers++
	if s.Sealed {
		fail(w, http.StatusServiceUnavailable, "Vault is sealed")
		return
	}
	if path == "auth/approle/login" {
		if body.RoleID != RoleID || body.SecretID != SecretID {
			fail(w, http.StatusBadRequest, "invalid role or secret ID")
			return
		}
		s.Logins++
		var name [12]byte
		rand.Read(name[:])
		t := &token{from: time.Now(), until: time.Now().Add(s.Lease)}
		s.tokens["hvs."+hex.EncodeToString(name[:])] = t
		s.grant(w, "hvs."+hex.EncodeToString(name[:]), t)
		return
	}
	t := s.tokens[r.Header.Get("X-Vault-Token")]
	if t == nil || time.Now().After(t.until) || s.Denied {
		fail(w, http.StatusForbidden, "permission denied")
		return
	}
	mount, rest, _ := strings.Cut(path, "/")
	of, name, _ := strings.Cut(rest, "/")
	switch {
	case path == "auth/token/renew-self":
		s.Renewals++
		if t.until = time.Now().Add(s.Lease); t.until.After(t.from.Add(s.LeaseMax)) {
			t.until = t.from.Add(s.LeaseMax)
		}
		s.grant(w, r.Header.Get("X-Vault-Token"), t)
	case mount != "secret":
		fail(w, http.StatusNotFound, "no handler for route "+strconv.Quote(path)+". route entry not found.")
	case of == "data" && r.Method == http.MethodGet:
		s.read(w, name, r.URL.Query().Get("version"))
	case of == "data" && r.Method == http.MethodPost:
		all := s.kept[name]
		if body.Options.CAS != nil && *body.Options.CAS != len(all) {
			fail(w, http.StatusBadRequest, "check-and-set parameter did not match the current version")
			return
		}
		s.kept[name] = append(all, version{data: bytes.Clone(body.Data), created: time.Now().UTC()})
		answer(w, map[string]any{"data": map[string]any{"version": len(all) + 1}})
	case of == "destroy" && r.Method == http.MethodPost:
		for _, v := range body.Versions {
			if v > 0 && v <= len(s.kept[name]) {
				s.kept[name][v-1].destroyed, s.kept[name][v-1].data = true, nil
			}
		}
		w.WriteHeader(http.StatusNoContent)
	case of == "metadata" && r.Method == http.MethodDelete:
		delete(s.kept, name)
		w.WriteHeader(http.StatusNoContent)
	case of == "metadata" && r.URL.Query().Get("list") == "true":
		s.list(w, name)
	case of == "metadata" && r.Method == http.MethodGet:
		s.metadata(w, name)
	default:
		fail(w, http.StatusMethodNotAllowed, "unsupported operation")
	}
}

func (s *Server) grant(w http.ResponseWriter, name string, t *token) {
	answer(w, map[string]any{"auth": map[string]any{
		"client_token": name, "lease_duration": int(time.Until(t.until).Round(time.Second) / time.Second), "renewable": true,
	}})
}

func (s *Server) read(w http.ResponseWriter, name, number string) {
	all := s.kept[name]
	n := len(all)
	if number != "" && number != "0" {
		n, _ = strconv.Atoi(number)
	}
	if n < 1 || n > len(all) || all[n-1].destroyed {
		fail(w, http.StatusNotFound)
		return
	}
	answer(w, map[string]any{"data": map[string]any{
		"data": all[n-1].data, "metadata": map[string]any{"version": n, "created_time": all[n-1].created},
	}})
}

func (s *Server) metadata(w http.ResponseWriter, name string) {
	all := s.kept[name]
	if len(all) == 0 {
		fail(w, http.StatusNotFound)
		return
	}
	versions := map[string]any{}
	for i, v := range all {
		versions[fmt.Sprint(i+1)] = map[string]any{"created_time": v.created, "destroyed": v.destroyed}
	}
	answer(w, map[string]any{"data": map[string]any{"current_version": len(all), "versions": versions}})
}

func (s *Server) list(w http.ResponseWriter, folder string) {
	keys := map[string]bool{}
	for name := range s.kept {
		if rest, ok := strings.CutPrefix(name, folder); ok {
			if i := strings.IndexByte(rest, '/'); i >= 0 {
				rest = rest[:i+1]
			}
			keys[rest] = true
		}
	}
	if len(keys) == 0 {
		fail(w, http.StatusNotFound)
		return
	}
	answer(w, map[string]any{"data": map[string]any{"keys": slices.Sorted(maps.Keys(keys))}})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, errors ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"errors": append([]string{}, errors...)})
}
