package drive_test

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/udp"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/machine"
)

func openUDP(t testing.TB, mode udp.Mode) *udp.Conn {
	t.Helper()
	c, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func startUDP(t testing.TB, mode udp.Mode, m machine.Machine) *drive.Host {
	t.Helper()
	h, err := drive.Start(drive.Config{Name: "test", Machine: m, Carrier: openUDP(t, mode)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// exchange sends count datagrams to a host and waits until as many came back.
func exchange(t testing.TB, c *udp.Conn, to netip.AddrPort, count int) {
	t.Helper()
	for range count {
		if c.Next() == nil {
			t.Fatal("batch is full")
		}
		c.Commit(1280, to)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	for got := 0; got < count; {
		n, err := c.Read(-1)
		if err != nil {
			t.Fatalf("%d of %d came back: %v", got, count, err)
		}
		got += n
	}
}

func TestEchoOnSockets(t *testing.T) {
	for mode := udp.Offload; mode <= udp.Plain; mode++ {
		t.Run(mode.String(), func(t *testing.T) {
			m := newEcho()
			m.timer, m.repeat = 1, time.Millisecond
			h := startUDP(t, mode, m)
			c := openUDP(t, mode)
			for range 20 {
				exchange(t, c, h.Addr(), 150)
			}
			exchange(t, c, h.Addr(), 1)
			if s := h.Snapshot(); s.DatagramsIn != 3001 || s.DatagramsOut != 3001 {
				t.Errorf("snapshot %+v", s)
			}
		})
	}
}

// The memory of a busy host is bounded by its batches, not by its traffic.
func TestTenHostsAreSmall(t *testing.T) {
	const hosts, limit = 10, 25 << 20
	before := heap()
	c := openUDP(t, udp.Offload)
	for range hosts {
		h := startUDP(t, udp.Offload, newEcho())
		exchange(t, c, h.Addr(), 100)
	}
	if used := heap() - before; used > limit {
		t.Errorf("%d hosts hold %d KiB, limit %d", hosts, used>>10, limit>>10)
	} else {
		t.Logf("%d hosts hold %d KiB", hosts, used>>10)
	}
	runtime.KeepAlive(c)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestForwardingDoesNotAllocate(t *testing.T) {
	h := startUDP(t, udp.Offload, newEcho())
	c := openUDP(t, udp.Offload)
	exchange(t, c, h.Addr(), 100)
	if n := testing.AllocsPerRun(100, func() {
		exchange(t, c, h.Addr(), 100)
		exchange(t, c, h.Addr(), 1)
	}); n > 0 {
		t.Errorf("%v allocations for 101 datagrams", n)
	}
}
