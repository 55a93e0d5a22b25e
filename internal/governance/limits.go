package governance

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

const (
	// inFlight bounds requests that are worked on. With pages of at most 1 MB, that
	// bounds memory.
	inFlight = 32
	// bodyMax bounds the body of a request, in bytes.
	bodyMax = 16 << 10
	// actorsMost bounds the actors whose requests are counted.
	actorsMost = 4096
	// rateWindow is the time in which an actor has so many requests.
	rateWindow = time.Minute
)

// refusal is an answer that is none. reason is one word, for programs and the log.
type refusal struct {
	status      int
	reason, say string
	retry       int // seconds after which to come again; 0: not said
}

func (r *refusal) Error() string { return r.reason + ": " + r.say }

// unknown refuses who is not known.
func unknown(reason, say string) *refusal {
	return &refusal{status: http.StatusUnauthorized, reason: reason, say: say}
}

// malformed refuses what makes no sense.
func malformed(say string) *refusal {
	return &refusal{status: http.StatusBadRequest, reason: "request", say: say}
}

// rates counts requests by actor and budget. It keeps no more than the newest of
// each, up to the budget.
type rates struct {
	mu    sync.Mutex
	since map[string][]time.Time
	swept time.Time
}

// take takes one of so many requests a window, or says how long to wait.
func (r *rates) take(name string, most int, now time.Time) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since == nil {
		r.since = map[string][]time.Time{}
	}
	times, known := r.since[name]
	if !known && len(r.since) >= actorsMost {
		r.sweep(now)
		if len(r.since) >= actorsMost {
			return rateWindow
		}
	}
	for len(times) > 0 && now.Sub(times[0]) >= rateWindow {
		times = times[1:]
	}
	if len(times) >= most {
		return rateWindow - now.Sub(times[0])
	}
	r.since[name] = append(times, now)
	return 0
}

// sweep forgets who sent nothing for long. It looks at most once a second.
func (r *rates) sweep(now time.Time) {
	if now.Sub(r.swept) < time.Second {
		return
	}
	r.swept = now
	for name, times := range r.since {
		if now.Sub(times[len(times)-1]) >= rateWindow {
			delete(r.since, name)
		}
	}
}

// refusalKey is a kind of refusals. Those of single people are counted apart as long as
// there is room, and then under the node's name.
type refusalKey struct{ actor, subject, reason string }

// refuse records a refusal, or counts it.
func (a *API) refuse(ctx context.Context, actor, subject string, ref *refusal, now time.Time) {
	a.flush(ctx, false)
	if actor == "" {
		actor = a.cfg.Node
	}
	kind, first := a.refused.Add(refusalKey{actor, subject, ref.reason}, refusalKey{a.cfg.Node, "api", "refusals"}, now)
	if first {
		a.recordRefusals(ctx, kind, 1, now)
	}
}

// flush records what was counted for a minute, or all of it.
func (a *API) flush(ctx context.Context, all bool) {
	now := a.cfg.Now()
	for k, n := range a.refused.Due(now, all) {
		a.recordRefusals(ctx, k, n, now)
	}
}

func (a *API) recordRefusals(ctx context.Context, k refusalKey, count uint64, now time.Time) {
	e := a.newEvent(audit.AuditAccess, k.actor, now)
	e.Severity, e.Outcome, e.Subject, e.Action, e.Reason, e.Count = audit.Warning, audit.Refused, k.subject, "read", k.reason, count
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordMax)
	defer cancel()
	if err := a.cfg.Recorder.Record(ctx, e); err != nil {
		a.log.Error("a refusal of the governance API is not recorded", "reason", k.reason, "why", err)
	}
}
