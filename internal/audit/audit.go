// Package audit is the pure part of the compliance store: what an audit event
// is, how events are chained, hashed into a tree and checkpointed, and how all of
// that is verified and proven. Files are package engine/ledger's, queries package
// engine/sql's.
//
// An event names operators and nodes. It has no place for a client, a target or
// a route, and texts that are network addresses are refused (Event.Validate).
//
// Time and randomness are arguments, and nothing here waits: Recorder and
// KeyWrapper are declared for those who do.
package audit

import (
	"context"
	"errors"

	"github.com/nyxnet/nyx/internal/seal"
)

// Errors. Each is wrapped with what it is about; test with errors.Is.
var (
	// ErrEvent means an event that may not be recorded, or bytes that are none.
	ErrEvent = errors.New("audit: not a valid event")
	// ErrBroken means a log that was changed: what is wrong, and where.
	ErrBroken = errors.New("audit: the log was changed")
	// ErrForked means two checkpoints of one log that contradict each other.
	ErrForked = errors.New("audit: the log has two histories")
	// ErrCheckpoint means a checkpoint that is malformed or not signed by the log.
	ErrCheckpoint = errors.New("audit: not a checkpoint of this log")
	// ErrProof means a proof that is malformed or shows nothing.
	ErrProof = errors.New("audit: the proof does not hold")
)

// Recorder takes events; Record returns when they are durable. An event that was
// recorded before, by its ID, is recorded once.
type Recorder interface {
	Record(ctx context.Context, events ...Event) error
}

// KeyWrapper keeps the keys under which the log is encrypted: a key leaves the
// process only wrapped. A label says what the key is for, and must be the same for
// both directions.
type KeyWrapper interface {
	Wrap(ctx context.Context, label string, key *seal.Key) (wrapped []byte, err error)
	Unwrap(ctx context.Context, label string, wrapped []byte) (seal.Key, error)
}

// WrappedMax bounds a wrapped key, in bytes.
const WrappedMax = 4096
