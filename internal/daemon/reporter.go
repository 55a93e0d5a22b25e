package daemon

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// outboxSuffix is of the file of events that no control process has yet.
	outboxSuffix = ".events"
	// tellEvery is how long refusals and ends of sessions are counted together:
	// an event for each would tell when somebody came.
	tellEvery = time.Minute
	// timedOut is for how long a session was not heard of before it ended, where a
	// time-out ended it: any other ends with a packet.
	timedOut = 10 * time.Second
	// lostMost bounds the neighbours whose loss waits to be told.
	lostMost = 256
	// flushMost bounds how long the end of a node waits for its last events to be
	// taken; they are on its disk.
	flushMost = time.Second
)

// teller tells the control plane what happens at a node or an authority, as audit
// events: never who uses it, or for what. It is safe for concurrent use; a nil
// teller tells nobody.
type teller struct {
	actor  string
	plane  *plane
	outbox *pipeline.Outbox
	lost   chan lostNeighbour
	log    *slog.Logger

	refusals  [refusalCodes]atomic.Uint64
	timeouts  atomic.Uint64
	untold    atomic.Uint64 // lost neighbours beyond lostMost
	drawMu    sync.Mutex
	draw      *prng.Stream
	cancel    context.CancelFunc
	running   sync.WaitGroup
	tellEvery time.Duration
}

// lostNeighbour is a node that does not answer any more.
type lostNeighbour struct {
	id  wire.NodeID
	why link.Reason
}

// refusalCodes is above every code of a refusal.
const refusalCodes = 16

// reasons are the reason codes of refusals.
var reasons = map[wire.Refusal]string{
	wire.RefusedPolicy: "policy", wire.RefusedRate: "rate", wire.RefusedFull: "full", wire.RefusedVersion: "version", wire.RefusedDrain: "drain",
	wire.RefusedPass: "pass",
}

// tellerConfig is whose events go where.
type tellerConfig struct {
	network  string
	signer   *seal.Signer
	controls []string // none: nil is returned
	dir      string   // of the outbox; "": in memory
	name     string   // of its file
	log      *slog.Logger
}

// newTeller opens the outbox and begins to send what it holds.
func newTeller(cfg tellerConfig) (*teller, error) {
	if len(cfg.controls) == 0 {
		return nil, nil
	}
	id := directory.NodeID(cfg.signer.Public())
	t := &teller{
		actor: hex.EncodeToString(id[:]), lost: make(chan lostNeighbour, lostMost), log: logOrNone(cfg.log),
		draw: systemEntropy().Stream("teller"), tellEvery: tellEvery,
	}
	var err error
	if t.plane, err = newPlane(cfg.network, cfg.controls, cfg.signer); err != nil {
		return nil, err
	}
	path := ""
	if cfg.dir != "" {
		path = filepath.Join(cfg.dir, cfg.name+outboxSuffix)
	}
	t.outbox, err = pipeline.OpenOutbox(pipeline.OutboxConfig{
		Path: path, Send: t.send, Jitter: t.jitter, Log: t.log,
		Lost: func(n uint64) audit.Event {
			e := audit.Event{Kind: audit.Incident, Severity: audit.Warning, Action: "events.given-up", Subject: "outbox", Outcome: audit.Failed, Count: n}
			t.complete(&e)
			return e
		},
	})
	if err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, t.cancel = context.WithCancel(context.Background())
	t.running.Go(func() { t.outbox.Run(ctx) })
	t.running.Go(func() { t.count(ctx) })
	return t, nil
}

func (t *teller) complete(e *audit.Event) {
	t.drawMu.Lock()
	defer t.drawMu.Unlock()
	complete(e, t.actor, t.draw)
}

func (t *teller) jitter(d time.Duration) time.Duration {
	t.drawMu.Lock()
	defer t.drawMu.Unlock()
	return time.Duration(t.draw.Uint64() % uint64(max(d, 1)))
}

// send posts a batch.
func (t *teller) send(ctx context.Context, batch []byte) error {
	r, err := t.plane.ask(ctx, request{path: eventsPath, post: batch, most: 1 << 10})
	switch {
	case err != nil:
		return err
	case r.StatusCode == http.StatusBadRequest || r.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: %s", pipeline.ErrRefused, r.said())
	case !r.ok():
		return fmt.Errorf("the control process answers %s", r.Status)
	}
	return nil
}

// tell records an event, or logs that it cannot; without a word of its own it is one of
// severity info.
func (t *teller) tell(e audit.Event) {
	if err := t.record(e); err != nil {
		t.log.Error("an event is not kept", "kind", e.Kind.String(), "action", e.Action, "why", err)
	}
}

// record records an event. It is on this machine's disk when it returns.
func (t *teller) record(e audit.Event) error {
	if t == nil {
		return nil
	}
	t.complete(&e)
	return t.outbox.Record(context.Background(), e)
}

// sink counts what is told once a minute, and passes events on. It is called under
// the host's lock.
func (t *teller) sink(next trace.Sink) trace.Sink {
	if t == nil {
		return next
	}
	return func(e trace.Event) {
		switch {
		case e.Kind == trace.SessionRefused && e.A < refusalCodes:
			t.refusals[e.A].Add(1)
		case e.Kind == trace.SessionClosed && e.A >= uint64(timedOut):
			t.timeouts.Add(1)
		}
		if next != nil {
			next(e)
		}
	}
}

// neighbourLost is called under the host's lock.
func (t *teller) neighbourLost(id wire.NodeID, why link.Reason) {
	if t == nil {
		return
	}
	select {
	case t.lost <- lostNeighbour{id, why}:
	default:
		t.untold.Add(1)
	}
}

// count tells once a minute what was counted, and of lost neighbours at once.
func (t *teller) count(ctx context.Context) {
	tick := time.NewTicker(t.tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			t.tellCounts()
			return
		case <-tick.C:
			t.tellCounts()
		case n := <-t.lost:
			t.tell(audit.Event{
				Kind: audit.Incident, Severity: audit.Warning, Action: "neighbour.lost", Subject: "node/" + hex.EncodeToString(n.id[:]),
				Outcome: audit.Failed, Reason: lossReasons[n.why],
			})
		}
	}
}

// lossReasons are the reason codes of lost neighbours.
var lossReasons = map[link.Reason]string{link.Silent: "silent", link.Unanswered: "unanswered"}

func (t *teller) tellCounts() {
	window := []audit.Detail{{Key: "window", Value: t.tellEvery.String()}}
	for code := range t.refusals {
		reason, known := reasons[wire.Refusal(code)]
		if !known {
			reason = fmt.Sprint("code-", code)
		}
		if n := t.refusals[code].Swap(0); n > 0 {
			t.tell(audit.Event{Kind: audit.AdmissionRefusal, Action: "refuse", Subject: "SESSION_INIT", Outcome: audit.Refused, Reason: reason, Count: n, Details: window})
		}
	}
	if n := t.timeouts.Swap(0); n > 0 {
		t.tell(audit.Event{Kind: audit.SessionTerminate, Action: "time-out", Subject: "SESSION_TERMINATE", Reason: "silent", Count: n, Details: window})
	}
	if n := t.untold.Swap(0); n > 0 {
		t.tell(audit.Event{Kind: audit.Incident, Severity: audit.Critical, Action: "neighbour.lost", Subject: "nodes", Outcome: audit.Failed, Count: n})
	}
}

// evidence tells of what authorities have signed that they must not.
func (t *teller) evidence(name string, proven bool) {
	severity, reason := audit.Warning, "unproven"
	if proven {
		severity, reason = audit.Critical, "proven"
	}
	t.tell(audit.Event{Kind: audit.Incident, Severity: severity, Action: "evidence", Subject: "directory/" + name, Outcome: audit.Failed, Reason: reason})
}

// close tells the last, and gives it a moment to be taken.
func (t *teller) close(last audit.Event) error {
	if t == nil {
		return nil
	}
	t.tell(last)
	return t.end()
}

// end gives what was told a moment to be taken.
func (t *teller) end() error {
	t.cancel()
	t.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), flushMost)
	defer cancel()
	t.outbox.Flush(ctx)
	t.plane.close()
	return t.outbox.Close()
}
