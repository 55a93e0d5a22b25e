package bus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/nyxnet/nyx/internal/pipeline"
)

const (
	// startTimeout bounds the start of a server that has much to read.
	startTimeout = time.Minute
	// storeMost bounds what an embedded server keeps, in bytes: two lanes at their
	// default, and the dead messages.
	storeMost = 4 << 30
	// clusterReplicas is of how many servers of a cluster each has every message.
	clusterReplicas = 3
)

// Embedded starts a server in this process that keeps everything in a directory,
// and listens nowhere. One process at a time may use the directory. name is that of
// its streams.
func Embedded(dir, name string, limits pipeline.Limits) (*Bus, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "nyx", DontListen: true, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: dir, SyncAlways: true, JetStreamMaxStore: storeMost, JetStreamMaxMemory: 1 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("bus: cannot start in %s: %w", dir, err)
	}
	s.Start()
	end := func() { s.Shutdown(); s.WaitForShutdown() }
	if !s.ReadyForConnections(startTimeout) || !s.JetStreamEnabled() {
		end()
		return nil, fmt.Errorf("bus: the server in %s does not start; see that the directory can be written and the disk is not full", dir)
	}
	conn, err := nats.Connect("", nats.InProcessServer(s), nats.Name("nyx"), nats.MaxReconnects(-1))
	if err != nil {
		end()
		return nil, failed(err)
	}
	b, err := open(conn, name, 1, limits)
	if err != nil {
		conn.Close()
		end()
		return nil, fmt.Errorf("bus: cannot start in %s: %w", dir, err)
	}
	b.server = s
	return b, nil
}

// Files are PEM files for tls: who may vouch for the servers, "" for whom the
// system trusts, and the certificate that the servers ask for, "" for none.
type Files struct{ CA, Certificate, Key string }

func (f Files) options() (out []nats.Option, err error) {
	if f.CA != "" {
		b, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s holds no certificate", f.CA)
		}
		out = append(out, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}))
	}
	if f.Certificate != "" {
		out = append(out, nats.ClientCert(f.Certificate, f.Key))
	}
	return out, nil
}

// Cluster opens a bus in the cluster at some URLs. name is that of its streams,
// which processes of one operator share.
func Cluster(urls []string, name string, files Files, limits pipeline.Limits) (*Bus, error) {
	options, err := files.options()
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	options = append(options, nats.Name("nyx"), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.Timeout(callTimeout))
	conn, err := nats.Connect(strings.Join(urls, ","), options...)
	if err != nil {
		return nil, fmt.Errorf("bus: cannot reach the cluster: %w", err)
	}
	b, err := open(conn, name, clusterReplicas, limits)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if conn.Status() != nats.CONNECTED {
		b.Close()
		return nil, errors.New("bus: the cluster was lost while its streams were made")
	}
	return b, nil
}
