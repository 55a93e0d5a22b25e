package settings

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

// ErrOrder is a fold of a change that is not the next one. Nothing has changed.
var ErrOrder = errors.New("settings: not the next change")

// waitingMost bounds the changes that wait for their time.
const waitingMost = 1024

// State is the fold of all changes up to a revision. The zero State is that before
// the first change. Fold and Advance change it, all else are getters.
type State struct {
	revision uint64
	time     time.Time // when its last change was accepted
	base     map[string]entry
	trial    map[string]entry // with a share of the nodes
	waiting  []*Change        // by when they are effective, and revision
}

// entry is a key's value since a version: of two, the later holds, in whatever
// order they come.
type entry struct {
	value    string
	since    time.Time
	revision uint64
	stage    *Stage
}

func (e *entry) before(o *entry) bool {
	return e.since.Before(o.since) || e.since.Equal(o.since) && e.revision < o.revision
}

// Revision is the last change in the state; 0: none.
func (s *State) Revision() uint64 { return s.revision }

// Time is when the last change was accepted.
func (s *State) Time() time.Time { return s.time }

// Clone returns a state that changes by itself.
func (s *State) Clone() *State {
	c := *s
	c.base, c.trial, c.waiting = maps.Clone(s.base), maps.Clone(s.trial), slices.Clone(s.waiting)
	return &c
}

// Full reports whether a change that is effective later would have no room.
func (s *State) Full() bool { return len(s.waiting) >= waitingMost }

// Fold takes the next change, which it keeps. Changes whose time has come by then
// take effect with it.
func (s *State) Fold(c *Change) error {
	if c.Revision != s.revision+1 || c.At.Before(s.time) {
		return fmt.Errorf("%w: revision %d after %d", ErrOrder, c.Revision, s.revision)
	}
	s.revision, s.time = c.Revision, c.At
	i, _ := slices.BinarySearchFunc(s.waiting, c, func(a, b *Change) int {
		return cmp.Or(a.effective().Compare(b.effective()), cmp.Compare(a.Revision, b.Revision))
	})
	s.waiting = slices.Insert(s.waiting, i, c)
	s.Advance(c.At)
	return nil
}

// Advance has changes take effect whose time has come, and reports whether there
// were any. A time before that of the last change is that.
func (s *State) Advance(now time.Time) (any bool) {
	if now.Before(s.time) {
		now = s.time
	}
	for len(s.waiting) > 0 && !s.waiting[0].effective().After(now) {
		s.apply(s.waiting[0])
		s.waiting = slices.Delete(s.waiting, 0, 1)
		any = true
	}
	return any
}

// Next is when Advance has work, ok false: never.
func (s *State) Next() (at time.Time, ok bool) {
	if len(s.waiting) == 0 {
		return at, false
	}
	return s.waiting[0].effective(), true
}

// Waiting are the accepted changes that are not effective yet, in their order.
func (s *State) Waiting() []*Change { return slices.Clone(s.waiting) }

func (s *State) apply(c *Change) {
	if s.base == nil {
		s.base, s.trial = map[string]entry{}, map[string]entry{}
	}
	for key, value := range c.Set {
		e := entry{value, c.effective(), c.Revision, c.Stage}
		held := s.base
		if c.Stage != nil {
			held = s.trial
		}
		if old, there := held[key]; !there || old.before(&e) {
			held[key] = e
		}
		s.settle(key)
	}
}

// settle drops a trial that a later change for all has ended.
func (s *State) settle(key string) {
	trial, on := s.trial[key]
	base, there := s.base[key]
	if on && there && trial.before(&base) {
		delete(s.trial, key)
	}
}

// Value is what a key is set to for all; "" if it is not set.
func (s *State) Value(key string) string { return s.base[key].value }

// Changed is the revision that a key was last set by, for all or on trial.
func (s *State) Changed(key string) uint64 { return max(s.base[key].revision, s.trial[key].revision) }

// Values are the keys that are set, with what they are set to.
type Values map[string]string

// All returns what is set for all nodes.
func (s *State) All() Values { return s.values("", false) }

// For returns what is set for a node, with the trials that it has a part in.
func (s *State) For(node string) Values { return s.values(node, true) }

func (s *State) values(node string, trials bool) Values {
	v := Values{}
	for key, e := range s.base {
		if e.value != "" {
			v[key] = e.value
		}
	}
	for key, e := range s.trial {
		if !trials || !e.stage.Has(node) {
			continue
		}
		if v[key] = e.value; e.value == "" {
			delete(v, key)
		}
	}
	return v
}

// Has reports whether a node is one of those that the trial is on.
func (g *Stage) Has(node string) bool {
	h := seal.Hash("rollout", g.Rollout[:], []byte(node))
	return int(binary.BigEndian.Uint32(h[:])%100) < g.Percent
}

// hashed begins every hash of a state.
const hashed = "settings state"

// Hash is the same for all who have folded the same changes, however that came
// about, and again after a change was taken back. What is not effective yet is not
// in it.
func (s *State) Hash() [seal.HashSize]byte {
	var b bytes.Buffer
	put := func(text string) { b.WriteString(strconv.Itoa(len(text)) + ":" + text) }
	for _, key := range slices.Sorted(maps.Keys(s.base)) {
		if value := s.base[key].value; value != "" {
			put(key)
			put(value)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.trial)) {
		e := s.trial[key]
		put("trial")
		put(key)
		put(e.value)
		put(e.stage.Rollout.String())
		put(strconv.Itoa(e.stage.Percent))
	}
	return seal.Hash(hashed, b.Bytes())
}

// Difference is a key whose value is another in another state.
type Difference struct {
	Key  string `json:"key"`
	From string `json:"from"` // "": not set
	To   string `json:"to"`
}

// Diff returns what of values is another in to, by key.
func (v Values) Diff(to Values) (out []Difference) {
	keys := map[string]bool{}
	for _, one := range []Values{v, to} {
		for key := range one {
			keys[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if v[key] != to[key] {
			out = append(out, Difference{key, v[key], to[key]})
		}
	}
	return out
}

// Back returns what to set so that all has the values of an earlier state again,
// and no trial is left; nil if nothing is to be done.
func (s *State) Back(earlier Values) map[string]string {
	set := map[string]string{}
	for _, d := range s.All().Diff(earlier) {
		set[d.Key] = d.To
	}
	for key := range s.trial {
		set[key] = earlier[key]
	}
	if len(set) == 0 {
		return nil
	}
	return set
}

// Int is the number that a key is set to, or else.
func (v Values) Int(key string, or int64) int64 {
	if n, err := strconv.ParseInt(v[key], 10, 64); err == nil {
		return n
	}
	return or
}

// Duration likewise.
func (v Values) Duration(key string, or time.Duration) time.Duration {
	if d, err := time.ParseDuration(v[key]); err == nil {
		return d
	}
	return or
}

// Text likewise.
func (v Values) Text(key, or string) string { return cmp.Or(v[key], or) }

// Truth likewise.
func (v Values) Truth(key string, or bool) bool {
	if v[key] == "" {
		return or
	}
	return v[key] == "true"
}
