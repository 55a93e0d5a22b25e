package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/telemetry/span"
)

// PushConfig is where a process pushes telemetry, and what keeps it while nobody takes it.
type PushConfig struct {
	setup.Push
	// Instance is the process's name in what is pushed.
	Instance string
	// Bearer is asked for the token of remote write; nil: there is none.
	Bearer func(context.Context) (string, error)
	// Dir is the directory of what is kept and Key that under which it is; "": nothing is.
	Dir string
	Key *seal.Key
	// Failed hears why telemetry is not taken, once until some is again.
	Failed func(error)
}

// Pusher pushes telemetry until it is closed, and fills pages with how that goes.
type Pusher interface {
	Figures(*metric.Page)
	Close() error
}

// Exporter is a Pusher of spans.
type Exporter interface {
	span.Recorder
	Pusher
}

// spoolDir is the directory of what is kept, in the state directory.
const spoolDir = "spool"

var errNoPush = errors.New("this program pushes no telemetry; use nyx, or remove otlp and remote_write from [telemetry]")

// pushing is how a configuration has telemetry pushed; it may do so if able.
func (k *keyring) pushing(cfg *setup.Config, able bool, log *slog.Logger) (to PushConfig, err error) {
	to = PushConfig{Push: cfg.Telemetry.Push, Instance: cmp.Or(cfg.Name, "nyx")}
	if !to.Used() {
		return to, nil
	}
	if !able {
		return to, errNoPush
	}
	to.Failed = func(err error) { log.Warn("telemetry is not taken", "why", err) }
	if to.TokenFile != "" || to.TokenName != "" {
		to.Bearer = k.bearer(&to.Push)
	}
	if cfg.State == "" || to.SpoolBytes == 0 {
		return to, nil
	}
	to.Dir = filepath.Join(cfg.State, spoolDir)
	if to.Key, err = k.spool(cfg.State); err != nil {
		return to, fmt.Errorf("what is not taken cannot be kept: %w", err)
	}
	return to, nil
}

// tokenLife is for how long a token is used before it is read anew.
const tokenLife = 5 * time.Minute

// bearer reads a token, and again when it is old. It belongs to one goroutine.
func (k *keyring) bearer(p *setup.Push) func(context.Context) (string, error) {
	var token string
	var until time.Time
	return func(ctx context.Context) (string, error) {
		if time.Now().Before(until) {
			return token, nil
		}
		b, err := k.token(ctx, p)
		if err != nil {
			return "", fmt.Errorf("the token of telemetry.remote_write: %w", err)
		}
		token, until = string(b), time.Now().Add(tokenLife)
		return token, nil
	}
}
