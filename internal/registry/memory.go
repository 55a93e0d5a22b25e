package registry

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Memory is a Store in the process.
type Memory struct {
	persist func(Entry) error

	mu       sync.Mutex
	entries  map[string]Entry // deleted ones too, for who watches
	revision int64
	changed  chan struct{} // closed at the next change
}

// NewMemory returns a store that ends with the process, unless persist, which is
// called with every change before it is seen, keeps them: entries is what it has
// kept. An error of it is that of the change, which then does not come about.
func NewMemory(entries []Entry, persist func(Entry) error) *Memory {
	m := &Memory{entries: map[string]Entry{}, changed: make(chan struct{}), persist: persist}
	for _, e := range entries {
		m.entries[e.Key] = e
		m.revision = max(m.revision, e.Revision)
	}
	return m
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[key]
	if e.Value == nil {
		return Entry{Key: key}, ctx.Err()
	}
	return e, ctx.Err()
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string, each func(Entry) error) (int64, error) {
	m.mu.Lock()
	revision, found := m.revision, m.below(prefix)
	m.mu.Unlock()
	slices.SortFunc(found, func(a, b Entry) int { return cmp.Compare(a.Key, b.Key) })
	for _, e := range found {
		if e.Value == nil {
			continue
		}
		if err := cmp.Or(ctx.Err(), each(e)); err != nil {
			return 0, err
		}
	}
	return revision, ctx.Err()
}

func (m *Memory) below(prefix string) []Entry {
	return slices.Collect(func(yield func(Entry) bool) {
		for e := range maps.Values(m.entries) {
			if strings.HasPrefix(e.Key, prefix) && !yield(e) {
				return
			}
		}
	})
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, key string, value []byte, was int64) (int64, error) {
	return m.change(ctx, Entry{Key: key, Value: append([]byte{}, value...)}, was)
}

// Fill implements Store, but for a persist that fails: then those before are there.
func (m *Memory) Fill(ctx context.Context, entries []Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if m.entries[e.Key].Value != nil {
			return ErrChanged
		}
	}
	for _, e := range entries {
		if _, err := m.set(ctx, Entry{Key: e.Key, Value: append([]byte{}, e.Value...)}, 0); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, key string, was int64) error {
	_, err := m.change(ctx, Entry{Key: key}, was)
	return err
}

func (m *Memory) change(ctx context.Context, e Entry, was int64) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.set(ctx, e, was)
}

func (m *Memory) set(ctx context.Context, e Entry, was int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	held := m.entries[e.Key]
	if held.Value == nil {
		held.Revision = 0
	}
	if held.Revision != was {
		return 0, ErrChanged
	}
	e.Revision = m.revision + 1
	if m.persist != nil {
		if err := m.persist(e); err != nil {
			return 0, err
		}
	}
	m.revision = e.Revision
	m.entries[e.Key] = e
	close(m.changed)
	m.changed = make(chan struct{})
	return e.Revision, nil
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, prefix string, after int64, each func(Entry)) error {
	for {
		m.mu.Lock()
		found, changed := m.below(prefix), m.changed
		m.mu.Unlock()
		found = slices.DeleteFunc(found, func(e Entry) bool { return e.Revision <= after })
		slices.SortFunc(found, func(a, b Entry) int { return cmp.Compare(a.Revision, b.Revision) })
		for _, e := range found {
			each(e)
			after = e.Revision
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Close implements Store.
func (m *Memory) Close() error { return nil }
