package daemon

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/changes"
)

// SettingsConfig is a control process's part in the configuration.
type SettingsConfig struct {
	Store registry.Store // closed with the SettingsControl
	// Office elects the process that leads, among those of one store; nil: it is this
	// one.
	Office registry.Office
	Name   string // of the process
	// Listen is the address for operators, on this machine; "" is none. Dir is where
	// the operator file is written then.
	Listen, Dir string
	Log         *slog.Logger // nil: none
}

// SettingsControl is a control process's running part in the configuration.
type SettingsControl struct {
	Log  *changes.Log
	Desk *SettingsDesk

	cfg     SettingsConfig
	server  *http.Server
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// StartSettings opens the configuration of a store, and serves it.
func StartSettings(cfg SettingsConfig) (*SettingsControl, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cfg.Log = logOrNone(cfg.Log)
	log, err := changes.Open(ctx, changes.Config{Store: cfg.Store, Schema: settings.Network(), Now: time.Now, Log: cfg.Log})
	if err != nil {
		cancel()
		return nil, err
	}
	s := &SettingsControl{cfg: cfg, Log: log, Desk: NewSettingsDesk(log, systemEntropy(), cfg.Log), cancel: cancel}
	if cfg.Listen != "" {
		if err := s.serve(); err != nil {
			cancel()
			log.Close()
			return nil, err
		}
	}
	s.running.Go(func() { s.lead(ctx) })
	return s, nil
}

// serve answers operators on this machine, who show what the operator file holds.
func (s *SettingsControl) serve() error {
	ln, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s for operators: %w; stop what uses it or choose another address", s.cfg.Listen, err)
	}
	var token [32]byte
	systemEntropy().Stream("operator").Read(token[:])
	f := OperatorFile{URL: "http://" + ln.Addr().String(), Token: hex.EncodeToString(token[:])}
	mux := http.NewServeMux()
	s.Desk.RegisterOperator(mux, ByToken("operator", f.Token))
	s.server = newServer(onlyLoopbackHost(mux))
	if err := f.Save(filepath.Join(s.cfg.Dir, OperatorFileName)); err != nil {
		ln.Close()
		return err
	}
	s.running.Go(func() { s.server.Serve(ln) })
	return nil
}

// lead does the leader's work whenever this process is the leader.
func (s *SettingsControl) lead(ctx context.Context) {
	if s.cfg.Office == nil {
		s.Desk.Lead(ctx)
		return
	}
	for ctx.Err() == nil {
		err := s.cfg.Office.Hold(ctx, "leader", s.cfg.Name, func(term context.Context) {
			s.cfg.Log.Info("this process leads the control plane", "name", s.cfg.Name)
			s.Desk.Lead(term)
		})
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("no leader of the control plane could be found; trying again", "why", err)
			pause(ctx, settleAgain)
		}
	}
}

// Plane is how a node in this process reaches the configuration.
func (s *SettingsControl) Plane(node string) Plane {
	return func(ctx context.Context, method, path string, _ []byte) (int, []byte, error) {
		at, err := url.Parse(path)
		if err != nil || method != http.MethodGet || at.Path != settingsPath {
			return http.StatusNotFound, nil, err
		}
		status, b := s.Desk.answer(ctx, node, at.Query())
		return status, b, ctx.Err()
	}
}

// Close stops it, and closes the store.
func (s *SettingsControl) Close() error {
	if s.server != nil {
		s.server.Close()
	}
	s.cancel()
	s.Log.Close()
	s.running.Wait()
	return s.cfg.Store.Close()
}
