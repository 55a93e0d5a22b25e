package worm

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/engine/s3"
)

// memory is a bucket with object lock in memory.
type memory struct {
	mu       sync.Mutex
	unlocked bool
	careless bool                 // puts upon what is there, as servers do that know no If-None-Match
	deaf     bool                 // takes locks and does not keep them, as servers do that know no such headers
	made     int                  // versions
	objects  map[string][]version // by key, the first first
	order    []string             // in which they came
	puts     int
	extended int
	// fail is asked before each request, and lose after each object that was put: their
	// errors are the answers.
	fail func(op, key string) error
	lose func(key string) error
}

type version struct {
	content []byte
	until   time.Time // the zero time: it is not locked
	id      string
}

func newMemory() *memory { return &memory{objects: map[string][]version{}} }

func (m *memory) do(op, key string, f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(op, key); err != nil {
			return err
		}
	}
	return f()
}

func (m *memory) String() string { return "a bucket in memory" }

func (m *memory) Check(context.Context) error {
	return m.do("check", "", func() error {
		if m.unlocked {
			return s3.ErrUnlocked
		}
		return nil
	})
}

func (m *memory) Put(_ context.Context, key string, content []byte, until time.Time) (o s3.Object, err error) {
	err = m.do("put", key, func() error {
		if len(m.objects[key]) > 0 && !m.careless {
			return s3.ErrExists
		}
		m.puts++
		m.order = append(m.order, key)
		if m.deaf {
			m.plant(key, content, time.Time{})
			return s3.ErrUnlocked
		}
		v := m.plant(key, content, until)
		o = s3.Object{Key: key, Version: v.id, Size: int64(len(content))}
		if m.lose != nil {
			return m.lose(key)
		}
		return nil
	})
	return o, err
}

func (m *memory) Extend(_ context.Context, o s3.Object, until time.Time) error {
	return m.do("extend", o.Key, func() error {
		i := slices.IndexFunc(m.objects[o.Key], func(v version) bool { return v.id == o.Version })
		switch {
		case i < 0:
			return s3.ErrNone
		case m.deaf:
			return s3.ErrUnlocked
		case until.Before(m.objects[o.Key][i].until):
			return s3.ErrRefused
		}
		m.extended++
		m.objects[o.Key][i].until = until
		return nil
	})
}

// plant puts a version, past all rules.
func (m *memory) plant(key string, content []byte, until time.Time) version {
	m.made++
	v := version{bytes.Clone(content), until, fmt.Sprint("v", m.made)}
	m.objects[key] = append(m.objects[key], v)
	return v
}

func (m *memory) List(_ context.Context, prefix string) (out []s3.Object, err error) {
	err = m.do("list", prefix, func() error {
		for key, versions := range m.objects {
			if strings.HasPrefix(key, prefix) {
				out = append(out, s3.Object{Key: key, Version: versions[0].id, Size: int64(len(versions[0].content)), Later: len(versions) - 1})
			}
		}
		slices.SortFunc(out, func(a, b s3.Object) int { return strings.Compare(a.Key, b.Key) })
		return nil
	})
	return out, err
}

func (m *memory) Get(_ context.Context, o s3.Object) (content []byte, lock s3.Lock, err error) {
	err = m.do("get", o.Key, func() error {
		if len(m.objects[o.Key]) == 0 {
			return s3.ErrNone
		}
		v := m.objects[o.Key][0]
		content, lock = bytes.Clone(v.content), s3.Lock{Compliance: !v.until.IsZero(), Until: v.until}
		return nil
	})
	return content, lock, err
}

// upon puts a version upon an object, as who holds the credentials can.
func (m *memory) upon(key string, content string) {
	m.plant(key, []byte(content), time.Time{})
}

// away makes every request fail from now on, or none.
func (m *memory) away(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = func(string, string) error { return why }
}

// fixture is a log with small segments, and the bucket of its copy.
type fixture struct {
	*testing.T
	cfg    ledger.Config
	log    *ledger.Log
	bucket *memory
	place  Place
	made   int
	keep   time.Duration
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, bucket: newMemory(), keep: 24 * time.Hour}
	f.place = Place{f.bucket, "control-1/"}
	f.cfg = ledger.Config{Dir: filepath.Join(t.TempDir(), "audit"), Origin: "nyx/test/audit", Node: "control-1", SegmentBytes: 8 << 10, CheckpointEvery: time.Hour}
	keys, err := ledger.OpenFileKeys(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	f.cfg.Signer, f.cfg.Wrapper = keys.Signer, keys.Wrapper
	f.open()
	return f
}

func (f *fixture) open() {
	f.Helper()
	var err error
	if f.log, err = ledger.Open(f.Context(), f.cfg); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) close() {
	f.Helper()
	if err := f.log.Close(); err != nil {
		f.Fatal(err)
	}
}

// record records so many events in calls of ten, and signs them if it says so.
func (f *fixture) record(many int, sign bool) {
	f.Helper()
	var events []audit.Event
	for n := range many {
		f.made++
		now := time.Now().UTC().Truncate(time.Millisecond)
		events = append(events, audit.Event{ID: audit.NewID(now, [10]byte{byte(f.made), byte(f.made >> 8), 7}), Time: now, Kind: audit.AdminAction,
			Actor: "alice", Subject: "mix-1", Action: "drain", Count: 1})
		if len(events) == 10 || n+1 == many {
			if err := f.log.Record(f.Context(), events...); err != nil {
				f.Fatal(err)
			}
			events = events[:0]
		}
	}
	if sign {
		if _, err := f.log.Checkpoint(f.Context()); err != nil {
			f.Fatal(err)
		}
	}
}

func (f *fixture) config() Config {
	return Config{Place: f.place, Keep: f.keep, Every: time.Minute, Store: f.log.Store(), Size: f.log.Size, Wait: f.log.Wait}
}

// start starts a copier, which is closed with the test unless it is before.
func (f *fixture) start(edit ...func(*Config)) (*Copier, error) {
	cfg := f.config()
	for _, e := range edit {
		e(&cfg)
	}
	return Start(cfg)
}

// copier is one that has copied everything that is signed now. It must run in a bubble.
func (f *fixture) copier(edit ...func(*Config)) *Copier {
	f.Helper()
	c, err := f.start(edit...)
	if err != nil {
		f.Fatal(err)
	}
	synctest.Wait()
	return c
}

// wantCopy restores the copy and verifies it: so many entries are in it.
func (f *fixture) wantCopy(entries int64) (dir string, r Restored) {
	f.Helper()
	dir = filepath.Join(f.TempDir(), "restored")
	r, err := Restore(f.Context(), f.place, dir, 0, time.Now(), nil)
	if err != nil {
		f.Fatal(err)
	}
	key := f.log.Key()
	v, torn, err := (&ledger.Store{Dir: dir, Wrapper: f.cfg.Wrapper}).Verify(f.Context(), &key, nil, nil)
	if err != nil || v.Entries != entries || torn != 0 || v.Unsigned != 0 {
		f.Fatalf("the copy has %d entries, not %d, %d of them not signed, and %d bytes more: %v", v.Entries, entries, v.Unsigned, torn, err)
	}
	return dir, r
}

// inBubble runs a test on virtual time.
func inBubble(t *testing.T, run func(f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer func() { f.log.Close() }()
		run(f)
	})
}
