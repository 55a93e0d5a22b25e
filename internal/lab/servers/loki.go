package servers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nyxnet/nyx/deploy"
)

// LokiName is the program of Grafana Loki.
const LokiName = "loki"

// Loki is a running Loki, or a part of it, with the configuration of deploy/loki.
type Loki struct {
	URL  string // where it is asked
	OTLP string // where it takes lines
	Dir  string // its files

	process *process
}

// StartLoki starts the program in a directory, with what is there, and returns when it is
// ready. set are flags, as in -target=compactor.
func StartLoki(program, dir string, set ...string) (*Loki, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	at := "127.0.0.1:" + ports[0]
	l := &Loki{URL: "http://" + at, OTLP: "http://" + at + "/otlp", Dir: filepath.Join(dir, "data")}
	config, err := put(dir, "loki.yaml", deploy.Loki)
	if err != nil {
		return nil, err
	}
	set = append([]string{"-config.file=" + config, "-config.expand-env=true", "-ingester.min-ready-duration=0s"}, set...)
	cmd := exec.Command(program, set...)
	cmd.Dir = dir
	cmd.Env = environment(map[string]string{"NYX_LOKI_PORT": ports[0], "NYX_LOKI_GRPC_PORT": ports[1], "NYX_LOKI_DIR": l.Dir})
	if l.process, err = start("Loki started", at, cmd); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startMost)
	defer cancel()
	if err := ready(ctx, l.URL); err != nil {
		return nil, errors.Join(err, l.process.stop())
	}
	return l, nil
}

// Sum adds up samples of a series that it tells of itself.
func (l *Loki) Sum(ctx context.Context, name string, with ...string) (float64, error) {
	return Sum(ctx, l.URL+"/metrics", name, with...)
}

// Count asks a query that counts, as in sum(count_over_time({…}[1h])), at a time.
func (l *Loki) Count(ctx context.Context, query string, at time.Time) (n uint64, err error) {
	q := url.Values{"query": {query}, "time": {strconv.FormatInt(at.UnixNano(), 10)}}
	text, err := Get(ctx, l.URL+"/loki/api/v1/query?"+q.Encode())
	if err != nil {
		return 0, err
	}
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, fmt.Errorf("%.200s: %w", text, err)
	}
	for _, r := range answer.Data.Result {
		s, _ := r.Value[1].(string)
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%.200s: %w", text, err)
		}
		n += v
	}
	return n, nil
}

// Stop ends it, and returns the processor time that it has used.
func (l *Loki) Stop() (used time.Duration, err error) {
	err = l.process.stop()
	return l.process.used(), err
}
