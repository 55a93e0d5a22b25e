package mirror

import (
	"context"
	"sync"
	"time"
)

// memoryMax bounds a Memory, in bytes: some two hundred buckets.
const memoryMax = 32 << 20

// Memory is a Cache in the process. The zero Memory is empty.
type Memory struct {
	mu    sync.Mutex
	kept  map[string]remembered
	bytes int
}

type remembered struct {
	b     []byte
	until time.Time
}

// Get returns what was set, unless its time is over.
func (m *Memory) Get(_ context.Context, key string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.kept[key]
	return r.b, ok && time.Now().Before(r.until)
}

// Set keeps b. When there is no room, what is over goes, and then everything.
func (m *Memory) Set(_ context.Context, key string, b []byte, ttl time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.bytes+len(b) > memoryMax {
		for k, r := range m.kept {
			if !now.Before(r.until) {
				m.drop(k)
			}
		}
	}
	if m.kept == nil || m.bytes+len(b) > memoryMax {
		m.kept, m.bytes = map[string]remembered{}, 0
	}
	m.drop(key)
	m.kept[key] = remembered{b, now.Add(ttl)}
	m.bytes += len(b)
}

func (m *Memory) drop(key string) {
	m.bytes -= len(m.kept[key].b)
	delete(m.kept, key)
}

func (m *Memory) Counts() (hits, misses, faults, skipped uint64) { return 0, 0, 0, 0 }

func (m *Memory) Close() {}
