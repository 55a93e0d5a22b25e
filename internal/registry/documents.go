package registry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/nyxnet/nyx/internal/directory"
)

// A document is kept as its table, by epoch and revision, and the nodes of each
// row, by the row's root: a document that differs from the one before by one node
// takes one part more, and not hundreds of megabytes.

const (
	// documentsKept is how many documents there are, the newest.
	documentsKept = 3
	// partsAtOnce is how many parts are written at a time.
	partsAtOnce = 16
)

func documentKey(m directory.Mark) string {
	return fmt.Sprintf("%s%016x-%08x", documentPrefix, m.Epoch, m.Revision)
}

func partKey(row *directory.Row) string { return partPrefix + hex.EncodeToString(row.Root[:]) }

// Publish keeps a whole document, and forgets those long before it.
func (r *Registry) Publish(ctx context.Context, d *directory.Document) error {
	if err := r.keepParts(ctx, d); err != nil {
		return fmt.Errorf("the document cannot be kept: %w", err)
	}
	// The table comes last: without it the parts are nothing.
	if _, err := r.store.Put(ctx, documentKey(d.Mark()), d.Table(), 0); err != nil && !errors.Is(err, ErrChanged) {
		return fmt.Errorf("the document cannot be kept: %w", err)
	}
	return r.tidy(ctx)
}

// keepParts writes those parts of a document that are not there, some at a time.
func (r *Registry) keepParts(ctx context.Context, d *directory.Document) error {
	rows := d.Rows()
	errs := make(chan error, len(rows))
	turn := make(chan struct{}, partsAtOnce)
	var writing sync.WaitGroup
	for place := range rows {
		key := partKey(&rows[place])
		r.mu.Lock()
		_, there := r.parts[key]
		r.mu.Unlock()
		if there || rows[place].Count == 0 {
			continue
		}
		turn <- struct{}{}
		writing.Go(func() {
			defer func() { <-turn }()
			revision, err := r.store.Put(ctx, key, d.Part(place), 0)
			if errors.Is(err, ErrChanged) {
				var e Entry
				e, err = r.store.Get(ctx, key)
				revision = e.Revision
			}
			if err != nil {
				errs <- err
				return
			}
			r.mu.Lock()
			r.parts[key] = revision
			r.mu.Unlock()
		})
	}
	writing.Wait()
	close(errs)
	return <-errs
}

// tidy removes all documents but the newest, and parts that none of these has.
func (r *Registry) tidy(ctx context.Context) error {
	var tables []Entry
	if _, err := r.store.List(ctx, documentPrefix, func(e Entry) error {
		tables = append(tables, e)
		return nil
	}); err != nil {
		return err
	}
	if len(tables) <= documentsKept {
		return nil
	}
	old := tables[:len(tables)-documentsKept]
	used := map[string]bool{}
	for _, e := range tables[len(old):] {
		if d, err := directory.ParseTable(e.Value); err == nil {
			for i := range d.Rows() {
				used[partKey(&d.Rows()[i])] = true
			}
		}
	}
	for _, e := range old {
		if d, err := directory.ParseTable(e.Value); err == nil {
			for i := range d.Rows() {
				key := partKey(&d.Rows()[i])
				if used[key] {
					continue
				}
				used[key] = true // looked at
				if err := r.dropPart(ctx, key); err != nil {
					return err
				}
			}
		}
		if err := r.store.Delete(ctx, e.Key, e.Revision); err != nil && !errors.Is(err, ErrChanged) {
			return err
		}
	}
	return nil
}

func (r *Registry) dropPart(ctx context.Context, key string) error {
	e, err := r.store.Get(ctx, key)
	if err == nil && e.Revision != 0 {
		err = r.store.Delete(ctx, key, e.Revision)
	}
	if err != nil && !errors.Is(err, ErrChanged) {
		return err
	}
	r.mu.Lock()
	delete(r.parts, key)
	r.mu.Unlock()
	return nil
}

// FollowDocuments calls each with the number of a document that a process keeps
// after a revision, this one too, until ctx ends.
func (r *Registry) FollowDocuments(ctx context.Context, revision int64, each func(directory.Mark), failed func(error)) {
	r.watch(ctx, documentPrefix, revision, func(e Entry) {
		var m directory.Mark
		if n, _ := fmt.Sscanf(e.Key, documentPrefix+"%x-%x", &m.Epoch, &m.Revision); n == 2 && e.Value != nil {
			each(m)
		}
	}, failed)
}

// Published returns the newest document that is kept and that trust and time
// allow, or nil. why says what is wrong with newer ones.
func (r *Registry) Published(ctx context.Context, trust *directory.Trust, wall int64) (d *directory.Document, why, err error) {
	var tables []Entry
	if _, err := r.store.List(ctx, documentPrefix, func(e Entry) error {
		tables = append(tables, e)
		return nil
	}); err != nil {
		return nil, nil, err
	}
	for i := len(tables) - 1; i >= 0; i-- {
		table, err := directory.VerifyTable(tables[i].Value, trust, wall)
		if err == nil {
			d, err = r.join(ctx, table)
		}
		if err == nil {
			return d, why, nil
		}
		why = errors.Join(why, err)
	}
	return nil, why, nil
}

func (r *Registry) join(ctx context.Context, table *directory.Document) (*directory.Document, error) {
	rows := table.Rows()
	return table.Join(func(place int) ([]byte, error) {
		key := partKey(&rows[place])
		e, err := r.store.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		if e.Revision != 0 {
			r.mu.Lock()
			r.parts[key] = e.Revision
			r.mu.Unlock()
		}
		return e.Value, nil
	})
}

// Documents returns the documents of a snapshot, checked but for the time: each by its
// signatures, and its nodes by its table.
func Documents(from io.Reader, trust *directory.Trust) (out []*directory.Document, err error) {
	kept := map[string][]byte{}
	if _, _, err := readSnapshot(from, func(e Entry) error { kept[e.Key] = e.Value; return nil }); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(kept)) {
		if !strings.HasPrefix(key, documentPrefix) {
			continue
		}
		table, err := directory.VerifyTablePast(kept[key], trust)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		rows := table.Rows()
		d, err := table.Join(func(place int) ([]byte, error) { return kept[partKey(&rows[place])], nil })
		if err == nil && documentKey(d.Mark()) != key {
			err = errors.New("it is another document")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out = append(out, d)
	}
	return out, nil
}
