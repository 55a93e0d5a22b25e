package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/changes"
	"github.com/nyxnet/nyx/internal/wire"
)

// deskTop is a control plane for tests, whose nodes reach it without a wire.
type deskTop struct {
	t    *testing.T
	log  *changes.Log
	desk *SettingsDesk
	mux  *http.ServeMux

	mu    sync.Mutex
	have  map[string]string // what nodes said last, by name: refused, else applied
	grown chan struct{}
}

func newDeskTop(t *testing.T) *deskTop {
	t.Helper()
	log, err := changes.Open(t.Context(), changes.Config{Store: registry.NewMemory(nil, nil), Schema: settings.Network(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	d := &deskTop{t: t, log: log, mux: http.NewServeMux(), have: map[string]string{}, grown: make(chan struct{})}
	d.desk = NewSettingsDesk(log, prng.FromUint64(1), nil)
	d.desk.Register(d.mux, func(r *http.Request) (string, bool) { return r.Header.Get("Node"), r.Header.Get("Node") != "" })
	return d
}

// plane is how a node reaches it. The desk's answer ends with the request.
func (d *deskTop) plane(node string) Plane {
	return func(ctx context.Context, method, path string, _ []byte) (int, []byte, error) {
		at, err := url.Parse(path)
		if err != nil {
			return 0, nil, err
		}
		d.desk.hear(node, at.Query()) // before who waits for it is told
		d.mu.Lock()
		d.have[node] = at.Query().Get("applied")
		if refused := at.Query().Get("refused"); refused != "" {
			d.have[node] = "refused " + refused
		}
		close(d.grown)
		d.grown = make(chan struct{})
		d.mu.Unlock()
		r := httptest.NewRequestWithContext(ctx, method, path, nil)
		r.Header.Set("Node", node)
		w := httptest.NewRecorder()
		d.mux.ServeHTTP(w, r)
		return w.Code, w.Body.Bytes(), ctx.Err()
	}
}

// await waits until so many nodes say so.
func (d *deskTop) await(nodes int, say string) {
	d.t.Helper()
	limit := time.After(patience)
	for {
		d.mu.Lock()
		n, grown := 0, d.grown
		for _, said := range d.have {
			if said == say {
				n++
			}
		}
		d.mu.Unlock()
		if n == nodes {
			return
		}
		select {
		case <-grown:
		case <-limit:
			d.t.Fatalf("%d of %d nodes say %q: %v", n, nodes, say, d.have)
		}
	}
}

var setCount byte

func (d *deskTop) set(pairs ...string) settings.Change {
	d.t.Helper()
	setCount++
	c := settings.Change{ID: settings.ID{7, setCount}, Actor: "alice", Set: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		c.Set[pairs[i]] = pairs[i+1]
	}
	got, err := d.log.Submit(d.t.Context(), changes.Submission{Change: c})
	if err != nil {
		d.t.Fatal(err)
	}
	return got
}

// The configuration changes a network that runs: its exits, its entries' limits, its
// logs; and back. Traffic goes on.
func TestSettingsReachRunningNodes(t *testing.T) {
	d := newDeskTop(t)
	l := standNetwork(t, LocalConfig{Seed: [32]byte{5}, Streams: 2, Mixes: 3, Regions: 1, Client: client.Config{Level: wire.Fast}, Plane: d.plane})
	port := echoServer(t)
	open := func() error {
		c, err := l.Client.DialStream(t.Context(), "", "127.0.0.1", port)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err = c.Write([]byte("x")); err == nil {
			c.SetReadDeadline(time.Now().Add(patience))
			_, err = c.Read(make([]byte, 1))
		}
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	c := d.set(settings.ExitAllowPrivate, "false", settings.LogLevel, "debug", settings.AdmissionPerMinute, "500", settings.CoverRateMax, "120", settings.TelemetrySampling, "7")
	d.await(5, fmt.Sprint(c.Revision))
	if err := open(); err == nil {
		t.Error("an exit opens what the configuration forbids")
	}
	for _, n := range l.Nodes {
		v := n.settings.Get()
		if stream := n.gateway != nil; v.Int(settings.TelemetrySampling, 0) != 7 || (v[settings.AdmissionPerMinute] == "500") != stream {
			t.Errorf("%s has %v", n.cfg.Name, v)
		}
		if f := n.settler.figures(); f.Revision != c.Revision || f.Refused != 0 {
			t.Errorf("%s: %+v", n.cfg.Name, f)
		}
	}
	back, err := d.log.Rollback(t.Context(), settings.ID{8}, "alice", 0)
	if err != nil {
		t.Fatal(err)
	}
	d.await(5, fmt.Sprint(back.Revision))
	if err := open(); err != nil {
		t.Errorf("after the change was taken back: %v", err)
	}
	var page strings.Builder
	writeSettings(&page, append(l.parts(), part{Name: "control", desk: d.desk.figures()}))
	for _, want := range []string{`config_applied_version{part="mix-2"} 2`, `control_duplicate_event_detected{part="stream-0"} 0`, `control_event_queue_depth{part="control"} 0`, `config_dead_letter_count{part="control"} 0`} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the metrics lack %s:\n%s", want, page.String())
		}
	}
	for _, n := range d.desk.Nodes() {
		if n.Hash != StateHash(d.log.State()) {
			t.Errorf("%s says hash %s", n.Node, n.Hash)
		}
	}
}

// part of a settler that cannot have a value.
func refusing(held *[]string, bad string) settings.Subscriber {
	return settings.Subscriber{Name: "exit", Prepare: func(v settings.Values) (func(), func(), error) {
		if v[settings.ExitPorts] == bad {
			return nil, nil, errors.New("the port is taken")
		}
		return func() { *held = append(*held, v[settings.ExitPorts]+" "+v[settings.LogLevel]) }, nil, nil
	}}
}

// A configuration that one part cannot have is not in force at any, the control plane
// hears why, and the correction is. A node that starts without a control plane has
// what it had last.
func TestSettingsAreAllOrNone(t *testing.T) {
	d := newDeskTop(t)
	var level slog.LevelVar
	var held []string
	dir := t.TempDir()
	parts := func() []settings.Subscriber { return []settings.Subscriber{logLevel(&level), refusing(&held, "22")} }
	s := newSettler("one", settings.Stream, dir, parts(), nil, logOrNone(nil))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.follow(ctx, d.plane("one")) })
	d.set(settings.ExitPorts, "80", settings.LogLevel, "warn")
	d.await(1, "1")
	d.set(settings.ExitPorts, "22", settings.LogLevel, "debug")
	d.await(1, "refused 2")
	if level.Level() != slog.LevelWarn {
		t.Errorf("the log took level %v of a configuration that the exit refused", level.Level())
	}
	d.set(settings.ExitPorts, "443")
	d.await(1, "3")
	if level.Level() != slog.LevelDebug || strings.Join(held, ", ") != "80 warn, 443 debug" {
		t.Errorf("level %v; the exit had %v", level.Level(), held)
	}
	if nodes := d.desk.Nodes(); len(nodes) != 1 || nodes[0].Revision != 3 || nodes[0].Refused != 0 {
		t.Errorf("the desk knows %+v", nodes)
	}
	stop()
	running.Wait()
	level.Set(slog.LevelInfo)
	newSettler("one", settings.Stream, dir, parts(), nil, logOrNone(nil))
	if level.Level() != slog.LevelDebug || len(held) != 3 {
		t.Errorf("after a restart: level %v, the exit had %v", level.Level(), held)
	}
}

// Who is no node of the network hears nothing.
func TestSettingsAreForNodes(t *testing.T) {
	d := newDeskTop(t)
	for path, want := range map[string]int{settingsPath + "?after=0": http.StatusForbidden, settingsPath + "?after=-1": http.StatusForbidden} {
		w := httptest.NewRecorder()
		d.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want || len(d.desk.Nodes()) != 0 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
