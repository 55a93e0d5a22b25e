package daemon

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/trace"
)

// answerTimes are how long requests took, by path.
type answerTimes struct {
	mu sync.Mutex
	of map[string]*trace.Values // µs
}

// timed is a handler whose answers are timed. Paths are few: those that are served.
func (l *answerTimes) timed(path string, f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		f(w, r)
		took := time.Since(begun)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.of == nil {
			l.of = map[string]*trace.Values{}
		}
		v := l.of[path]
		if v == nil {
			v = new(trace.Values)
			l.of[path] = v
		}
		v.Observe(uint64(took / time.Microsecond))
	}
}

func (l *answerTimes) write(to *metric.Page, part string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(l.of)) {
		to.Distribute("control_api_latency", metric.Times(l.of[path]), "part", part, "path", path)
	}
}

// timedStore times the changes of a store.
type timedStore struct {
	registry.Store

	mu   sync.Mutex
	took trace.Values // µs
}

func (s *timedStore) since(begun time.Time) {
	took := time.Since(begun)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took.Observe(uint64(took / time.Microsecond))
}

// Put implements registry.Store.
func (s *timedStore) Put(ctx context.Context, key string, value []byte, was int64) (int64, error) {
	defer s.since(time.Now())
	return s.Store.Put(ctx, key, value, was)
}

// Fill implements registry.Store.
func (s *timedStore) Fill(ctx context.Context, entries []registry.Entry) error {
	defer s.since(time.Now())
	return s.Store.Fill(ctx, entries)
}

// Delete implements registry.Store.
func (s *timedStore) Delete(ctx context.Context, key string, was int64) error {
	defer s.since(time.Now())
	return s.Store.Delete(ctx, key, was)
}

// figures is how long changes took so far.
func (s *timedStore) figures() trace.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.took
}
