package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
)

// Paths of logs and witnesses (docs/protocol.md, section 7.10). Below logPath stand
// the files of tlog-tiles, and what clients ask for.
const (
	logPath     = "/nyx/v1/log/"
	witnessPath = "/nyx/v1/witness/add-checkpoint"
)

const (
	// proofPatience is how long a request for a proof waits until the witnesses
	// have cosigned: they take milliseconds, and who asks would else come back.
	proofPatience = 2 * time.Second
	// witnessTimeout bounds a request to a witness.
	witnessTimeout = 10 * time.Second
	// cosignFirst and cosignMax bound the doubling time between tries to have a
	// checkpoint cosigned.
	cosignFirst = 200 * time.Millisecond
	cosignMax   = 30 * time.Second
	// proposalsKept is of how many documents the signatures are kept, for evidence.
	proposalsKept = 64
)

// ownLog is the log of an authority: every document that it publishes is appended,
// and the head is cosigned by witnesses. A nil ownLog, in networks without
// witnesses, does nothing.
type ownLog struct {
	policy *translog.Policy
	signer *seal.Signer
	origin string
	file   *setup.LogFile // nil: none
	urls   []string       // of the witnesses
	client *http.Client
	log    *slog.Logger
	wake   chan struct{}

	mu        sync.Mutex
	tree      translog.Log
	head      translog.Checkpoint // that enough witnesses have cosigned, with note and short
	note      []byte
	short     []byte           // note, with no more cosignatures than clients need
	moved     chan struct{}    // closed when head moves
	stands    map[string]int64 // where each witness stands, as it said last
	proposals map[directory.Mark][]byte
	recent    []directory.Mark // of proposals, the oldest first
	err       error

	asking sync.WaitGroup
}

func openLog(cfg *AuthorityConfig, client *http.Client, log *slog.Logger) (*ownLog, error) {
	policy := translog.NewPolicy(&cfg.Trust)
	if err := policy.Check(); err != nil || !policy.Demanded() {
		return nil, err
	}
	l := &ownLog{
		policy: policy, signer: cfg.Signers[0], origin: translog.Origin(policy.Network, cfg.Signers[0].Public()),
		urls: cfg.WitnessURLs, client: client, log: log, wake: make(chan struct{}, 1), moved: make(chan struct{}),
		stands: map[string]int64{}, proposals: map[directory.Mark][]byte{},
	}
	if cfg.StateDir == "" {
		return l, nil
	}
	l.file = setup.NewLogFile(filepath.Join(cfg.StateDir, "log"), false)
	entries, note, err := l.file.Load()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, err := l.tree.Append(e); err != nil {
			return nil, err
		}
	}
	if note == nil {
		return l, nil
	}
	c, err := policy.OpenWitnessed(note)
	if err != nil { // other witnesses count now: they will cosign it anew
		l.log.Info("the checkpoint that was kept is not served", "why", err)
		return l, nil
	}
	if err := l.tree.Holds(c); err != nil {
		return nil, fmt.Errorf("this authority's log has lost entries that witnesses have seen; restore log.entries from the copy of another authority or a witness: %w", err)
	}
	return l, l.serve(c, note)
}

// serve has clients see a head from now on.
func (l *ownLog) serve(c translog.Checkpoint, note []byte) error {
	short, err := l.policy.Trim(note)
	if err != nil {
		return err
	}
	l.head, l.note, l.short = c, note, short
	close(l.moved)
	l.moved = make(chan struct{})
	return nil
}

// add appends a document that is published from now on, if it is not there yet.
func (l *ownLog) add(d *directory.Document) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m := d.Mark()
	if _, ok := l.proposals[m]; !ok {
		l.proposals[m], l.recent = d.Proposal(), append(l.recent, m)
		if len(l.recent) > proposalsKept {
			delete(l.proposals, l.recent[0])
			l.recent = l.recent[1:]
		}
	}
	if _, ok := l.tree.Find(m); !ok {
		entry := bytes.Clone(d.SignedHeader())
		if l.file != nil {
			if err := l.file.Append(entry); err != nil {
				return err
			}
		}
		if _, err := l.tree.Append(entry); err != nil {
			return err
		}
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// run has each new head cosigned, until ctx ends.
func (l *ownLog) run(ctx context.Context) {
	defer l.asking.Wait()
	wait := cosignFirst
	for {
		err := l.cosign(ctx)
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.err = err
		l.mu.Unlock()
		if err == nil {
			select {
			case <-ctx.Done():
				return
			case <-l.wake:
				wait = cosignFirst
			}
			continue
		}
		l.log.Warn("the log is not cosigned", "why", err)
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-time.After(wait):
		}
		wait = min(2*wait, cosignMax)
	}
}

// cosign asks all witnesses at once to cosign the log's head, and serves it as
// soon as enough have. What the others answer later is only noted.
func (l *ownLog) cosign(ctx context.Context) error {
	l.mu.Lock()
	head, err := l.tree.Head(l.origin)
	known := l.head
	l.mu.Unlock()
	if err != nil || head.Size == 0 || head == known {
		return err
	}
	note, err := head.Sign(l.policy.Network, l.signer)
	if err != nil {
		return err
	}
	type answer struct {
		line []byte
		err  error
	}
	answers := make(chan answer, len(l.urls))
	for _, url := range l.urls {
		l.asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
			defer cancel()
			line, err := l.ask(ctx, url, head.Size, note)
			answers <- answer{line, err}
		})
	}
	var errs []error
	whole := note
	for range l.urls {
		got := <-answers
		if got.err != nil {
			errs = append(errs, got.err)
			continue
		}
		more, enough, err := l.policy.Cosigned(whole, got.line)
		if err != nil {
			return err
		}
		if whole = more; enough {
			return l.cosigned(head, whole)
		}
	}
	return fmt.Errorf("log: %w of %d entries: %w", translog.ErrWitnesses, head.Size, errors.Join(errs...))
}

func (l *ownLog) cosigned(head translog.Checkpoint, note []byte) error {
	if l.file != nil {
		if err := l.file.Keep(note); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.serve(head, note)
}

// ask has a witness cosign, from where it stands; if it stands elsewhere than it
// said last, once more from there.
func (l *ownLog) ask(ctx context.Context, url string, size int64, note []byte) ([]byte, error) {
	for again := false; ; again = true {
		l.mu.Lock()
		from := l.stands[url]
		r := translog.Request{Old: from, Note: note}
		var err error
		if r.Proof, err = l.tree.Consistency(from, size); err != nil {
			err = fmt.Errorf("witness %s has seen %d entries of this log, %d are here; restore log.entries from a copy: %w", url, from, size, err)
		}
		l.mu.Unlock()
		if err != nil {
			return nil, err
		}
		got, err := exchange(ctx, l.client, request{server: url, path: witnessPath, post: r.Encode(), most: translog.MaxProofSize})
		if err != nil {
			return nil, fmt.Errorf("witness %s: %w", url, err)
		}
		stands, sized := strconv.ParseInt(strings.TrimSuffix(string(got.body), "\n"), 10, 64)
		switch {
		case got.ok():
			l.standsAt(url, size)
			return got.body, nil
		case got.StatusCode == http.StatusConflict && sized == nil && stands >= 0 && !again:
			l.standsAt(url, stands)
		default:
			return nil, fmt.Errorf("witness %s: %s", url, got.said())
		}
	}
}

func (l *ownLog) standsAt(url string, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stands[url] = size
}

// Err is why the newest head is not cosigned, or nil.
func (l *ownLog) Err() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// since returns the head and the entries from size on.
func (l *ownLog) since(size int64) (note []byte, entries [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := size; i < l.head.Size; i++ {
		entries = append(entries, l.tree.Entry(i))
	}
	return l.note, entries
}
