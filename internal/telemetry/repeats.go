package telemetry

import (
	"sync"
	"time"
)

const (
	// RepeatsMost bounds the kinds that are counted apart.
	RepeatsMost = 1024
	// RepeatsEvery is how often those of one kind are told.
	RepeatsEvery = time.Minute
	// repeatsSwept is how often it is looked at most whether some are due.
	repeatsSwept = time.Second
)

// Repeats thins out what happens again and again, as refusals do: of each kind the first
// is told at once, and those that come after it once a minute, as one with their count.
// None is left out, and a flood of them is not one of events. The zero value is ready.
type Repeats[K comparable] struct {
	mu    sync.Mutex
	kinds map[K]*repeat
	swept time.Time
}

type repeat struct {
	since time.Time // of what was told last
	more  uint64    // that came after it
}

// Add counts one of a kind. It returns the kind that it is counted as, which is others
// where too many are counted apart, and whether it is the first of that.
func (r *Repeats[K]) Add(kind, others K, now time.Time) (as K, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.kinds[kind]
	if n == nil && len(r.kinds) >= RepeatsMost {
		kind = others
		n = r.kinds[kind]
	}
	if n != nil {
		n.more++
		return kind, false
	}
	if r.kinds == nil {
		r.kinds = map[K]*repeat{}
	}
	r.kinds[kind] = &repeat{since: now}
	return kind, true
}

// Due takes out what was counted for a minute, or all of it.
func (r *Repeats[K]) Due(now time.Time, all bool) map[K]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !all && now.Sub(r.swept) < repeatsSwept {
		return nil
	}
	r.swept = now
	due := map[K]uint64{}
	for k, n := range r.kinds {
		if !all && now.Sub(n.since) < RepeatsEvery {
			continue
		}
		if n.more > 0 {
			due[k] = n.more
		}
		delete(r.kinds, k)
	}
	return due
}

// Kinds is how many are counted apart.
func (r *Repeats[K]) Kinds() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.kinds)
}
