//go:build unix

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/console"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/setup"
)

// TestTheConsoleElsewhere: at an address that is not of this machine alone the console of a
// control process speaks TLS by its own key, under its own name, to people of an issuer:
// there are no links, and it starts while the issuer is away.
func TestTheConsoleElsewhere(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	var issuer *httptest.Server
	issuer = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if away.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		json.NewEncoder(w).Encode(console.Endpoints{Issuer: issuer.URL, Authorize: issuer.URL + "/authorize", Token: issuer.URL + "/token", Keys: issuer.URL + "/keys"})
	}))
	t.Cleanup(issuer.Close)
	dir := controlFiles(t)
	path := filepath.Join(dir, "node.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	port, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	table := fmt.Sprintf("listen = \"0.0.0.0:%d\"\nurl = \"https://console.test\"\nissuer = %q\n", port, issuer.URL)
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "listen = \"127.0.0.1:0\"\n", table, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stop := runControl(t, dir)
	if _, err := os.Stat(filepath.Join(dir, "keys", consoleFile)); !os.IsNotExist(err) {
		t.Errorf("an owner has links made: %v", err)
	}

	network, err := setup.LoadNetwork(filepath.Join(filepath.Dir(dir), "network.toml"))
	if err != nil {
		t.Fatal(err)
	}
	known, err := mirror.ParseServer(network.Controls[0])
	if err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", port)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
			if pin, ok := front.PeerPin(&s); !ok || pin != known.Pin || s.Version != tls.VersionTLS13 {
				t.Errorf("it shows key %x by TLS %x", pin, s.Version)
			}
			return nil
		}},
	}}
	ask := func(method, url string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer ")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp, string(b)
	}
	for _, want := range []struct {
		method, url string
		status      int
	}{
		{"GET", "https://console.test/sign-in", http.StatusOK},
		{"GET", "https://other.test/sign-in", http.StatusForbidden},
		{"GET", "http://console.test/sign-in", http.StatusBadRequest}, // in the clear
		{"POST", "https://console.test/link", http.StatusForbidden},
		{"GET", "https://console.test/", http.StatusSeeOther},
		{"GET", "https://console.test/oidc/begin", http.StatusBadGateway},
	} {
		if r, body := ask(want.method, want.url); r.StatusCode != want.status {
			t.Errorf("%s %s: %s, not %d\n%s", want.method, want.url, r.Status, want.status, body)
		} else if strings.HasSuffix(want.url, "test/sign-in") && want.status == http.StatusOK && (!strings.Contains(body, "/oidc/begin") || strings.Contains(body, "nyx console")) {
			t.Errorf("the page of signing in:\n%s", body)
		}
	}
	away.Store(false)
	r, _ := ask("GET", "https://console.test/oidc/begin")
	if to := r.Header.Get("Location"); r.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, issuer.URL+"/authorize?") || !strings.Contains(to, "redirect_uri=https%3A%2F%2Fconsole.test%2Foidc%2Freturn") {
		t.Errorf("it leads to %q, %s", to, r.Status)
	}
	stop()
}
