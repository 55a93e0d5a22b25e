package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/bus"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/setup"
)

// What a control process keeps, in the directory of its keys.
const (
	auditDir     = "audit" // the compliance store's log, where nyx audit looks for it
	auditKeysDir = "keys"  // below it: under which it is signed and encrypted
	busDir       = "bus"
)

// openLog opens the log of the compliance store. Who has it open keeps everybody
// else from what the control process has.
func openLog(cfg *daemon.ControlConfig) (*ledger.Log, error) {
	keys, err := ledger.OpenFileKeys(filepath.Join(cfg.StateDir, auditDir, auditKeysDir), true)
	if err != nil {
		return nil, err
	}
	return ledger.Open(context.Background(), ledger.Config{
		Dir: filepath.Join(cfg.StateDir, auditDir), Origin: "nyx/" + cfg.Trust.Network + "/audit/" + cfg.Name, Node: cfg.Name,
		Signer: keys.Signer, Wrapper: keys.Wrapper,
	})
}

func startControl(cfg daemon.ControlConfig) (*daemon.Control, error) {
	store, beside, err := equip(&cfg)
	if err != nil {
		return nil, err
	}
	c, err := daemon.StartControl(cfg)
	if err != nil {
		beside.Close()
		cfg.Bus.Close()
		store.Close()
	}
	return c, err
}

// equip gives a control process its engines, and what runs beside it on them.
func equip(cfg *daemon.ControlConfig) (*compliance, *governed, error) {
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("cannot make the directory of the control process: %w", err)
	}
	log, err := openLog(cfg)
	if err != nil {
		return nil, nil, err
	}
	if p := cfg.Plane; len(p.Bus) > 0 {
		cfg.Bus, err = opened(bus.Cluster(p.Bus, "nyx-"+cfg.Trust.Network, bus.Files{CA: p.BusCA, Certificate: p.BusCertificate, Key: p.BusKey}, pipeline.Limits{}))
	} else {
		cfg.Bus, err = opened(bus.Embedded(filepath.Join(cfg.StateDir, busDir), "nyx", pipeline.Limits{}))
	}
	if err != nil {
		log.Close()
		return nil, nil, err
	}
	if err = identifying(cfg); err != nil {
		cfg.Bus.Close()
		log.Close()
		return nil, nil, err
	}
	store := &compliance{cfg: cfg, log: log, Store: log.Store()}
	beside, err := startGoverned(cfg, store, log.Key())
	if err != nil {
		cfg.Bus.Close()
		store.Close()
		return nil, nil, err
	}
	cfg.Store, cfg.Services = store, append(cfg.Services, beside)
	return store, beside, nil
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
	cfg *daemon.ControlConfig
	*ledger.Store

	mu     sync.Mutex
	log    *ledger.Log // nil: it failed, and could not be opened yet
	size   int64       // of the log when it was last open
	failed time.Time
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
		s.log, err = openLog(s.cfg)
	}
	return s.log, err
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
// has the data directory's.
func (f *upFlags) audited(cfg *daemon.LocalConfig, say func(string, ...any)) error {
	if f.control == 0 {
		return nil
	}
	dir, err := setup.DataDir(f.data)
	if err != nil {
		return err
	}
	cfg.ControlDir = filepath.Join(dir, "control")
	cfg.Control = func(c daemon.ControlConfig) (*daemon.Control, error) {
		control, err := startControl(c)
		if errors.Is(err, ledger.ErrLocked) {
			say("no audit log: another network on this machine keeps the one in %s; choose another directory with --data", cfg.ControlDir)
			return nil, nil
		}
		return control, err
	}
	return nil
}
