// Package records is what the Stream nodes of a fleet know of sessions together: the
// session records, in a Store with optimistic locking on the session_token, and the
// sealed state beside them. No session needs them to go on or to be resumed: what
// that takes is in the ticket that the client holds (docs/protocol.md, section
// 12.13).
package records

import (
	"context"
	"errors"
	"time"

	"github.com/nyxnet/nyx/internal/control"
)

var (
	// ErrNone is a record that is not there, or whose time is over.
	ErrNone = errors.New("records: no such session")
	// ErrDuplicate is an Add of a session that is there already.
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
	// Create adds records of different tokens and says how many of them were there
	// already as others, which stay. A record whose time is over gives way, and one that
	// is there as it is to be is no other: who does not know whether a Create came
	// through repeats it.
	Create(ctx context.Context, rs []control.SessionRecord, unix int64) (duplicates int, err error)
	// Swap has next, of the same token, in the place of was.
	Swap(ctx context.Context, was, next control.SessionRecord) error
	// Remove removes the records of tokens, as far as there are any.
	Remove(ctx context.Context, tokens []control.TokenHash) error
	// Expire removes at most so many records whose time is over, and says how many.
	Expire(ctx context.Context, unix int64, most int) (int, error)
	Close() error
}

// Add adds one record.
func Add(ctx context.Context, s Store, r control.SessionRecord, unix int64) error {
	duplicates, err := s.Create(ctx, []control.SessionRecord{r}, unix)
	if err == nil && duplicates > 0 {
		err = ErrDuplicate
	}
	return err
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
	err := Add(ctx, s, r, unix)
	if errors.Is(err, ErrDuplicate) {
		var present control.SessionRecord
		if present, err = s.Get(ctx, r.Token, unix); err != nil {
			return present, err
		}
		return Change(ctx, s, present, present.Join(r), unix)
	}
	return r, err
}

// Claim is what became of a claim.
type Claim struct {
	// Known says that the record was there.
	Known bool
	// Again says that the session had been claimed before: who is second holds a copy
	// of the ticket.
	Again bool
	// Conflicts is how often another change came between.
	Conflicts int
	// Looked is how long it took to find the record, or that there is none.
	Looked time.Duration
}

// Take claims a session for the caller's node until a unix second. The record of a
// ticket is changed by claims alone, so that a version above its first one says that
// there was one. Of several who claim at once one is first. A record that is not there
// yet, because it is late, is made first, as it will come: of who makes it and who
// claims it there may be several.
func Take(ctx context.Context, s Store, token control.TokenHash, until, unix int64) (c Claim, err error) {
	c.Known = true
	for range changeTries {
		begun := time.Now()
		r, err := s.Get(ctx, token, unix)
		if c.Looked == 0 {
			c.Looked = time.Since(begun)
		}
		switch {
		case errors.Is(err, ErrNone):
			c.Known = false
			if err = Add(ctx, s, control.SessionRecord{Token: token, Version: 1, Expires: until}, unix); err == nil || errors.Is(err, ErrDuplicate) {
				continue
			}
			return c, err
		case err != nil:
			return c, err
		}
		c.Again = r.Version > 1
		if err = s.Swap(ctx, r, r.Claimed(until)); !errors.Is(err, ErrChanged) {
			return c, err
		}
		c.Conflicts++
	}
	return c, ErrChanged
}
