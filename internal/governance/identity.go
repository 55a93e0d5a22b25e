package governance

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/oidc"
	"github.com/nyxnet/nyx/internal/seal"
)

// Who asks is known by one of
//
//   - a client certificate that the server has verified: CN is the name, OU the role, O
//     the organisation;
//   - a token of an issuer: claims sub, nyx_role, nyx_org, nyx_clearance. One that is
//     bound to a client certificate (RFC 8705) works until it expires, with that
//     certificate alone; one that is not works once;
//   - a bearer made under the key of this machine (NewBearer), which works once.
//
// What works once and was made before this process began is refused, so that no list
// of what was spent need outlive it.

// BearerLife is how long a bearer made on this machine may wait for its one use.
const BearerLife = 5 * time.Minute

const bearerHead = "nyx1."

// bearer is what a bearer says.
type bearer struct {
	Name      string `json:"n"`
	Role      Role   `json:"r"`
	Org       string `json:"o,omitempty"`
	Clearance uint8  `json:"c"`
	Made      int64  `json:"t"` // Unix ms
	ID        []byte `json:"i"`
}

// NewBearer makes a bearer for somebody, at a time, with 16 drawn bytes.
func NewBearer(key *seal.Key, s *Subject, now time.Time, drawn [16]byte) string {
	b, _ := json.Marshal(bearer{s.Name, s.Role, s.Org, s.Clearance, now.UnixMilli(), drawn[:]}) // of strings and numbers: it cannot fail
	mac := bearerMAC(key, b)
	return bearerHead + base64.RawURLEncoding.EncodeToString(append(b, mac[:]...))
}

func bearerMAC(key *seal.Key, b []byte) [seal.MACSize]byte {
	k := seal.Derive(key, "governance bearer")
	return seal.MAC(&k, b)
}

// identify says who sends a request.
func (a *API) identify(r *http.Request, now time.Time) (*Subject, *refusal) {
	s, ref := a.presented(r, now)
	if ref != nil {
		return nil, ref
	}
	e := a.newEvent(audit.AuditAccess, s.Name, now)
	e.Org = s.Org
	if !slices.Contains(Roles, s.Role) || e.Validate() != nil {
		return nil, unknown("identity", "name, role or organisation cannot be recorded; a role is viewer, operator, admin or auditor")
	}
	return s, nil
}

func (a *API) presented(r *http.Request, now time.Time) (*Subject, *refusal) {
	header := r.Header.Values("Authorization")
	certified := r.TLS != nil && len(r.TLS.VerifiedChains) > 0
	if len(header) == 0 && certified {
		return certificateSubject(r), nil
	}
	if len(header) != 1 {
		return nil, unknown("credential", "say who you are: a client certificate, or one header Authorization: Bearer")
	}
	raw, ok := strings.CutPrefix(header[0], "Bearer ")
	switch {
	case !ok || len(raw) > oidc.TokenMax:
		return nil, unknown("credential", fmt.Sprintf("use Authorization: Bearer and a token of at most %d bytes", oidc.TokenMax))
	case strings.HasPrefix(raw, bearerHead):
		return a.fromBearer(raw[len(bearerHead):], now)
	case a.cfg.Tokens == nil:
		return nil, unknown("credential", "no issuer of tokens is configured here")
	}
	return a.fromToken(r, raw, now)
}

func certificateSubject(r *http.Request) *Subject {
	name := r.TLS.VerifiedChains[0][0].Subject
	s := &Subject{Name: name.CommonName, Clearance: audit.SensitivityMax}
	if len(name.OrganizationalUnit) == 1 {
		s.Role = Role(name.OrganizationalUnit[0])
	}
	if len(name.Organization) > 0 {
		s.Org = name.Organization[0]
	}
	return s
}

func (a *API) fromBearer(coded string, now time.Time) (*Subject, *refusal) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(coded)
	if err != nil || len(b) < seal.MACSize {
		return nil, unknown("forged", "the bearer is malformed")
	}
	b, mac := b[:len(b)-seal.MACSize], b[len(b)-seal.MACSize:]
	want := bearerMAC(a.cfg.Key, b)
	var said bearer
	if !seal.Equal(mac, want[:]) || json.Unmarshal(b, &said) != nil {
		return nil, unknown("forged", "the bearer was not made on this machine")
	}
	made := time.UnixMilli(said.Made)
	if now.Before(made) || now.Sub(made) > BearerLife {
		return nil, unknown("expired", fmt.Sprintf("a bearer is good for %v; make a new one", BearerLife))
	}
	if ref := a.once("bearer "+string(said.ID), made, made.Add(BearerLife), now); ref != nil {
		return nil, ref
	}
	return &Subject{Name: said.Name, Role: said.Role, Org: said.Org, Clearance: said.Clearance}, nil
}

func (a *API) fromToken(r *http.Request, raw string, now time.Time) (*Subject, *refusal) {
	t, err := a.cfg.Tokens.Verify(r.Context(), raw, now)
	switch {
	case errors.Is(err, oidc.ErrExpired):
		return nil, unknown("expired", "the token's time is not now; get a new one")
	case errors.Is(err, oidc.ErrAlgorithm):
		return nil, unknown("algorithm", "the token is signed with what its issuer does not use here")
	case errors.Is(err, oidc.ErrKeys):
		return nil, &refusal{status: http.StatusServiceUnavailable, reason: "keys", say: "the keys of the token's issuer cannot be had now; come again", retry: 10}
	case err != nil:
		return nil, unknown("forged", "the token is malformed, not of a trusted issuer, or not for this service")
	}
	var said struct {
		Role      Role   `json:"nyx_role"`
		Org       string `json:"nyx_org"`
		Clearance uint8  `json:"nyx_clearance"`
	}
	if t.Claims(&said) != nil {
		return nil, unknown("identity", "claims nyx_role, nyx_org and nyx_clearance are a text, a text and a number")
	}
	if t.Bound != "" {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			return nil, unknown("replayed", "the token is bound to a client certificate, and none was shown")
		}
		if own := seal.SHA256(r.TLS.PeerCertificates[0].Raw); string(own[:]) != t.Bound {
			return nil, unknown("replayed", "the token is bound to another client certificate")
		}
	} else if t.ID == "" {
		return nil, unknown("replayed", "a token without claim jti must be bound to a client certificate")
	} else if ref := a.once("token "+t.Issuer+" "+t.ID, t.Issued, t.Expires, now); ref != nil {
		return nil, ref
	}
	return &Subject{Name: t.Subject, Role: said.Role, Org: said.Org, Clearance: said.Clearance}, nil
}

// once spends what works once.
func (a *API) once(name string, made, expires, now time.Time) *refusal {
	if made.Before(a.started.Truncate(time.Second)) {
		return unknown("replayed", "it was made before this process began, and may have been used; get a new one")
	}
	switch a.spent.spend(seal.SHA256([]byte(name)), expires, now) {
	case spentBefore:
		return unknown("replayed", "it was used before, and works once; get a new one, or bind it to a client certificate")
	case spentFull:
		return &refusal{status: http.StatusServiceUnavailable, reason: "busy", say: "too many tokens that work once; come again", retry: 60}
	}
	return nil
}

// spentMost bounds what is known to be spent: 65,536 of some 50 bytes.
const spentMost = 1 << 16

// spent knows what has been used and is not expired.
type spent struct {
	mu    sync.Mutex
	until map[[32]byte]time.Time
	swept time.Time
}

type spending int

const (
	spentNow spending = iota
	spentBefore
	spentFull
)

func (s *spent) spend(id [32]byte, expires, now time.Time) spending {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = map[[32]byte]time.Time{}
	}
	if len(s.until) >= spentMost && now.Sub(s.swept) >= time.Second {
		s.swept = now
		for id, until := range s.until {
			if now.After(until) {
				delete(s.until, id)
			}
		}
	}
	if _, used := s.until[id]; used {
		return spentBefore
	}
	if len(s.until) >= spentMost {
		return spentFull
	}
	s.until[id] = expires
	return spentNow
}
