package records

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
)

// Cache keeps sealed state for a time; what it loses costs a session the spared
// round trip and nothing else. Package engine/cache has them.
type Cache interface {
	Get(ctx context.Context, key string) ([]byte, bool)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
}

// StateMax bounds the state of a session in bytes: three times what is foreseen.
const StateMax = 9 << 10

// States looks sessions up: their record in a Store, and their sealed state in a
// Cache. States are compressed before they are sealed, so that what they grow by costs
// the cache half of it; whoever sees the size of what is sealed learns how well it
// compressed, so that nothing in a state may be of an outsider's choice. It is safe for
// concurrent use.
type States struct {
	Store Store
	Cache Cache
	// Plain has states sealed as they are: for controls of tests. Either kind is read.
	Plain bool

	key seal.Key

	mu      sync.Mutex
	lookups trace.Values // µs
	missing uint64
}

// NewStates returns the states of the fleet that shares a key.
func NewStates(s Store, c Cache, fleet *seal.Key) *States {
	return &States{Store: s, Cache: c, key: seal.Derive(fleet, "session states")}
}

// Keep keeps the state of a session for as long as its record lasts.
func (s *States) Keep(ctx context.Context, r control.SessionRecord, state []byte, unix int64) error {
	if len(state) > StateMax {
		return fmt.Errorf("records: a state of %d bytes; the most is %d", len(state), StateMax)
	}
	ttl := time.Duration(r.Expires-unix) * time.Second
	if ttl <= 0 {
		return ErrNone
	}
	var salt [seal.BoxSaltSize]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return fmt.Errorf("records: no randomness: %w", err)
	}
	packed := append([]byte{statePlain}, state...)
	if small := deflate([]byte{stateDeflated}, state); !s.Plain && len(small) < len(packed) {
		packed = small
	}
	s.Cache.Set(ctx, cacheKey(r.Token), seal.SealBox(&s.key, &salt, nil, packed, r.Token[:]), ttl)
	return nil
}

// How a state is packed, its first byte.
const (
	statePlain byte = iota
	stateDeflated
)

// unpack returns a state as it was kept, or nil.
func unpack(packed []byte) []byte {
	switch {
	case len(packed) == 0:
		return nil
	case packed[0] == statePlain:
		return packed[1:]
	case packed[0] == stateDeflated:
		state, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed[1:])), StateMax+1))
		if err != nil || len(state) > StateMax {
			return nil
		}
		return state
	}
	return nil
}

// writers are compressors at rest: one takes a hundred times the memory of a state.
var writers = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // the level is valid
	return w
}}

// deflate appends a state, compressed.
func deflate(b, state []byte) []byte {
	out := bytes.NewBuffer(b)
	w := writers.Get().(*flate.Writer)
	w.Reset(out)
	w.Write(state) // into memory: it cannot fail
	w.Close()
	writers.Put(w)
	return out.Bytes()
}

// Look returns the record of a session, and its state: nil if it is lost.
func (s *States) Look(ctx context.Context, token control.TokenHash, unix int64) (r control.SessionRecord, state []byte, err error) {
	begun := time.Now()
	r, err = s.Store.Get(ctx, token, unix)
	if err == nil {
		if box, ok := s.Cache.Get(ctx, cacheKey(token)); ok {
			if packed, ok := seal.OpenBox(&s.key, nil, box, token[:]); ok { // else another fleet's, or an attempt at ours
				state = unpack(packed)
			}
		}
	}
	took := time.Since(begun)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookups.Observe(uint64(took / time.Microsecond))
	if err == nil && state == nil {
		s.missing++
	}
	return r, state, err
}

// Lookups returns how long look-ups took, in µs, and of how many the state was lost.
func (s *States) Lookups() (took trace.Values, missing uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookups, s.missing
}

func cacheKey(token control.TokenHash) string { return "state/" + hex.EncodeToString(token[:]) }
