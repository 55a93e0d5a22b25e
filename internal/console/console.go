// Package console is the operator's console: pages in a browser that show a running
// network, live, and change what may be changed (docs/console.md).
//
// The way of a request: it is for this host and from this site (guard.go), of somebody
// who has signed in (people.go, signin.go, oidc.go), whom the policy lets do it; if it
// changes something, that is recorded first; then a page is made of what the Source of
// the page has, or says in one sentence that there is none. What moves comes as
// server-sent events, of one snapshot for all who watch (live.go).
package console

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry/changes"
	"github.com/nyxnet/nyx/internal/telemetry"
)

// Network is what the console shows.
type Network interface {
	// Picture is asked for once a second, whoever watches.
	Picture() telemetry.Picture
}

// Orders are what a console may have a network do.
type Orders interface {
	// Drain has a node leave, RotateKeys replaces the key of the Stream nodes' fleet.
	Drain(node string) error
	RotateKeys(now time.Time) error
}

// Settings is the configuration of the network: a *changes.Log.
type Settings interface {
	Schema() *settings.Schema
	State() *settings.State
	Submit(context.Context, changes.Submission) (settings.Change, error)
	Rollback(ctx context.Context, id settings.ID, actor string, to uint64) (settings.Change, error)
	History(ctx context.Context, from uint64, each func(settings.Change) bool) error
	Replay(ctx context.Context, to uint64) (*settings.State, error)
}

// Audit answers for the audit log as the governance API does, to somebody by name: it
// decides, bounds, records and limits by itself.
type Audit interface {
	ServeAs(w http.ResponseWriter, r *http.Request, who Person)
}

// Policy says who may do what.
type Policy interface {
	Decide(ctx context.Context, who Person, a Action) (ok bool, reason string)
}

// Config is what a console stands on. A nil source is one that is not there: its pages
// say so.
type Config struct {
	Network   Network
	Orders    Orders
	Settings  Settings
	Audit     Audit
	Scenarios Scenarios
	Policy    Policy
	// Fleet says that the network is on other machines, and no client on this one: the
	// pages of one are left out.
	Fleet bool
	// Record records what somebody does before it is done; nil: there is no audit log,
	// and nothing may be changed.
	Record audit.Recorder
	// Refused is told of a change of the configuration that was refused; nil: nobody is.
	Refused func(actor string, why error)
	// OIDC signs people in; nil: only links do.
	OIDC *OIDC
	// Owner is what the owner of this machine shows to have a link made; "": none are.
	Owner string
	// Command is how the owner has one made, for who comes without; "": not at all.
	Command string
	// Hosts are names of the console beside loopback addresses, with the ports that are not
	// those of HTTP and HTTPS.
	Hosts []string
	// Entropy fills secrets and IDs.
	Entropy func([]byte)
	// Now is the clock; time.Now.
	Now func() time.Time
	Log *slog.Logger // nil: none
}

//go:embed assets pages
var files embed.FS

// Console is the console. It is an http.Handler; NewServer serves it.
type Console struct {
	cfg     Config
	mux     *http.ServeMux
	guard   *http.CrossOriginProtection
	faces   map[string]*face // by language
	menu    []string
	people  people
	links   links
	flows   flows
	live    *live
	runs    runs
	tries   rate
	refused telemetry.Repeats[refusal]
	stop    context.CancelFunc
	running sync.WaitGroup
}

// New returns a console that watches its network until Close.
func New(cfg Config) (*Console, error) {
	if cfg.Network == nil || cfg.Policy == nil || cfg.Entropy == nil {
		return nil, errors.New("console: it needs a network, a policy and entropy")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Console{cfg: cfg, mux: http.NewServeMux(), guard: http.NewCrossOriginProtection(), menu: pageNames}
	if cfg.Fleet {
		c.menu = slices.DeleteFunc(slices.Clone(pageNames), func(name string) bool { return slices.Contains(ownPages, name) })
	}
	var err error
	if c.faces, err = newFaces(); err != nil {
		return nil, err
	}
	c.people.known = map[[32]byte]*visit{}
	c.links.open = map[[32]byte]time.Time{}
	c.flows.open = map[string]flow{}
	c.live = newLive(cfg.Network, cfg.Now())
	c.route()
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.running.Go(func() { c.live.run(ctx, cfg.Now) })
	return c, nil
}

// Close ends the watching and all streams of events. A scenario that runs is told to
// stop and not waited for: one in the simulator hears of it between executions only. The
// refusals that were counted are recorded.
func (c *Console) Close() {
	c.stop()
	c.runs.cancel()
	c.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeMax)
	defer cancel()
	c.tellCounted(ctx, true)
}

func (c *Console) route() {
	assets, _ := fs.Sub(files, "assets") // it is embedded
	serve := http.StripPrefix("/assets/", http.FileServerFS(assets))
	c.mux.HandleFunc("GET /assets/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		serve.ServeHTTP(w, r)
	})
	c.mux.HandleFunc("GET /sign-in", c.signInPage)
	c.mux.HandleFunc("GET /enter", c.enterPage)
	c.mux.HandleFunc("POST /enter", c.enter)
	c.mux.HandleFunc("POST /link", c.link)
	c.mux.HandleFunc("GET /oidc/begin", c.oidcBegin)
	c.mux.HandleFunc("GET /oidc/return", c.oidcReturn)
	c.mux.HandleFunc("POST /looks", c.looks)

	c.page("GET /{$}", "overview", See, c.overview)
	c.page("GET /map", "map", See, c.networkMap)
	if !c.cfg.Fleet {
		c.page("GET /sessions", "sessions", See, c.sessions)
		c.page("GET /routes", "routes", See, c.routes)
	}
	c.page("GET /relays", "relays", See, c.relays)
	c.page("GET /directory", "directory", See, c.directory)
	c.page("GET /configuration", "configuration", SeeSettings, c.configuration)
	c.page("GET /audit", "audit", "", c.audit) // whose API decides
	c.page("GET /scenarios", "scenarios", See, c.scenarios)
	c.page("GET /scenarios/{id}", "evidence", See, c.evidence)
	c.page("GET /planner", "planner", See, c.planner)
	c.signed("GET /live", See, c.serveLive)
	c.signed("GET /history", See, c.serveHistory)
	c.signed("GET /audit/proof/{id}", "", c.proof)
	c.signed("GET /audit/exports/{id}/{name}", "", c.exported)

	if c.cfg.Orders != nil {
		c.change("POST /relays/drain", Operate, c.drain)
		c.change("POST /relays/rotate", Operate, c.rotate)
	}
	c.change("POST /configuration", Configure, c.order)
	c.change("POST /configuration/rollback", Configure, c.rollBack)
	c.change("POST /audit/exports", "", c.export)
	c.change("POST /scenarios/run", RunScenario, c.runScenario)
	c.change("POST /role", "", c.changeRole)
	c.change("POST /sign-out", "", c.signOut)
}
