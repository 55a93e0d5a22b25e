package etcd

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

const (
	// startTimeout bounds the start of a server that has a long log to read.
	startTimeout = time.Minute
	// quota bounds the server's file: a directory of 50,000 descriptors takes half
	// a gigabyte, and their changes of some minutes as much again.
	quota = 8 << 30
	// requestMost is above the largest bucket of a document.
	requestMost = 8 << 20
	// historyKept is how many revisions watchers may be behind.
	historyKept = "10000"
)

// Embedded starts a server in this process that keeps everything in a directory,
// and listens nowhere. In the store all keys begin with prefix.
func Embedded(dir, prefix string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.ListenPeerUrls, cfg.ListenClientUrls, cfg.AdvertiseClientUrls = nil, nil, nil
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.QuotaBackendBytes, cfg.MaxRequestBytes = quota, requestMost
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, historyKept
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("etcd: cannot start in %s: %w", dir, err)
	}
	select {
	case <-server.Server.ReadyNotify():
	case err = <-server.Err():
	case <-time.After(startTimeout):
		err = errors.New("it is not ready in time")
	}
	if err != nil {
		server.Close()
		return nil, fmt.Errorf("etcd: cannot start in %s: %w", dir, err)
	}
	return &Store{client: v3client.New(server.Server), prefix: prefix, stop: server.Close}, nil
}
