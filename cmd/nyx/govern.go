package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/engine/oidc"
	"github.com/nyxnet/nyx/internal/engine/opa"
	index "github.com/nyxnet/nyx/internal/engine/sql"
	"github.com/nyxnet/nyx/internal/governance"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
)

// errEnded means that the control process has ended.
var errEnded = errors.New("the control process has ended")

// exportsDir holds copies of the log that people have asked for.
const exportsDir = "exports"

// governed is what runs beside a control process on its compliance store: the index,
// which follows the log, and, if they are configured, the copy under object lock,
// retention and the governance API.
type governed struct {
	index     *index.Follower
	copies    *copying          // nil: none
	retention *ledger.Retention // nil: events are kept for ever
	log       *slog.Logger
	cfg       *daemon.ControlConfig
	store     *compliance

	mu     sync.Mutex // held to open and to end what is below
	opened bool       // or it was tried
	failed error      // why the API could not be opened, or that all is ended
	key    *seal.Key  // of bearers made on this machine

	rego     *governance.Rego // nil, as all below, without the API
	exports  *governance.Exports
	analyses *governance.Analytics
	api      *governance.API
	listener net.Listener
	server   *http.Server
	serving  sync.WaitGroup
}

func startGoverned(cfg *daemon.ControlConfig, store *compliance) (*governed, error) {
	g := &governed{log: cfg.Log, cfg: cfg, store: store}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if g.copies, err = startCopying(cfg, store); err != nil {
		return nil, err
	}
	where := cfg.Plane.Index
	if where == "" {
		where = filepath.Join(cfg.StateDir, auditDir, indexFile)
	}
	g.index = index.Follow(index.FollowConfig{Where: where, Name: store.key.ID(), Source: store, Log: g.log})
	g.retention = g.startRetention() // once it knows of the copy
	if cfg.Settings != nil {
		cfg.History = &daemon.SettingsHistory{}
	}
	if !cfg.Plane.Governance.IsValid() {
		return g, nil
	}
	if err := g.serve(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// drawing is randomness for several goroutines.
func drawing(label string) func([]byte) {
	var mu sync.Mutex
	draw := daemon.Entropy().Stream(label)
	return func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		draw.Read(b)
	}
}

// serve begins to serve the governance API.
func (g *governed) serve() error {
	if err := g.open(); err != nil {
		return err
	}
	return g.listen(g.cfg)
}

// open opens the API, once: for its server, or for a console when somebody first asks.
func (g *governed) open() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.opened {
		g.opened = true
		g.failed = g.equip(g.cfg, g.store)
	}
	return g.failed
}

// equip gives the API what it stands on.
func (g *governed) equip(cfg *daemon.ControlConfig, store *compliance) error {
	plane, entropy, keysDir := &cfg.Plane, drawing("governance"), filepath.Join(cfg.StateDir, auditDir, auditKeysDir)
	keys, err := ledger.OpenFileKeys(keysDir, false)
	if err != nil {
		return err
	}
	if g.key, err = ledger.OpenBearerKey(keysDir, true); err != nil {
		return err
	}
	if g.rego, err = startAccess(plane, g.log); err != nil {
		return err
	}
	reader := &signing{&governance.Compliance{Store: store.Store, Index: g.index, Key: &store.key, Signer: keys.Signer}, store}
	g.exports, err = governance.OpenExports(governance.ExportConfig{
		Dir: filepath.Join(cfg.StateDir, exportsDir), Copier: reader, Recorder: store, Node: cfg.Name, Entropy: entropy, Logger: g.log,
	})
	if err != nil {
		return err
	}
	g.analyses, err = governance.OpenAnalytics(governance.AnalyticsConfig{
		Store: store.Store, Wait: store.Wait, Key: &store.key, Signer: keys.Signer, Dir: cfg.StateDir, Recorder: store, Node: cfg.Name, Entropy: entropy, Logger: g.log,
	})
	if err != nil {
		return err
	}
	tokens, err := openIssuers(plane.Issuers)
	if err != nil {
		return err
	}
	api := governance.Config{
		Log: reader, Recorder: store, Node: cfg.Name, Decider: g.rego, Tokens: tokens, Key: g.key, Exports: g.exports, Reports: g.analyses.Reports, Feed: g.analyses.Feed, Entropy: entropy, Logger: g.log,
	}
	if cfg.History != nil {
		api.History = cfg.History
	}
	g.api, err = governance.New(api)
	return err
}

// signing is a compliance store whose log is signed when somebody asks for what is not
// covered yet: a copy has all that was written before it was asked for, and an event is
// proven as soon as it is found. Who asks is limited in rate.
type signing struct {
	*governance.Compliance
	store *compliance
}

// Copy implements governance.Copier.
func (s *signing) Copy(ctx context.Context, dir string, format audit.Format, f audit.Filter, now time.Time, done func(audit.Part)) (*audit.Manifest, error) {
	if err := s.store.sign(ctx); err != nil {
		return nil, err
	}
	return s.Compliance.Copy(ctx, dir, format, f, now, done)
}

// Prove implements governance.Log.
func (s *signing) Prove(ctx context.Context, seq int64) ([]byte, error) {
	b, err := s.Compliance.Prove(ctx, seq)
	if err != nil {
		if err = s.store.sign(ctx); err == nil {
			b, err = s.Compliance.Prove(ctx, seq)
		}
	}
	return b, err
}

// startAccess takes up the policy of who may read what.
func startAccess(plane *setup.ControlConfig, log *slog.Logger) (*governance.Rego, error) {
	policy := opa.Config{Source: plane.Access, Told: func(v opa.Version, err error) {
		if err != nil {
			log.Error("a policy of governance is not taken; the one before stays in force", "why", err)
			return
		}
		log.Info("policy of governance", "revision", v.Revision, "digest", v.Digest)
	}}
	if plane.AccessKey != "" {
		var err error
		if policy.Key, err = os.ReadFile(plane.AccessKey); err != nil {
			return nil, fmt.Errorf("the key of the policy of governance: %w", err)
		}
	}
	return governance.StartRego(policy, daemon.Entropy(), log)
}

// openIssuers returns who verifies tokens; nil without issuers.
func openIssuers(configured []setup.IssuerConfig) (*oidc.Verifier, error) {
	if len(configured) == 0 {
		return nil, nil
	}
	issuers := make([]oidc.Issuer, len(configured))
	for i, c := range configured {
		issuers[i] = oidc.Issuer(c)
	}
	return oidc.New(issuers, nil)
}

func (g *governed) listen(cfg *daemon.ControlConfig) error {
	certificate, err := front.Issue(cfg.Key, time.Now())
	if err != nil {
		return err
	}
	pin, err := front.Pin(&certificate)
	if err != nil {
		return err
	}
	g.server = governance.NewServer(g.api, certificate, nil)
	if cfg.Plane.People != "" {
		people, err := governance.ReadPeople(cfg.Plane.People)
		if err != nil {
			return err
		}
		g.server = governance.NewServer(g.api, certificate, people)
	}
	if g.listener, err = net.Listen("tcp", cfg.Plane.Governance.String()); err != nil {
		return fmt.Errorf("cannot listen on %v for governance: %w; stop what uses it or choose another address", cfg.Plane.Governance, err)
	}
	url := mirror.Server{URL: "https://" + g.listener.Addr().String(), Pin: pin, Replica: true}.String()
	g.log.Info("governance API", "url", url)
	g.serving.Go(func() {
		if err := g.server.ServeTLS(governance.Limit(g.listener), "", ""); !errors.Is(err, http.ErrServerClosed) {
			g.log.Error("the governance API is not served", "why", err)
		}
	})
	return nil
}

// Close ends all of it. What was counted and not recorded yet is recorded.
func (g *governed) Close() (err error) {
	if g.server != nil {
		err = g.server.Close()
		g.serving.Wait()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened, g.failed = true, cmp.Or(g.failed, errEnded)
	if g.api != nil {
		g.api.Close()
	}
	if g.exports != nil {
		g.exports.Close()
	}
	if g.analyses != nil {
		g.analyses.Close()
	}
	if g.rego != nil {
		g.rego.Close()
	}
	if g.retention != nil {
		err = errors.Join(err, g.retention.Close())
	}
	if g.copies != nil {
		err = errors.Join(err, g.copies.Close())
	}
	return errors.Join(err, g.index.Close())
}
