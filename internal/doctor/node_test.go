package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/trace"
)

// mixConfig is the configuration of a Mix node of a network that does not run.
func mixConfig(t *testing.T) *setup.Config {
	t.Helper()
	made, err := setup.Init(filepath.Join(t.TempDir(), "network"), setup.InitConfig{
		Network: "test", Streams: 2, Mixes: 3, Authorities: 1, Threshold: 1, Regions: 1, Port: 29400, Wall: time.Now().Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := setup.LoadConfig(made.Mixes[0])
	if err != nil {
		t.Fatal(err)
	}
	cfg.Relay.Listen, cfg.Relay.Advertise = netip.MustParseAddrPort("127.0.0.1:0"), netip.AddrPort{}
	cfg.Metrics = netip.AddrPort{}
	return cfg
}

// controlProcess is a server by whose URL a control process is known.
func controlProcess(t *testing.T) string {
	t.Helper()
	cert, err := front.SelfSigned("", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pin, err := front.Pin(&cert)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return fmt.Sprintf("%s#%x", s.URL, pin)
}

// What a node lacks where it is to run, and of others, is found; with all of it there,
// nothing is (the control).
func TestNodeFindings(t *testing.T) {
	_, file := startNetwork(t, 4)
	n, err := setup.LoadNetwork(file)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := netip.MustParseAddrPort(taken.LocalAddr().String())
	control := controlProcess(t)
	_, pin, _ := cutPin(control)
	noDir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(noDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		edit func(*setup.Config)
		want []Code
	}{
		{"nothing is wrong", func(*setup.Config) {}, nil},
		{"its port is taken", func(c *setup.Config) { c.Relay.Listen = busy }, []Code{PortTaken}},
		{"its metrics' port is another machine's", func(c *setup.Config) { c.Metrics = netip.MustParseAddrPort("192.0.2.1:80") }, []Code{PortTaken}},
		{"its state cannot be kept", func(c *setup.Config) { c.State = noDir }, []Code{DirUnwritable}},
		{"no control plane", func(c *setup.Config) { c.Controls = []string{"https://" + closedPort(t) + "#" + pin} }, []Code{ControlUnreachable}},
		{"one of two control processes", func(c *setup.Config) {
			c.Controls = []string{"https://" + closedPort(t) + "#" + pin, control}
		}, nil},
		{"it names another's address", func(c *setup.Config) { c.Relay.Advertise = netip.MustParseAddrPort("192.0.2.7:443") }, []Code{NATAdvertise}},
		{"no directory", func(c *setup.Config) { c.Directories = []string{"http://" + closedPort(t)} }, []Code{DirectoryUnreachable}},
	} {
		t.Run(c.what, func(t *testing.T) {
			cfg := mixConfig(t)
			cfg.Network, cfg.Directories, cfg.Replicas, cfg.Controls = n, n.Directories, nil, []string{control}
			c.edit(cfg)
			e := &examination{Patient: Patient{Now: time.Now, Patience: long}}
			e.node(t.Context(), cfg, nil)
			wantCodes(t, e.Report, c.want...)
		})
	}
	t.Run("its port is its own", func(t *testing.T) {
		cfg := mixConfig(t)
		cfg.Network, cfg.Directories, cfg.Replicas, cfg.Controls, cfg.Relay.Listen = n, n.Directories, nil, nil, busy
		e := &examination{Patient: Patient{Now: time.Now}}
		e.node(t.Context(), cfg, []daemon.Standing{{Program: "node", Name: cfg.Name, Network: n.Trust.Network}})
		wantCodes(t, e.Report)
	})
	t.Run("its configuration is wrong", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "node.toml")
		if err := os.WriteFile(path, []byte("name = \"x\"\nroles = [\"mixer\"]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantCodes(t, Examine(t.Context(), Patient{ConfigFile: path}), FileWrong)
	})
}

// cutPin splits a URL with the hash of a key.
func cutPin(u string) (url, pin string, ok bool) {
	for i := range u {
		if u[i] == '#' {
			return u[:i], u[i+1:], true
		}
	}
	return u, "", false
}

// A machine whose own address is not the internet's is behind NAT, as most are that run
// tests in containers; towards itself it is not (the control).
func TestNAT(t *testing.T) {
	way := func(to string) Report {
		e := &examination{}
		e.translated(&setup.Network{Directories: []string{to}})
		return e.Report
	}
	wantCodes(t, way("http://127.0.0.1:80"))
	conn, err := net.Dial("udp", "192.0.2.1:80")
	if err != nil {
		t.Skipf("no way out of this machine: %v", err)
	}
	own := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	conn.Close()
	if !inside(own) {
		t.Skipf("this machine has the address %v of its own", own)
	}
	r := way("http://192.0.2.1:80")
	wantCodes(t, r, NAT)
	if r.Sick() {
		t.Error("NAT is no illness")
	}
}

// What counters and states of running processes tell, and what they do not yet: what they
// counted long ago is no illness.
func TestProcessFindings(t *testing.T) {
	name := func(c trace.Counter) string { return c.String() }
	working := daemon.StandingPart{Name: "mix-1", Works: true, State: "working"}
	for _, c := range []struct {
		what string
		edit func(*daemon.StandingPart)
		want []Code
	}{
		{"nothing is wrong", func(p *daemon.StandingPart) {
			p.Lately = map[string]uint64{name(trace.LinkIn): 1e6, name(trace.DropLinkUnknown): 2000, name(trace.HandshakesDone): 600, name(trace.DropHandshakeCookie): 1200, name(trace.DropCellReplay): replaysTold - 1}
		}, nil},
		{"an attack of last week", func(p *daemon.StandingPart) {
			p.Forged, p.Counts = 7, map[string]uint64{name(trace.LinkIn): 15_000, name(trace.DropLinkUnknown): 2000, name(trace.RoutesTampered): 9, name(trace.DropCellReplay): 500, name(trace.DropHandshakeCookie): 1e6}
		}, nil},
		{"a part does not work", func(p *daemon.StandingPart) { p.Works, p.State = false, "no directory answers" }, []Code{PartDown}},
		{"the control plane is gone", func(p *daemon.StandingPart) { p.Alone = true }, []Code{ControlUnreachable}},
		{"too much work", func(p *daemon.StandingPart) { p.Overloaded = true }, []Code{Overloaded}},
		{"a fall-back", func(p *daemon.StandingPart) { p.FellBack = true }, []Code{UDPBlocked}},
		{"forged documents", func(p *daemon.StandingPart) { p.ForgedLately = 1 }, []Code{DirectoryForged}},
		{"changed cells", func(p *daemon.StandingPart) { p.Lately = map[string]uint64{name(trace.RoutesTampered): 1} }, []Code{Tampered}},
		{"replays", func(p *daemon.StandingPart) { p.Lately = map[string]uint64{name(trace.DropSetupReplay): replaysTold} }, []Code{Replayed}},
		{"a flood of handshakes", func(p *daemon.StandingPart) {
			p.Lately = map[string]uint64{name(trace.LinkIn): 1e6, name(trace.DropHandshakeCookie): 5000, name(trace.HandshakesDone): 400}
		}, []Code{Flooded}},
		{"junk", func(p *daemon.StandingPart) {
			p.Lately = map[string]uint64{name(trace.LinkIn): 15_000, name(trace.DropLinkUnknown): 2000}
		}, []Code{Junk}},
	} {
		t.Run(c.what, func(t *testing.T) {
			e, p := &examination{}, working
			c.edit(&p)
			e.part(&daemon.Standing{Program: "node"}, &p)
			wantCodes(t, e.Report, c.want...)
		})
	}
}

// A process that was killed is told of, with where to look, until it is started again or
// its note is removed; one that was stopped is not.
func TestDied(t *testing.T) {
	l, _ := startNetwork(t, 6)
	dir := t.TempDir()
	s, err := l.ServeStanding(dir, "fast")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wantCodes(t, Examine(t.Context(), Patient{Run: dir})) // it runs
	notes, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(notes) != 1 {
		t.Fatalf("%v, %v", notes, err)
	}
	note, err := os.ReadFile(notes[0])
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), filepath.Base(notes[0])) // as its end leaves it: without a socket
	if err := os.WriteFile(elsewhere, note, 0o600); err != nil {
		t.Fatal(err)
	}
	seen := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(elsewhere, seen, seen); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it is told again
		r := Examine(t.Context(), Patient{Run: filepath.Dir(elsewhere)})
		wantCodes(t, r, Died)
		if f := r.Findings[0]; !r.Sick() || !strings.Contains(f.What, "nyx up (process ") || !strings.Contains(f.What, "last seen at "+seen.Format(time.DateTime)) || !strings.Contains(f.Do, elsewhere) {
			t.Errorf("%+v", f)
		}
	}
	s.Close()
	wantCodes(t, Examine(t.Context(), Patient{Run: dir})) // it was stopped
	if err := os.Remove(elsewhere); err != nil {
		t.Fatal(err)
	}
	wantCodes(t, Examine(t.Context(), Patient{Run: filepath.Dir(elsewhere)}))
}

// A process that listens and does not answer is told; one that answers is not.
func TestMute(t *testing.T) {
	l, _ := startNetwork(t, 5)
	dir := t.TempDir()
	s, err := l.ServeStanding(dir, "fast")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if r := Examine(t.Context(), Patient{Run: dir}); len(r.Findings) != 0 || !slices.Contains(r.Checked, "1 running process") {
		t.Errorf("%+v", r)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "node-1.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	e := &examination{Patient: Patient{Run: dir}}
	if running := e.processes(ctx); len(running) > 1 {
		t.Errorf("%+v", running)
	}
	wantCodes(t, e.Report, Mute)
}
