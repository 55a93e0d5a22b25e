package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/registry/changes"
)

const (
	// deskHold is how long a request of a node is kept that there is nothing for;
	// deskTrial is that while a change is on trial, and of a node that does not work fully,
	// so that nodes tell how they are.
	deskHold  = 15 * time.Second
	deskTrial = 2 * time.Second
	// deskNodesMost bounds the nodes whose word is kept, deskGone the time for which.
	deskNodesMost = 100_000
	deskGone      = 10 * time.Minute
)

// SettingsDesk is the control plane's side of the configuration: it hands changes out
// to nodes, hears what they have of them, and carries trials on. Each process has one, and
// nodes ask any of them: what the desks count of a trial lies in the store, where the
// leader's adds it up.
type SettingsDesk struct {
	log  *changes.Log
	note *slog.Logger
	tell func(audit.Event)
	own  string       // name of its process, whose word does not count; "": it has none
	draw *prng.Stream // ids of its own; under mu
	life settings.ID  // of the desk, in the store

	mu     sync.Mutex
	nodes  map[string]*NodeSettings
	trials map[changes.Stage]*trialHealth

	heard func(NodeSettings) // for tests: what nodes say; nil: nobody listens
}

// NodeSettings is what a node said of its configuration last.
type NodeSettings struct {
	Node     string    `json:"node"`
	Revision uint64    `json:"revision"` // that is in force there
	Hash     string    `json:"hash"`
	Refused  uint64    `json:"refused,omitempty"` // revision that it could not take
	Why      string    `json:"why,omitempty"`
	Failing  bool      `json:"failing,omitempty"` // it does not work fully
	Seen     time.Time `json:"seen"`
}

// trialHealth is how nodes were at one stage of a trial, as they told this desk. A node is
// asked how it is each deskTrial, and its word counts as often: who asks in a loop is one
// node like the others.
type trialHealth struct {
	changes.Count
	shared  changes.Count        // what the store has of it
	counted map[string]time.Time // of each node, when its word counted last
}

// hear takes the word of a node that has the trial, or has not.
func (h *trialHealth) hear(n *NodeSettings, has bool) {
	if last, ok := h.counted[n.Node]; ok && n.Seen.Sub(last) < deskTrial {
		return
	}
	h.counted[n.Node] = n.Seen
	one := settings.Health{Tried: 1}
	if n.Failing || n.Refused != 0 {
		one.Failed = 1
	}
	if has {
		h.On.Add(one)
	} else {
		h.Others.Add(one)
	}
}

// NewSettingsDesk returns the desk of a log.
func NewSettingsDesk(log *changes.Log, rng prng.Source, note *slog.Logger) *SettingsDesk {
	d := &SettingsDesk{log: log, note: logOrNone(note), tell: func(audit.Event) {}, draw: rng.Stream("settings desk"), nodes: map[string]*NodeSettings{}, trials: map[changes.Stage]*trialHealth{}}
	d.life = d.newID()
	return d
}

// serve answers a node.
func (d *SettingsDesk) serve(w http.ResponseWriter, r *http.Request, name string) {
	status, b := d.answer(r.Context(), name, r.URL.Query())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b)
}

// answer says what follows a revision, or after some time that there is nothing.
func (d *SettingsDesk) answer(ctx context.Context, name string, q url.Values) (status int, body []byte) {
	after, err := strconv.ParseUint(q.Get("after"), 10, 64)
	if err != nil {
		return http.StatusBadRequest, []byte("after is a revision")
	}
	ctx, cancel := context.WithTimeout(ctx, d.hear(name, q))
	defer cancel()
	what, err := d.log.After(ctx, after)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusNoContent, nil
	case err != nil:
		return http.StatusServiceUnavailable, []byte(err.Error())
	}
	return http.StatusOK, what.Encode()
}

// hear takes what a node says with a request, and returns how long that is kept if there
// is nothing for it.
func (d *SettingsDesk) hear(name string, q url.Values) (hold time.Duration) {
	n := NodeSettings{Node: name, Hash: shorten(q.Get("hash")), Why: shorten(q.Get("why")), Failing: q.Get("failing") != "", Seen: time.Now().UTC().Truncate(time.Millisecond)}
	n.Revision, _ = strconv.ParseUint(q.Get("applied"), 10, 64)
	n.Refused, _ = strconv.ParseUint(q.Get("refused"), 10, 64)
	on := d.log.State().Trials()
	if hold = deskHold; len(on) > 0 || n.Failing {
		hold = deskTrial
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if was := d.nodes[name]; was == nil && len(d.nodes) >= deskNodesMost {
		return hold
	} else if n.Refused != 0 && (was == nil || was.Refused != n.Refused) {
		d.note.Error("a node cannot have the configuration; correct it or take it back with nyx config rollback", "node", name, "revision", n.Refused, "why", n.Why)
	}
	d.nodes[name] = &n
	if d.heard != nil {
		d.heard(n)
	}
	if name == d.own { // it works, or it could not answer: that says nothing of the change
		return hold
	}
	for _, t := range on {
		h := d.trials[changes.StageOf(t)]
		if h == nil {
			h = &trialHealth{counted: map[string]time.Time{}}
			d.trials[changes.StageOf(t)] = h
		}
		if on := t.Stage.Has(name); !on || n.Revision >= t.Revision || n.Refused >= t.Revision {
			h.hear(&n, on)
		}
	}
	return hold
}

// Nodes returns what nodes said last, by name.
func (d *SettingsDesk) Nodes() (out []NodeSettings) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(d.nodes)) {
		if n := d.nodes[name]; time.Since(n.Seen) > deskGone {
			delete(d.nodes, name)
		} else {
			out = append(out, *n)
		}
	}
	return out
}

// Lead does what one process of the control plane does for all, until ctx ends: it
// tends to dead letters and carries trials on, or takes them back.
func (d *SettingsDesk) Lead(ctx context.Context) {
	var tending sync.WaitGroup
	defer tending.Wait()
	tending.Go(func() {
		for ctx.Err() == nil {
			err := d.log.Tend(ctx, d.alert)
			if ctx.Err() == nil {
				d.note.Warn("dead letters of the configuration are not tended to; trying again", "why", err)
				pause(ctx, settleMost)
			}
		}
	})
	if err := d.log.UnshareOld(ctx); err != nil && ctx.Err() == nil {
		d.note.Debug("counts of trials that are over are left until another leads", "why", err)
	}
	for pause(ctx, time.Second) {
		d.judge(ctx)
	}
}

// Share puts what nodes tell this desk of trials where the leader's finds it, until ctx
// ends.
func (d *SettingsDesk) Share(ctx context.Context) {
	for pause(ctx, deskTrial) {
		if err := d.share(ctx); err != nil && ctx.Err() == nil {
			d.note.Warn("what nodes say of a trial is not told to the process that judges it; trying again", "why", err)
		}
	}
}

// share puts into the store what it does not have yet, and forgets stages that are over.
func (d *SettingsDesk) share(ctx context.Context) error {
	on := map[changes.Stage]bool{}
	for _, t := range d.log.State().Trials() {
		on[changes.StageOf(t)] = true
	}
	news := map[changes.Stage]changes.Count{}
	d.mu.Lock()
	for stage, h := range d.trials {
		if !on[stage] || h.Count != h.shared {
			news[stage] = h.Count
		}
	}
	d.mu.Unlock()
	for stage, c := range news {
		if !on[stage] {
			if err := d.log.Unshare(ctx, stage, d.life); err != nil {
				return err
			}
			d.mu.Lock()
			delete(d.trials, stage)
			d.mu.Unlock()
			continue
		}
		if err := d.log.Share(ctx, stage, d.life, c); err != nil {
			return err
		}
		d.mu.Lock()
		d.trials[stage].shared = c
		d.mu.Unlock()
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (d *SettingsDesk) alert(l settings.Letter, overdue bool) {
	text := "a change of the configuration cannot be had; correct it with nyx config retry"
	if overdue {
		text = "a change of the configuration could not be had for two minutes; correct it with nyx config retry"
	}
	d.note.Error(text, "id", l.Change.ID.String(), "actor", l.Change.Actor, "why", l.Why)
	e := audit.Event{Kind: audit.Incident, Severity: audit.Warning, Action: "config.dead-letter", Subject: "dead-letter/" + l.Change.ID.String(), Outcome: audit.Failed, Reason: "refused"}
	if overdue {
		e.Severity, e.Reason = audit.Critical, "overdue"
	}
	d.tell(e)
}

// judge looks at the trials that are on, by what all desks have counted.
func (d *SettingsDesk) judge(ctx context.Context) {
	state := d.log.State()
	var next []*settings.Change
	for id, t := range state.Trials() {
		all, err := d.log.Counted(ctx, changes.StageOf(t))
		if err != nil {
			if ctx.Err() == nil {
				d.note.Warn("what nodes say of a trial cannot be read; trying again", "rollout", id.String(), "why", err)
			}
			continue
		}
		if c, why := state.Judge(time.Now(), id, d.newID(), all.On, all.Others); c != nil {
			d.note.Warn("a trial of the configuration goes on", "rollout", id.String(), "all", c.Stage == nil, "why", why)
			next = append(next, c)
		}
	}
	for _, c := range next {
		if _, err := d.log.Submit(ctx, changes.Submission{Change: *c, Urgent: true}); err != nil && ctx.Err() == nil {
			d.note.Warn("the next stage of a trial could not be had; trying again", "why", err)
		}
	}
}

// newID is an id of the desk's own.
func (d *SettingsDesk) newID() (id settings.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.draw.Read(id[:])
	return id
}

// StateHash writes the hash of a state.
func StateHash(s *settings.State) string {
	hash := s.Hash()
	return hex.EncodeToString(hash[:])
}
