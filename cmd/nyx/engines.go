package main

import (
	"context"
	"encoding/hex"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/control/records"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/engine/cache"
	"github.com/nyxnet/nyx/internal/engine/etcd"
	"github.com/nyxnet/nyx/internal/engine/meter"
	"github.com/nyxnet/nyx/internal/engine/sql"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/setup"
)

// servers are the roles that serve the directory, with the engines that they run
// on.
var servers = daemon.Servers{Authority: startAuthority, Replica: startReplica, Witness: daemon.StartWitness, Control: startControl, Secrets: openSecrets, Records: openRecords, Spans: exportSpans, Push: startPush, Meter: startMeter}

func startMeter(read func() *metric.Page) (daemon.Meter, error) {
	m, err := meter.Start(read)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// etcdDir holds the state of an authority beside its keys.
const etcdDir = "etcd"

// openStore opens the store of an authority, nil for files.
func openStore(c setup.StoreConfig, stateDir, network string, public []byte) (registry.Store, error) {
	id := directory.AuthorityID(public)
	prefix := "/nyx/" + network + "/" + hex.EncodeToString(id[:8]) + "/"
	switch c.Kind {
	case setup.StoreEtcd:
		return stored(etcd.Embedded(filepath.Join(stateDir, etcdDir), prefix))
	case setup.StoreCluster:
		return stored(etcd.Cluster(c.URLs, prefix, etcd.Files{CA: c.CA, Certificate: c.Certificate, Key: c.Key}))
	}
	return nil, nil
}

// stored keeps a nil pointer from being a store.
func stored(s *etcd.Store, err error) (registry.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func startAuthority(cfg daemon.AuthorityConfig) (*daemon.Authority, error) {
	store, err := openStore(cfg.State, cfg.StateDir, cfg.Network, cfg.Signers[0].Public())
	if err != nil {
		return nil, err
	}
	cfg.Store = store
	a, err := daemon.StartAuthority(cfg)
	if err != nil && store != nil {
		store.Close()
	}
	return a, err
}

// recordsTimeout bounds the opening of session records.
const recordsTimeout = 10 * time.Second

func openRecords(where string) (records.Store, error) {
	ctx, cancel := context.WithTimeout(context.Background(), recordsTimeout)
	defer cancel()
	s, err := sql.OpenRecords(ctx, where)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// cacheBytes bounds a cache in the process: two hundred buckets.
const cacheBytes = 32 << 20

func startReplica(cfg daemon.ReplicaConfig) (*daemon.Replica, error) {
	var c cache.Cache
	var err error
	if cfg.CacheServer == "" {
		c, err = cache.NewLocal(cacheBytes)
	} else {
		c, err = cache.NewRedis(cfg.CacheServer, "nyx/"+cfg.Trust.Network+"/")
	}
	if err != nil {
		return nil, err
	}
	cfg.Cache = c
	r, err := daemon.StartReplica(cfg)
	if err != nil {
		c.Close()
	}
	return r, err
}
