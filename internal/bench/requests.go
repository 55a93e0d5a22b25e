package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// bodySize is the size of a small answer.
const bodySize = 64

// webServer answers every GET with bodySize bytes.
func webServer() (net.Listener, func(), error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	body := make([]byte, bodySize)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })}
	go s.Serve(ln)
	return ln, func() { s.Close() }, nil
}

// inFlight is the concurrency of the request figures.
const inFlight = 64

// runRequests sends small HTTP requests through the network: with keep-alive,
// and each over a SOCKS connection of its own.
func runRequests(ctx context.Context, o Options) ([]Figure, error) {
	o = o.withDefaults()
	l, err := network(ctx, wire.Fast)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ln, stop, err := webServer()
	if err != nil {
		return nil, err
	}
	defer stop()
	target := ln.Addr().String()
	dialNyx := func() (net.Conn, error) { return dialSocks(ctx, l.Socks(), target) }
	dialDirect := func() (net.Conn, error) { return net.Dial("tcp", target) }
	direct, err := keepAlive(o.duration(), dialDirect)
	if err != nil {
		return nil, err
	}
	o.Progress("keep-alive")
	kept, err := keepAlive(o.duration(), dialNyx)
	if err != nil {
		return nil, err
	}
	o.Progress("a connection for each request")
	each, err := connectEach(o.duration(), dialNyx)
	if err != nil {
		return nil, err
	}
	directEach, err := connectEach(o.duration(), dialDirect)
	if err != nil {
		return nil, err
	}
	note := "floor: the same client and server directly"
	return []Figure{
		Figure{Name: "requests, 64 in flight, keep-alive", Value: kept.rate, Unit: "requests/s", Note: note + "; budget 8000/s"}.against(direct.rate),
		{Name: "the same, P95", Value: milliseconds(percentile(kept.times, 95)), Unit: "ms"},
		Figure{Name: "requests, 64 in flight, a SOCKS connection each", Value: each.rate, Unit: "requests/s", Note: note + "; budget 3000/s"}.against(directEach.rate),
		{Name: "the same, P95", Value: milliseconds(percentile(each.times, 95)), Unit: "ms"},
		{Name: "failed requests", Value: float64(kept.failed + each.failed), Unit: ""},
	}, nil
}

type load struct {
	rate   float64
	times  []time.Duration
	failed int64
}

// hammer runs do from inFlight goroutines for d. do gets the worker's number.
func hammer(d time.Duration, do func(worker int) error) (l load, err error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed atomic.Int64
	begun := time.Now()
	end := begun.Add(d)
	for w := range inFlight {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var times []time.Duration
			for time.Now().Before(end) {
				start := time.Now()
				if e := do(w); e != nil {
					failed.Add(1)
					mu.Lock()
					err = e
					mu.Unlock()
					return
				}
				times = append(times, time.Since(start))
			}
			mu.Lock()
			l.times = append(l.times, times...)
			mu.Unlock()
		}()
	}
	wg.Wait()
	l.rate = float64(len(l.times)) / time.Since(begun).Seconds()
	l.failed = failed.Load()
	if l.failed < inFlight {
		err = nil // some failed: the figure says how many
	}
	return l, err
}

func keepAlive(d time.Duration, dial func() (net.Conn, error)) (load, error) {
	conns := make([]net.Conn, inFlight)
	readers := make([]*bufio.Reader, inFlight)
	for i := range conns {
		c, err := dial()
		if err != nil {
			return load{}, err
		}
		defer c.Close()
		conns[i], readers[i] = c, bufio.NewReader(c)
	}
	return hammer(d, func(w int) error { return request(conns[w], readers[w]) })
}

func connectEach(d time.Duration, dial func() (net.Conn, error)) (load, error) {
	return hammer(d, func(int) error {
		c, err := dial()
		if err != nil {
			return err
		}
		defer c.Close()
		return request(c, bufio.NewReader(c))
	})
}

// request sends one GET and reads the answer.
func request(c net.Conn, r *bufio.Reader) error {
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return err
	}
	if n != bodySize {
		return fmt.Errorf("the answer has %d bytes, not %d: %w", n, bodySize, errors.ErrUnsupported)
	}
	return nil
}
