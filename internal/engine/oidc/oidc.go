// Package oidc verifies tokens of OpenID Connect issuers: JWTs under keys that the
// issuer publishes. Who may do what follows from their claims elsewhere.
//
// What a token may be signed with is the configuration's choice alone. Keys are
// fetched when a token names one that is not known, at most once in ten seconds
// whatever comes, and are asked for anew after an hour, so that one that an issuer
// withdrew is trusted no longer.
package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// Errors. Each is wrapped with what is wrong; test with errors.Is.
var (
	// ErrToken means a token that is malformed, not signed by its issuer, or not for
	// this service.
	ErrToken = errors.New("oidc: not a valid token")
	// ErrExpired means a token whose time is over or has not come.
	ErrExpired = errors.New("oidc: the token's time is not now")
	// ErrAlgorithm means a token that is signed with what the issuer does not use.
	ErrAlgorithm = errors.New("oidc: the token's algorithm is not accepted")
	// ErrKeys means that the issuer's keys could not be had.
	ErrKeys = errors.New("oidc: the issuer's keys cannot be had")
)

const (
	// TokenMax bounds a token, in bytes.
	TokenMax = 8 << 10
	// LifeMax is the longest from issue to expiry.
	LifeMax = time.Hour
	// skew is how far an issuer's clock may be ahead.
	skew = time.Minute

	keysMax  = 256 << 10 // bytes of a key set
	keysAge  = time.Hour
	fetchGap = 10 * time.Second
	fetchMax = 5 * time.Second
)

// algorithms are those that may be configured: public keys only, so that no published
// key is ever the key of a MAC.
var algorithms = []string{oidc.ES256, oidc.ES384, oidc.EdDSA, oidc.PS256, oidc.RS256}

// Issuer is who is trusted to say who somebody is.
type Issuer struct {
	URL      string // as in the claim iss
	Keys     string // URL of its key set (JWKS): https, or http on this machine
	Audience string // this service, as in the claim aud
	// Algorithms are what it signs with; nil for ES256 and EdDSA.
	Algorithms []string
}

// Token is a verified token.
type Token struct {
	Issuer, Subject string
	ID              string // jti; "" without one
	Issued, Expires time.Time
	// Bound is the SHA-256 of the only client certificate that may present it
	// (RFC 8705, cnf); "" if anybody may.
	Bound string

	claims json.RawMessage
}

// Claims decodes what else the token says.
func (t *Token) Claims(into any) error { return json.Unmarshal(t.claims, into) }

// Verifier verifies tokens. Its methods are safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer
	client  *http.Client
}

type issuer struct {
	Issuer
	fetch context.Context // holds the client with which keys are fetched

	mu   sync.Mutex
	keys *oidc.RemoteKeySet
	made time.Time
}

// New returns a verifier of tokens of some issuers. Keys are fetched by a client, nil
// for one of its own.
func New(issuers []Issuer, client *http.Client) (*Verifier, error) {
	if client == nil {
		client = &http.Client{}
	}
	v := &Verifier{issuers: map[string]*issuer{}, client: client}
	for _, i := range issuers {
		if err := i.check(); err != nil {
			return nil, err
		}
		if v.issuers[i.URL] != nil {
			return nil, fmt.Errorf("oidc: issuer %s is configured twice", i.URL)
		}
		if i.Algorithms == nil {
			i.Algorithms = []string{oidc.ES256, oidc.EdDSA}
		}
		own := *client
		own.Timeout = fetchMax
		own.Transport = &seldom{next: client.Transport}
		own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		v.issuers[i.URL] = &issuer{Issuer: i, fetch: oidc.ClientContext(context.Background(), &own)}
	}
	return v, nil
}

func (i *Issuer) check() error {
	if i.URL == "" || i.Audience == "" {
		return errors.New("oidc: an issuer needs its URL and the audience of its tokens")
	}
	u, err := url.Parse(i.Keys)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		return fmt.Errorf("oidc: keys of issuer %s: %q is no https URL", i.URL, i.Keys)
	}
	for _, a := range i.Algorithms {
		if !slices.Contains(algorithms, a) {
			return fmt.Errorf("oidc: algorithm %q of issuer %s is not accepted; use of %v", a, i.URL, algorithms)
		}
	}
	return nil
}

func loopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// Verify verifies a token at a time.
func (v *Verifier) Verify(ctx context.Context, raw string, now time.Time) (*Token, error) {
	if len(raw) > TokenMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrToken, len(raw), TokenMax)
	}
	var said struct{ Alg, Iss string } // nothing of this is true yet
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || peek(parts[0], &said) != nil || peek(parts[1], &said) != nil {
		return nil, fmt.Errorf("%w: not the form of one", ErrToken)
	}
	i := v.issuers[said.Iss]
	if i == nil {
		return nil, fmt.Errorf("%w: its issuer is not one that is trusted", ErrToken)
	}
	if !slices.Contains(i.Algorithms, said.Alg) {
		return nil, fmt.Errorf("%w: issuer %s signs with %v", ErrAlgorithm, i.URL, i.Algorithms)
	}
	verifier := oidc.NewVerifier(i.URL, i.keysAt(now), &oidc.Config{ClientID: i.Audience, SupportedSigningAlgs: i.Algorithms, Now: func() time.Time { return now }})
	id, err := verifier.Verify(ctx, raw)
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return nil, fmt.Errorf("%w: it expired", ErrExpired)
	case err != nil && strings.Contains(err.Error(), "fetching keys") && !strings.Contains(err.Error(), errSeldom.Error()):
		return nil, fmt.Errorf("%w: of %s", ErrKeys, i.URL)
	case err != nil: // also by a key that is moments old: it will be good in fetchGap
		return nil, fmt.Errorf("%w: signature, issuer or audience is wrong", ErrToken)
	}
	return i.token(id, now)
}

// token takes what a verified token says.
func (i *issuer) token(id *oidc.IDToken, now time.Time) (*Token, error) {
	t := &Token{Issuer: i.URL, Subject: id.Subject, Issued: id.IssuedAt, Expires: id.Expiry}
	var said struct {
		ID        string `json:"jti"`
		NotBefore int64  `json:"nbf"`
		Confirm   struct {
			Certificate string `json:"x5t#S256"`
		} `json:"cnf"`
	}
	if id.Subject == "" || id.Claims(&t.claims) != nil || id.Claims(&said) != nil {
		return nil, fmt.Errorf("%w: malformed claims", ErrToken)
	}
	if soon := now.Add(skew); id.IssuedAt.After(soon) || time.Unix(said.NotBefore, 0).After(soon) {
		return nil, fmt.Errorf("%w: it is of the future; compare the clocks", ErrExpired)
	}
	if id.Expiry.Sub(id.IssuedAt) > LifeMax {
		return nil, fmt.Errorf("%w: it lives longer than %v", ErrToken, LifeMax)
	}
	t.ID = said.ID
	if c := said.Confirm.Certificate; c != "" {
		b, err := base64.RawURLEncoding.DecodeString(c)
		if err != nil || len(b) != 32 {
			return nil, fmt.Errorf("%w: it is bound to what is no hash of a certificate", ErrToken)
		}
		t.Bound = string(b)
	}
	return t, nil
}

// keysAt are the issuer's keys, without those that were fetched long ago.
func (i *issuer) keysAt(now time.Time) oidc.KeySet {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys == nil || now.Sub(i.made) >= keysAge {
		i.keys, i.made = oidc.NewRemoteKeySet(i.fetch, i.Keys), now
	}
	return i.keys
}

// peek decodes a part of a token that is not verified.
func peek(part string, into any) error {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// errSeldom means keys that were had moments ago, errFailed that they could not be.
var (
	errSeldom = errors.New("oidc: the keys were asked for moments ago")
	errFailed = errors.New("oidc: the keys could not be had moments ago")
)

// seldom lets a request pass at most once in fetchGap, so that forged tokens make no
// load on the issuer, and bounds the answer.
type seldom struct {
	next http.RoundTripper

	mu     sync.Mutex
	last   time.Time
	failed bool
}

// RoundTrip implements http.RoundTripper.
func (s *seldom) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	now := time.Now()
	recent, failed := !s.last.IsZero() && now.Sub(s.last) < fetchGap, s.failed
	if !recent {
		s.last = now
	}
	s.mu.Unlock()
	switch {
	case recent && failed:
		return nil, errFailed
	case recent:
		return nil, errSeldom
	}
	next := s.next
	if next == nil {
		next = http.DefaultTransport
	}
	res, err := next.RoundTrip(r)
	s.mu.Lock()
	s.failed = err != nil || res.StatusCode != http.StatusOK
	s.mu.Unlock()
	if err == nil {
		res.Body = bounded{io.LimitReader(res.Body, keysMax), res.Body}
	}
	return res, err
}

type bounded struct {
	io.Reader
	io.Closer
}
