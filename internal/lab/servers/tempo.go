package servers

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/deploy"
)

// TempoName is the program of Grafana Tempo.
const TempoName = "tempo"

// Tempo is a running Tempo with the configuration of deploy/tempo.
type Tempo struct {
	URL  string // where it is asked
	OTLP string // where it takes spans

	process *process
}

// StartTempo starts the program in a directory, with its blocks in a bucket, and returns when
// it is ready.
func StartTempo(program, dir string, store *S3, bucket string) (*Tempo, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	at := "127.0.0.1:" + ports[1]
	t := &Tempo{URL: "http://127.0.0.1:" + ports[0], OTLP: "http://" + at}
	config, err := put(dir, "tempo.yaml", deploy.Tempo)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "-config.file="+config, "-config.expand-env=true")
	cmd.Dir = dir
	cmd.Env = environment(map[string]string{
		"NYX_TEMPO_PORT": ports[0], "NYX_TEMPO_LISTEN": at, "NYX_TEMPO_GRPC_PORT": ports[2], "NYX_TEMPO_DIR": filepath.Join(dir, "data"),
		"NYX_TEMPO_STORE": "s3", "NYX_TEMPO_S3": host(store.URL), "NYX_TEMPO_BUCKET": bucket, "NYX_TEMPO_KEY": store.KeyID, "NYX_TEMPO_SECRET": store.Secret,
	})
	if t.process, err = start("Tempo started", at, cmd); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startMost)
	defer cancel()
	if err := ready(ctx, t.URL); err != nil {
		return nil, errors.Join(err, t.process.stop())
	}
	return t, nil
}

// Sum adds up samples of a series that it tells of itself.
func (t *Tempo) Sum(ctx context.Context, name string, with ...string) (float64, error) {
	return Sum(ctx, t.URL+"/metrics", name, with...)
}

// Stop ends it, and returns the processor time that it has used.
func (t *Tempo) Stop() (used time.Duration, err error) {
	err = t.process.stop()
	return t.process.used(), err
}
