//go:build unix

package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/etcd"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

// controlFiles makes a network with one control process, and returns the directory of
// that one.
func controlFiles(t *testing.T) string { return filepath.Join(networkFiles(t, 1), "control-1") }

// networkFiles makes a network with control processes, and returns its directory.
func networkFiles(t *testing.T, controls int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "network")
	c := setup.InitConfig{Network: "test", Streams: 2, Mixes: 3, Authorities: 1, Controls: controls, Wall: time.Now().Unix()}
	port, err := freePorts(c.Ports())
	if err != nil {
		t.Fatal(err)
	}
	c.Port = port
	if _, err := setup.Init(dir, c); err != nil {
		t.Fatal(err)
	}
	return dir
}

// heard is a log that says when a line came.
type heard struct {
	slog.Handler
	line string
	come chan struct{}
}

func (h *heard) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.line {
		select {
		case h.come <- struct{}{}:
		default:
		}
	}
	return nil
}

func (h *heard) Enabled(context.Context, slog.Level) bool { return true }
func (h *heard) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *heard) WithGroup(string) slog.Handler            { return h }

// patience is how long a test waits for a process of its own.
const patience = time.Minute

// watched is a compliance store that says what it has recorded.
type watched struct {
	daemon.Store

	mu     sync.Mutex
	events []audit.Event
	grown  chan struct{}
}

func watch(store daemon.Store) *watched {
	return &watched{Store: store, grown: make(chan struct{})}
}

func (w *watched) Record(ctx context.Context, events ...audit.Event) error {
	if err := w.Store.Record(ctx, events...); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, events...)
	close(w.grown)
	w.grown = make(chan struct{})
	return nil
}

// await waits until the log has an event.
func (w *watched) await(t *testing.T, what string, is func(*audit.Event) bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		w.mu.Lock()
		found, grown := false, w.grown
		for i := range w.events {
			found = found || is(&w.events[i])
		}
		w.mu.Unlock()
		if found {
			return
		}
		select {
		case <-grown:
		case <-limit:
			t.Fatalf("the log has no %s", what)
		}
	}
}

// runControl runs a configured control process until the test ends, or stop is called.
func runControl(t *testing.T, dir string) (log *watched, stop func()) {
	t.Helper()
	cfg, err := setup.LoadConfig(filepath.Join(dir, "node.toml"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended, h := make(chan error, 1), &heard{line: "control process", come: make(chan struct{}, 1)}
	own := servers
	own.Control = func(c daemon.ControlConfig) (*daemon.Control, error) {
		store, err := openCompliance(c.StateDir, c.Trust.Network, c.Name)
		if err != nil {
			return nil, err
		}
		log = watch(store)
		c.Store = log
		control, _, err := startControlOn(store, c)
		return control, err
	}
	go func() { ended <- daemon.Run(ctx, cfg, nil, nil, own, slog.New(h)) }()
	select {
	case <-h.come:
	case err := <-ended:
		t.Fatalf("the control process: %v", err)
	case <-time.After(patience):
		t.Fatal("the control process does not start")
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the control process ends: %v", err)
		}
	})
	t.Cleanup(stop)
	return log, stop
}

// audited are the events of a kind and action in the log of a control process that does
// not run, by the value of a detail.
func audited(t *testing.T, dir, kind, action, detail string) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for cursor := ""; ; {
		args := []string{"audit", "query", "--dir", filepath.Join(dir, auditDir), "--kind", kind, "--action", action, "--limit", "1000", "--json"}
		if cursor != "" {
			args = append(args, "--cursor", cursor)
		}
		out, err := nyx(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Events []struct{ Details map[string]string }
			Cursor string
		}
		if err := json.Unmarshal([]byte(out), &page); err != nil {
			t.Fatalf("%v: %.300s", err, out)
		}
		for _, e := range page.Events {
			seen[e.Details[detail]]++
		}
		if cursor = page.Cursor; cursor == "" || len(page.Events) == 0 {
			return seen
		}
	}
}

const refusesFast = `package nyx.admission

default decision := {"accept": true, "cache_s": 300}

decision := {"accept": false, "reason": 1, "cache_s": 60} if input.level == "fast"
`

// A network on this machine on real engines: the policy of a bundle refuses a level, an
// operator's change reaches the nodes, and the log has both, and verifies.
func TestLocalNetworkOnRealEngines(t *testing.T) {
	data, bundle := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"admission.rego": refusesFast, ".manifest": `{"revision": "no-fast"}`} {
		if err := os.WriteFile(filepath.Join(bundle, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := (*watched)(nil)
	up := func() (stop func() error) {
		t.Helper()
		dir := filepath.Join(data, "control")
		store, err := openCompliance(dir, daemon.LocalName, daemon.LocalControl)
		if err != nil {
			t.Fatal(err)
		}
		log = watch(store)
		l, err := daemon.StartLocal(daemon.LocalConfig{
			Seed: [32]byte{1}, Streams: 2, Mixes: 3, Client: client.Config{Level: wire.Standard},
			ControlDir: dir, OperatorFile: filepath.Join(data, daemon.OperatorFileName),
			Control: func(c daemon.ControlConfig) (*daemon.Control, error) {
				c.Store, c.PolicySource = log, bundle
				control, _, err := startControlOn(store, c)
				return control, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		stop = sync.OnceValue(l.Close)
		t.Cleanup(func() { stop() })
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := l.Client.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		return stop
	}
	if err := up()(); err != nil {
		t.Errorf("it ends: %v", err)
	}
	stop := up() // another network, with the same data
	operator := filepath.Join(data, daemon.OperatorFileName)
	if out, err := nyx(t, "config", "set", "admission.per_minute=77", "--operator", operator); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if _, err := nyx(t, "config", "set", "admission.per_minute=0", "--operator", operator); err == nil {
		t.Error("what is out of bounds was set")
	}
	log.await(t, "change", func(e *audit.Event) bool { return e.Kind == audit.ConfigChange && e.Action == "set" })
	log.await(t, "refused order", func(e *audit.Event) bool { return e.Kind == audit.ConfigChange && e.Action == "order" })
	if err := stop(); err != nil {
		t.Errorf("it ends: %v", err)
	}
	dir := filepath.Join(data, "control")
	if n := audited(t, dir, "config.change", "policy.take", "revision"); n["no-fast"] != 1 || len(n) != 1 {
		t.Errorf("policies in the log: %v", n)
	}
	if n := audited(t, dir, "config.change", "set", "keys"); n["admission.per_minute"] != 1 || len(n) != 1 {
		t.Errorf("changes in the log: %v", n)
	}
	if n := audited(t, dir, "config.change", "order", "revision"); n[""] != 1 {
		t.Errorf("refused orders in the log: %v", n)
	}
	wantAudit(t, "ok:", "verify", "--dir", filepath.Join(dir, auditDir))
}

// setOne changes the configuration, and returns the id of the change once it is
// acknowledged; "": it was not.
func setOne(t *testing.T, operator string, n int) string {
	f, err := daemon.LoadOperatorFile(operator)
	if err != nil {
		return ""
	}
	client, err := f.Client()
	if err != nil {
		return ""
	}
	d, o := &desk{f, client}, daemon.SettingsOrder{ID: daemon.NewChangeID(), Set: map[string]string{settings.AdmissionPerMinute: strconv.Itoa(n + 1)}}
	var c settings.Change
	if d.ask(t.Context(), "", o, &c) != nil {
		return ""
	}
	return c.ID.String()
}

// Two control processes of one etcd cluster have one configuration. One of them leads and
// tells the log; when it is gone the other does, and tells what is new.
func TestControlsOfOneCluster(t *testing.T) {
	var urls [2]string
	for i := range urls {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		urls[i] = "http://" + ln.Addr().String()
		ln.Close()
	}
	member, err := etcd.Member{Name: "m", Dir: t.TempDir(), Peer: urls[0], Client: urls[1], Cluster: "m=" + urls[0]}.Start(t.Context(), "/test/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { member.Close() })
	network := networkFiles(t, 2)
	var dirs, operators [2]string
	for i := range dirs {
		dirs[i] = filepath.Join(network, "control-"+strconv.Itoa(i+1))
		operators[i] = filepath.Join(dirs[i], "keys", daemon.OperatorFileName)
		path := filepath.Join(dirs[i], "node.toml")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer(`store = "etcd"`, `store = "`+urls[1]+`"`, `store = "none"`, `store = "`+urls[1]+`"`).Replace(string(b))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leads := func(e *audit.Event) bool { return e.Kind == audit.ControlElection && e.Action == "lead" }
	is := func(id string) func(*audit.Event) bool {
		return func(e *audit.Event) bool { return e.Detail("message_id") == id }
	}
	first, stop := runControl(t, dirs[0])
	first.await(t, "election", leads)
	second, _ := runControl(t, dirs[1])
	for i, operator := range operators {
		first.await(t, "change", is(setOne(t, operator, i)))
	}
	if out, err := nyx(t, "config", "get", "admission.per_minute", "--operator", operators[0]); err != nil || !strings.Contains(out, "2") {
		t.Errorf("what was set at the second process is not at the first: %s, %v", out, err)
	}
	stop()
	second.await(t, "election", leads)
	second.await(t, "change", is(setOne(t, operators[1], 2)))
	second.mu.Lock()
	defer second.mu.Unlock()
	for _, e := range second.events {
		if e.Kind == audit.ConfigChange && e.Detail("revision") == "1" {
			t.Errorf("who leads next tells again of what was told and marked: %+v", e)
		}
	}
}
