package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/wire"
)

// readyTimeout bounds the wait for the local network.
const readyTimeout = 60 * time.Second

// network starts a local network of 3 Stream nodes and 6 Mix nodes with a
// proxy on a free port.
func network(ctx context.Context, level wire.Level) (*daemon.Local, error) {
	l, err := daemon.StartLocal(daemon.LocalConfig{
		Seed: [32]byte{1}, Streams: 3, Mixes: 6, Socks: "127.0.0.1:0", Client: client.Config{Level: level},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := l.Client.WaitReady(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// source is a TCP server that sends as long as anybody reads.
func source() (net.Listener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 256<<10)
				for {
					if _, err := c.Write(buf); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln, nil
}

// runStream downloads through the network with 1 and with 8 streams.
func runStream(ctx context.Context, o Options) ([]Figure, error) {
	o = o.withDefaults()
	l, err := network(ctx, wire.Fast)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ln, err := source()
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	direct, _, err := download(ctx, 1, o.duration(), func(context.Context) (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) })
	if err != nil {
		return nil, err
	}
	var out []Figure
	for _, streams := range []int{1, 8} {
		o.Progress(fmt.Sprintf("%d streams for %v", streams, o.duration()))
		rate, cpu, err := download(ctx, streams, o.duration(), func(ctx context.Context) (net.Conn, error) {
			return dialSocks(ctx, l.Socks(), ln.Addr().String())
		})
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("download, %d streams, 5 hops", streams)
		bound := 50.0
		if streams > 1 {
			bound = 60
		}
		f := Figure{Name: name, Value: rate / 1e6, Unit: "MB/s", Note: "floor: plain TCP on loopback"}
		f = f.against(direct / 1e6)
		f.Note += fmt.Sprintf("; budget %.0f MB/s", bound)
		out = append(out, f, Figure{
			Name: name + ", CPU", Value: cpu / (rate * o.duration().Seconds()) * (1 << 30), Unit: "s/GiB", Bound: 18,
			Note: "all hops, client, source and sink in one process",
		})
	}
	o.Progress("upload")
	up, err := upload(ctx, l.Socks(), o.duration())
	if err != nil {
		return nil, err
	}
	return append(out, Figure{Name: "upload, 1 stream, 5 hops", Value: up / 1e6, Unit: "MB/s"}.against(direct/1e6)), nil
}

// upload writes to a connection through the proxy for d and returns the bytes
// per second that arrived at the target meanwhile.
func upload(ctx context.Context, socks string, d time.Duration) (rate float64, err error) {
	var arrived atomic.Int64
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 256<<10)
		for {
			n, err := c.Read(buf)
			arrived.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	c, err := dialSocks(ctx, socks, ln.Addr().String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	buf := make([]byte, 256<<10)
	write := func(until time.Time) error {
		c.SetWriteDeadline(until.Add(10 * time.Second))
		for time.Now().Before(until) {
			if _, err := c.Write(buf); err != nil {
				return err
			}
		}
		return nil
	}
	if err := write(time.Now().Add(time.Second)); err != nil {
		return 0, err
	}
	before, begun := arrived.Load(), time.Now()
	if err := write(begun.Add(d)); err != nil {
		return 0, err
	}
	return float64(arrived.Load()-before) / time.Since(begun).Seconds(), nil
}

// download reads from n connections for d and returns bytes per second and the
// CPU seconds that this process used.
func download(ctx context.Context, n int, d time.Duration, dial func(context.Context) (net.Conn, error)) (rate, cpu float64, err error) {
	conns := make([]net.Conn, n)
	for i := range conns {
		if conns[i], err = dial(ctx); err != nil {
			return 0, 0, err
		}
		defer conns[i].Close()
	}
	// What the connection opens with is not counted.
	warm := time.Now().Add(time.Second)
	if _, err := readUntil(conns, warm); err != nil {
		return 0, 0, err
	}
	before, begun := cpuTime(), time.Now()
	total, err := readUntil(conns, begun.Add(d))
	took := time.Since(begun)
	return float64(total) / took.Seconds(), (cpuTime() - before).Seconds() * d.Seconds() / took.Seconds(), err
}

func readUntil(conns []net.Conn, end time.Time) (total int64, err error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, c := range conns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			buf := make([]byte, 256<<10)
			var sum int64
			var failed error
			for time.Now().Before(end) && failed == nil {
				var n int
				c.SetReadDeadline(end.Add(10 * time.Second))
				n, failed = c.Read(buf)
				sum += int64(n)
			}
			mu.Lock()
			defer mu.Unlock()
			total += sum
			if failed != nil {
				err = failed
			}
		}()
	}
	wg.Wait()
	return total, err
}

// dialSocks opens a connection through a SOCKS5 proxy without credentials.
func dialSocks(ctx context.Context, proxy, target string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", proxy)
	if err != nil {
		return nil, err
	}
	to, err := net.ResolveTCPAddr("tcp4", target)
	if err != nil {
		c.Close()
		return nil, err
	}
	request := append([]byte{5, 1, 0, 5, 1, 0, 1}, to.IP.To4()...)
	request = append(request, byte(to.Port>>8), byte(to.Port))
	if _, err := c.Write(request); err != nil {
		c.Close()
		return nil, err
	}
	var answer [12]byte
	c.SetReadDeadline(time.Now().Add(readyTimeout))
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		c.Close()
		return nil, err
	}
	c.SetReadDeadline(time.Time{})
	if answer[3] != 0 {
		c.Close()
		return nil, fmt.Errorf("the proxy answers %d", answer[3])
	}
	return c, nil
}
