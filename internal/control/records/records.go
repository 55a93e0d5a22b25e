// Package records is what the Stream nodes of a fleet know of sessions together: the
// session records, in a Store with optimistic locking on the session_token, and the
// sealed state beside them. No session needs them to go on or to be resumed: what
// that takes is in the ticket that the client holds (docs/protocol.md, section
// 12.13).
package records

import (
	"context"
	"errors"

	"github.com/nyxnet/nyx/internal/control"
)

var (
	// ErrNone is a record that is not there, or whose time is over.
	ErrNone = errors.New("records: no such session")
	// ErrDuplicate is a Create of a session that is there already.
	ErrDuplicate = errors.New("records: the session is there already")
	// ErrChanged is a Swap of a record that is not as the caller last saw it. Nothing
	// was changed.
	ErrChanged = errors.New("records: the session was changed meanwhile")
)

// Store keeps session records. Its methods are safe for concurrent use. Times are
// unix seconds.
type Store interface {
	// Get returns the record of a token that is not over.
	Get(ctx context.Context, token control.TokenHash, unix int64) (control.SessionRecord, error)
	// Create adds a record; one of the same token whose time is over gives way.
	Create(ctx context.Context, r control.SessionRecord, unix int64) error
	// Swap has next, of the same token, in the place of was.
	Swap(ctx context.Context, was, next control.SessionRecord) error
	// Remove removes the record of a token, if there is one.
	Remove(ctx context.Context, token control.TokenHash) error
	// Expire removes at most so many records whose time is over, and says how many.
	Expire(ctx context.Context, unix int64, most int) (int, error)
	Close() error
}

// changeTries is how often Change is overtaken before it gives up.
const changeTries = 64

// Change brings about a change that was made of a record as the caller knew it,
// and returns the record that there is then. Where others have changed it since,
// theirs and this one are joined (control.SessionRecord.Join): it may then be that
// theirs stands.
func Change(ctx context.Context, s Store, was, next control.SessionRecord, unix int64) (control.SessionRecord, error) {
	err := s.Swap(ctx, was, next)
	for range changeTries {
		if !errors.Is(err, ErrChanged) {
			break
		}
		var present control.SessionRecord
		if present, err = s.Get(ctx, was.Token, unix); err != nil {
			return present, err
		}
		joined := present.Join(next)
		if joined == present {
			return present, nil
		}
		if err = s.Swap(ctx, present, joined); err == nil {
			return joined, nil
		}
	}
	return next, err
}

// Receive takes a record of a copy elsewhere, which may be older or newer than what
// is here, and returns what there is then.
func Receive(ctx context.Context, s Store, r control.SessionRecord, unix int64) (control.SessionRecord, error) {
	err := s.Create(ctx, r, unix)
	if errors.Is(err, ErrDuplicate) {
		var present control.SessionRecord
		if present, err = s.Get(ctx, r.Token, unix); err != nil {
			return present, err
		}
		return Change(ctx, s, present, present.Join(r), unix)
	}
	return r, err
}
