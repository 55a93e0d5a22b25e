package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/bus"
	"github.com/nyxnet/nyx/internal/engine/etcd"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/engine/opa"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/setup"
)

// What a control process keeps, in the directory of its keys.
const (
	auditDir     = "audit" // the compliance store's log, where nyx audit looks for it
	auditKeysDir = "keys"  // below it: under which it is signed and encrypted
	busDir       = "bus"
)

// openLog opens the log of a compliance store, in the directory of a control process of a
// network. Who has it open keeps everybody else from what the control process has. copied
// says of how much there is a copy, before which nothing is removed; nil: there is to be
// none.
func openLog(dir, network, name string, copied func() int64) (*ledger.Log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of the control process: %w", err)
	}
	keys, err := ledger.OpenFileKeys(filepath.Join(dir, auditDir, auditKeysDir), true)
	if err != nil {
		return nil, err
	}
	return ledger.Open(context.Background(), ledger.Config{
		Dir: filepath.Join(dir, auditDir), Origin: "nyx/" + network + "/audit/" + name, Node: name,
		Signer: keys.Signer, Wrapper: keys.Wrapper, Copied: copied,
	})
}

// startControl starts a control process on the engines of its configuration.
func startControl(cfg daemon.ControlConfig) (*daemon.Control, error) {
	store, err := openCompliance(cfg.StateDir, cfg.Trust.Network, cfg.Name)
	if err != nil {
		return nil, err
	}
	c, _, err := startControlOn(store, cfg)
	return c, err
}

// startControlOn starts one on a compliance store, which it owns, and what runs beside
// it, which ends with it.
func startControlOn(store *compliance, cfg daemon.ControlConfig) (*daemon.Control, *governed, error) {
	beside, err := equip(&cfg, store)
	if err != nil {
		return nil, nil, err
	}
	board := &fleetConsole{}
	cfg.Services = append([]daemon.Service{board}, cfg.Services...)
	c, err := daemon.StartControl(cfg)
	if err != nil {
		beside.Close()
		closeEngines(&cfg)
		return nil, nil, err
	}
	if err := board.open(c, beside, &cfg); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, beside, nil
}

// equip gives a control process its engines, and what runs beside it on them. Store is
// the compliance store, unless the process has one in front of it.
func equip(cfg *daemon.ControlConfig, store *compliance) (beside *governed, err error) {
	if cfg.Store == nil {
		cfg.Store = store
	}
	if cfg.Policy, err = openPolicy(cfg); err == nil {
		err = openEngines(cfg)
	}
	if err == nil {
		err = identifying(cfg)
	}
	if err == nil {
		beside, err = startGoverned(cfg, store)
	}
	if err != nil {
		closeEngines(cfg)
		return nil, err
	}
	cfg.Services = append(cfg.Services, beside)
	return beside, nil
}

func closeEngines(cfg *daemon.ControlConfig) {
	if cfg.Bus != nil {
		cfg.Bus.Close()
	}
	if cfg.Settings != nil {
		cfg.Settings.Close()
	}
	cfg.Store.Close()
}

// openEngines opens the bus and the store of the configuration, side by side: each
// starts a server.
func openEngines(cfg *daemon.ControlConfig) error {
	if cfg.Plane.Store.Kind == setup.StoreMembers {
		err := openMembers(cfg)
		if err == nil && cfg.Bus == nil {
			err = openBus(cfg)
		}
		return err
	}
	settings := make(chan error, 1)
	go func() {
		var err error
		cfg.Settings, cfg.Office, err = openSettings(cfg)
		settings <- err
	}()
	return errors.Join(openBus(cfg), <-settings)
}

func openBus(cfg *daemon.ControlConfig) (err error) {
	if p := cfg.Plane; len(p.Bus) > 0 {
		cfg.Bus, err = opened(bus.Cluster(p.Bus, "nyx-"+cfg.Trust.Network, bus.Files{CA: p.BusCA, Certificate: p.BusCertificate, Key: p.BusKey}, pipeline.Limits{}))
	} else {
		cfg.Bus, err = opened(bus.Embedded(filepath.Join(cfg.StateDir, busDir), "nyx", pipeline.Limits{}))
	}
	return err
}

// openSettings opens the store of the configuration; of a cluster also the office of who
// leads the control plane.
func openSettings(cfg *daemon.ControlConfig) (registry.Store, registry.Office, error) {
	prefix, s := prefixOf(cfg, "config"), &cfg.Plane.Store
	switch s.Kind {
	case setup.StoreNone:
		return nil, nil, nil
	case setup.StoreCluster:
		store, err := etcd.Cluster(s.URLs, prefix, etcd.Files{CA: s.CA, Certificate: s.Certificate, Key: s.Key})
		if err != nil {
			return nil, nil, err
		}
		return store, store, nil
	}
	store, err := stored(etcd.Embedded(filepath.Join(cfg.StateDir, etcdDir), prefix))
	return store, nil, err
}

// openPolicy returns what opens engines of policies, with the key of who signs their
// bundles.
func openPolicy(cfg *daemon.ControlConfig) (daemon.OpenPolicy, error) {
	var key []byte
	if path := cfg.Plane.PolicyKey; path != "" {
		var err error
		if key, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("cannot read the key of policies: %w", err)
		}
	}
	return func(source string, draw prng.Source, told func(daemon.PolicyVersion, error)) (daemon.PolicyEngine, error) {
		return policied(opa.Start(opa.Config{Source: source, Key: key, Told: func(v opa.Version, err error) {
			told(daemon.PolicyVersion{Revision: v.Revision, Digest: v.Digest}, err)
		}}, draw))
	}, nil
}

// policied keeps a nil pointer from being an engine.
func policied(e *opa.Engine, err error) (daemon.PolicyEngine, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}

// opened keeps a nil pointer from being a bus.
func opened(b *bus.Bus, err error) (pipeline.Bus, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}

// reopenAfter is how long a log is let be that could not be written.
const reopenAfter = time.Second

// compliance is the compliance store: a log that is opened anew after it failed, as
// when the disk was full. Reading goes on meanwhile; it is an index's Source.
type compliance struct {
	*ledger.Store
	key    audit.LogKey
	reopen func() (*ledger.Log, error)

	mu     sync.Mutex
	log    *ledger.Log // nil: it failed, and could not be opened yet
	size   int64       // of the log when it was last open
	failed time.Time
	copied func() int64 // how much of the log has a copy; nil: there is to be none
}

func openCompliance(dir, network, name string) (*compliance, error) {
	s := &compliance{}
	s.reopen = func() (*ledger.Log, error) { return openLog(dir, network, name, s.removable) }
	var err error
	if s.log, err = s.reopen(); err != nil {
		return nil, err
	}
	s.Store, s.key = s.log.Store(), s.log.Key()
	return s, nil
}

// copiedBy has retention wait for a copy.
func (s *compliance) copiedBy(copied func() int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copied = copied
}

// removable is before which entry retention may remove.
func (s *compliance) removable() int64 {
	s.mu.Lock()
	copied := s.copied
	s.mu.Unlock()
	if copied == nil {
		return math.MaxInt64
	}
	return copied()
}

// Record implements audit.Recorder.
func (s *compliance) Record(ctx context.Context, events ...audit.Event) error {
	log, err := s.open()
	if err != nil {
		return err
	}
	if err = log.Record(ctx, events...); errors.Is(err, ledger.ErrFailed) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.log == log {
			s.size = log.Size()
			log.Close()
			s.log, s.failed = nil, time.Now()
		}
	}
	return err
}

func (s *compliance) open() (log *ledger.Log, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil && time.Since(s.failed) < reopenAfter {
		return nil, ledger.ErrFailed
	}
	if s.log == nil {
		s.failed = time.Now()
		s.log, err = s.reopen()
	}
	return s.log, err
}

// sign has the log sign what is in it.
func (s *compliance) sign(ctx context.Context) error {
	log, err := s.open()
	if err == nil {
		_, err = log.Checkpoint(ctx)
	}
	return err
}

// Size is where the log ends.
func (s *compliance) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log != nil {
		s.size = s.log.Size()
	}
	return s.size
}

// Wait returns the size as soon as it is above after.
func (s *compliance) Wait(ctx context.Context, after int64) (int64, error) {
	for {
		log, err := s.open()
		if err == nil {
			var size int64
			if size, err = log.Wait(ctx, after); err == nil || ctx.Err() != nil {
				return size, err
			}
		}
		select { // the one that is opened in its place is waited for
		case <-time.After(reopenAfter):
		case <-ctx.Done():
			return s.Size(), ctx.Err()
		}
	}
}

// Close closes the log.
func (s *compliance) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return nil
	}
	return s.log.Close()
}

// audited gives a network on this machine its control process, unless another one
// has the data directory's. beside becomes what runs beside it.
func (f *upFlags) audited(cfg *daemon.LocalConfig, beside **governed, say func(string, ...any)) error {
	if f.control == 0 {
		return nil
	}
	dir, err := setup.DataDir(f.data)
	if err != nil {
		return err
	}
	cfg.ControlDir, cfg.OperatorFile = filepath.Join(dir, "control"), filepath.Join(dir, daemon.OperatorFileName)
	store, err := openCompliance(cfg.ControlDir, daemon.LocalName, daemon.LocalControl)
	if errors.Is(err, ledger.ErrLocked) {
		say("no control process: another network on this machine has %s; choose another directory with --data", cfg.ControlDir)
		return nil
	}
	cfg.Control = func(c daemon.ControlConfig) (control *daemon.Control, err error) {
		control, *beside, err = startControlOn(store, c)
		return control, err
	}
	return err
}
