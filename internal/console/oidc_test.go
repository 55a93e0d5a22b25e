package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

// issuer is a double of an OpenID Connect issuer: it gives a code and redeems it, for
// the verifier of which it was shown the challenge. Its tokens are JSON, which verify
// takes at its word: signatures are of engine/oidc, which has tests of its own.
type issuer struct {
	*httptest.Server
	challenge, nonce string
	role             Role
	nonceSaid        string // in place of nonce
	redeemed         int
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{role: Operator}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(Endpoints{i.URL, i.URL + "/authorize", i.URL + "/token", i.URL + "/keys"})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		sum := seal.SHA256([]byte(r.PostFormValue("code_verifier")))
		if r.PostFormValue("code") != "code" || base64.RawURLEncoding.EncodeToString(sum[:]) != i.challenge || i.redeemed > 0 {
			http.Error(w, "invalid_grant", http.StatusBadRequest)
			return
		}
		i.redeemed++
		nonce := i.nonce
		if i.nonceSaid != "" {
			nonce = i.nonceSaid
		}
		token, _ := json.Marshal(Identity{Person{Name: "ada", Role: i.role, Local: true}, nonce})
		json.NewEncoder(w).Encode(map[string]string{"id_token": string(token)})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func withIssuer(t *testing.T) (*board, *issuer) {
	i := newIssuer(t)
	e, err := Discover(t.Context(), http.DefaultClient, i.URL)
	if err != nil {
		t.Fatal(err)
	}
	b := newBoard(t, func(c *Config) {
		c.OIDC = &OIDC{Client: "nyx-console", Endpoints: func(context.Context) (Endpoints, error) { return e, nil }, Return: "http://127.0.0.1/oidc/return", HTTP: http.DefaultClient,
			Verify: func(_ context.Context, raw string, _ time.Time) (id Identity, err error) {
				if err = json.Unmarshal([]byte(raw), &id); err != nil {
					err = errors.New("no token")
				}
				return id, err
			}}
	})
	return b, i
}

// begins sends a browser to the issuer, and returns what the issuer leads back with.
func (i *issuer) begins(t *testing.T, w *browser) url.Values {
	t.Helper()
	r, _ := w.get("/oidc/begin")
	want(t, "begin", r, http.StatusSeeOther)
	at, err := url.Parse(r.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(at.String(), i.URL+"/authorize?") {
		t.Fatalf("it leads to %v", at)
	}
	q := at.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" || q.Get("state") == "" || q.Get("nonce") == "" {
		t.Fatalf("it asks %v", q)
	}
	i.challenge, i.nonce = q.Get("code_challenge"), q.Get("nonce")
	return url.Values{"code": {"code"}, "state": {q.Get("state")}}
}

// TestSigningInByAnIssuer: by the code flow, in the role of the token, which is not one
// that the person may leave.
func TestSigningInByAnIssuer(t *testing.T) {
	b, i := withIssuer(t)
	w := b.browser()
	back := i.begins(t, w)
	r, page := w.get("/oidc/return?" + back.Encode())
	want(t, "return", r, http.StatusOK)
	if !strings.Contains(page, `content="0;url=/"`) {
		t.Error("the page does not lead on by itself")
	}
	_, page = w.get("/")
	if !strings.Contains(page, "ada") || strings.Contains(page, `action="/role"`) {
		t.Error("ada is not signed in, or may choose a role")
	}
	has(t, "it is recorded", b.record.actions(), "console.sign-in console ok")
}

// TestSigningInByAnIssuerIsBound to the browser that began it, to its state, nonce and
// verifier, and to a role that there is.
func TestSigningInByAnIssuerIsBound(t *testing.T) {
	for what, spoil := range map[string]func(i *issuer, w **browser, back url.Values){
		"another browser": func(_ *issuer, w **browser, _ url.Values) { *w = (*w).board.browser() },
		"another browser that began one of its own": func(_ *issuer, w **browser, _ url.Values) { *w = (*w).board.browser(); (*w).get("/oidc/begin") },
		"a state that was made up":                  func(_ *issuer, _ **browser, back url.Values) { back.Set("state", "made up") },
		"another code":                              func(_ *issuer, _ **browser, back url.Values) { back.Set("code", "other") },
		"a code of another flow":                    func(i *issuer, _ **browser, _ url.Values) { i.challenge = "other" },
		"a token of another flow":                   func(i *issuer, _ **browser, _ url.Values) { i.nonceSaid = "other" },
		"a role that is none":                       func(i *issuer, _ **browser, _ url.Values) { i.role = "root" },
		"a refusal":                                 func(_ *issuer, _ **browser, back url.Values) { back.Set("error", "access_denied") },
		"a flow that was begun long ago":            func(_ *issuer, w **browser, _ url.Values) { (*w).advance(flowLife + time.Second) },
	} {
		b, i := withIssuer(t)
		w := b.browser()
		back := i.begins(t, w)
		spoil(i, &w, back)
		r, _ := w.get("/oidc/return?" + back.Encode())
		want(t, what, r, http.StatusForbidden)
		if r, _ = w.get("/"); r.StatusCode == http.StatusOK {
			t.Errorf("%s signs somebody in", what)
		}
	}
	b, i := withIssuer(t)
	w := b.browser()
	back := i.begins(t, w)
	w.get("/oidc/return?" + back.Encode())
	i.redeemed = 0
	r, _ := w.get("/oidc/return?" + back.Encode())
	want(t, "a state that was used", r, http.StatusForbidden)
}

// TestAnotherSiteBeginsNothing: it cannot have a browser signed in as somebody.
func TestAnotherSiteBeginsNothing(t *testing.T) {
	b, _ := withIssuer(t)
	for from, status := range map[string]int{"cross-site": http.StatusForbidden, "same-site": http.StatusForbidden, "same-origin": http.StatusSeeOther, "none": http.StatusSeeOther} {
		w := b.browser()
		r := w.request(http.MethodGet, "/oidc/begin", nil)
		r.Header.Set("Sec-Fetch-Site", from)
		resp, _ := w.do(r)
		want(t, from, resp, status)
	}
	if n := len(b.flows.open); n != 2 {
		t.Errorf("%d signings-in have begun, want 2", n)
	}
}
