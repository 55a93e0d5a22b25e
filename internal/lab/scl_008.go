package lab

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/lab/servers"
)

// ingestBurst is SCL-008: how many points of metrics one processor of the real Collector
// takes in, with the configuration that is shipped, and how long it lets who sends wait.
// What six of them carry is calculated. In the control each point is sent
// by itself, and passed on so.
func ingestBurst(r *Run) error {
	program, err := servers.FindCollector()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nyx-collector-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	end := newSink(0, nil)
	defer end.Close()
	over := ""
	if !r.Protected {
		over = "{exporters: {otlp_http/metrics: {sending_queue: {block_on_overflow: true}}}, service: {pipelines: {metrics: {processors: [memory_limiter]}}}}"
	}
	c, err := servers.StartCollector(program, dir, servers.To{Metrics: end.URL}, over)
	if err != nil {
		return err
	}
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
	failed := r.load(c.URL+"/v1/metrics", requests, int(r.Param("senders")), gap, func() []byte { return otlpRequest(gauges, points, time.Now().UnixNano()) })
	used, err := c.Stop() // it passes on what it holds, and ends
	if err := cmp.Or(failed, err); err != nil {
		return err
	}
	sent := uint64(requests * gauges * points)
	got := end.points.Load()
	r.Tally("metrics_lost", sent-min(got, sent), sent)
	perCore := float64(sent) / used.Seconds()
	r.Observe("metrics_per_minute_of_all", perCore*60*r.Param("collectors")*r.Param("processors"))
	r.Note("measured: %d points in %d requests, %.1f s of a processor with start and end of the program, %.0f points a second and processor; calculated: %g collectors of %g processors", sent, requests, used.Seconds(), perCore, r.Param("collectors"), r.Param("processors"))
	return nil
}

// load posts requests, so far apart, and observes how long each took.
func (r *Run) load(url string, requests, senders int, gap time.Duration, body func() []byte) error {
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
				err := post(client, url, b)
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
