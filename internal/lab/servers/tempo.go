package servers

import (
	"os/exec"
	"path/filepath"

	"github.com/nyxnet/nyx/deploy"
)

// TempoName is the program of Grafana Tempo.
const TempoName = "tempo"

// Tempo is a running Tempo with the configuration of deploy/tempo.
type Tempo struct {
	server
	OTLP string // where it takes spans
}

// StartTempo starts the program in a directory, with its blocks in a bucket, and returns when
// it is ready.
func StartTempo(program, dir string, store *S3, bucket string) (*Tempo, error) {
	ports, err := FreePorts(3)
	if err != nil {
		return nil, err
	}
	at := "127.0.0.1:" + ports[1]
	t := &Tempo{OTLP: "http://" + at}
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
	t.server, err = serve("http://127.0.0.1:"+ports[0], "Tempo started", at, cmd)
	return t, err
}
