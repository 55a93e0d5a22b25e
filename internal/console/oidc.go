package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

// OIDC signs people in at an issuer of OpenID Connect: the authorization-code flow with
// PKCE (RFC 7636) and a nonce. Who they are and in which role follows from the claims of
// the ID token, as for the governance API.
type OIDC struct {
	// Client is the console's name at the issuer, Secret what it shows with a code; ""
	// of a public client, for which PKCE stands alone.
	Client, Secret string
	// Endpoints are the issuer's (Discover), asked for whenever somebody signs in: an
	// issuer may be away when the console starts.
	Endpoints func(ctx context.Context) (Endpoints, error)
	// Return is the URL of this console's /oidc/return, as the issuer knows it.
	Return string
	// Verify verifies an ID token at a time.
	Verify func(ctx context.Context, raw string, now time.Time) (Identity, error)
	HTTP   *http.Client
}

// Identity is what an ID token says.
type Identity struct {
	Person
	Nonce string
}

const (
	flowLife   = 10 * time.Minute
	flowsMost  = 256
	flowCookie = "nyx-console-flow"
	tokenMost  = 64 << 10 // bytes of what an issuer answers
	issuerMax  = 10 * time.Second
)

// Endpoints are what an issuer publishes of itself.
type Endpoints struct {
	Issuer    string `json:"issuer"`
	Authorize string `json:"authorization_endpoint"`
	Token     string `json:"token_endpoint"`
	Keys      string `json:"jwks_uri"`
}

// Discover asks an issuer for its endpoints.
func Discover(ctx context.Context, client *http.Client, issuer string) (e Endpoints, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(issuer, "/")+"/.well-known/openid-configuration", nil)
	if err == nil {
		err = ask(client, r, &e)
	}
	if err == nil && e.Issuer != issuer {
		err = fmt.Errorf("it says that it is %q", e.Issuer)
	}
	if err == nil && (e.Authorize == "" || e.Token == "" || e.Keys == "") {
		err = errors.New("it names no endpoint for authorization, tokens or keys")
	}
	if err != nil {
		return e, fmt.Errorf("console: issuer %s: %w", issuer, err)
	}
	return e, nil
}

func ask(client *http.Client, r *http.Request, into any) error {
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, tokenMost))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %d", resp.StatusCode)
	}
	return json.Unmarshal(b, into)
}

// flow is one signing-in that has begun, known by its state.
type flow struct {
	until           time.Time
	browser         [32]byte // hash of the cookie of the browser that began it
	verifier, nonce string
}

type flows struct {
	mu   sync.Mutex
	open map[string]flow
}

// begin keeps a flow; false: too many are open.
func (f *flows) begin(state string, one flow, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s, old := range f.open {
		if now.After(old.until) {
			delete(f.open, s)
		}
	}
	if len(f.open) >= flowsMost {
		return false
	}
	f.open[state] = one
	return true
}

// end takes a flow out; each state is good once.
func (f *flows) end(state string, now time.Time) (flow, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one, ok := f.open[state]
	delete(f.open, state)
	return one, ok && !now.After(one.until)
}

// oidcBegin sends a browser to the issuer, if somebody at the console wants it to: led
// here by another site, it would come back signed in as somebody who did not ask for it.
func (c *Console) oidcBegin(w http.ResponseWriter, r *http.Request) {
	if from := r.Header.Get("Sec-Fetch-Site"); from != "" && from != "none" && from != "same-origin" {
		http.Error(w, otherSite, http.StatusForbidden)
		return
	}
	o, now := c.cfg.OIDC, c.cfg.Now()
	if o == nil || !c.tries.take(c.tries.from(r, "oidc"), triesMost, now) {
		c.showOut(w, r, http.StatusTooManyRequests, signIn{OIDC: o != nil, Why: c.faceOf(r).say("signin.slow")})
		return
	}
	at, err := o.Endpoints(r.Context())
	if err != nil {
		c.cfg.Log.Warn("nobody can sign in by the issuer", "why", err)
		c.showOut(w, r, http.StatusBadGateway, signIn{OIDC: true, Why: c.faceOf(r).say("signin.issuer")})
		return
	}
	state, browser := c.secret(), c.secret()
	one := flow{until: now.Add(flowLife), browser: seal.SHA256([]byte(browser)), verifier: c.secret(), nonce: c.secret()}
	if !c.flows.begin(state, one, now) {
		c.showOut(w, r, http.StatusServiceUnavailable, signIn{OIDC: true, Why: errFull.Error()})
		return
	}
	// Lax: the issuer leads back here from another site.
	http.SetCookie(w, &http.Cookie{Name: cookieName(flowCookie, r), Value: browser, Path: "/oidc/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: c.secure(r), MaxAge: int(flowLife.Seconds())})
	challenge := seal.SHA256([]byte(one.verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {o.Client}, "redirect_uri": {o.Return}, "scope": {"openid profile"},
		"state": {state}, "nonce": {one.nonce}, "code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	http.Redirect(w, r, at.Authorize+map[bool]string{true: "&", false: "?"}[strings.Contains(at.Authorize, "?")]+q.Encode(), http.StatusSeeOther)
}

func (c *Console) oidcReturn(w http.ResponseWriter, r *http.Request) {
	who, err := c.returned(r)
	if err == nil {
		err = c.admit(w, r, who)
	}
	if err != nil {
		c.cfg.Log.Warn("somebody could not sign in by the issuer", "why", err)
		c.showOut(w, r, http.StatusForbidden, signIn{OIDC: true, Why: c.faceOf(r).say("signin.issuer")})
		return
	}
	// A page of this site leads on, not the issuer's redirection: only then does the
	// browser send the visit's cookie, which is for requests of this site alone.
	c.showOut(w, r, http.StatusOK, signIn{Key: "done"})
}

// returned makes a person of what the issuer sent the browser back with.
func (c *Console) returned(r *http.Request) (who Person, err error) {
	o, now, q := c.cfg.OIDC, c.cfg.Now(), r.URL.Query()
	if o == nil {
		return who, errNone
	}
	one, ok := c.flows.end(q.Get("state"), now)
	cookie, noCookie := r.Cookie(cookieName(flowCookie, r))
	switch {
	case !ok:
		return who, errors.New("the state is not one of a signing-in that has begun here, or it was used")
	case noCookie != nil:
		return who, errors.New("another browser began it")
	case q.Get("error") != "":
		return who, errors.New("the issuer refuses: " + q.Get("error"))
	}
	if own := seal.SHA256([]byte(cookie.Value)); !seal.Equal(own[:], one.browser[:]) {
		return who, errors.New("another browser began it")
	}
	raw, err := o.redeem(r.Context(), q.Get("code"), one.verifier)
	if err != nil {
		return who, fmt.Errorf("the issuer's token: %w", err)
	}
	id, err := o.Verify(r.Context(), raw, now)
	if err != nil {
		return who, err
	}
	if !seal.Equal([]byte(id.Nonce), []byte(one.nonce)) {
		return who, errors.New("the token is of another signing-in")
	}
	if id.Name == "" || !slices.Contains(Roles, id.Role) {
		return who, errors.New("the token names nobody, or no role: its claim nyx_role is viewer, operator, admin or auditor")
	}
	id.Person.Local = false
	return id.Person, nil
}

// redeem has the issuer give the ID token of a code.
func (o *OIDC) redeem(ctx context.Context, code, verifier string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, issuerMax)
	defer cancel()
	at, err := o.Endpoints(ctx)
	if err != nil {
		return "", err
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {o.Return}, "client_id": {o.Client}, "code_verifier": {verifier}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at.Token, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if o.Secret != "" {
		r.SetBasicAuth(url.QueryEscape(o.Client), url.QueryEscape(o.Secret))
	}
	var said struct {
		ID string `json:"id_token"`
	}
	if err := ask(o.HTTP, r, &said); err != nil {
		return "", err
	}
	if said.ID == "" {
		return "", errors.New("there is no ID token with it; ask for scope openid")
	}
	return said.ID, nil
}
