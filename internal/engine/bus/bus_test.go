package bus

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/pipeline/bustest"
)

// names keeps the streams of tests apart.
var names atomic.Int64

func name() string { return fmt.Sprint("test", names.Add(1)) }

func openEmbedded(t *testing.T, dir string, l pipeline.Limits) *Bus {
	t.Helper()
	b, err := Embedded(dir, "nyx", l)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEmbedded(t *testing.T) {
	bustest.Run(t, func(t *testing.T, l pipeline.Limits) pipeline.Bus {
		b := openEmbedded(t, t.TempDir(), l)
		t.Cleanup(func() { b.Close() })
		return b
	})
}

// TestKept: what was published, and what was received and not settled, is there after
// a restart, and so are dead messages.
func TestKept(t *testing.T) {
	dir, limits := filepath.Join(t.TempDir(), "bus"), pipeline.Limits{Patience: 200 * time.Millisecond}
	b := openEmbedded(t, dir, limits)
	bustest.Publish(t, b, pipeline.Ordinary, bustest.Messages(0, 3)...)
	got := bustest.Receive(t, b, pipeline.Ordinary, 3)
	if err := b.Settle(t.Context(), got[0]); err != nil {
		t.Fatal(err)
	}
	if err := b.Bury(t.Context(), got[1], "for the test"); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openEmbedded(t, dir, limits)
	defer b.Close()
	bustest.WantDepth(t, b, 0, 1, 1)
	if again := bustest.Receive(t, b, pipeline.Ordinary, 1); bustest.Number(&again[0].Message) != 2 {
		t.Errorf("message %d came, want 2", bustest.Number(&again[0].Message))
	}
}

// startCluster starts three servers on this machine that are one cluster.
func startCluster(t *testing.T) (servers []*server.Server, urls []string) {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: ln.Addr().String()})
		defer ln.Close()
	}
	for i := range 3 {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, JetStreamMaxStore: 64 << 30, JetStreamMaxMemory: 1 << 20,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}, Routes: routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// TestCluster: the same in a cluster, of which one server dies while messages are
// published: no acknowledged message is lost, none comes twice.
func TestCluster(t *testing.T) {
	servers, urls := startCluster(t)
	for _, s := range servers {
		s.Start()
		defer func() { s.Shutdown(); s.WaitForShutdown() }()
	}
	for _, s := range servers {
		if !s.ReadyForConnections(bustest.Patience) {
			t.Fatal("the cluster does not start")
		}
		urls = append(urls, s.ClientURL())
	}
	open := func(t *testing.T, l pipeline.Limits) pipeline.Bus {
		ctx, cancel := context.WithTimeout(t.Context(), bustest.Patience)
		defer cancel()
		for {
			b, err := Cluster(urls, name(), Files{}, l)
			if err == nil {
				t.Cleanup(func() { b.Close() })
				return b
			}
			if ctx.Err() != nil { // no leader was elected
				t.Fatal(err)
			}
		}
	}
	bustest.Run(t, open)
	b := open(t, pipeline.Limits{})
	const many, kill = 400, 150
	for i := 0; i < many; {
		if i == kill {
			go func() { servers[0].Shutdown() }()
		}
		if _, err := b.Publish(t.Context(), pipeline.Ordinary, bustest.Messages(i, 2)...); err == nil {
			i += 2 // else the same again
		}
	}
	got := bustest.Receive(t, b, pipeline.Ordinary, many)
	seen := map[int]bool{}
	for i := range got {
		seen[bustest.Number(&got[i].Message)] = true
	}
	if len(seen) != many {
		t.Errorf("%d of %d messages came", len(seen), many)
	}
	bustest.WantDepth(t, b, 0, many, 0)
}
