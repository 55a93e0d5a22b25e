// Package mirror is how documents of the directory are handed out and asked for:
// the shelf from which authorities and replicas serve them whole, as tables and
// by buckets, the snapshot from which a replica has them again after a restart,
// and the asker that gets them from several servers, of which none need be
// trusted (docs/protocol.md, section 7.8).
package mirror

import (
	"context"
	"encoding/hex"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
)

// Paths of the HTTP interface.
const (
	DocumentPath = "/nyx/v1/document"
	TablePath    = "/nyx/v1/table"
	BucketPath   = "/nyx/v1/bucket/" // then the document's name and the place
)

// StatusNotYet answers who asks for a part of a document, or for its place in a log,
// that a server does not have: it may not have heard of it yet, or have had two newer
// ones since. 404 is what nobody has.
const StatusNotYet = http.StatusConflict

// Cache keeps encoded buckets for a moment, in the process or for several
// replicas together. What it loses is made again; what it holds is checked
// before it is served.
type Cache interface {
	Get(ctx context.Context, key string) ([]byte, bool)
	Set(ctx context.Context, key string, b []byte, ttl time.Duration)
	// Counts are of Get, of calls of a server that failed, and of those for which a
	// server was left alone.
	Counts() (hits, misses, faults, skipped uint64)
	Close()
}

// Shelf holds the documents that a server hands out: the newest, and the one
// before it for those who are still at its buckets. The zero Shelf is empty and
// has no cache. It is safe for concurrent use.
type Shelf struct {
	// Cache keeps buckets for TTL; nil or 0: none. Of one that is Shared with others
	// each value is checked: its mistakes would be held against this server.
	Cache  Cache
	TTL    time.Duration
	Shared bool

	mu      sync.Mutex
	newest  *held
	before  *held
	lookups trace.Values // µs of each bucket
	spoiled uint64       // values of the cache that were not what had been made
}

// held is a document on the shelf.
type held struct {
	*directory.Document
	name         string
	table, whole []byte
	// made are the hashes of the buckets that were made here for a shared cache, by
	// place; the zero hash for others.
	made [][seal.HashSize]byte
}

// Name is how a document is asked for, and its ETag without quotes.
func Name(d *directory.Document) string {
	h := d.Hash()
	return hex.EncodeToString(h[:])
}

// Put puts a document on the shelf, which must be whole and is kept. An older
// one than the newest, or the same again, changes nothing.
func (s *Shelf) Put(d *directory.Document) {
	h := &held{Document: d, name: Name(d), table: d.Table(), whole: d.Encode(), made: make([][seal.HashSize]byte, d.Buckets)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == nil || s.newest.Mark().Before(d.Mark()) {
		s.newest, s.before = h, s.newest
	}
}

// Newest is the document that is handed out, or nil.
func (s *Shelf) Newest() *directory.Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == nil {
		return nil
	}
	return s.newest.Document
}

// Lookups is in what time buckets were found, in µs.
func (s *Shelf) Lookups() trace.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookups
}

// Spoiled is how many values of the cache were not what had been put there.
func (s *Shelf) Spoiled() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spoiled
}

func (s *Shelf) of(name string) *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range []*held{s.newest, s.before} {
		if h != nil && (name == "" || h.name == name) {
			return h
		}
	}
	return nil
}

// Register adds what the shelf answers to a server's paths. The document is left
// to who has its own way with it.
func (s *Shelf) Register(mux *http.ServeMux, document bool) {
	if document {
		mux.HandleFunc("GET "+DocumentPath, s.serve(func(h *held) []byte { return h.whole }))
	}
	mux.HandleFunc("GET "+TablePath, s.serve(func(h *held) []byte { return h.table }))
	mux.HandleFunc("GET "+BucketPath+"{name}/{place}", s.serveBucket)
}

func (s *Shelf) serve(what func(*held) []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := s.of("")
		if h == nil {
			http.Error(w, "no document yet", http.StatusServiceUnavailable)
			return
		}
		ServeTagged(w, r, h.name, what(h))
	}
}

// ServeTagged answers with what has a name, unless that is had already.
func ServeTagged(w http.ResponseWriter, r *http.Request, name string, body []byte) {
	tag := `"` + name + `"`
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/cbor")
	w.Write(body)
}

func (s *Shelf) serveBucket(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	h := s.of(r.PathValue("name"))
	place, err := strconv.Atoi(r.PathValue("place"))
	switch {
	case h == nil:
		http.Error(w, "not a document that is kept here, or not yet", StatusNotYet)
		return
	case err != nil || place < 0 || place >= h.Buckets:
		http.Error(w, "no such bucket of the document", http.StatusNotFound)
		return
	}
	b := s.bucket(r.Context(), h, place)
	s.mu.Lock()
	s.lookups.Observe(uint64(time.Since(begun) / time.Microsecond))
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/cbor")
	w.Write(b)
}

// bucket is that of the cache, or made. Of a shared cache it is one that was made here
// before, by its hash, so that each is made once for each document.
func (s *Shelf) bucket(ctx context.Context, h *held, place int) []byte {
	if s.Cache == nil || s.TTL <= 0 {
		return h.Bucket(place)
	}
	key := h.name + "/" + strconv.Itoa(place)
	if b, ok := s.Cache.Get(ctx, key); ok && s.trusts(h, place, b) {
		return b
	}
	b := h.Bucket(place)
	if s.Shared {
		made := seal.SHA256(b)
		s.mu.Lock()
		h.made[place] = made
		s.mu.Unlock()
	}
	s.Cache.Set(ctx, key, b, s.TTL)
	return b
}

// trusts reports whether what a cache has is what was put there, as far as this
// process can know.
func (s *Shelf) trusts(h *held, place int, b []byte) bool {
	if !s.Shared {
		return true
	}
	hash := seal.SHA256(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	made := h.made[place]
	if made != hash && made != [seal.HashSize]byte{} {
		s.spoiled++
	}
	return made == hash
}
