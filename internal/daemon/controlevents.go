package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/changes"
	"github.com/nyxnet/nyx/internal/seal"
)

// What is told of the configuration, and of the policy, once for all control processes:
// the leader does it. An event's ID follows from what it is about and from a time that
// is in the store, so that who leads next makes the same event again, and the log has it
// once. What was told is marked in the store after the bus has it.

const (
	configSubject = "configuration"
	policySubject = "policy"
	// policyKey has what was told of the policy last.
	policyKey = "policy"
)

// details pairs keys and values, without those that are empty or too long.
func details(pairs ...string) (out []audit.Detail) {
	for i := 0; i < len(pairs); i += 2 {
		if v := pairs[i+1]; v != "" && len(v) <= audit.ValueMax {
			out = append(out, audit.Detail{Key: pairs[i], Value: v})
		}
	}
	return out
}

// eventID is the ID of an event at a time about what has a name.
func eventID(at time.Time, label string, name []byte) audit.ID {
	h := seal.Hash(label, name)
	return audit.NewID(at, [10]byte(h[:]))
}

// changeEvent is the event of an accepted change. It names keys and no values: those
// are in the configuration's history, by the revision, and the digest is of all of it.
// Comments are people's, and may say anything.
func changeEvent(c *settings.Change) audit.Event {
	digest := seal.Hash("configuration change", c.Encode())
	e := audit.Event{
		ID: eventID(c.At, "event of a configuration change", c.ID[:]), Time: c.At, Kind: audit.ConfigChange, Severity: audit.Notice,
		Actor: c.Actor, Subject: configSubject, Action: "set", Count: 1,
	}
	keys := strings.Join(slices.Sorted(maps.Keys(c.Set)), ",")
	pairs := []string{"revision", strconv.FormatUint(c.Revision, 10), "message_id", c.ID.String(), "keys", shorten(keys), "digest", fmt.Sprintf("%x", digest)}
	if c.Effective.After(c.At) {
		pairs = append(pairs, "effective_at", c.Effective.Format(time.RFC3339))
	}
	if c.Stage != nil {
		e.Action = "trial"
		pairs = append(pairs, "stage", strconv.Itoa(c.Stage.Percent)+" %")
	}
	e.Details = details(pairs...)
	return e
}

// herald tells the log, for all control processes.
type herald struct {
	store  registry.Store
	log    *changes.Log
	policy *policyDesk
	record audit.Recorder
	name   string // of this process
	note   *slog.Logger
	traces tracer
}

// run tells until ctx ends.
func (h *herald) run(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.again(ctx, func() error { return h.log.Tell(ctx, h.tellChanges) })
	}()
	h.again(ctx, func() error { return h.tellPolicies(ctx) })
	<-done
}

// again has something done until ctx ends.
func (h *herald) again(ctx context.Context, do func() error) {
	for ctx.Err() == nil {
		err := do()
		if ctx.Err() != nil {
			return
		}
		h.note.Warn("the log is not told of the configuration; trying again", "why", err)
		pause(ctx, settleAgain)
	}
}

// tellChanges has changes recorded.
func (h *herald) tellChanges(ctx context.Context, some []settings.Change) error {
	var events []audit.Event
	for i := range some {
		e := changeEvent(&some[i])
		if err := e.Validate(); err != nil { // of an actor with a name that no event may hold
			h.note.Error("the actor of a change is not recorded", "revision", some[i].Revision, "why", err)
			e.Actor = "operator"
		}
		events = append(events, e)
	}
	if err := h.recordAll(ctx, events...); err != nil {
		return err
	}
	h.traces.accepted(some)
	return nil
}

func (h *herald) recordAll(ctx context.Context, events ...audit.Event) error {
	ctx, cancel := context.WithTimeout(ctx, keepMax)
	defer cancel()
	return h.record.Record(ctx, events...)
}

// policyMark is what the log was told of the policy last.
type policyMark struct {
	Revision string    `json:"revision"`
	Digest   string    `json:"digest"`
	Previous string    `json:"previous"` // revision
	At       time.Time `json:"at"`
	Told     bool      `json:"told"` // the bus has it
}

func (m *policyMark) event(actor string) audit.Event {
	return audit.Event{
		ID: eventID(m.At, "event of a policy", []byte(m.Digest)), Time: m.At, Kind: audit.ConfigChange, Severity: audit.Notice,
		Actor: actor, Subject: policySubject, Action: "policy.take", Count: 1,
		Details: details("revision", m.Revision, "previous", m.Previous, "digest", m.Digest),
	}
}

// tellPolicies tells of each policy that is in force at this process, the leader: what
// is to be told is marked before, so that it has one time, and so one ID, and again
// after.
func (h *herald) tellPolicies(ctx context.Context) error {
	kept, err := h.store.Get(ctx, policyKey)
	if err != nil {
		return err
	}
	m := policyMark{Told: true}
	if kept.Revision != 0 {
		if err := json.Unmarshal(kept.Value, &m); err != nil {
			return fmt.Errorf("the mark of the policy that was told is none: %w", err)
		}
	}
	for at := kept.Revision; ; {
		if m.Told {
			v, changed := h.policy.present()
			if v.Digest == m.Digest || v == (PolicyVersion{}) {
				select {
				case <-changed:
					continue
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			m = policyMark{Revision: v.Revision, Digest: v.Digest, Previous: m.Revision, At: time.Now().UTC().Truncate(time.Millisecond)}
			if at, err = h.mark(ctx, &m, at); err != nil {
				return err
			}
		}
		e := m.event(h.name)
		if err := e.Validate(); err != nil { // by the revision, which is the bundle's to say
			e.Details = details("digest", m.Digest)
		}
		if err := h.recordAll(ctx, e); err != nil {
			return err
		}
		m.Told = true
		if at, err = h.mark(ctx, &m, at); err != nil {
			return err
		}
	}
}

func (h *herald) mark(ctx context.Context, m *policyMark, was int64) (int64, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return 0, err
	}
	return h.store.Put(ctx, policyKey, b, was)
}

// refusal is the event of an order that was not accepted. What the order said is left
// out: it may hold anything.
func refusal(actor string, err error) audit.Event {
	e := audit.Event{Kind: audit.ConfigChange, Severity: audit.Notice, Actor: actor, Subject: configSubject, Action: "order", Outcome: audit.Refused, Reason: "invalid"}
	if errors.Is(err, changes.ErrStale) {
		e.Reason = "stale"
	}
	return e
}
