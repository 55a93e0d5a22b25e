package lab

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nyxnet/nyx/deploy"
)

// otelcolEnv names the Collector's program; otherwise it is looked for in the path.
const otelcolEnv = "NYX_OTELCOL"

// ingestBurst is SCL-008: how many points of metrics one processor of the real Collector
// takes in, with the configuration that is shipped, and how long it lets who sends wait.
// What six of them carry is calculated. In the control each point is sent by itself.
func ingestBurst(r *Run) error {
	c, err := startCollector()
	if err != nil {
		return err
	}
	defer c.stop()
	gauges, points := int(r.Param("gauges")), int(r.Param("points"))
	if !r.Protected {
		gauges, points = 1, 1
	}
	share := r.Param("metrics_per_minute") / 60 / r.Param("collectors")
	seconds := r.Scaled("seconds")
	requests := int(share * float64(seconds) / float64(gauges*points))
	if !r.Protected {
		requests = min(requests, int(r.Param("control_requests")))
	}
	gap := time.Duration(float64(seconds) * float64(time.Second) / float64(requests))
	if !r.Protected {
		gap = 0 // as fast as it takes them
	}
	if err := r.load(c, requests, int(r.Param("senders")), gap, func() []byte { return otlpRequest(gauges, points, time.Now().UnixNano()) }); err != nil {
		return err
	}
	used, err := c.stop() // it passes on what it holds, and ends
	if err != nil {
		return err
	}
	sent := uint64(requests * gauges * points)
	got := c.points.Load()
	r.Tally("metrics_lost", sent-min(got, sent), sent)
	perCore := float64(sent) / used.Seconds()
	r.Observe("metrics_per_minute_of_all", perCore*60*r.Param("collectors")*r.Param("processors"))
	r.Note("measured: %d points in %d requests, %.1f s of a processor with start and end of the program, %.0f points a second and processor; calculated: %g collectors of %g processors", sent, requests, used.Seconds(), perCore, r.Param("collectors"), r.Param("processors"))
	return nil
}

// load posts requests, so far apart, and observes how long each took.
func (r *Run) load(c *collector, requests, senders int, gap time.Duration, body func() []byte) error {
	var mu sync.Mutex
	var failed error
	var sending sync.WaitGroup
	var next atomic.Int64
	begun := time.Now()
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	defer client.CloseIdleConnections()
	for range senders {
		sending.Go(func() {
			for i := next.Add(1) - 1; i < int64(requests); i = next.Add(1) - 1 {
				time.Sleep(time.Until(begun.Add(time.Duration(i) * gap)))
				b := body()
				at := time.Now()
				err := post(client, c.url, b)
				took := time.Since(at)
				mu.Lock()
				r.Observe("ingest_latency", float64(took)/float64(time.Millisecond))
				failed = cmp.Or(failed, err)
				mu.Unlock()
			}
		})
	}
	sending.Wait()
	return failed
}

func post(client *http.Client, url string, body []byte) error {
	resp, err := client.Post(url, "application/x-protobuf", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the Collector answers %s: %.100q", resp.Status, said)
	}
	return err
}

// collector is a running Collector, and the end of what it passes on.
type collector struct {
	url    string
	points atomic.Uint64
	cmd    *exec.Cmd
	end    *httptest.Server
	dir    string
	said   *bytes.Buffer
	ended  bool
}

// startCollector starts the Collector by the configuration of deploy/otel, and returns when
// it takes something.
func startCollector() (*collector, error) {
	program, err := exec.LookPath(cmp.Or(os.Getenv(otelcolEnv), "otelcol"))
	if err != nil {
		return nil, fmt.Errorf("the OpenTelemetry Collector is not here: build it by deploy/otel/builder.yaml, and name it by %s", otelcolEnv)
	}
	c := &collector{said: new(bytes.Buffer)}
	if c.dir, err = os.MkdirTemp("", "nyx-collector-*"); err != nil {
		return nil, err
	}
	config := filepath.Join(c.dir, "collector.yaml")
	if err := os.WriteFile(config, deploy.Collector, 0o600); err != nil {
		return nil, err
	}
	c.end = httptest.NewServer(http.HandlerFunc(c.take))
	listen, own, err := freePort2()
	if err != nil {
		return nil, err
	}
	c.cmd = exec.Command(program, "--config", config)
	c.cmd.Env = append(os.Environ(), "NYX_OTLP_LISTEN="+listen, "NYX_COLLECTOR_PORT="+own, "NYX_METRICS_TO="+c.end.URL)
	c.cmd.Stderr = c.said
	c.url = "http://" + listen + "/v1/metrics"
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	for range 300 { // a program of others: it tells its start by answering
		if err = post(http.DefaultClient, c.url, otlpRequest(0, 0, 0)); err == nil {
			return c, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.stop()
	return nil, fmt.Errorf("the Collector does not come up: %w: %.300s", err, c.said)
}

// freePort2 are an address and a port that are free, as far as one can tell.
func freePort2() (address, port string, err error) {
	for i := range 2 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", err
		}
		defer ln.Close()
		if i == 0 {
			address = ln.Addr().String()
		} else {
			_, port, _ = net.SplitHostPort(ln.Addr().String())
		}
	}
	return address, port, nil
}

// take is the end: it counts.
func (c *collector) take(_ http.ResponseWriter, q *http.Request) {
	in := io.Reader(q.Body)
	if q.Header.Get("Content-Encoding") == "gzip" {
		if z, err := gzip.NewReader(q.Body); err == nil {
			in = z
		}
	}
	if b, err := io.ReadAll(in); err == nil {
		n, _ := otlpCount(b)
		c.points.Add(n)
	}
}

// stop ends the Collector, which passes on what it holds, and returns the processor time
// that it has used.
func (c *collector) stop() (used time.Duration, err error) {
	if !c.ended {
		c.ended = true
		defer os.RemoveAll(c.dir)
		defer c.end.Close()
		c.cmd.Process.Signal(syscall.SIGTERM)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		defer context.AfterFunc(ctx, func() { c.cmd.Process.Kill() })()
		if err = c.cmd.Wait(); ctx.Err() != nil {
			err = errors.New("the Collector did not stop within a minute")
		}
	}
	if s := c.cmd.ProcessState; s != nil {
		used = s.UserTime() + s.SystemTime()
	}
	return used, err
}
