package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/proxy"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// patience is how long tests wait for what comes about on real sockets. It is
// for a machine that is busy with something else: with ten such networks on
// two processors at low priority, an echo that needs 2 ms took 48 s, of which the
// client's host had no processor for 16 s at a stretch.
const patience = 2 * time.Minute

// explain logs what every part of a network has counted, and how late its
// rounds were: that tells a stall from a machine without time.
func (l *Local) explain(t testing.TB) {
	t.Logf("client: %+v\n%v", l.Client.Load(), counted(l.Client.Stats()))
	for _, n := range l.Nodes {
		t.Logf("%s: %+v\n%v", n.cfg.Name, n.Load(), counted(n.Stats()))
	}
}

// counted are the counters that are not 0, by name.
func counted(c trace.Counts) map[string]uint64 {
	out := map[string]uint64{}
	for i := trace.Counter(0); i < trace.NumCounters; i++ {
		if c[i] != 0 {
			out[i.String()] = c[i]
		}
	}
	return out
}

// startNetwork runs a network on this machine until the test ends, and says what
// it has counted if the test failed.
func startNetwork(t testing.TB, level wire.Level) *Local {
	t.Helper()
	return standNetwork(t, LocalConfig{
		Seed: [32]byte{1}, Streams: 3, Mixes: 6, Regions: 1, Socks: "127.0.0.1:0",
		Client: client.Config{Level: level},
	})
}

func standNetwork(t testing.TB, cfg LocalConfig) *Local {
	t.Helper()
	l, err := StartLocal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.explain(t)
		}
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.Client.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return l
}

// echoServer answers every connection with what it sends, and closes when the
// client has.
func echoServer(t testing.TB) (port uint16) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { ln.Close(); running.Wait() })
	running.Add(1)
	go func() {
		defer running.Done()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Add(1)
			go func() {
				defer running.Done()
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	p, _ := strconv.Atoi(ln.Addr().String()[len("127.0.0.1:"):])
	return uint16(p)
}

func dial(t testing.TB, l *Local, isolation string, port uint16) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := l.Client.DialStream(ctx, isolation, "127.0.0.1", port)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBytesCrossTheNetwork(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("network", func(t *testing.T) {
		l := startNetwork(t, wire.Fast)
		port := echoServer(t)
		c := dial(t, l, "", port)
		defer c.Close()
		payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
		go func() {
			c.Write(payload)
			c.(interface{ CloseWrite() error }).CloseWrite()
		}()
		c.SetReadDeadline(time.Now().Add(patience))
		got, err := io.ReadAll(c)
		if err != nil || sha256.Sum256(got) != sha256.Sum256(payload) {
			t.Fatalf("%d bytes of %d came back, %v", len(got), len(payload), err)
		}
	})
}

// offer publishes a service and serves its callers until the test ends.
func offer(t *testing.T, l *Local, key *service.Key, serve func(net.Conn)) {
	t.Helper()
	ln, err := l.Client.Listen(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	select {
	case <-ln.Published():
	case <-time.After(patience):
		t.Fatal("the service was not published")
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
}

// A service inside the network is reached by its address; neither end learns
// where the other is.
func TestServiceIsReachedByItsAddress(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	key, err := service.NewKey(prng.FromUint64(5))
	if err != nil {
		t.Fatal(err)
	}
	offer(t, l, key, func(c net.Conn) { io.Copy(c, c) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := l.Client.DialStream(ctx, "caller", key.Address().String(), 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	payload := bytes.Repeat([]byte("service "), 1<<16)
	go func() {
		c.Write(payload)
		c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	c.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("%d bytes of %d came back, %v", len(got), len(payload), err)
	}
	if _, err := l.Client.DialStream(ctx, "", service.Address{1}.String(), 80); !errors.Is(err, proxy.ErrHostUnreachable) {
		t.Errorf("an address without a service: %v", err)
	}
}
