package opa

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// signer signs bundles.
type signer struct{ private, public []byte }

func newSigner(t testing.TB) *signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})}
}

// archive packs a policy, signed if by is not nil.
func archive(t testing.TB, by *signer, revision string, number int, rego string) []byte {
	t.Helper()
	module, err := ast.ParseModuleWithOpts("/a.rego", rego, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	b := bundle.Bundle{Data: map[string]any{}, Modules: []bundle.ModuleFile{{URL: "/a.rego", Path: "/a.rego", Parsed: module, Raw: []byte(rego)}}}
	b.Manifest.Init()
	b.Manifest.SetRegoVersion(ast.RegoV1)
	b.Manifest.Revision, b.Manifest.Metadata = revision, map[string]any{"number": number}
	if by != nil {
		if err := b.GenerateSignature(bundle.NewSigningConfig(string(by.private), "ES256", ""), "nyx", false); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := bundle.NewWriter(&out).DisableFormat(true).Write(b); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// accepting is a policy that accepts for so long.
func accepting(cache string) string {
	return "package nyx.admission\n\ndecision := {\"accept\": true, \"cache_s\": " + cache + "}\n"
}

func start(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := Start(cfg, prng.FromUint64(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// The policy that is built in admits everybody, and asks for work where a full entry
// knows the client by nothing.
func TestTheBuiltInPolicy(t *testing.T) {
	e := start(t, Config{})
	for place := range control.NumQuestions {
		q := control.QuestionAt(place)
		d, err := e.Decide(t.Context(), "eu", q)
		work := q.Credential == control.CredentialNone && q.Load == control.LoadFull
		if err != nil || d.Refused != 0 || d.PerMinute != 0 || (d.Work > 0) != work || d.Revision != "built-in" {
			t.Errorf("%+v: %+v, %v", q, d, err)
		}
	}
	if latency, failed, loads := e.Figures(); latency.Count != uint64(control.NumQuestions) || failed != 0 || loads.Taken != 1 {
		t.Errorf("%d decisions, %d failed, %+v", latency.Count, failed, loads)
	}
}

// A policy sees what it is told and decides by it.
func TestPoliciesDecideByTheirInput(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.rego"), []byte(`package nyx.admission
default decision := {"accept": false, "reason": 1, "cache_s": 60}
decision := {"accept": true, "cache_s": 300} if { input.region == data.open; input.level == "high" }`))
	write(t, filepath.Join(dir, "data.json"), []byte(`{"open": "eu"}`))
	e := start(t, Config{Source: dir})
	for region, want := range map[string]wire.Refusal{"eu": 0, "us": wire.RefusedPolicy} {
		if d, err := e.Decide(t.Context(), region, control.Question{Level: wire.High}); err != nil || d.Refused != want {
			t.Errorf("%s: %+v, %v", region, d, err)
		}
	}
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// server serves one archive, on no socket.
type server struct {
	mu     sync.Mutex
	bundle []byte
	status int
	asked  int
	same   int
}

func (s *server) set(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bundle = b
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	w := httptest.NewRecorder()
	tag := `"` + string(s.bundle[len(s.bundle)-8:]) + `"`
	switch {
	case s.status != 0:
		w.WriteHeader(s.status)
	case r.Header.Get("If-None-Match") == tag:
		s.same++
		w.WriteHeader(http.StatusNotModified)
	default:
		w.Header().Set("ETag", tag)
		w.Write(s.bundle)
	}
	return w.Result(), nil
}

// A newer bundle is taken within a poll. One that is forged, altered, unsigned, older,
// broken or does not answer leaves the last in force, and why is told.
func TestBadBundlesLeaveTheOldPolicy(t *testing.T) {
	owner, stranger := newSigner(t), newSigner(t)
	good := archive(t, owner, "5", 5, accepting("60"))
	altered := bytes.Clone(good)
	altered[len(altered)/2] ^= 1
	synctest.Test(t, func(t *testing.T) {
		s := &server{bundle: good}
		var said []string
		e := start(t, Config{Source: "https://policies.test/nyx.tar.gz", Key: owner.public, Client: &http.Client{Transport: s},
			Told: func(v Version, err error) {
				if err != nil {
					v.Revision = err.Error()
				}
				said = append(said, v.Revision)
			}})
		for _, bad := range []struct {
			what, why string
			bundle    []byte
		}{
			{"forged", "verify", archive(t, stranger, "6", 6, accepting("60"))},
			{"unsigned", "signature", archive(t, nil, "6", 6, accepting("60"))},
			{"altered", "", altered},
			{"older", "lower", archive(t, owner, "4", 4, accepting("61"))},
			{"no bundle", "", []byte("<html>not found, sorry</html>")},
			{"without the rule", "yields no", archive(t, owner, "6", 6, "package nyx.admission\n\nother := 1\n")},
			{"of another shape", "not a decision", archive(t, owner, "6", 6, "package nyx.admission\n\ndecision := {\"admit\": \"yes\"}\n")},
			{"out of bounds", "cache_s", archive(t, owner, "6", 6, accepting("0"))},
			{"reaching out", "http.send", archive(t, owner, "6", 6, "package nyx.admission\n\ndecision := http.send({\"method\": \"get\", \"url\": \"https://policies.test\"}).body\n")},
		} {
			said = nil
			s.set(bad.bundle)
			time.Sleep(time.Minute)
			synctest.Wait()
			if len(said) == 0 || !strings.Contains(said[0], bad.why) || e.active.Load().Revision != "5" {
				t.Errorf("%s: told %q, revision %s", bad.what, said, e.active.Load().Revision)
			}
		}
		s.set(archive(t, owner, "7", 7, accepting("70")))
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if d, err := e.Decide(context.Background(), "eu", control.Question{}); err != nil || d.Revision != "7" || d.CacheFor != 70*time.Second {
			t.Errorf("after a newer bundle: %+v, %v", d, err)
		}
		asked := s.asked
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := s.asked - asked; n < 16 || n > 25 || s.same < 16 {
			t.Errorf("%d polls in ten minutes, %d of them without a bundle", n, s.same)
		}
		if _, _, loads := e.Figures(); loads.Taken != 2 || loads.Refused < 9 || loads.Revision != "7" || loads.Why != "" {
			t.Errorf("counted %+v", loads)
		}
	})
}

func TestABundleFromElsewhereMustBeSigned(t *testing.T) {
	if _, err := Start(Config{Source: "https://policies.test/nyx.tar.gz"}, prng.FromUint64(1)); err == nil || !strings.Contains(err.Error(), "must be signed") {
		t.Errorf("without a key: %v", err)
	}
	if _, err := Start(Config{Source: filepath.Join(t.TempDir(), "none")}, prng.FromUint64(1)); err == nil {
		t.Error("a missing bundle was taken")
	}
}

// A server that does not answer yet keeps nobody from starting: until a bundle comes
// nothing is decided.
func TestABundleMayComeLater(t *testing.T) {
	owner := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{bundle: archive(t, owner, "5", 5, accepting("60")), status: http.StatusBadGateway}
		e := start(t, Config{Source: "https://policies.test/nyx.tar.gz", Key: owner.public, Client: &http.Client{Transport: s}})
		if d, err := e.Decide(t.Context(), "eu", control.Question{}); err == nil {
			t.Errorf("without a bundle it decides %+v", d)
		}
		s.mu.Lock()
		s.status = 0
		s.mu.Unlock()
		time.Sleep(2 * firstPoll)
		synctest.Wait()
		if d, err := e.Decide(t.Context(), "eu", control.Question{}); err != nil || d.Revision != "5" {
			t.Errorf("after it came: %+v, %v", d, err)
		}
	})
}

// What differs in rules, data or revision is another policy, and what does not is not.
func TestDigestsTellPoliciesApart(t *testing.T) {
	seen := map[string]string{}
	for _, c := range []struct{ what, revision, cache string }{{"one", "1", "60"}, {"other rules", "1", "61"}, {"another revision", "2", "60"}} {
		for range 2 {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "a.rego"), []byte(accepting(c.cache)))
			write(t, filepath.Join(dir, ".manifest"), []byte(`{"revision": "`+c.revision+`"}`))
			_, _, loads := start(t, Config{Source: dir}).Figures()
			if before, ok := seen[loads.Digest]; loads.Digest == "" || loads.Revision != c.revision || ok && before != c.what {
				t.Errorf("%s: %+v, as %s", c.what, loads, before)
			}
			seen[loads.Digest] = c.what
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d digests of three policies", len(seen))
	}
}

// BenchmarkDecide measures one decision.
func BenchmarkDecide(b *testing.B) {
	e := start(b, Config{})
	for b.Loop() {
		if _, err := e.Decide(b.Context(), "eu", control.Question{}); err != nil {
			b.Fatal(err)
		}
	}
}
