package daemon

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/udp"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// floodFor is how long the flood lasts; NYX_FLOOD_SECONDS=10 is the full one.
func floodFor() time.Duration {
	if n, err := strconv.Atoi(os.Getenv("NYX_FLOOD_SECONDS")); err == nil {
		return time.Duration(n) * time.Second
	}
	return 2 * time.Second
}

// floodRate is the datagrams of garbage per second.
const floodRate = 100_000

// flood sends random datagrams to an address until stop is set, and returns
// how many it sent.
func flood(t *testing.T, to netip.AddrPort, stop *atomic.Bool) (sent int) {
	c, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		t.Error(err)
		return 0
	}
	defer c.Close()
	rng := prng.FromUint64(1).Stream("garbage")
	begun := time.Now()
	for !stop.Load() {
		if due := int(time.Since(begun).Seconds() * floodRate); sent >= due {
			runtime.Gosched()
			continue
		}
		for range 64 {
			b := c.Next()
			if b == nil {
				break
			}
			rng.Read(b[:wire.DatagramSize])
			c.Commit(wire.DatagramSize, to)
			sent++
		}
		if err := c.Flush(); err != nil {
			t.Error(err)
			return sent
		}
	}
	return sent
}

// A flood of garbage at every node of the route does not stop the traffic, and
// leaves no memory behind (property 10).
func TestFloodBuysNothing(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	c := dial(t, l, "", echoServer(t))
	defer c.Close()
	chunk := bytes.Repeat([]byte("flood"), 2000)
	got := make([]byte, len(chunk))
	exchange := func() {
		t.Helper()
		c.SetDeadline(time.Now().Add(patience))
		go c.Write(chunk)
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, chunk) {
			t.Fatalf("the exchange broke: %v", err)
		}
	}
	exchange()
	carrying := busiest(l)
	var stop atomic.Bool
	sent := make(chan int, 1)
	before := heap()
	go func() { sent <- flood(t, carrying.Addr(), &stop) }()
	rounds := 0
	for end := time.Now().Add(floodFor()); time.Now().Before(end); rounds++ {
		exchange()
	}
	grown := int64(heap()) - int64(before)
	stop.Store(true)
	n := <-sent
	stats := carrying.Stats()
	t.Logf("%d datagrams of garbage at %s, %d refused there, %d exchanges of %d bytes meanwhile, heap grew by %d KiB",
		n, carrying.cfg.Name, stats[trace.DropLinkUnknown], rounds, 2*len(chunk), grown>>10)
	if stats[trace.DropLinkUnknown] == 0 {
		t.Error("the flood did not arrive")
	}
	if grown > 32<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
	exchange()
}

// busiest is the Mix node that has forwarded most.
func busiest(l *Local) *Node {
	var best *Node
	var most uint64
	for _, n := range l.Nodes {
		if c := n.Stats(); n.exit == nil && c[trace.CellForwarded] > most {
			best, most = n, c[trace.CellForwarded]
		}
	}
	return best
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
