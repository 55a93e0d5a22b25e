package main

import (
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/otlp"
	"github.com/nyxnet/nyx/internal/engine/push"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/spool"
)

const (
	// pushEvery is how often metrics are pushed: an objective of a minute sees four.
	pushEvery = 15 * time.Second
	// keptMost is for how long telemetry is kept that nobody takes.
	keptMost = 24 * time.Hour
)

// pushed is how bodies of one kind go to a URL, and where they are kept.
func pushed(cfg *daemon.PushConfig, kind, url string) (push.Config, error) {
	to := push.Config{URL: url, Failed: cfg.Failed}
	if cfg.Dir == "" {
		return to, nil
	}
	var err error
	to.Spool, err = spool.Open(filepath.Join(cfg.Dir, kind), cfg.Key, spool.Limits{Age: keptMost, Bytes: cfg.SpoolBytes}, time.Now())
	return to, err
}

// exportSpans pushes spans by OTLP.
func exportSpans(cfg daemon.PushConfig) (daemon.Exporter, error) {
	to, err := pushed(&cfg, "spans", cfg.OTLP)
	if err != nil {
		return nil, err
	}
	return otlp.StartSpans(to), nil
}

// pushers are several as one.
type pushers []*push.Pusher

// startPush pushes metrics to where a configuration says.
func startPush(cfg daemon.PushConfig, read func() *metric.Page) (daemon.Pusher, error) {
	var all pushers
	if cfg.OTLP != "" {
		to, err := pushed(&cfg, "metrics", cfg.OTLP)
		if err != nil {
			return nil, err
		}
		to.Every = pushEvery
		all = append(all, otlp.StartMetrics(to, cfg.Instance, read))
	}
	if cfg.RemoteWrite != "" {
		to, err := pushed(&cfg, "remote-write", cfg.RemoteWrite)
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		to.Every, to.Bearer = pushEvery, cfg.Bearer
		all = append(all, push.StartRemoteWrite(to, cfg.Instance, read))
	}
	return all, nil
}

// Figures implements daemon.Pusher.
func (all pushers) Figures(to *metric.Page) {
	for _, p := range all {
		p.Figures(to)
	}
}

// Close implements daemon.Pusher: each tells once more, which takes no longer than one.
func (all pushers) Close() error {
	var closing sync.WaitGroup
	errs := make([]error, len(all))
	for i, p := range all {
		closing.Go(func() { errs[i] = p.Close() })
	}
	closing.Wait()
	return errors.Join(errs...)
}
