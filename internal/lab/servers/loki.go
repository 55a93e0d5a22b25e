package servers

import (
	"context"
	"encoding/json"
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
	server
	OTLP string // where it takes lines
	Dir  string // its files
}

// StartLoki starts the program in a directory, with what is there, and returns when it is
// ready. set are flags, as in -target=compactor.
func StartLoki(program, dir string, set ...string) (*Loki, error) {
	ports, err := FreePorts(2)
	if err != nil {
		return nil, err
	}
	at := "127.0.0.1:" + ports[0]
	l := &Loki{OTLP: "http://" + at + "/otlp", Dir: filepath.Join(dir, "data")}
	config, err := put(dir, "loki.yaml", deploy.Loki)
	if err != nil {
		return nil, err
	}
	set = append([]string{"-config.file=" + config, "-config.expand-env=true", "-ingester.min-ready-duration=0s"}, set...)
	cmd := exec.Command(program, set...)
	cmd.Dir = dir
	cmd.Env = environment(map[string]string{"NYX_LOKI_PORT": ports[0], "NYX_LOKI_GRPC_PORT": ports[1], "NYX_LOKI_DIR": l.Dir})
	l.server, err = serve("http://"+at, "Loki started", at, cmd)
	return l, err
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
