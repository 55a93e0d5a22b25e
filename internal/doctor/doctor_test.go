package doctor

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

// long is how long a healthy client is waited for: a machine may be busy with others.
const long = 2 * time.Minute

// startNetwork runs a network until the test ends, and returns the file by which it is
// joined.
func startNetwork(t *testing.T, seed byte) (l *daemon.Local, file string) {
	t.Helper()
	l, err := daemon.StartLocal(daemon.LocalConfig{Seed: [32]byte{seed}, Streams: 2, Mixes: 3, Client: client.Config{Level: wire.Fast}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if err := l.Client.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "network.toml")
	if err := l.WriteNetwork(file); err != nil {
		t.Fatal(err)
	}
	return l, file
}

// withDirectories writes a network file as another, with other servers of the directory.
func withDirectories(t *testing.T, file string, urls ...string) string {
	t.Helper()
	n, err := setup.LoadNetwork(file)
	if err != nil {
		t.Fatal(err)
	}
	n.Directories = urls
	out := filepath.Join(t.TempDir(), "network.toml")
	if err := os.WriteFile(out, n.Encode(nil), 0o644); err != nil {
		t.Fatal(err)
	}
	return out
}

// wantCodes checks that these codes were found, each once, and none beside, and that each
// says what to do.
func wantCodes(t *testing.T, r Report, want ...Code) {
	t.Helper()
	var got []Code
	for _, f := range r.Findings {
		got = append(got, f.Code)
		if f.What == "" || f.Do == "" || f.Kind == "" {
			t.Errorf("%+v says too little", f)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("found %v, want %v: %+v", got, want, r.Findings)
	}
}

// asProxy is a server that passes on what another says, with changes.
func asProxy(t *testing.T, to string, change func(*http.Response) error) string {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(u)
	p.ModifyResponse = change
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return s.URL
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// Each condition is made, and its code is found, and no other; where none is made, nothing
// is found (the control).
func TestClientFindings(t *testing.T) {
	l, file := startNetwork(t, 1)
	other, otherFile := startNetwork(t, 2)
	real := l.Authority.URL()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	shifted := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	forged := asProxy(t, other.Authority.URL(), nil)
	late := asProxy(t, real, func(r *http.Response) error {
		r.Header.Set("Date", time.Now().Add(-3*time.Hour).UTC().Format(http.TimeFormat))
		return nil
	})
	mirror := asProxy(t, real, nil)
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no document yet", http.StatusServiceUnavailable)
	}))
	defer empty.Close()
	dead := "http://" + closedPort(t)
	broken := filepath.Join(t.TempDir(), "network.toml")
	if err := os.WriteFile(broken, []byte("network = 7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		p    Patient
		want []Code
	}{
		{"nothing is wrong", Patient{NetworkFile: file, Socks: closedPort(t)}, nil},
		{"the clock is five hours late", Patient{NetworkFile: file, Now: shifted(-5 * time.Hour)}, []Code{ClockOff}},
		{"the clock is five hours early", Patient{NetworkFile: file, Now: shifted(5 * time.Hour)}, []Code{ClockOff}},
		{"the clock is ten minutes early", Patient{NetworkFile: file, Now: shifted(10 * time.Minute)}, []Code{ClockOff}},
		{"a server's clock is three hours late", Patient{NetworkFile: withDirectories(t, file, real, late, mirror)}, []Code{ClockDisputed}},
		{"the file is of another network", Patient{NetworkFile: withDirectories(t, otherFile, real)}, []Code{NetworkWrong}},
		{"the file cannot be understood", Patient{NetworkFile: broken}, []Code{FileWrong}},
		{"the file is not there", Patient{NetworkFile: broken + ".not"}, []Code{FileWrong}},
		{"one server of two hands out another network", Patient{NetworkFile: withDirectories(t, file, real, forged)}, []Code{DirectoryForged}},
		{"no directory answers", Patient{NetworkFile: withDirectories(t, file, dead)}, []Code{DirectoryUnreachable}},
		{"one directory of two does not answer", Patient{NetworkFile: withDirectories(t, file, dead, real)}, []Code{DirectoryPartly}},
		{"the directory has no document", Patient{NetworkFile: withDirectories(t, file, empty.URL)}, []Code{DirectoryEmpty}},
		{"the proxy's port is taken", Patient{NetworkFile: file, Socks: taken.Addr().String()}, []Code{PortTaken}},
		{"the proxy's address is another machine's", Patient{NetworkFile: file, Socks: "192.0.2.1:9150"}, []Code{PortTaken}},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.p.Patience = long
			r := Examine(t.Context(), c.p)
			wantCodes(t, r, c.want...)
			if r.Sick() != (len(c.want) > 0) {
				t.Errorf("sick: %v", r.Sick())
			}
		})
	}
}

// Where entries take datagrams and none comes back, while the directory answers, UDP is
// told to be blocked. The control is the same network before.
func TestUDPBlocked(t *testing.T) {
	l, file := startNetwork(t, 3)
	wantCodes(t, Examine(t.Context(), Patient{NetworkFile: file, Patience: long}))
	for _, n := range l.Nodes[:2] {
		at := n.Addr()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		hole, err := net.ListenPacket("udp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer hole.Close()
	}
	r := Examine(t.Context(), Patient{NetworkFile: file, Patience: 3 * time.Second})
	wantCodes(t, r, UDPBlocked)
	if r.Findings[0].Kind != Fault || !strings.Contains(r.Findings[0].What, "none came back") {
		t.Errorf("%+v", r.Findings[0])
	}
}

// Who has tokens is not ill because the examination shows none; who has no route is.
func TestTokensAreNotLookedFor(t *testing.T) {
	for _, c := range []struct {
		why  error
		code Code
		sick bool
	}{{client.ErrNoPass, TokensMissing, false}, {context.DeadlineExceeded, NoRoute, true}} {
		var e examination
		if e.unrouted(c.why); len(e.Findings) != 1 || e.Findings[0].Code != c.code || e.Sick() != c.sick {
			t.Errorf("%v: %+v", c.why, e.Findings)
		}
	}
}
