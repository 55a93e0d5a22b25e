package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/proxy"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// journal takes log lines and tells of each.
type journal struct {
	mu    sync.Mutex
	lines []string
	grown chan struct{} // closed, and made anew, by each line
}

var testServers = Servers{Authority: StartAuthority, Replica: StartReplica, Witness: StartWitness}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, string(b))
	close(j.grown)
	j.grown = make(chan struct{})
	return len(b), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "")
}

// await waits until a line holds a text, whatever stands before and after it,
// and returns the first that does.
func (j *journal) await(t *testing.T, text string) string {
	t.Helper()
	limit := time.After(patience)
	for {
		j.mu.Lock()
		lines, grown := j.lines, j.grown
		j.mu.Unlock()
		for _, line := range lines {
			if strings.Contains(line, text) {
				return line
			}
		}
		select {
		case <-grown:
		case <-limit:
			t.Fatalf("no line with %q in:\n%s", text, j)
		}
	}
}

func newJournal() (*journal, *slog.Logger) {
	j := &journal{grown: make(chan struct{})}
	return j, slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// attribute is the value of a key in a log line.
func attribute(line, key string) string {
	_, rest, _ := strings.Cut(line, key+"=")
	value, _, _ := strings.Cut(rest, " ")
	return strings.TrimSpace(value)
}

// initNetwork makes the files of a network whose addresses are free ports.
func initNetwork(t *testing.T) (files []string, network string) {
	t.Helper()
	// Below the ports that systems give to outgoing connections.
	port := 0
	for i := 0; port == 0; i++ {
		port = 30000 + (os.Getpid()*53+i*499)%2000
		for j := range 9 {
			ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+j))
			if err != nil {
				port = 0
				break
			}
			ln.Close()
		}
	}
	made, err := setup.Init(filepath.Join(t.TempDir(), "network"), setup.InitConfig{
		Network: "test", Streams: 2, Mixes: 3, Authorities: 3, Replicas: 1, Threshold: 2, Regions: 1, Port: uint16(port), AllowPrivate: true, Wall: time.Now().Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(made.Authorities, made.Replicas, made.Streams, made.Mixes), made.NetworkFile
}

// The roles that configurations name make a network: authorities that sign for
// one another, nodes that they list, and a proxy through which a request
// passes; counters are served, logs name no target, and all ends with the
// context and leaves nothing running.
func TestConfiguredNetwork(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) }) // after all others
	files, _ := initNetwork(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, len(files))
	var journals []*journal
	for i, file := range files {
		cfg, err := setup.LoadConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Poll, cfg.Metrics, cfg.Traffic = time.Second, netip.MustParseAddrPort("127.0.0.1:0"), true
		if i == len(files)-1 { // one process has a client beside
			cfg.Client, cfg.Proxy = true, setup.ProxyConfig{Socks: netip.MustParseAddrPort("127.0.0.1:0"), Level: wire.Fast}
		}
		j, log := newJournal()
		journals = append(journals, j)
		go func() { ended <- Run(ctx, cfg, nil, nil, testServers, log) }()
	}
	proxied := journals[len(journals)-1]
	socksAt := attribute(proxied.await(t, "proxy (SOCKS5 and HTTP)"), "address")
	metrics := attribute(proxied.await(t, "msg=metrics"), "url")
	proxied.await(t, "the proxy is ready")
	journals[3].await(t, "document mirrored")
	for _, j := range journals[4:] {
		j.await(t, "the node works fully")
	}
	conn, err := net.Dial("tcp", socksAt)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	port := echoServer(t)
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", port)
	head := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 200" {
		t.Fatalf("the proxy answers %q, %v", head, err)
	}
	conn.Close()
	status, body := get(t, metrics, "")
	for _, want := range []string{`nyx_up{part="mix-3"} 1`, `part="client"`, "nyx_proxy_streams_total 1", `end_to_end_success_ratio{part="client"} 1`, "nyx_real_out_total", "directory_query_success_ratio", `directory_server_faults_total{part="client",reason="forged"} 0`, `nyx_setup_done_total{part="mix-3"} `} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("metrics: %d, without %s", status, want)
		}
	}
	if status, _ := get(t, metrics, "evil.example"); status != http.StatusForbidden {
		t.Errorf("metrics for a foreign page: %d", status)
	}
	stop()
	for range files {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for i, j := range journals {
		if text := j.String(); strings.Contains(text, fmt.Sprint(port)) {
			t.Errorf("the log of %s names the target:\n%s", files[i], text)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	// What must outlive the processes lies beside the keys.
	if signed, err := os.ReadFile(filepath.Join(filepath.Dir(files[0]), "keys", keptDir, "signed")); err != nil || len(signed) < 44 {
		t.Errorf("what an authority signed: %d bytes, %v", len(signed), err)
	}
	for i, names := range map[int][]string{4: {"node.newest"}, len(files) - 1: {"node.newest", "client.newest"}} {
		for _, name := range names {
			m, err := loadMark(filepath.Join(filepath.Dir(files[i]), "keys"), name)
			if err != nil || m.Epoch == 0 {
				t.Errorf("%s of %s: %+v, %v", name, files[i], m, err)
			}
		}
	}
}

// get fetches a page, under another name if host is not empty.
func get(t *testing.T, url, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if req.Close = true; host != "" {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// Two nodes that differ in how many of their cells had content are served alike,
// unless the configuration wants it otherwise (the control).
func TestMetricsDoNotTellContent(t *testing.T) {
	served := func(c trace.Counts, traffic bool) string {
		w := httptest.NewRecorder()
		(&source{traffic: traffic, proxy: &proxy.Counts{}, parts: func() []part { return []part{newPart("node", c, nil)} }}).page().Text(w)
		b, err := json.Marshal(newPart("node", c, nil))
		if err != nil {
			t.Fatal(err)
		}
		return w.Body.String() + string(b)
	}
	idle := trace.Counts{trace.LinkOut: 200, trace.DummyOut: 100, trace.DummyIn: 90, trace.CellDelivered: 90}
	busy := trace.Counts{trace.LinkOut: 200, trace.DummyOut: 30, trace.RealOut: 70, trace.DummyIn: 20, trace.CellDelivered: 90, trace.SessionPacketIn: 70, trace.Retransmitted: 1, trace.SpuriousRetransmit: 1}
	if a, b := served(idle, false), served(busy, false); a != b || !strings.Contains(a, `nyx_cells_out_total{part="node"} 100`) {
		t.Errorf("idle:\n%s\nbusy:\n%s", a, b)
	}
	if served(idle, true) == served(busy, true) {
		t.Error("control: no difference where it is wanted")
	}
}

// A client more at an entry does not show in what everybody may read, be it the first; where
// the owner wants traffic told it does (the control).
func TestStatusDoesNotTellOneClient(t *testing.T) {
	came := func(clients, routes uint64) part {
		p := newPart("stream-1", trace.Counts{trace.LinkIn: 1000, trace.HandshakesDone: clients, trace.SetupIn: routes, trace.SetupDone: routes, trace.PQHandshakes: clients, trace.PQHandshakeSuccess: clients}, nil)
		p.perMinute, p.handshakes = 30, &front.HandshakeCounts{Time: time.Duration(clients) * time.Millisecond}
		p.handshakes.Classes[0] = clients
		for range clients {
			p.admitted.Observe(40_000)
		}
		return p
	}
	for _, before := range [][2]uint64{{0, 0}, {16, 24}} {
		for _, traffic := range []bool{false, true} {
			var now part
			s := &source{traffic: traffic, parts: func() []part { return []part{now} }}
			told := func(p part) string {
				now = p
				b, err := json.Marshal(shown([]part{p}, traffic))
				if err != nil {
					t.Fatal(err)
				}
				return s.page().String() + string(b)
			}
			a := told(came(before[0], before[1]))
			if before[0] == 0 {
				s.blur = metric.Blur{} // as ten seconds later, when what is held back is looked at anew
			}
			b := told(came(before[0]+1, before[1]+4))
			if (a == b) == traffic {
				t.Errorf("traffic %v, a client beside %d: the same is %v\n%s\n%s", traffic, before[0], a == b, a, b)
			}
		}
	}
}

// What cannot start says why, and leaves nothing running.
func TestRunSaysWhatIsWrong(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) }) // after all others
	files, _ := initNetwork(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := netip.MustParseAddrPort(taken.Addr().String())
	for _, c := range []struct {
		what string
		file int
		edit func(*setup.Config)
		want string
	}{
		{"the authority's address is taken", 0, func(c *setup.Config) { c.Serve.Listen = busy }, "cannot listen"},
		{"a key of no authority", 0, func(c *setup.Config) { c.Network.Trust.Authorities = c.Network.Trust.Authorities[1:] }, "does not name the authority"},
		{"no key", 0, func(c *setup.Config) { c.Keys = t.TempDir() }, "cannot read the key"},
		{"a damaged mark", 0, func(c *setup.Config) { damage(t, c.Keys, signedFile) }, "is damaged"},
		{"no node keys", 4, func(c *setup.Config) { c.Keys = t.TempDir() }, "cannot read the key"},
		{"a replica without its key", 3, func(c *setup.Config) { c.Keys = t.TempDir() }, "cannot read the key"},
		{"the replica's address is taken", 3, func(c *setup.Config) { c.Replicate.Listen = busy }, "cannot listen"},
		{"a replica that nobody answers", 3, func(c *setup.Config) { c.Directories = nil }, "no directory address"},
		{"no fleet key", 4, func(c *setup.Config) { os.Remove(filepath.Join(c.Keys, "fleet.key")) }, "no fleet key"},
		{"a damaged mark of a node", 6, func(c *setup.Config) { damage(t, c.Keys, "node.newest") }, "is damaged"},
		{"no directory", 7, func(c *setup.Config) { c.Directories = nil }, "no directory address"},
		{"the proxy's address is taken", 8, func(c *setup.Config) {
			c.Client, c.Proxy = true, setup.ProxyConfig{Socks: busy, Level: wire.Fast}
		}, "for the proxy"},
		{"the metrics' address is taken", 7, func(c *setup.Config) { c.Metrics = busy }, "for status and metrics"},
	} {
		t.Run(c.what, func(t *testing.T) {
			cfg, err := setup.LoadConfig(files[c.file])
			if err != nil {
				t.Fatal(err)
			}
			c.edit(cfg)
			_, log := newJournal()
			if err := Run(t.Context(), cfg, nil, nil, testServers, log); !contains(err, c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func damage(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("nyx-mark-1 7"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A part that stops by itself ends the process, and is named.
func TestPartsThatStop(t *testing.T) {
	done, why := make(chan struct{}), errors.New("socket gone")
	parts := []running{{name: "authority"}, {name: "node", done: done, err: func() error { return why }}}
	close(done)
	if err := wait(t.Context(), parts); !errors.Is(err, why) || !contains(err, "the node stopped by itself") {
		t.Errorf("wait: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := wait(ctx, parts[:1]); err != nil {
		t.Errorf("asked to stop: %v", err)
	}
}

// The status page of a network on this machine, and what joins it from outside:
// a network file, a client of it, one more client.
func TestLocalNetworkIsShownAndJoined(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	s, err := ServeStatus("127.0.0.1:0", l)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dial(t, l, "", echoServer(t)).Close()
	for path, wants := range map[string][]string{
		"":        {"<h1>Nyx on this machine</h1>", "stream-0: working", "client: working"},
		"status":  {`"name":"mix-5"`, `"state":"working"`, `"link_in"`},
		"metrics": {`nyx_up{part="stream-2"} 1`, `nyx_setup_done_total{part="mix-0"}`, `nyx_cells_out_total{part="client"}`},
	} {
		status, body := get(t, s.URL()+path, "")
		for _, secret := range []string{"real_out", "dummy_out", "dummy_in", "session_packet_in", "retransmit", "proxy"} {
			if strings.Contains(body, secret) {
				t.Errorf("/%s tells %s", path, secret)
			}
		}
		for _, want := range wants {
			if status != 200 || !strings.Contains(body, want) {
				t.Errorf("/%s: %d, without %s", path, status, want)
			}
		}
		for _, host := range []string{"nyx.example", "localhost:80", "192.0.2.1:80", "["} {
			if status, _ := get(t, s.URL()+path, host); status != http.StatusForbidden && status != http.StatusBadRequest {
				t.Errorf("/%s for %s: %d", path, host, status)
			}
		}
	}
	if _, err := ServeStatus(s.listener.Addr().String(), l); !contains(err, "cannot listen") {
		t.Errorf("two on one address: %v", err)
	}
	path := filepath.Join(t.TempDir(), "network.toml")
	if err := l.WriteNetwork(path); err != nil {
		t.Fatal(err)
	}
	network, err := setup.LoadNetwork(path)
	if err != nil {
		t.Fatal(err)
	}
	joined, err := JoinNetwork(network, client.Config{Level: wire.Fast}, "", joint.UDP, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer joined.Close()
	added, err := l.AddClient(client.Config{Level: wire.Fast})
	if err != nil {
		t.Fatal(err)
	}
	defer added.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, c := range []*Client{joined, added} {
		if err := c.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		if c.Addr() == l.Client.Addr() || c.Load().Rounds == 0 {
			t.Error("a client of its own has its own socket")
		}
	}
	for _, n := range l.Nodes {
		<-n.Listed()
		if n.ID() != directory.NodeID(n.cfg.Identity.Public()) || n.Failure() != nil || n.Load().Rounds == 0 {
			t.Errorf("node %s does not run", n.cfg.Name)
		}
	}
}

// What a local network cannot be, it says.
func TestLocalNetworkNeedsNodes(t *testing.T) {
	for _, c := range []LocalConfig{{Streams: 1, Mixes: 6}, {Streams: 3, Mixes: 2}} {
		if _, err := StartLocal(c); !contains(err, "needs at least 2 Stream nodes and 3 Mix nodes") {
			t.Errorf("%d Stream and %d Mix nodes: %v", c.Streams, c.Mixes, err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := StartLocal(LocalConfig{Streams: 2, Mixes: 3, Socks: taken.Addr().String()}); !contains(err, "for SOCKS") {
		t.Errorf("an address that is taken: %v", err)
	}
}
