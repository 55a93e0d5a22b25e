package governance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	index "github.com/nyxnet/nyx/internal/engine/sql"
	"github.com/nyxnet/nyx/internal/seal"
)

// Compliance is the Log of a compliance store: its files, and its index, which
// follows them to their end before each query.
type Compliance struct {
	Store *ledger.Store
	Index *index.Index
	Key   *audit.LogKey
	// Signer signs copies, with the log's key; nil: it cannot be copied.
	Signer *seal.Signer
	// PartRows bounds the rows of a file of a copy; 0 for 100,000.
	PartRows int
}

// Copy implements Copier.
func (c *Compliance) Copy(ctx context.Context, dir string, format audit.Format, f audit.Filter, now time.Time, done func(audit.Part)) (*audit.Manifest, error) {
	x := &ledger.Export{Dir: dir, Format: format, Filter: f, PartRows: c.PartRows, Signer: c.Signer, Now: now, Done: done}
	return x.Run(ctx, c.Store, c.Key)
}

// Query implements Log.
func (c *Compliance) Query(ctx context.Context, f audit.Filter, newest bool, cursor string, limit int) (Page, error) {
	if _, err := c.Index.Project(ctx, c.Store); err != nil {
		return Page{}, err
	}
	p, err := c.Index.Query(ctx, index.Query{Filter: f, Newest: newest, Cursor: cursor, Limit: limit})
	if errors.Is(err, index.ErrCursor) {
		err = fmt.Errorf("%w: %w", ErrCursor, err)
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
