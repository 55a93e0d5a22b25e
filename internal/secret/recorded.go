package secret

import (
	"context"
	"errors"
	"fmt"
)

// Actions of key events.
const (
	ActionPut     = "put"     // a first version
	ActionRotate  = "rotate"  // a further version
	ActionDestroy = "destroy" // versions before one
	ActionDelete  = "delete"
	ActionRefused = "refused" // the store refused a read: it is not allowed, or damaged
	ActionReload  = "reload"  // a running node took a version
)

// Event is something that was done with a secret. It holds no value.
type Event struct {
	Action  string
	Name    string
	Version uint64
	// Err says why it was not done; nil if it was.
	Err error
}

// Recorder takes events and returns when they are durable.
type Recorder func(ctx context.Context, e Event) error

// Recorded is a Store whose changes and refusals are recorded. A change that cannot
// be recorded is an error, and may have come about. Reads that succeed are not
// events: a node looks for new versions all the time.
type Recorded struct {
	Store
	Record Recorder
}

// Get implements Store.
func (r *Recorded) Get(ctx context.Context, name string, version uint64) (Secret, error) {
	s, err := r.Store.Get(ctx, name, version)
	if errors.Is(err, ErrRefused) {
		return s, errors.Join(err, r.record(ctx, Event{ActionRefused, name, version, err}))
	}
	return s, err
}

// Put implements Store.
func (r *Recorded) Put(ctx context.Context, name string, value []byte, was uint64) (uint64, error) {
	version, err := r.Store.Put(ctx, name, value, was)
	action := ActionRotate
	if was == 0 {
		action = ActionPut
	}
	if errors.Is(err, ErrChanged) {
		return version, err // who tries again has the next version's event
	}
	return version, errors.Join(err, r.record(ctx, Event{action, name, was + 1, err}))
}

// Destroy implements Store.
func (r *Recorded) Destroy(ctx context.Context, name string, before uint64) error {
	err := r.Store.Destroy(ctx, name, before)
	return errors.Join(err, r.record(ctx, Event{ActionDestroy, name, before, err}))
}

// Delete implements Store.
func (r *Recorded) Delete(ctx context.Context, name string) error {
	err := r.Store.Delete(ctx, name)
	return errors.Join(err, r.record(ctx, Event{ActionDelete, name, 0, err}))
}

func (r *Recorded) record(ctx context.Context, e Event) error {
	if err := r.Record(ctx, e); err != nil {
		return fmt.Errorf("secret %s: the event cannot be recorded: %w", e.Name, err)
	}
	return nil
}
