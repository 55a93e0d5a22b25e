package console

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

const (
	// refusalsMost bounds the refusals that are counted apart.
	refusalsMost = 1024
	// refusalsEvery is how often those of one kind are recorded.
	refusalsEvery = time.Minute
	// closeMax bounds what is still recorded when the console ends, which it does
	// within seconds.
	closeMax = 2 * time.Second
)

// refusals are recorded as the governance API records its own: when the first of a kind
// comes, and then once a minute with their count. None is left out, and a flood of them
// is not one of events.
type refusals struct {
	mu    sync.Mutex
	next  map[refusal]*refusalCount
	swept time.Time
}

// refusal is a kind of them: who wanted what.
type refusal struct {
	who    Person
	action string
}

type refusalCount struct {
	since time.Time // of the last event
	more  uint64    // that came after it
}

// add counts a refusal. It returns its kind, which is that of all others where too many
// are counted apart, and whether it is the first.
func (r *refusals) add(k refusal, now time.Time) (refusal, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.next[k]
	if n == nil && len(r.next) >= refusalsMost {
		k = refusal{Person{Name: "console", Role: Viewer}, "refusals"}
		n = r.next[k]
	}
	if n != nil {
		n.more++
		return k, false
	}
	r.next[k] = &refusalCount{since: now}
	return k, true
}

// due takes out what was counted for a minute, or all of it.
func (r *refusals) due(now time.Time, all bool) map[refusal]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !all && now.Sub(r.swept) < time.Second {
		return nil
	}
	r.swept = now
	due := map[refusal]uint64{}
	for k, n := range r.next {
		if !all && now.Sub(n.since) < refusalsEvery {
			continue
		}
		if n.more > 0 {
			due[k] = n.more
		}
		delete(r.next, k)
	}
	return due
}

// tellRefused records, or counts, that somebody wanted what the policy refuses.
func (c *Console) tellRefused(k *call, action string) {
	if c.cfg.Record == nil {
		return
	}
	if kind, first := c.refused.add(refusal{k.who.Person, action}, c.cfg.Now()); first {
		ctx, cancel := timed(k.Request, recordMax)
		defer cancel()
		c.recordRefusals(ctx, kind, 1)
	}
}

// tellCounted records the refusals that were counted for a minute, or all of them.
func (c *Console) tellCounted(ctx context.Context, all bool) {
	for kind, n := range c.refused.due(c.cfg.Now(), all) {
		c.recordRefusals(ctx, kind, n)
	}
}

// tellSoon records them as requests come.
func (c *Console) tellSoon(r *http.Request) {
	ctx, cancel := timed(r, recordMax)
	defer cancel()
	c.tellCounted(ctx, false)
}

func (c *Console) recordRefusals(ctx context.Context, kind refusal, count uint64) {
	e := c.newEvent(kind.who, "console.refused", kind.action)
	e.Outcome, e.Count = audit.Refused, count
	c.keepEvent(ctx, e)
}
