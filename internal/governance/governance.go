// Package governance is the HTTP API for those who read the audit log, and for
// nobody else: events and their proofs, exports, reports, the history of the
// configuration (docs/governance.md).
//
// Everything that is asked passes the same stages, in serve.go: who asks is known, may
// ask now, may have this; then it is made, that it was asked for is recorded, and only
// then does it leave. What cannot be recorded does not leave.
package governance

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/oidc"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/telemetry"
)

// Log is the audit log as this API reads it. Methods are called by many goroutines.
type Log interface {
	// Query finds at most limit events that a filter wants, in the order of time, the
	// newest first if so asked. cursor is that of the page before, "" for the first.
	// It fails with an error that wraps ErrCursor at a cursor that is none.
	Query(ctx context.Context, f audit.Filter, newest bool, cursor string, limit int) (Page, error)
	// Find returns the entry of an event; ErrNotFound without one.
	Find(ctx context.Context, id audit.ID) (audit.Entry, error)
	// Prove shows that an entry is in the log, in a text that `nyx audit verify
	// --proof` reads; ErrNotFound if no checkpoint covers it yet.
	Prove(ctx context.Context, seq int64) ([]byte, error)
}

// Page is a part of what a query finds. Cursor leads to the next; "" after the last.
type Page struct {
	Entries []audit.Entry
	Cursor  string
}

// History is the configuration's. Changes are JSON objects, those after a revision,
// the oldest first.
type History interface {
	Changes(ctx context.Context, after uint64, limit int) ([]json.RawMessage, error)
}

// Errors of a Log.
var (
	ErrNotFound = errors.New("governance: there is no such entry")
	ErrCursor   = errors.New("governance: not a cursor of this query")
)

// Decider says who may do what.
type Decider interface {
	// Decide says whether a subject may do something. The reason is one for people, of
	// a refusal.
	Decide(ctx context.Context, s *Subject, a Action, r *Resource) (ok bool, reason string)
	// Bounds are those of a subject who asks for everything.
	Bounds(ctx context.Context, s *Subject) (Bounds, error)
}

// Config is what the API stands on. Zero values take the defaults.
type Config struct {
	Log      Log
	Recorder audit.Recorder
	// Node is the actor of what nobody who is known has asked.
	Node string
	// Decider decides; Table{} by default.
	Decider Decider
	// Tokens verifies tokens of issuers; nil: none are taken.
	Tokens *oidc.Verifier
	// Key is that of bearers made on this machine and of cursors.
	Key *seal.Key
	// Exports makes copies of the log; nil: it cannot be copied here.
	Exports *Exports
	// Reports makes reports of it (Reporter); nil: none are made here.
	Reports *Exports
	// Feed is that of dashboards; nil: there is none here.
	Feed Feed
	// History is the configuration's; nil: there is none here.
	History History
	// Entropy fills IDs of events.
	Entropy func([]byte)
	// Now is the clock; time.Now.
	Now func() time.Time
	// Logger is told what the recorder did not take; nil: nobody.
	Logger *slog.Logger
}

// API is the governance API. It is an http.Handler; NewServer serves it.
type API struct {
	cfg     Config
	started time.Time
	slots   chan struct{}
	viewers chan struct{} // of the feed
	rates   rates
	spent   spent
	refused telemetry.Repeats[refusalKey]
	log     *slog.Logger

	closing sync.Once
}

// New returns an API that takes requests.
func New(cfg Config) (*API, error) {
	if cfg.Log == nil || cfg.Recorder == nil || cfg.Node == "" || cfg.Key == nil || cfg.Entropy == nil {
		return nil, errors.New("governance: the API needs a log, a recorder, the name of its node, a key and entropy")
	}
	if cfg.Decider == nil {
		cfg.Decider = Table{}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{cfg: cfg, started: cfg.Now(), slots: make(chan struct{}, inFlight), viewers: make(chan struct{}, viewersMost), log: cfg.Logger}
	return a, nil
}

// Close records what is counted and not recorded yet.
func (a *API) Close() {
	a.closing.Do(func() { a.flush(context.Background(), true) })
}

// newEvent is an event of somebody at a time.
func (a *API) newEvent(kind audit.Kind, actor string, now time.Time) audit.Event {
	var drawn [10]byte
	a.cfg.Entropy(drawn[:])
	now = now.UTC().Truncate(time.Millisecond)
	return audit.Event{ID: audit.NewID(now, drawn), Time: now, Kind: kind, Actor: actor, Count: 1, Sensitivity: 1}
}
