// Package cache keeps what is made often, for a moment: the buckets that a server
// of the directory hands out, and what is known of connections. It holds nothing
// but public data of the directory and sealed state, and what it loses is made
// again. It is in the process, or a server that several processes share.
package cache

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Cache keeps values for a time of whole milliseconds. It is safe for concurrent
// use. Its methods wait for nobody for long: what cannot be had in time is not
// there.
type Cache interface {
	// Get returns what was set under a key, unless its time is over or it is lost.
	// The value is shared: do not change it.
	Get(ctx context.Context, key string) ([]byte, bool)
	// Set keeps a value, which it takes over, for a time of a millisecond or more.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
	// Counts returns what has happened so far: hits and misses of Get, calls of a
	// server that failed, and calls for which it was not asked.
	Counts() (hits, misses, faults, skipped uint64)
	Close()
}

type counts struct{ hits, misses, faults, skipped atomic.Uint64 }

func (c *counts) found(b []byte, ok bool) ([]byte, bool) {
	if ok {
		c.hits.Add(1)
	} else {
		c.misses.Add(1)
	}
	return b, ok
}

// Counts implements Cache.
func (c *counts) Counts() (hits, misses, faults, skipped uint64) {
	return c.hits.Load(), c.misses.Load(), c.faults.Load(), c.skipped.Load()
}

// Local is a Cache in the process.
type Local struct {
	counts
	kept *otter.Cache[string, held]
}

type held struct {
	value []byte
	ttl   time.Duration
}

// NewLocal returns a cache of at most so many bytes; what is used least goes first.
func NewLocal(bytes uint64) (*Local, error) {
	kept, err := otter.New(&otter.Options[string, held]{
		MaximumWeight: bytes,
		Weigher:       func(key string, h held) uint32 { return uint32(min(len(key)+len(h.value), math.MaxUint32)) },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, held]) time.Duration {
			return e.Value.ttl
		}),
	})
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	return &Local{kept: kept}, nil
}

// Get implements Cache.
func (c *Local) Get(_ context.Context, key string) ([]byte, bool) {
	h, ok := c.kept.GetIfPresent(key)
	return c.found(h.value, ok)
}

// Set implements Cache.
func (c *Local) Set(_ context.Context, key string, value []byte, ttl time.Duration) {
	c.kept.Set(key, held{value, ttl})
}

// Close implements Cache.
func (c *Local) Close() { c.kept.StopAllGoroutines() }
