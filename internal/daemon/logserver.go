package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/mirror"
)

// handleLogs adds logs to an HTTP interface: the own one, if not nil, and copies of
// the others, if not nil.
func handleLogs(mux *http.ServeMux, own *ownLog, copies *watcher) {
	if own == nil && copies == nil {
		return
	}
	text := func(path string, of func(*http.Request) ([]byte, error)) {
		mux.HandleFunc("GET "+logPath+path, func(w http.ResponseWriter, r *http.Request) {
			b, err := of(r)
			if err != nil {
				status := http.StatusNotFound
				if errors.Is(err, translog.ErrNotLogged) || errors.Is(err, errNoCheckpoint) || errors.Is(err, errShort) {
					status = mirror.StatusNotYet
				}
				http.Error(w, err.Error(), status)
				return
			}
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Write(b)
		})
	}
	text("proof/{epoch}/{revision}/{hash}", func(r *http.Request) ([]byte, error) {
		m, err := markOf(r)
		if err != nil {
			return nil, err
		}
		if own != nil {
			b, err := own.proof(r.Context(), m)
			if err == nil || copies == nil {
				return b, err
			}
		}
		return copies.proof(m)
	})
	text("consistency/{id}/{from}/{to}", func(r *http.Request) ([]byte, error) {
		from, err1 := strconv.ParseInt(r.PathValue("from"), 10, 64)
		to, err2 := strconv.ParseInt(r.PathValue("to"), 10, 64)
		if errors.Join(err1, err2) != nil {
			return nil, errNoSizes
		}
		if own != nil && r.PathValue("id") == logID(own.origin) {
			own.mu.Lock()
			defer own.mu.Unlock()
			hashes, err := own.tree.Consistency(from, to)
			return translog.AppendHashes(nil, hashes), short(err)
		}
		if copies == nil {
			return nil, errNoSizes
		}
		b, err := copies.consistency(r.PathValue("id"), from, to)
		return b, short(err)
	})
	if own != nil {
		own.handle(text)
	}
}

// handle adds what is asked of the log itself, by who reads it.
func (l *ownLog) handle(text func(string, func(*http.Request) ([]byte, error))) {
	text("checkpoint", func(*http.Request) ([]byte, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.note == nil {
			return nil, errNoCheckpoint
		}
		return l.note, nil
	})
	text("tile/", func(r *http.Request) ([]byte, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.tree.Tile(strings.TrimPrefix(r.URL.Path, logPath))
	})
	text("signed/{epoch}/{revision}/{hash}", func(r *http.Request) ([]byte, error) {
		m, err := markOf(r)
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		b := l.proposals[m]
		if b == nil {
			return nil, errors.New("its signatures are not kept here")
		}
		return b, nil
	})
}

// errShort is a log, or the copy of one, that does not reach so far.
var errShort = errors.New("the log here does not reach so far, or not yet")

func short(err error) error {
	if err != nil {
		err = fmt.Errorf("%w: %w", errShort, err)
	}
	return err
}

var errNoSizes = errors.New("not two sizes of a log that is here")

var errNoCheckpoint = errors.New("no witness has cosigned this log yet")

// proof waits for a document that was published a moment ago to be cosigned.
func (l *ownLog) proof(ctx context.Context, m directory.Mark) ([]byte, error) {
	patience := time.NewTimer(proofPatience)
	defer patience.Stop()
	for {
		l.mu.Lock()
		p, err := l.tree.Prove(m, l.head, l.short)
		_, logged := l.tree.Find(m)
		moved := l.moved
		l.mu.Unlock()
		if err == nil {
			return p.Encode(), nil
		}
		if !logged {
			return nil, err
		}
		select {
		case <-moved:
		case <-patience.C:
			return nil, errNoCheckpoint
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// markPath and markOf write and read a mark in a path.
func markPath(m directory.Mark) string { return fmt.Sprintf("%d/%d/%x", m.Epoch, m.Revision, m.Hash) }

func markOf(r *http.Request) (m directory.Mark, err error) {
	epoch, err1 := strconv.ParseUint(r.PathValue("epoch"), 10, 64)
	revision, err2 := strconv.ParseUint(r.PathValue("revision"), 10, 32)
	var hash []byte
	n, err3 := fmt.Sscanf(r.PathValue("hash"), "%x", &hash)
	if errors.Join(err1, err2, err3) != nil || n != 1 || len(hash) != len(m.Hash) {
		return m, errors.New("not the mark of a document")
	}
	m.Epoch, m.Revision = epoch, uint32(revision)
	copy(m.Hash[:], hash)
	return m, nil
}

// ask gets what is there or is not.
func ask(ctx context.Context, client *http.Client, server, path string, most int64) ([]byte, error) {
	got, err := exchange(ctx, client, request{server: server, path: path, most: most})
	if err == nil && !got.ok() {
		err = fmt.Errorf("%d %s", got.StatusCode, got.said())
	}
	return got.body, err
}
