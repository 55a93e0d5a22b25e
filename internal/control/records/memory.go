package records

import (
	"context"
	"sync"

	"github.com/nyxnet/nyx/internal/control"
)

// Memory is a Store that ends with the process.
type Memory struct {
	mu   sync.RWMutex
	kept map[control.TokenHash]control.SessionRecord
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{kept: map[control.TokenHash]control.SessionRecord{}} }

// Len is the number of records, those among them whose time is over.
func (m *Memory) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.kept)
}

// Get implements Store.
func (m *Memory) Get(_ context.Context, token control.TokenHash, unix int64) (control.SessionRecord, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r, ok := m.kept[token]
	if !ok || r.Over(unix) {
		return control.SessionRecord{}, ErrNone
	}
	return r, nil
}

// Create implements Store.
func (m *Memory) Create(_ context.Context, rs []control.SessionRecord, unix int64) (duplicates int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range rs {
		if present, ok := m.kept[r.Token]; ok && !present.Over(unix) && present != r {
			duplicates++
			continue
		}
		m.kept[r.Token] = r
	}
	return duplicates, nil
}

// Swap implements Store.
func (m *Memory) Swap(_ context.Context, was, next control.SessionRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if present, ok := m.kept[was.Token]; !ok || present != was || next.Token != was.Token {
		return ErrChanged
	}
	m.kept[next.Token] = next
	return nil
}

// Remove implements Store.
func (m *Memory) Remove(_ context.Context, tokens []control.TokenHash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, token := range tokens {
		delete(m.kept, token)
	}
	return nil
}

// Expire implements Store.
func (m *Memory) Expire(_ context.Context, unix int64, most int) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for token, r := range m.kept {
		if n == most {
			break
		}
		if r.Over(unix) {
			delete(m.kept, token)
			n++
		}
	}
	return n, nil
}

// Close implements Store.
func (m *Memory) Close() error { return nil }
