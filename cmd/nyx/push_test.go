package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/nyxnet/nyx/internal/setup"
)

// A process whose collector is away, and whose remote write is shown the token of a file, is
// killed: what it could not tell is on its disk, not to be read there, and the next process
// tells it when the collector is there, at the times at which it was.
func TestWhatIsPushedOutlivesTheProcess(t *testing.T) {
	o := &operated{T: t, dir: filepath.Join(t.TempDir(), "network"), temporary: t.TempDir()}
	c := setup.InitConfig{Network: "test", Streams: 2, Mixes: 3, Authorities: 1, AllowPrivate: true, Wall: time.Now().Unix()}
	var err error
	if c.Port, err = freePorts(c.Ports()); err != nil {
		t.Fatal(err)
	}
	made, err := setup.Init(o.dir, c)
	if err != nil {
		t.Fatal(err)
	}
	var there atomic.Bool
	came, refused := make(chan time.Time, 100), make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !there.Load() {
			refused <- r.URL.Path + " " + r.Header.Get("Authorization")
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path != "/v1/metrics" {
			return
		}
		var m collector.ExportMetricsServiceRequest
		z, err := gzip.NewReader(r.Body)
		var body []byte
		if err == nil {
			body, err = io.ReadAll(z)
		}
		if err == nil {
			err = proto.Unmarshal(body, &m)
		}
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		for _, metric := range m.ResourceMetrics[0].ScopeMetrics[0].Metrics {
			if metric.Name == "nyx_up" {
				came <- time.Unix(0, int64(metric.GetGauge().DataPoints[0].TimeUnixNano))
			}
		}
	}))
	defer s.Close()
	file, dir := made.Authorities[0], filepath.Dir(made.Authorities[0])
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, fmt.Appendf(b, "\n[telemetry]\notlp = %q\nremote_write = %q\nremote_write_token = \"remote.token\"\n", s.URL, s.URL+"/api/v1/write"), 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "remote.token"), []byte("planted-token\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := o.start("authority", nil, "node", "--config", file)
	o.await(p, regexp.MustCompile(`msg="directory authority"`))
	for seen := map[string]int{}; seen["/v1/metrics "] < 2 || seen["/api/v1/write Bearer planted-token"] < 2; {
		select {
		case r := <-refused:
			seen[r]++
		case <-time.After(patience):
			t.Fatalf("pushed: %v\n%s", seen, p.all())
		}
	}
	o.await(p, regexp.MustCompile(`telemetry is not taken`))
	p.Process.Kill()
	<-p.ended
	killed := time.Now()
	spools, _ := filepath.Glob(filepath.Join(dir, "*", "spool", "*", "*.batch"))
	if len(spools) < 2 { // the newest of each may have been on its way
		t.Fatalf("kept: %q", spools)
	}
	for _, f := range o.files() {
		if strings.Contains(f.name, "spool"+string(filepath.Separator)) && (strings.Contains(string(f.content), "nyx_up") || strings.Contains(string(f.content), "planted-token")) {
			t.Errorf("%s can be read", f.name)
		}
	}
	keys, _ := filepath.Glob(filepath.Join(dir, "*", "spool.key"))
	if len(keys) != 1 {
		t.Fatalf("keys: %q", keys)
	}
	if info, err := os.Stat(keys[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	there.Store(true)
	p = o.start("authority", nil, "node", "--config", file)
	limit := time.After(patience)
	for late, live := 0, 0; late == 0 || live == 0; {
		select {
		case at := <-came:
			if at.Before(killed) {
				late++
			} else {
				live++
			}
		case <-limit:
			t.Fatalf("%d late and %d live came\n%s", late, live, p.all())
		}
	}
}
