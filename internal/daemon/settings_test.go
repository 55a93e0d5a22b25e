package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/changes"
)

// deskTop is the control plane's side of the configuration, for tests; nodes reach it
// without a wire.
type deskTop struct {
	t    *testing.T
	log  *changes.Log
	desk *SettingsDesk

	mu    sync.Mutex
	have  map[string]string // what nodes said last, by name: refused, else applied
	grown chan struct{}
}

func newDeskTop(t *testing.T) *deskTop { return deskOn(t, registry.NewMemory(nil, nil), 1) }

// deskOn is that of one of several processes with a store.
func deskOn(t *testing.T, store registry.Store, seed uint64) *deskTop {
	t.Helper()
	log, err := changes.Open(t.Context(), changes.Config{Store: store, Schema: settings.Network(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return &deskTop{t: t, log: log, desk: NewSettingsDesk(log, prng.FromUint64(seed), nil), have: map[string]string{}, grown: make(chan struct{})}
}

// plane is how a node reaches it. The desk's answer ends with the request.
func (d *deskTop) plane(node string) askSettings {
	return func(ctx context.Context, query url.Values) (int, []byte, error) {
		d.desk.hear(node, query) // before who waits for it is told
		d.mu.Lock()
		d.have[node] = query.Get("applied")
		if refused := query.Get("refused"); refused != "" {
			d.have[node] = "refused " + refused
		}
		close(d.grown)
		d.grown = make(chan struct{})
		d.mu.Unlock()
		status, b := d.desk.answer(ctx, node, query)
		return status, b, ctx.Err()
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
	return change(d.t, d.log, pairs...)
}

// change has a change of keys and values accepted.
func change(t *testing.T, log *changes.Log, pairs ...string) settings.Change {
	t.Helper()
	setCount++
	c := settings.Change{ID: settings.ID{7, setCount}, Actor: "alice", Set: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		c.Set[pairs[i]] = pairs[i+1]
	}
	got, err := log.Submit(t.Context(), changes.Submission{Change: c})
	if err != nil {
		t.Fatal(err)
	}
	return got
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
