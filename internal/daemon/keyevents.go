package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/setup"
)

const (
	// earlyMost bounds the events of a process's secrets before there is a part of it
	// that tells events: a start puts and reads a dozen.
	earlyMost = 64
	// refusedAgain is how long refusals of one secret are counted together: a node asks
	// for its fleet key each second.
	refusedAgain = time.Minute
	// refusedMost bounds the secrets of which refusals are counted.
	refusedMost = 64
)

// keyEvents tells the control plane what is done with the secrets of a process, as
// events of kind key.event: names and versions, never values. Until a part of the
// process can tell, events wait. It is safe for concurrent use.
type keyEvents struct {
	mu      sync.Mutex
	tell    func(audit.Event) error // nil: nobody can yet
	early   []audit.Event
	refused map[string]*refusals // by the secret's name
}

// refusals are those of one secret that were not told yet.
type refusals struct {
	told time.Time
	more uint64
}

// record is a secret.Recorder.
func (k *keyEvents) record(_ context.Context, e secret.Event) error {
	event := keyEvent(e)
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.Action == secret.ActionRefused {
		if event.Count = k.count(e.Name, time.Now()); event.Count == 0 {
			return nil
		}
	}
	if k.tell != nil {
		return k.tell(event)
	}
	if len(k.early) < earlyMost {
		k.early = append(k.early, event)
	}
	return nil
}

// count counts a refusal and returns how many are to be told now. The lock is held.
func (k *keyEvents) count(name string, now time.Time) uint64 {
	r := k.refused[name]
	if r == nil {
		if len(k.refused) >= refusedMost {
			clear(k.refused)
		}
		if k.refused == nil {
			k.refused = map[string]*refusals{}
		}
		r = &refusals{}
		k.refused[name] = r
	}
	if r.more++; now.Sub(r.told) < refusedAgain {
		return 0
	}
	n := r.more
	r.told, r.more = now, 0
	return n
}

// to has events told from now on, those that wait first.
func (k *keyEvents) to(tell func(audit.Event) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.early {
		tell(e)
	}
	k.early, k.tell = nil, tell
}

// keyEvent is what an event of a secret is in the audit log. Words of a store, in
// which addresses may stand, are not in it.
func keyEvent(e secret.Event) audit.Event {
	out := audit.Event{Kind: audit.KeyEvent, Action: e.Action, Subject: "secret/" + e.Name}
	if e.Version > 0 {
		out.Details = []audit.Detail{{Key: "generation", Value: strconv.FormatUint(e.Version, 10)}}
	}
	switch {
	case errors.Is(e.Err, secret.ErrRefused):
		out.Severity, out.Outcome, out.Reason = audit.Warning, audit.Refused, "refused"
	case e.Err != nil:
		out.Severity, out.Outcome, out.Reason = audit.Warning, audit.Failed, "fault"
	}
	return out
}

// RecordKeys has what is done with a store told in the name of the node, or authority,
// of a configuration, for commands of its operator. Closing it gives events a moment to
// reach the control plane, and keeps those that do not on the disk, for the next time.
// Nobody is told where the configuration has no control plane, or while the identity in
// whose name it would be is not made yet.
func RecordKeys(cfg *setup.Config, store secret.Store) (secret.Store, error) {
	if len(cfg.Controls) == 0 || cfg.Roles == 0 && !cfg.Authority {
		return store, nil
	}
	ring := &keyring{dir: cfg.Keys, whole: cfg.Secrets.Node != "", stored: &setup.StoredKeys{Store: store, Name: cfg.Secrets.Node, Fleet: cfg.Secrets.Fleet}}
	whose := ring.identity
	if cfg.Roles == 0 {
		whose = ring.authority
	}
	signer, err := whose()
	if errors.Is(err, secret.ErrNone) || errors.Is(err, fs.ErrNotExist) {
		return store, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what is done with secrets cannot be recorded: %w", err)
	}
	t, err := newTeller(tellerConfig{network: cfg.Network.Trust.Network, signer: signer, controls: cfg.Controls, dir: cfg.State, name: "secret"})
	if err != nil {
		return nil, err
	}
	events := &keyEvents{tell: t.record}
	return &toldStore{secret.Recorded{Store: store, Record: events.record}, t}, nil
}

// toldStore is a store with who tells what is done with it.
type toldStore struct {
	secret.Recorded
	teller *teller
}

func (s *toldStore) Close() error { return errors.Join(s.teller.end(), s.Recorded.Close()) }
