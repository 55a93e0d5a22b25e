// Package registry is what a directory authority must not forget: the
// descriptors that it told nodes it has taken, the mark of what it signed last,
// and the documents that it serves. It keeps them in a Store, which is this
// process's own or shared by the processes of one operator; whichever it is, the
// same code runs on it.
package registry

import (
	"context"
	"errors"
)

var (
	// ErrChanged is a Put or Delete of an entry that is not at the revision that
	// the caller last saw. Nothing was changed.
	ErrChanged = errors.New("registry: the entry was changed meanwhile")
	// ErrGap is a Watch from a revision whose changes are no longer known. List
	// what is there, and watch from its revision.
	ErrGap = errors.New("registry: older changes are no longer known")
)

// Entry is a key with its value.
type Entry struct {
	Key string
	// Value is nil of an entry that was deleted. It is shared: do not change it.
	Value []byte
	// Revision is that of the store at the entry's last change; 0 if there was no
	// such entry.
	Revision int64
}

// Store is an ordered map with a revision that grows with every change. All of its
// methods are safe for concurrent use. A change that was returned without an error
// survives the end of the process, if the store says it keeps anything at all; one
// that was returned with an error other than ErrChanged may have come about or
// not.
type Store interface {
	// Get returns the entry of a key; without a value and revision if there is
	// none.
	Get(ctx context.Context, key string) (Entry, error)
	// List calls each with all entries whose keys begin with prefix, in the order
	// of keys, as they were at the revision that it returns.
	List(ctx context.Context, prefix string, each func(Entry) error) (revision int64, err error)
	// Put sets an entry that was last changed at revision was, 0 for one that is
	// not there, and returns its new revision.
	Put(ctx context.Context, key string, value []byte, was int64) (revision int64, err error)
	// Fill sets entries of which none is there, at most fillMost of them: all, or
	// with ErrChanged none.
	Fill(ctx context.Context, entries []Entry) error
	// Delete removes an entry that was last changed at revision was.
	Delete(ctx context.Context, key string, was int64) error
	// Watch calls each with what changes below a prefix after a revision, in the
	// order of the changes; of several changes of one entry it may leave out all
	// but the last. It returns when ctx ends, or with an error.
	Watch(ctx context.Context, prefix string, after int64, each func(Entry)) error
	Close() error
}

// Office elects one of several processes.
type Office interface {
	// Hold waits until this process, named who, has the office, and has it serve a
	// term: term ends when the office is lost, and the office is given up when serve
	// returns, or ctx ends. A process that dies loses it within two seconds.
	Hold(ctx context.Context, office, who string, serve func(term context.Context)) error
	// Holder is who has an office; "" for nobody.
	Holder(ctx context.Context, office string) (string, error)
}
