package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/console"
	"github.com/nyxnet/nyx/internal/engine/oidc"
)

// consoleIssuer is who signs people of the console in.
type consoleIssuer struct{ url, client, secretFile string }

// issuerMax bounds what an issuer is waited for.
const issuerMax = 10 * time.Second

// signingIn asks an issuer for its endpoints when they are first wanted, until it has
// answered, and verifies its tokens.
type signingIn struct {
	consoleIssuer
	http http.Client

	mu     sync.Mutex
	found  console.Endpoints
	tokens *oidc.Verifier // nil: it has not answered yet
}

// endpoints are those of the issuer.
func (i *signingIn) endpoints(ctx context.Context) (console.Endpoints, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.tokens != nil {
		return i.found, nil
	}
	i.http.Timeout = issuerMax
	e, err := console.Discover(ctx, &i.http, i.url)
	if err != nil {
		return e, err
	}
	i.tokens, err = oidc.New([]oidc.Issuer{{URL: i.url, Keys: e.Keys, Audience: i.client, Algorithms: []string{"ES256", "EdDSA", "RS256", "PS256"}}}, &i.http)
	i.found = e
	return e, err
}

// oidc is how people sign in at a console that browsers reach at a URL.
func (i *signingIn) oidc(self string) (*console.OIDC, error) {
	o := &console.OIDC{Client: i.client, Endpoints: i.endpoints, Return: self + "/oidc/return", HTTP: &i.http}
	if i.secretFile != "" {
		b, err := os.ReadFile(i.secretFile)
		if err != nil {
			return nil, fmt.Errorf("the secret of the console at its issuer: %w", err)
		}
		o.Secret = strings.TrimSpace(string(b))
	}
	o.Verify = func(ctx context.Context, raw string, now time.Time) (console.Identity, error) {
		if _, err := i.endpoints(ctx); err != nil {
			return console.Identity{}, err
		}
		t, err := i.tokens.Verify(ctx, raw, now)
		if err != nil {
			return console.Identity{}, err
		}
		return identityOf(t)
	}
	return o, nil
}

// identityOf reads the claims that the governance API reads, and the nonce.
func identityOf(t *oidc.Token) (console.Identity, error) {
	var said struct {
		Role      console.Role `json:"nyx_role"`
		Org       string       `json:"nyx_org"`
		Clearance uint8        `json:"nyx_clearance"`
		Nonce     string       `json:"nonce"`
	}
	if err := t.Claims(&said); err != nil {
		return console.Identity{}, fmt.Errorf("the token's claims: %w", err)
	}
	return console.Identity{Nonce: said.Nonce, Person: console.Person{Name: t.Subject, Role: said.Role, Org: said.Org, Clearance: min(said.Clearance, audit.SensitivityMax)}}, nil
}
