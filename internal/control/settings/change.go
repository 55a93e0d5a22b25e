// Package settings is what may be changed in a network while it runs, and the
// changes, as events (CONFIG_CHANGE). It is pure: time is an argument.
//
// A Change is accepted once, by a Schema, and then has a revision: its place in
// the one order of all changes. The State is the fold of them. Whoever folds the
// same changes has the same state and the same hash, one by one or all at once,
// in whatever order and however often they came: a Receiver restores the order
// and leaves out what it has. Apply gives a state to all of its subscribers or to
// none.
//
//   - change.go: the event, its bounds and its encoding
//   - schema.go, keys.go: which keys there are, of what kind, within which bounds
//   - state.go, snapshot.go: the fold, its hash, differences, its encoding
//   - receiver.go: order and duplicates
//   - apply.go: prepare everywhere, then commit everywhere
//   - dead.go: changes that could not be had, until they are corrected
//   - rollout.go: a change on a share of the nodes first
package settings

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Bounds of one change. A rollback of all keys fits into one.
const (
	SetMost     = 64       // keys
	ValueMost   = 1 << 10  // bytes of a value
	ActorMost   = 64       // bytes
	CommentMost = 256      // bytes
	ChangeMost  = 16 << 10 // bytes of an encoded change
)

// ID is what a change is known by, wherever it goes: the key of deduplication.
type ID [16]byte

// ParseID reads 32 hexadecimal digits.
func ParseID(s string) (id ID, err error) { return id, id.UnmarshalText([]byte(s)) }

// String writes 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return fmt.Errorf("%q is not the id of a change: 32 hexadecimal digits", b)
	}
	if _, err := hex.Decode(id[:], b); err != nil {
		return fmt.Errorf("%q is not the id of a change: 32 hexadecimal digits", b)
	}
	return nil
}

// Change is one CONFIG_CHANGE. All of its keys change together. Times are UTC, in
// full milliseconds.
type Change struct {
	ID ID `json:"id"`
	// Revision is its place in the order, from 1 on without gaps; 0 before it is
	// accepted.
	Revision uint64 `json:"revision,omitempty"`
	// At is when it was accepted, never before the change of the revision before.
	At time.Time `json:"at,omitzero"`
	// Effective is from when it holds; zero, or not after At: at once. Of two
	// changes of a key, the one that is effective later holds, and of one moment the
	// later revision.
	Effective time.Time `json:"effective_at,omitzero"`
	// Set has the new values by key; "" leaves a key to each node's own file.
	Set     map[string]string `json:"set"`
	Actor   string            `json:"actor"` // an operator's name, or a part's of the control plane
	Comment string            `json:"comment,omitempty"`
	// Stage says that it is on trial at a share of the nodes; nil: it is for all.
	Stage *Stage `json:"stage,omitempty"`
}

// Stage is a change on trial.
type Stage struct {
	// Rollout is the id of the first change of the rollout; it also draws the nodes,
	// so that a greater share has all those of the smaller.
	Rollout ID `json:"rollout"`
	// Percent is the share of the nodes, 1 to 99.
	Percent int `json:"percent"`
	// Next are the shares to come, growing, without the 100 at the end; Hold is how
	// long each must go well.
	Next []int         `json:"next,omitempty"`
	Hold time.Duration `json:"hold"`
	// Worse is by how much the share of failures at these nodes may be above that at
	// the others, in percent, before the change is taken back.
	Worse int `json:"worse"`
}

// holdMost bounds Stage.Hold.
const holdMost = 7 * 24 * time.Hour

// effective is from when a change holds.
func (c *Change) effective() time.Time {
	if c.Effective.After(c.At) {
		return c.Effective
	}
	return c.At
}

// Validate checks what holds for every change, whatever the schema. It does not
// say whether the change was accepted.
func (c *Change) Validate() error {
	switch {
	case c.ID == ID{}:
		return errors.New("a change without an id")
	case len(c.Set) == 0:
		return errors.New("the change sets no key")
	case len(c.Set) > SetMost:
		return fmt.Errorf("the change sets %d keys; at most %d go together", len(c.Set), SetMost)
	case c.Actor == "" || len(c.Actor) > ActorMost || !utf8.ValidString(c.Actor):
		return fmt.Errorf("the actor of a change is a name of 1 to %d bytes", ActorMost)
	case len(c.Comment) > CommentMost || !utf8.ValidString(c.Comment):
		return fmt.Errorf("the comment of a change has at most %d bytes", CommentMost)
	case !wholeMillis(c.At) || !wholeMillis(c.Effective):
		return errors.New("the times of a change are UTC, in full milliseconds")
	}
	for key, value := range c.Set {
		if key == "" || len(key) > ActorMost || len(value) > ValueMost || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return fmt.Errorf("%.64q: a key has 1 to %d bytes, a value at most %d", key, ActorMost, ValueMost)
		}
	}
	if c.Stage != nil {
		return c.Stage.validate()
	}
	return nil
}

func (s *Stage) validate() error {
	if s.Rollout == (ID{}) || s.Hold <= 0 || s.Hold > holdMost || s.Worse < 0 || s.Worse > 100 {
		return fmt.Errorf("a stage of a rollout holds for up to %v and is at most 100 %% worse", holdMost)
	}
	last := 0
	for _, p := range append([]int{s.Percent}, s.Next...) {
		if p <= last || p > 99 {
			return errors.New("the stages of a rollout are growing shares from 1 % to 99 %")
		}
		last = p
	}
	return nil
}

func wholeMillis(t time.Time) bool {
	return t.IsZero() || t.Equal(t.Truncate(time.Millisecond)) && t.Location() == time.UTC
}

// Encode writes a change that is valid. It has one encoding: JSON with its fields
// in their order and keys sorted.
func (c *Change) Encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("settings: a change that does not encode: " + err.Error())
	}
	return b
}

// Parse reads what Encode writes, and nothing else.
func Parse(b []byte) (Change, error) {
	var c Change
	if err := parse(b, &c); err != nil {
		return Change{}, fmt.Errorf("not a change: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Change{}, err
	}
	return c, nil
}

// parse decodes JSON of which there is one form.
func parse(b []byte, v any) error {
	if len(b) > DeliveryMost {
		return fmt.Errorf("%d bytes are too many", len(b))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	again, err := json.Marshal(v)
	if err == nil && !bytes.Equal(again, b) {
		err = errors.New("it is not encoded in the one way that there is")
	}
	return err
}
