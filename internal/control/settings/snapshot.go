package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// snapshotMost bounds an encoded state: every key of a schema several times over,
// and waitingMost changes.
const snapshotMost = waitingMost*ChangeMost + 1<<20

// frozen is an encoded State.
type frozen struct {
	Revision uint64        `json:"revision"`
	Time     time.Time     `json:"time"`
	Base     []frozenEntry `json:"base,omitempty"`
	Trial    []frozenEntry `json:"trial,omitempty"`
	Waiting  []*Change     `json:"waiting,omitempty"`
}

type frozenEntry struct {
	Key      string    `json:"key"`
	Value    string    `json:"value"`
	Since    time.Time `json:"since"`
	Revision uint64    `json:"revision"`
	Stage    *Stage    `json:"stage,omitempty"`
}

// Encode writes the whole state, from which it goes on as from its changes. Equal
// states have equal encodings.
func (s *State) Encode() []byte {
	list := func(m map[string]entry) (out []frozenEntry) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			e := m[key]
			out = append(out, frozenEntry{key, e.value, e.since, e.revision, e.stage})
		}
		return out
	}
	b, err := json.Marshal(frozen{s.revision, s.time, list(s.base), list(s.trial), s.waiting})
	if err != nil {
		panic("settings: a state that does not encode: " + err.Error())
	}
	return b
}

// ParseState reads what Encode writes, and nothing else.
func ParseState(b []byte) (*State, error) {
	var f frozen
	if err := parse(b, &f); err != nil {
		return nil, fmt.Errorf("not a state of the configuration: %w", err)
	}
	s := &State{revision: f.Revision, time: f.Time, base: map[string]entry{}, trial: map[string]entry{}, waiting: f.Waiting}
	thaw := func(list []frozenEntry, to map[string]entry, trial bool) error {
		last := ""
		for _, e := range list {
			if e.Key <= last || e.Revision == 0 || e.Revision > f.Revision || !wholeMillis(e.Since) || trial != (e.Stage != nil) {
				return fmt.Errorf("not a state of the configuration: the entry %.64q", e.Key)
			}
			if e.Stage != nil {
				if err := e.Stage.validate(); err != nil {
					return err
				}
			}
			last, to[e.Key] = e.Key, entry{e.Value, e.Since, e.Revision, e.Stage}
		}
		return nil
	}
	if err := errors.Join(thaw(f.Base, s.base, false), thaw(f.Trial, s.trial, true)); err != nil {
		return nil, err
	}
	for _, c := range f.Waiting {
		if c == nil || c.Revision == 0 || c.Revision > f.Revision {
			return nil, errors.New("not a state of the configuration: a change that waits has no place in it")
		}
		if err := c.Validate(); err != nil {
			return nil, err
		}
	}
	return s, nil
}
