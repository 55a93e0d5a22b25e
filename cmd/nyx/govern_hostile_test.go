package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/oidc/oidctest"
	"github.com/nyxnet/nyx/internal/governance"
	"github.com/nyxnet/nyx/internal/setup"
)

// people issue certificates to those of a test.
type people struct {
	*testing.T
	dir, file string // file holds the authority's certificate
	ca        *x509.Certificate
	key       *ecdsa.PrivateKey
}

func newPeople(t *testing.T) *people {
	t.Helper()
	p := &people{T: t, dir: t.TempDir()}
	c := p.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "people"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	p.ca, p.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	p.file = p.write("ca.pem", "CERTIFICATE", c.Certificate[0])
	return p
}

// issue signs a certificate; the first by itself.
func (p *people) issue(c *x509.Certificate) tls.Certificate {
	p.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := p.ca, p.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		p.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		p.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// person issues somebody's certificate.
func (p *people) person(name, role string) tls.Certificate {
	return p.issue(&x509.Certificate{Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{role}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

func (p *people) write(name, kind string, der []byte) string {
	p.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		p.Fatal(err)
	}
	return path
}

// files writes somebody's certificate and key.
func (p *people) files(name, role string) (certificate, key string) {
	p.Helper()
	c := p.person(name, role)
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		p.Fatal(err)
	}
	return p.write(name+".pem", "CERTIFICATE", c.Certificate[0]), p.write(name+".key", "PRIVATE KEY", der)
}

// web is a client of the API as anybody has one.
type web struct {
	*testing.T
	address string
}

func (w *web) client(c *tls.Certificate) *http.Client {
	cfg := &tls.Config{InsecureSkipVerify: true}
	if c != nil {
		cfg.Certificates = []tls.Certificate{*c}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true, Proxy: nil}}
	w.Cleanup(client.CloseIdleConnections)
	return client
}

// ask sends a request, and returns the status and the reason of a refusal.
func (w *web) ask(c *tls.Certificate, token, method, path, body string) (status int, reason string) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, "https://"+w.address+governance.Prefix+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := w.client(c).Do(r)
	if err != nil {
		w.Fatalf("%s %.80s: %v", method, path, err)
	}
	defer res.Body.Close()
	var said struct {
		Error  string
		Events []json.RawMessage
	}
	json.NewDecoder(res.Body).Decode(&said)
	if res.StatusCode == http.StatusOK {
		said.Error = fmt.Sprint(len(said.Events), " events")
	}
	return res.StatusCode, said.Error
}

// say sends text over TLS as it is, and returns the answer's first line.
func (w *web) say(c *tls.Certificate, text string) string {
	w.Helper()
	conn, err := tls.Dial("tcp", w.address, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*c}})
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close()
	go io.WriteString(conn, text) // the server may answer before all of it is there
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		w.Errorf("%.60q is answered with %q and %v", text, line, err)
	}
	return strings.TrimSpace(line)
}

// issuer signs tokens, and publishes its key.
type issuer struct {
	*testing.T
	key *ecdsa.PrivateKey
	url string
}

func newIssuer(t *testing.T) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(oidctest.Keys{"a": key.Public()})
	t.Cleanup(s.Close)
	return &issuer{t, key, s.URL}
}

// token signs what an auditor's token says, after a change.
func (i *issuer) token(alg jose.SignatureAlgorithm, key any, change func(map[string]any)) string {
	i.Helper()
	now := time.Now()
	claims := map[string]any{"iss": i.url, "aud": "governance", "sub": "carol", "nyx_role": "auditor", "nyx_clearance": 2,
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": fmt.Sprint(now.UnixNano())}
	if change != nil {
		change(claims)
	}
	return oidctest.Sign(i, alg, key, "a", claims)
}

// unsigned is a token whose algorithm is none.
func (i *issuer) unsigned() string {
	parts := strings.Split(i.token(jose.ES256, i.key, nil), ".")
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
}

// TestGovernanceHostile: what a control process serves refuses whatever is not in
// order, with a reason that is on the record, and goes on to serve who may be served.
func TestGovernanceHostile(t *testing.T) {
	g, i := newGoverning(t), newIssuer(t)
	closing := g.alone(func(cfg *daemon.ControlConfig) {
		cfg.Plane.Issuers = []setup.IssuerConfig{{URL: i.url, Keys: i.url, Audience: "governance"}}
	})
	defer closing()
	w := &web{t, g.beside.listener.Addr().String()}
	alice, mallory := g.people.person("alice", "auditor"), newPeople(t).person("alice", "auditor")
	public, err := x509.MarshalPKIXPublicKey(i.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	strange, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	once := i.token(jose.ES256, i.key, nil)
	at := func(name string, d time.Duration) func(map[string]any) {
		return func(c map[string]any) { c[name] = time.Now().Add(d).Unix() }
	}
	old := func(c map[string]any) { at("iat", -time.Hour)(c); at("exp", -time.Minute)(c) }
	for _, c := range []struct {
		what               string
		cert               *tls.Certificate
		token              string
		method, path, body string
		status             int
		reason             string
	}{
		{"a certificate", &alice, "", "GET", "audit-events?kind=audit.export", "", 200, "0 events"},
		{"no certificate", nil, "", "GET", "audit-events", "", 401, "credential"},
		{"a certificate of strangers", &mallory, "", "GET", "audit-events", "", 401, "credential"},
		{"a token", nil, once, "GET", "audit-events?kind=audit.export", "", 200, "0 events"},
		{"a token again", nil, once, "GET", "audit-events", "", 401, "replayed"},
		{"an expired token", nil, i.token(jose.ES256, i.key, old), "GET", "audit-events", "", 401, "expired"},
		{"a forged token", nil, i.token(jose.ES256, strange, nil), "GET", "audit-events", "", 401, "forged"},
		{"a token for another service", nil, i.token(jose.ES256, i.key, func(c map[string]any) { c["aud"] = "mail" }), "GET", "audit-events", "", 401, "forged"},
		{"a token of nobody's role", nil, i.token(jose.ES256, i.key, func(c map[string]any) { c["nyx_role"] = "root" }), "GET", "audit-events", "", 401, "identity"},
		{"an unsigned token", nil, i.unsigned(), "GET", "audit-events", "", 401, "algorithm"},
		{"a MAC under the public key", nil, i.token(jose.HS256, public, nil), "GET", "audit-events", "", 401, "algorithm"},
		{"encoded traversal", &alice, "", "GET", "exports/..%2f..%2fkeys", "", 400, "path"},
		{"an export elsewhere", &alice, "", "GET", "exports/00000000000000000000000000000000/files/..%2fsign.key", "", 400, "path"},
		{"SQL in a filter", &alice, "", "GET", "audit-events?actor=x%27%20OR%20%271%27=%271", "", 200, "0 events"},
		{"SQL in an order", &alice, "", "GET", "audit-events?order=time;DROP%20TABLE%20audit_events", "", 400, "request"},
		{"an oversized body", &alice, "", "POST", "exports", `{"format":"` + strings.Repeat("a", 20<<10) + `"}`, 413, "body"},
		{"an oversized token", nil, strings.Repeat("a", 9<<10), "GET", "audit-events", "", 401, "credential"},
	} {
		if status, reason := w.ask(c.cert, c.token, c.method, c.path, c.body); status != c.status || reason != c.reason {
			t.Errorf("%s: %d %s, want %d %s", c.what, status, reason, c.status, c.reason)
		}
	}
	if line := w.say(&alice, "GET /governance/v1/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"); !strings.Contains(line, " 400 ") {
		t.Errorf("traversal as it is: %s", line)
	}
	if line := w.say(&alice, "GET /governance/v1/audit-events HTTP/1.1\r\nHost: a\r\nX-A: "+strings.Repeat("a", 64<<10)+"\r\n\r\n"); !strings.Contains(line, " 431 ") {
		t.Errorf("an oversized header: %s", line)
	}
	for _, reason := range []string{"credential", "replayed", "expired", "forged", "identity", "algorithm", "path"} {
		g.await("the refusal "+reason, func(e *audit.Event) bool {
			return e.Kind == audit.AuditAccess && e.Outcome == audit.Refused && e.Actor == "control" && e.Reason == reason
		})
	}
}

// TestGovernanceSlow: clients that say nothing, or send a request without end, take all
// connections that there are; they are let go of, and somebody who came after them is
// served.
func TestGovernanceSlow(t *testing.T) {
	t.Parallel() // it takes as long as a request may
	g := newGoverning(t)
	defer g.alone(nil)()
	w := &web{t, g.beside.listener.Addr().String()}
	alice := g.people.person("alice", "auditor")
	var dropped sync.WaitGroup
	var dialer net.Dialer
	for n := range 128 { // as many as are served at a time
		conn, err := dialer.DialContext(t.Context(), "tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if n%2 == 0 { // half a handshake
			conn.Write([]byte{22, 3, 1, 2, 0, 1})
		}
		dropped.Go(func() { io.Copy(io.Discard, conn) })
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", "https://"+w.address+governance.Prefix+"audit-events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := w.client(&alice).Do(r)
	if err != nil {
		t.Fatalf("who came after slow clients: %v", err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("who came after slow clients: %s", res.Status)
	}
	dropped.Wait()
}
