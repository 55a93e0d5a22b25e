package registry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/wire"
)

// Keys of entries.
const (
	nodePrefix     = "node/"     // then the ID in hexadecimal: a descriptor as it was signed
	signedKey      = "signed"    // a mark
	documentPrefix = "document/" // then epoch and revision in hexadecimal: a table
	partPrefix     = "part/"     // then the root of a row in hexadecimal: its nodes
)

// IsDescriptor reports whether an entry is a descriptor, which its node has, too.
func IsDescriptor(key string) bool { return strings.HasPrefix(key, nodePrefix) }

// pause is how long a Follow rests after an error.
const pause = time.Second

// Registry is what one authority keeps in a Store. Several processes with the key
// of one authority may keep it in one store: then they see each other's
// descriptors, and sign one document of a number between them. It is safe for
// concurrent use.
type Registry struct {
	store Store

	mu    sync.Mutex
	nodes map[wire.NodeID]kept
	parts map[string]int64 // revisions of the parts that are known to be kept
}

// kept is the descriptor of a node that is in the store.
type kept struct {
	directory.Claim
	revision int64
}

// New returns the registry in a store. The caller closes the store.
func New(store Store) *Registry {
	return &Registry{store: store, nodes: map[wire.NodeID]kept{}, parts: map[string]int64{}}
}

// Load calls each with the descriptors that are kept, and returns the revision
// from which to Follow.
func (r *Registry) Load(ctx context.Context, each func(descriptor []byte)) (revision int64, err error) {
	return r.store.List(ctx, nodePrefix, func(e Entry) error {
		if r.note(e) {
			each(e.Value)
		}
		return nil
	})
}

// note takes notice of what is in the store, and reports whether it is another
// descriptor than was known. What is none is left alone until its node comes.
func (r *Registry) note(e Entry) (news bool) {
	c, err := directory.ParseClaim(e.Value)
	if err != nil || e.Key != nodeKey(c.ID) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.nodes[c.ID]
	if e.Revision > held.revision {
		r.nodes[c.ID] = kept{c, e.Revision}
	}
	return c.Newer(held.Claim)
}

func nodeKey(id wire.NodeID) string { return nodePrefix + hex.EncodeToString(id[:]) }

// Keep keeps a descriptor, whose signature the caller has checked, in place of an
// older one of the node. When it returns without an error, this one or a newer one
// is kept.
func (r *Registry) Keep(ctx context.Context, descriptor []byte) error {
	c, err := directory.ParseClaim(descriptor)
	if err != nil {
		return err
	}
	key := nodeKey(c.ID)
	for {
		r.mu.Lock()
		held := r.nodes[c.ID]
		r.mu.Unlock()
		if held.revision != 0 && !c.Newer(held.Claim) {
			return nil
		}
		revision, err := r.store.Put(ctx, key, descriptor, held.revision)
		switch {
		case err == nil:
			r.note(Entry{key, descriptor, revision})
			return nil
		case !errors.Is(err, ErrChanged):
			return fmt.Errorf("the descriptor cannot be kept: %w", err)
		}
		if err := r.reread(ctx, c.ID); err != nil {
			return fmt.Errorf("the descriptor cannot be kept: %w", err)
		}
	}
}

// reread takes notice of what another process has done with a node's descriptor,
// or what is there and is none.
func (r *Registry) reread(ctx context.Context, id wire.NodeID) error {
	e, err := r.store.Get(ctx, nodeKey(id))
	if err != nil {
		return err
	}
	c, err := directory.ParseClaim(e.Value)
	if err != nil || c.ID != id {
		c = directory.Claim{} // anything is newer
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[id] = kept{c, e.Revision}
	return nil
}

// Forget removes the descriptors of versions below one.
func (r *Registry) Forget(ctx context.Context, version uint64) error {
	old := map[wire.NodeID]int64{}
	r.mu.Lock()
	for id, k := range r.nodes {
		if k.Version < version {
			old[id] = k.revision
		}
	}
	r.mu.Unlock()
	for id, revision := range old {
		err := r.store.Delete(ctx, nodeKey(id), revision)
		if err != nil && !errors.Is(err, ErrChanged) { // changed: there is a newer one
			return err
		}
		r.mu.Lock()
		if r.nodes[id].revision == revision {
			delete(r.nodes, id)
		}
		r.mu.Unlock()
	}
	return nil
}

// Follow calls each with the descriptors that other processes keep after a
// revision, perhaps with own ones too, until ctx ends; failed is told what went
// wrong meanwhile.
func (r *Registry) Follow(ctx context.Context, revision int64, each func(descriptor []byte), failed func(error)) {
	r.watch(ctx, nodePrefix, revision, func(e Entry) {
		if e.Value != nil && r.note(e) {
			each(e.Value)
		}
	}, failed)
}

// watch calls each with the changes below a prefix after a revision, and after a
// gap with everything that is there.
func (r *Registry) watch(ctx context.Context, prefix string, revision int64, each func(Entry), failed func(error)) {
	for ctx.Err() == nil {
		err := r.store.Watch(ctx, prefix, revision, func(e Entry) {
			revision = e.Revision
			each(e)
		})
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrGap) {
			var now int64
			now, err = r.store.List(ctx, prefix, func(e Entry) error { each(e); return nil })
			if err == nil {
				revision = now
				continue
			}
		}
		failed(err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// Len is how many descriptors are known to be kept.
func (r *Registry) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.nodes)
}

// markSize is epoch, revision and hash.
const markSize = 8 + 4 + len(directory.Mark{}.Hash)

func appendMark(b []byte, m directory.Mark) []byte {
	b = binary.BigEndian.AppendUint64(b, m.Epoch)
	b = binary.BigEndian.AppendUint32(b, m.Revision)
	return append(b, m.Hash[:]...)
}

func parseMark(b []byte) (m directory.Mark, err error) {
	if len(b) == 0 {
		return m, nil
	}
	if len(b) != markSize {
		return m, fmt.Errorf("registry: the mark of what was signed has %d bytes, not %d; what may be signed cannot be known", len(b), markSize)
	}
	m.Epoch, m.Revision = binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])
	copy(m.Hash[:], b[12:])
	return m, nil
}

// Signed returns the mark of the newest document that was signed.
func (r *Registry) Signed(ctx context.Context) (directory.Mark, error) {
	e, err := r.store.Get(ctx, signedKey)
	if err != nil {
		return directory.Mark{}, err
	}
	return parseMark(e.Value)
}

// Sign keeps that a document is signed. Only after it has returned without an
// error may the signature leave. It fails with directory.ErrConflict if a newer
// document was signed, or another one of this number; newest is what was signed
// last, as far as that is known.
func (r *Registry) Sign(ctx context.Context, m directory.Mark) (newest directory.Mark, err error) {
	for {
		e, err := r.store.Get(ctx, signedKey)
		if err != nil {
			return newest, fmt.Errorf("it cannot be kept what is signed: %w", err)
		}
		if newest, err = parseMark(e.Value); err != nil {
			return newest, err
		}
		switch {
		case newest == m:
			return m, nil
		case m.Before(newest) || m.Conflicts(newest):
			return newest, fmt.Errorf("%w: epoch %d revision %d after epoch %d revision %d was signed", directory.ErrConflict, m.Epoch, m.Revision, newest.Epoch, newest.Revision)
		}
		_, err = r.store.Put(ctx, signedKey, appendMark(nil, m), e.Revision)
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, ErrChanged) {
			return newest, fmt.Errorf("it cannot be kept what is signed: %w", err)
		}
	}
}
