package governance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	index "github.com/nyxnet/nyx/internal/engine/sql"
	"github.com/nyxnet/nyx/internal/seal"
)

// Index finds entries in an index that has all that the log has.
type Index interface {
	Query(ctx context.Context, q index.Query) (index.Page, error)
}

// Compliance is the Log of a compliance store: its files, and its index.
type Compliance struct {
	Store *ledger.Store
	Index Index
	Key   *audit.LogKey
	// Signer signs copies, with the log's key; nil: it cannot be copied.
	Signer *seal.Signer
	// PartRows bounds the rows of a file of a copy; 0 for 100,000.
	PartRows int
}

// Copy implements Copier.
func (c *Compliance) Copy(ctx context.Context, dir string, format audit.Format, f audit.Filter, now time.Time, done func(audit.Part)) (*audit.Manifest, error) {
	x := &ledger.Export{Dir: dir, Format: format, Filter: f, PartRows: c.PartRows, Signer: c.Signer, Now: now, Done: done}
	m, err := x.Run(ctx, c.Store, c.Key)
	if errors.Is(err, ledger.ErrShortened) { // the next try begins anew
		err = errors.Join(err, os.Remove(filepath.Join(dir, "manifest.json")))
	}
	return m, err
}

// Query implements Log.
func (c *Compliance) Query(ctx context.Context, f audit.Filter, newest bool, cursor string, limit int) (Page, error) {
	p, err := c.Index.Query(ctx, index.Query{Filter: f, Newest: newest, Cursor: cursor, Limit: limit})
	switch {
	case errors.Is(err, index.ErrCursor):
		err = fmt.Errorf("%w: %w", ErrCursor, err)
	case errors.Is(err, index.ErrBehind):
		err = &refusal{status: http.StatusServiceUnavailable, reason: "index", say: "the index is not yet where the log is; come again", retry: 10}
	case errors.Is(err, index.ErrBusy):
		err = &refusal{status: http.StatusServiceUnavailable, reason: "busy", say: "too many queries wait for the index; come again", retry: 5}
	}
	return Page(p), err
}

// Find implements Log, by the time that is in an ID: that of its event.
func (c *Compliance) Find(ctx context.Context, id audit.ID) (audit.Entry, error) {
	f := audit.Filter{From: id.Time(), To: id.Time().Add(time.Millisecond)}
	for cursor := ""; ; {
		p, err := c.Query(ctx, f, true, cursor, index.LimitMax)
		if err != nil {
			return audit.Entry{}, err
		}
		for _, e := range p.Entries {
			if e.Event.ID == id {
				return e, nil
			}
		}
		if cursor = p.Cursor; cursor == "" {
			return audit.Entry{}, ErrNotFound
		}
	}
}

// Prove implements Log.
func (c *Compliance) Prove(ctx context.Context, seq int64) ([]byte, error) {
	p, err := c.Store.Prove(ctx, c.Key, seq)
	if errors.Is(err, ledger.ErrUnsigned) {
		return nil, &refusal{status: http.StatusConflict, reason: "unsigned", say: "no checkpoint covers the event yet; come again in a minute", retry: 60}
	}
	if err != nil {
		return nil, err
	}
	return p.Encode(), nil
}
