// Package ledger keeps the audit log of package audit in files: an append-only,
// hash-chained, encrypted log of which every acknowledged event is on the disk.
//
// A directory holds
//
//	segments/20261123-000000000512.seg   entries, from the 512th on (audit.Head)
//	checkpoints                          what the log signed, each behind its length
//	tiles                                roots of every 256 entries, for proofs
//	hashes                               hashes of the entries that retention removed
//	log.key                              name and public key of the log
//	lock                                 who holds it writes
//
// Log writes, and there is one. Store reads, beside it or without it. What is in
// tiles follows from the rest, and is made anew where it is lost.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/seal"
)

var (
	// ErrLocked means that another process writes the log.
	ErrLocked = errors.New("ledger: another process writes this log")
	// ErrFailed means a log that could not write: it takes nothing until it is
	// opened anew.
	ErrFailed = errors.New("ledger: the log failed")
	// ErrClosed means a log that was closed.
	ErrClosed = errors.New("ledger: the log is closed")
	// ErrShortened means an export of entries of which retention has removed some since it
	// was begun: it would not say that they are missing.
	ErrShortened = errors.New("ledger: retention has removed entries of this export since it was begun")
)

const (
	defaultWindow       = 1 << 18
	defaultCheckpoint   = time.Minute
	firstCheckpoint     = time.Second / 10
	defaultSegmentBytes = 64 << 20

	// queueMost bounds the calls of Record that wait, with requestMost bytes each.
	queueMost   = 256
	requestMost = audit.FrameMax / 4
)

// Config says where a log lies and how it is kept. Zero values take the defaults.
type Config struct {
	// Dir is its directory, made if it is not there.
	Dir string
	// Origin names the log in its checkpoints; it stays for the life of the log.
	Origin string
	// Node is the actor of what the log itself records.
	Node string
	// Signer signs checkpoints.
	Signer *seal.Signer
	// Wrapper keeps the keys of segments.
	Wrapper audit.KeyWrapper
	// Window is how many of the newest events are known by their IDs, so that none
	// of them is recorded twice; 262,144 (12 MB).
	Window int
	// CheckpointEvery is how long an event waits for a signature at most; 1 min, and of a
	// log without a checkpoint a tenth of a second at first, then twice as long each time:
	// who looks at a network that has just begun finds what is signed.
	CheckpointEvery time.Duration
	// SegmentBytes is when a segment is full; 64 MiB.
	SegmentBytes int64
	// Copied says of how many entries there is a copy elsewhere, before which none is
	// removed; nil: no copy is waited for.
	Copied func() int64
	// Now is the clock; time.Now.
	Now func() time.Time

	first  time.Duration        // how long the first event of all waits; 0: CheckpointEvery
	sync   func(*os.File) error // of tests; makes what was written durable
	pruned func(step string)    // of tests; told after each step of Prune
}

func (c Config) withDefaults() (Config, error) {
	if err := audit.CheckOrigin(c.Origin); err != nil {
		return c, err
	}
	if c.Signer == nil || c.Wrapper == nil || c.Node == "" {
		return c, errors.New("ledger: a log needs a signer, a key wrapper and the name of its node")
	}
	if c.Window == 0 {
		c.Window = defaultWindow
	}
	if c.CheckpointEvery == 0 {
		c.CheckpointEvery, c.first = defaultCheckpoint, firstCheckpoint
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = defaultSegmentBytes
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.sync == nil {
		c.sync = datasync
	}
	if c.pruned == nil {
		c.pruned = func(string) {}
	}
	return c, nil
}

// Log is a log that is written. Its methods are safe for concurrent use.
type Log struct {
	cfg     Config
	store   Store
	key     audit.LogKey
	lock    *os.File
	queue   chan *request
	stopped chan struct{} // closed by Close
	ended   chan struct{} // closed when the committer has

	// Of the committer alone.
	chain   audit.Chain
	known   window
	segment *segment
	day     audit.Day // of the newest segment
	tiles   *os.File
	notes   *os.File
	signed  int64         // entries under the newest checkpoint
	due     time.Time     // when the next checkpoint is, if there is anything new
	wait    time.Duration // after the first event that it is to cover
	frame   []byte
	entries []byte

	pruning sync.Mutex // held by Prune
	told    span       // the removal that was recorded last, and is signed

	mu     sync.Mutex
	size   int64         // committed
	newest []byte        // checkpoint
	grown  chan struct{} // closed when size grows or the log ends
	failed error
	closed bool
	counts Counts
}

// Counts is what a log has done since it was opened.
type Counts struct {
	Events     uint64 // recorded
	Duplicates uint64 // that were there already
	Commits    uint64
	Bytes      uint64 // written to segments
	Cut        int64  // bytes of a torn frame that opening has cut off
}

// Open opens a log, or makes one. Of what a crash tore it cuts off what was not
// acknowledged, and records that it did.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, segmentsDir), 0o700); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	lock, err := lockFile(filepath.Join(cfg.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	l := &Log{
		cfg: cfg, store: Store{Dir: cfg.Dir, Wrapper: cfg.Wrapper}, key: audit.LogKey{Origin: cfg.Origin, Public: cfg.Signer.Public()}, lock: lock,
		queue: make(chan *request, queueMost), stopped: make(chan struct{}), ended: make(chan struct{}),
		known: newWindow(cfg.Window), grown: make(chan struct{}),
	}
	if err := l.recover(ctx); err != nil {
		l.release()
		return nil, err
	}
	l.size, l.wait = l.chain.Size(), cfg.CheckpointEvery
	if l.signed == 0 && cfg.first > 0 {
		l.wait = cfg.first
	}
	go l.run()
	if l.counts.Cut > 0 {
		err := l.Record(ctx, l.own(audit.Incident, audit.Warning, "recover", audit.Detail{Key: "summary", Value: "a frame that was not written to its end was cut off; nothing in it was acknowledged"},
			audit.Detail{Key: "metric", Value: "bytes"}, audit.Detail{Key: "value", Value: fmt.Sprint(l.counts.Cut)}))
		if err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// own is an event of the log about itself.
func (l *Log) own(kind audit.Kind, severity audit.Severity, action string, details ...audit.Detail) audit.Event {
	now := l.cfg.Now()
	return audit.Event{ID: newID(now), Time: now, Kind: kind, Severity: severity, Actor: l.cfg.Node, Subject: "audit.log", Action: action, Count: 1, Details: details}
}

// Key is by what the log's checkpoints are verified.
func (l *Log) Key() audit.LogKey { return l.key }

// Store reads the log.
func (l *Log) Store() *Store { return &l.store }

// Size is how many entries are on the disk.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Counts is what the log has done.
func (l *Log) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// Wait returns the size as soon as it is above after.
func (l *Log) Wait(ctx context.Context, after int64) (int64, error) {
	for {
		l.mu.Lock()
		size, grown, err := l.size, l.grown, l.failed
		if l.closed && err == nil {
			err = ErrClosed
		}
		l.mu.Unlock()
		if size > after {
			return size, nil
		}
		if err != nil {
			return size, err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return size, ctx.Err()
		}
	}
}

// Close signs what is not, and ends the log. What waits is still recorded.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.closed = true
	l.mu.Unlock()
	close(l.stopped)
	<-l.ended
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// release closes files and gives the lock back.
func (l *Log) release() {
	for _, f := range []*os.File{l.tiles, l.notes, l.lock} {
		if f != nil {
			f.Close()
		}
	}
	if l.segment != nil {
		l.segment.file.Close()
	}
}
