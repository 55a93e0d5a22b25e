package servers

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/nyxnet/nyx/deploy"
)

// CollectorName is the program of the OpenTelemetry Collector, and CollectorEnv names
// another one to be used in its place.
const (
	CollectorName = "otelcol"
	CollectorEnv  = "NYX_OTELCOL"
)

// FindCollector returns the path of the program.
func FindCollector() (string, error) {
	if path := os.Getenv(CollectorEnv); path != "" {
		return exec.LookPath(path)
	}
	return Find(CollectorName)
}

// To says where a Collector passes things on, by URL. What is empty goes to the one place
// that is named.
type To struct{ Metrics, Traces, Logs string }

// Collector is a running OpenTelemetry Collector with the configuration of deploy/otel.
type Collector struct {
	URL  string // where it takes OTLP
	Logs string // directory from which it reads log files

	*process
	metrics string
}

// StartCollector starts the program in a directory. more is a configuration that is laid
// over the one of deploy/otel; empty: none.
func StartCollector(program, dir string, to To, more string) (*Collector, error) {
	ports, err := FreePorts(2)
	if err != nil {
		return nil, err
	}
	at := "127.0.0.1:" + ports[0]
	c := &Collector{URL: "http://" + at, Logs: filepath.Join(dir, "logs"), metrics: "http://127.0.0.1:" + ports[1] + "/metrics"}
	config, err := put(dir, "collector.yaml", deploy.Collector)
	if err != nil {
		return nil, err
	}
	over, err := put(dir, "over.yaml", []byte(cmp.Or(more, "{}")))
	if err != nil {
		return nil, err
	}
	some := cmp.Or(to.Metrics, to.Traces, to.Logs)
	cmd := exec.Command(program, "--config", config, "--config", over)
	cmd.Env = environment(map[string]string{
		"NYX_OTLP_LISTEN": at, "NYX_COLLECTOR_PORT": ports[1], "NYX_COLLECTOR_STATE": filepath.Join(dir, "state"), "NYX_LOG_DIR": c.Logs,
		"NYX_METRICS_TO": cmp.Or(to.Metrics, some), "NYX_TRACES_TO": cmp.Or(to.Traces, some), "NYX_LOGS_TO": cmp.Or(to.Logs, some),
	})
	c.process, err = start("Everything is ready", at, cmd)
	return c, err
}

// Accepted returns how many spans or log_records the Collector has taken.
func (c *Collector) Accepted(ctx context.Context, kind string) (float64, error) {
	return Sum(ctx, c.metrics, "otelcol_receiver_accepted_"+kind)
}

// AwaitPassed waits until the Collector has passed on, or given up, so many spans or
// log_records, and returns how many it gave up.
func (c *Collector) AwaitPassed(ctx context.Context, kind string, n float64) (lost float64, err error) {
	err = Await(ctx, func() (bool, error) {
		sent, err := Sum(ctx, c.metrics, "otelcol_exporter_sent_"+kind)
		if err == nil {
			lost, err = Sum(ctx, c.metrics, "otelcol_exporter_send_failed_"+kind)
		}
		return sent+lost >= n, err
	})
	return lost, err
}

// Kill ends the Collector at once, with what it holds in memory.
func (c *Collector) Kill() error {
	c.cmd.Process.Kill()
	return c.stop()
}

// host is the part of a URL between its scheme and its path.
func host(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	at, _, _ := strings.Cut(rest, "/")
	return at
}
