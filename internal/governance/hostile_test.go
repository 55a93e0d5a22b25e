package governance

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/oidc"
	"github.com/nyxnet/nyx/internal/engine/oidc/oidctest"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/telemetry"
)

// TestHostile: whatever is not in order is refused, with a reason, and is on the
// record; nothing of the log leaves.
func TestHostile(t *testing.T) {
	f := newFixture(t)
	f.happen(5)
	auditor := person(Auditor)
	other := *f.cfg.Key
	other[0]++
	made := func(key *seal.Key, s Subject, at time.Time) string {
		return "Bearer " + NewBearer(key, &s, at, [16]byte{99, byte(at.Unix())})
	}
	used := f.as(auditor)
	f.ask(used, "GET", Prefix+"audit-events", "")
	later := begin.Add(time.Second)
	f.now = begin.Add(BearerLife + 2*time.Second)
	good := f.as(auditor)
	changed := good[:len(good)-30] + "A" + good[len(good)-29:]
	for _, c := range []struct {
		what, credential, method, path, body string
		status                               int
		reason                               string
	}{
		{"nobody", "", "GET", "audit-events", "", 401, "credential"},
		{"a password", "Basic YTpi", "GET", "audit-events", "", 401, "credential"},
		{"a huge token", "Bearer " + strings.Repeat("a", 9<<10), "GET", "audit-events", "", 401, "credential"},
		{"a token, and no issuer", "Bearer a.b.c", "GET", "audit-events", "", 401, "credential"},
		{"a forged bearer", made(&other, auditor, f.now), "GET", "audit-events", "", 401, "forged"},
		{"a changed bearer", changed, "GET", "audit-events", "", 401, "forged"},
		{"half a bearer", "Bearer nyx1.AAAA", "GET", "audit-events", "", 401, "forged"},
		{"an expired bearer", made(f.cfg.Key, auditor, later), "GET", "audit-events", "", 401, "expired"},
		{"a bearer of the future", made(f.cfg.Key, auditor, f.now.Add(time.Hour)), "GET", "audit-events", "", 401, "expired"},
		{"an unknown role", made(f.cfg.Key, Subject{"eve", "root", "", 2}, f.now.Add(-time.Second)), "GET", "audit-events", "", 401, "identity"},
		{"no name", made(f.cfg.Key, Subject{"", Auditor, "", 2}, f.now.Add(-2*time.Second)), "GET", "audit-events", "", 401, "identity"},
		{"an address as a name", made(f.cfg.Key, Subject{"192.0.2.7", Auditor, "", 2}, f.now.Add(-3*time.Second)), "GET", "audit-events", "", 401, "identity"},
		{"path traversal", "", "GET", "../../etc/passwd", "", 400, "path"},
		{"encoded traversal", "", "GET", "audit-events/..%2f..%2fkeys", "", 400, "path"},
		{"dots in a name", "", "GET", "audit-events/a..b", "", 400, "path"},
		{"a NUL", "", "GET", "audit-events/a\x00", "", 400, "path"},
		{"an empty part", "", "GET", "audit-events//proof", "", 400, "path"},
		{"a deep path", "", "GET", "a/b/c/d/e/f", "", 404, "path"},
		{"another method", f.as(auditor), "DELETE", "audit-events", "", 404, "path"},
		{"an unknown thing", f.as(auditor), "GET", "secrets", "", 404, "path"},
		{"an event's id that is none", f.as(auditor), "GET", "audit-events/1.or.1-1/proof", "", 400, "request"},
		{"injection in a kind", f.as(Subject{"a1", Auditor, "", 2}), "GET", "audit-events?kind=x%27%20OR%201=1--", "", 400, "request"},
		{"injection in a limit", f.as(Subject{"a2", Auditor, "", 2}), "GET", "audit-events?limit=1;DROP%20TABLE%20audit_events", "", 400, "request"},
		{"injection in an order", f.as(Subject{"a3", Auditor, "", 2}), "GET", "audit-events?order=time,(select%201)", "", 400, "request"},
		{"a parameter twice", f.as(Subject{"a4", Auditor, "", 2}), "GET", "audit-events?org=north&org=", "", 400, "request"},
		{"an unknown parameter", f.as(Subject{"a5", Auditor, "", 2}), "GET", "audit-events?sql=1", "", 400, "request"},
		{"a client's address", f.as(Subject{"a6", Auditor, "", 2}), "GET", "audit-events?actor=192.0.2.7", "", 400, "request"},
		{"a control character", f.as(Subject{"a7", Auditor, "", 2}), "GET", "audit-events?subject=a%0ab", "", 400, "request"},
		{"a text without end", f.as(Subject{"a8", Auditor, "", 2}), "GET", "audit-events?subject=" + strings.Repeat("a", 4000), "", 400, "request"},
		{"a page without end", f.as(Subject{"a9", Auditor, "", 2}), "GET", "audit-events?limit=1000000000", "", 400, "request"},
	} {
		before := len(f.log.accesses())
		w := f.ask(c.credential, c.method, Prefix+c.path, c.body)
		f.refused(c.what, w, c.status, c.reason)
		f.now = f.now.Add(rateWindow) // so that the next is not counted with it
		f.api.flush(t.Context(), false)
		if all := f.log.accesses(); len(all) == before || !strings.Contains(all[len(all)-1], "refused "+c.reason) {
			t.Errorf("%s: not on the record, which ends with %q", c.what, all[len(all)-1:])
		}
		f.now = f.now.Add(-rateWindow)
		f.api.refused.Due(f.now, true)
	}
	f.now = begin.Add(2 * time.Second)
	f.refused("a bearer that was used", f.ask(used, "GET", Prefix+"audit-events", ""), 401, "replayed")
	if w := f.ask(made(f.cfg.Key, auditor, begin.Add(-time.Minute)), "GET", Prefix+"audit-events", ""); true {
		f.refused("a bearer of before the start", w, 401, "replayed")
	}
	for _, e := range f.log.entries {
		if s := fmt.Sprint(e.Event); strings.Contains(s, "192.0.2.7") || strings.Contains(s, "nyx1.") {
			t.Errorf("the record holds an address or a bearer: %s", s)
		}
	}
}

// TestInjection: a text of SQL is a text.
func TestInjection(t *testing.T) {
	f := newFixture(t)
	f.happen(5)
	seqs, _ := f.events(f.get(person(Auditor), "audit-events?actor=x%27%20OR%20%271%27=%271"))
	if len(seqs) != 0 {
		t.Errorf("it finds %v", seqs)
	}
	f.recorded("it", "auditor-1 audit-events read ok")
}

// TestFlood: a hundred thousand refused requests make few events, which count all.
func TestFlood(t *testing.T) {
	f := newFixture(t)
	for range 100_000 {
		f.api.refuse(t.Context(), "", "api", unknown("credential", "-"), f.now)
		f.now = f.now.Add(time.Millisecond)
	}
	for i := range 3 * telemetry.RepeatsMost {
		f.api.refuse(t.Context(), fmt.Sprint("eve-", i), "api", unknown("credential", "-"), f.now)
	}
	if n := f.api.refused.Kinds(); n > telemetry.RepeatsMost+1 {
		t.Errorf("%d refusals are counted apart", n)
	}
	f.api.Close()
	var counted uint64
	for _, e := range f.log.entries {
		counted += e.Event.Count
	}
	if n := len(f.log.entries); n > telemetry.RepeatsMost+10 || counted != 100_000+3*telemetry.RepeatsMost {
		t.Errorf("%d events count %d refusals", n, counted)
	}
}

// TestBusy: who comes when there is no room is told so.
func TestBusy(t *testing.T) {
	f := newFixture(t)
	for range inFlight {
		f.api.slots <- struct{}{}
	}
	f.refused("no room", f.get(person(Auditor), "audit-events"), http.StatusServiceUnavailable, "busy")
	f.recorded("no room", "control-1 api read refused busy")
}

// pipes is a listener of connections in memory.
type pipes struct{ conns chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestSlow: a client that sends headers or a body slowly, or takes an answer slowly, is
// let go of.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.Now = time.Now })
		f.now = time.Now()
		f.api.cfg.Exports = &Exports{}
		ln := pipes{make(chan net.Conn)}
		s := newServer(f.api)
		served := make(chan error)
		go func() { served <- s.Serve(ln) }()
		open := func() net.Conn {
			a, b := net.Pipe()
			ln.conns <- b
			return a
		}
		begun := time.Now()
		c := open()
		go fmt.Fprint(c, "GET "+Prefix+"audit-events HTTP/1.1\r\nHost: a\r\n")
		if _, err := io.ReadAll(c); err != nil || time.Since(begun) > requestMax+time.Second {
			t.Errorf("slow headers: %v after %v", err, time.Since(begun))
		}
		c = open()
		go fmt.Fprintf(c, "GET %saudit-events HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\n\r\n", Prefix, f.as(person(Auditor)))
		line, err := bufio.NewReaderSize(c, 16).ReadString('\n')
		if err != nil || !strings.Contains(line, "200") {
			t.Errorf("%q %v", line, err)
		}
		time.Sleep(2*writeMax + requestMax)
		if rest, err := io.ReadAll(c); len(rest) > 4096 || err != nil {
			t.Errorf("who took the first line and then nothing for long still gets %d bytes (%v)", len(rest), err)
		}
		begun = time.Now()
		c = open()
		go fmt.Fprintf(c, "POST %sexports HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\nAuthorization: %s\r\n\r\n{", Prefix, f.as(person(Auditor)))
		if b, err := io.ReadAll(c); !strings.Contains(string(b), "408") || !strings.Contains(string(b), `"slow"`) || time.Since(begun) > requestMax+time.Second {
			t.Errorf("a slow body: %q %v after %v", b, err, time.Since(begun))
		}
		f.recorded("a slow body", "auditor-1 exports read refused slow")
		close(ln.conns)
		<-served
		s.Close()
	})
}

// authority issues certificates of people.
type authority struct {
	*testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{T: t}
	c := a.issue(pkix.Name{CommonName: "people"}, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// issue makes a certificate; the first is signed by itself.
func (a *authority) issue(name pkix.Name, change func(*x509.Certificate)) tls.Certificate {
	a.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: name, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, DNSNames: []string{"governance"}}
	if change != nil {
		change(c)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestCertificates: who has a certificate of the people's CA is known by it; a token
// that is bound to a certificate works with that one alone, again and again, and one
// that is not works once.
func TestCertificates(t *testing.T) {
	people, strangers := newAuthority(t), newAuthority(t)
	issuer := people.issue(pkix.Name{CommonName: "issuer"}, nil).PrivateKey.(*ecdsa.PrivateKey)
	tokens, err := oidc.New([]oidc.Issuer{{URL: "https://id.example", Keys: "https://id.example/keys", Audience: "governance"}}, &http.Client{Transport: oidctest.Keys{"a": issuer.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(c *Config) { c.Tokens, c.Now = tokens, time.Now })
	pool := x509.NewCertPool()
	pool.AddCert(people.cert)
	api := NewServer(f.api, people.issue(pkix.Name{CommonName: "governance"}, nil), pool)
	server := httptest.NewUnstartedServer(api.Handler)
	server.TLS = api.TLSConfig
	server.StartTLS()
	defer server.Close()
	ask := func(c *tls.Certificate, token string) (code int, reason string) {
		t.Helper()
		cfg := &tls.Config{InsecureSkipVerify: true}
		if c != nil {
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
		defer client.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+Prefix+"audit-events", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var said struct{ Error string }
		json.NewDecoder(res.Body).Decode(&said)
		return res.StatusCode, said.Error
	}
	alice := people.issue(pkix.Name{CommonName: "alice", OrganizationalUnit: []string{"auditor"}}, nil)
	mallory := strangers.issue(pkix.Name{CommonName: "alice", OrganizationalUnit: []string{"auditor"}}, nil)
	claim := func(jti string, bound *tls.Certificate) map[string]any {
		now := time.Now()
		c := map[string]any{"iss": "https://id.example", "aud": "governance", "sub": "bob", "nyx_role": "auditor", "nyx_clearance": 2, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
		if jti != "" {
			c["jti"] = jti
		}
		if bound != nil {
			h := seal.SHA256(bound.Certificate[0])
			c["cnf"] = map[string]string{"x5t#S256": base64.RawURLEncoding.EncodeToString(h[:])}
		}
		return c
	}
	bound, once := oidctest.Sign(t, jose.ES256, issuer, "a", claim("1", &mallory)), oidctest.Sign(t, jose.ES256, issuer, "a", claim("2", nil))
	for _, c := range []struct {
		what   string
		cert   *tls.Certificate
		token  string
		code   int
		reason string
	}{
		{"a certificate", &alice, "", 200, ""},
		{"a certificate of strangers", &mallory, "", 401, "credential"},
		{"none", nil, "", 401, "credential"},
		{"a bound token", &mallory, bound, 200, ""},
		{"a bound token again", &mallory, bound, 200, ""},
		{"a bound token with another certificate", &alice, bound, 401, "replayed"},
		{"a bound token without a certificate", nil, bound, 401, "replayed"},
		{"a token", nil, once, 200, ""},
		{"a token again", nil, once, 401, "replayed"},
		{"a token that cannot be told from others", nil, oidctest.Sign(t, jose.ES256, issuer, "a", claim("", nil)), 401, "replayed"},
		{"a token of another key", nil, oidctest.Sign(t, jose.ES256, alice.PrivateKey.(*ecdsa.PrivateKey), "a", claim("3", nil)), 401, "forged"},
		{"an unsigned token", nil, base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(once, ".")[1] + ".", 401, "algorithm"},
	} {
		if code, reason := ask(c.cert, c.token); code != c.code || reason != c.reason {
			t.Errorf("%s: %d %s, want %d %s", c.what, code, reason, c.code, c.reason)
		}
	}
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	for _, e := range f.log.entries {
		if e.Event.Outcome == audit.OK && e.Event.Actor != "alice" && e.Event.Actor != "bob" {
			t.Errorf("%+v", e.Event)
		}
	}
}
