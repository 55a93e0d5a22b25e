// Command probe uses a Nyx proxy as a program would and says what it saw.
//
//	probe -socks ADDR -requests 10000 -inflight 64 URL   short requests: failures, latency
//	probe -socks ADDR -requests 2000 -rate 30 URL        the same at a steady rate
//	probe -socks ADDR -download URL                      one transfer: bytes, hash, longest stall
//	probe -socks ADDR -upload BYTES URL                  PUT of random bytes; test/httpsink answers with the hash it got
//
// It prints one line and succeeds only if nothing failed.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"hash"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("probe: ")
	socks := flag.String("socks", "127.0.0.1:9150", "`address` of the proxy")
	requests := flag.Int("requests", 0, "make this many short requests")
	inflight := flag.Int("inflight", 8, "requests at once, each on a connection of its own")
	rate := flag.Float64("rate", 0, "requests per second in all; 0 means as fast as they are answered")
	fresh := flag.Bool("fresh", false, "a new connection for every request")
	download := flag.Bool("download", false, "download once")
	upload := flag.Int64("upload", 0, "upload this many random bytes")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("give one URL")
	}
	c := &http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyURL(&url.URL{Scheme: "socks5h", Host: *socks}),
		MaxIdleConnsPerHost: *inflight,
		DisableKeepAlives:   *fresh,
		DisableCompression:  true,
	}}
	var err error
	switch target := flag.Arg(0); {
	case *requests > 0:
		err = short(c, target, *requests, *inflight, *rate)
	case *download:
		err = fetch(c, target)
	case *upload > 0:
		err = put(c, target, *upload)
	default:
		err = fmt.Errorf("give one of -requests, -download, -upload")
	}
	if err != nil {
		log.Fatal(err)
	}
}

// source is another one in every run.
func source() prng.Source { return prng.FromUint64(uint64(os.Getpid())) }

// short makes n requests. With a rate they start at random times, so that the
// load does not beat with the network's sending slots, and one that is late
// does not hold up the next.
func short(c *http.Client, target string, n, inflight int, rate float64) error {
	var (
		mu    sync.Mutex
		took  []time.Duration
		fails = map[string]int{}
		wg    sync.WaitGroup
		turns = make(chan struct{}, inflight)
		gaps  = source().Stream("gaps")
	)
	for range n {
		if rate > 0 {
			time.Sleep(gaps.Exp(time.Duration(float64(time.Second) / rate)))
		} else {
			turns <- struct{}{}
		}
		wg.Go(func() {
			begun := time.Now()
			err := get(c, target)
			d := time.Since(begun)
			mu.Lock()
			if took = append(took, d); err != nil {
				fails[err.Error()]++
			}
			mu.Unlock()
			if rate == 0 {
				<-turns
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	at := func(percent int) float64 {
		return float64(took[min(len(took)-1, len(took)*percent/100)]) / float64(time.Millisecond)
	}
	failed := 0
	for _, k := range fails {
		failed += k
	}
	fmt.Printf("%d requests, %d failed, P50 %.1f P95 %.1f P99 %.1f max %.1f ms\n", n, failed, at(50), at(95), at(99), at(100))
	if failed > 0 {
		return fmt.Errorf("failures: %v", fails)
	}
	return nil
}

func get(c *http.Client, target string) error {
	resp, err := c.Get(target)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

// flow counts and hashes what passes through it, and keeps the longest time
// between two pieces.
type flow struct {
	io.Reader
	sum   hash.Hash
	bytes int64
	last  time.Time
	stall time.Duration
	at    int64 // bytes before the stall
}

func newFlow(r io.Reader) *flow { return &flow{Reader: r, sum: sha256.New()} }

func (f *flow) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	f.sum.Write(b[:n])
	f.bytes += int64(n)
	now := time.Now()
	if !f.last.IsZero() {
		if d := now.Sub(f.last); d > f.stall {
			f.stall, f.at = d, f.bytes-int64(n)
		}
	}
	f.last = now
	return n, err
}

func (f *flow) hex() string { return hex.EncodeToString(f.sum.Sum(nil)) }

func (f *flow) report(since time.Time) {
	fmt.Printf("%d bytes %s %.1f MB/s, longest stall %d ms, after %.0f MB\n",
		f.bytes, f.hex(), float64(f.bytes)/1e6/time.Since(since).Seconds(), f.stall.Milliseconds(), float64(f.at)/1e6)
}

func fetch(c *http.Client, target string) error {
	begun := time.Now()
	resp, err := c.Get(target)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", target, resp.Status)
	}
	f := newFlow(resp.Body)
	_, err = io.Copy(io.Discard, f)
	f.report(begun)
	return err
}

// put uploads random bytes. The hash that comes back must be theirs.
func put(c *http.Client, target string, size int64) error {
	f := newFlow(io.LimitReader(source().Stream("bytes"), size))
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPut, target, io.NopCloser(f))
	if err != nil {
		return err
	}
	req.ContentLength = size
	begun := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	f.report(begun)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("%s %d", f.hex(), size); strings.TrimSpace(string(answer)) != want {
		return fmt.Errorf("the target got %q, sent was %q", answer, want)
	}
	return nil
}
