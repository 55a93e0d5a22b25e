package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/etcd"
)

// settingsDir holds the configuration of a network beside its keys.
const settingsDir = "control"

// localSettings is the configuration of a network on this machine. It opens while the
// network starts, which does not wait for it: nodes have what their files say until
// then.
type localSettings struct {
	opened  chan struct{}
	control *daemon.SettingsControl
	err     error
}

// openSettings opens the configuration in a data directory, where it writes the
// operator file. One process at a time has it; another waits, and its network is
// without.
func openSettings(dir string) *localSettings {
	l := &localSettings{opened: make(chan struct{})}
	go func() {
		defer close(l.opened)
		if l.err = os.MkdirAll(dir, 0o700); l.err != nil {
			return
		}
		store, err := etcd.Embedded(filepath.Join(dir, settingsDir, etcdDir), "/nyx/local/config/")
		if err != nil {
			l.err = err
			return
		}
		if l.control, l.err = daemon.StartSettings(daemon.SettingsConfig{Store: store, Name: "control", Listen: "127.0.0.1:0", Dir: dir}); l.err != nil {
			store.Close()
		}
	}()
	return l
}

// plane is how a node of this process reaches it.
func (l *localSettings) plane(node string) daemon.Plane {
	return func(ctx context.Context, method, path string, body []byte) (int, []byte, error) {
		select {
		case <-l.opened:
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
		if l.err != nil {
			return 0, nil, fmt.Errorf("no configuration: %w", l.err)
		}
		return l.control.Plane(node)(ctx, method, path, body)
	}
}

// close closes it, unless it is not open yet: then it ends with the process.
func (l *localSettings) close() error {
	select {
	case <-l.opened:
	default:
		return nil
	}
	if l.control == nil {
		return nil
	}
	return l.control.Close()
}
