package secret

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a Store that ends with the process.
type Memory struct {
	mu   sync.Mutex
	kept map[string][]Secret // versions from 1; without a value: destroyed
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{kept: map[string][]Secret{}} }

// Get implements Store.
func (m *Memory) Get(_ context.Context, name string, version uint64) (Secret, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.kept[name]
	if version == 0 {
		version = uint64(len(all))
	}
	if version == 0 || version > uint64(len(all)) || all[version-1].Value == nil {
		return Secret{}, fmt.Errorf("secret %s: %w", name, ErrNone)
	}
	s := all[version-1]
	s.Value = bytes.Clone(s.Value)
	return s, nil
}

// Put implements Store.
func (m *Memory) Put(_ context.Context, name string, value []byte, was uint64) (uint64, error) {
	if err := Check(name, value); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if uint64(len(m.kept[name])) != was {
		return 0, fmt.Errorf("secret %s: %w", name, ErrChanged)
	}
	m.kept[name] = append(m.kept[name], Secret{Value: bytes.Clone(value), Version: was + 1, Placed: time.Now()})
	return was + 1, nil
}

// Destroy implements Store.
func (m *Memory) Destroy(_ context.Context, name string, before uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.kept[name]
	for i := range all {
		if v := &all[i]; v.Version < before && i+1 < len(all) {
			clear(v.Value)
			v.Value = nil
		}
	}
	return nil
}

// Delete implements Store.
func (m *Memory) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.kept[name] {
		clear(v.Value)
	}
	delete(m.kept, name)
	return nil
}

// List implements Store.
func (m *Memory) List(_ context.Context, prefix string) (out []Info, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, all := range m.kept {
		if strings.HasPrefix(name, prefix) {
			last := all[len(all)-1]
			out = append(out, Info{name, last.Version, last.Placed})
		}
	}
	SortInfos(out)
	return out, nil
}

// SortInfos orders by name.
func SortInfos(all []Info) {
	slices.SortFunc(all, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
}

// Close implements Store.
func (m *Memory) Close() error { return nil }
