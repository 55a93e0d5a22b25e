package mail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/registry"
)

const (
	// keepEvery is how often a mark is written at most, and keepLast bounds the last
	// one: what it lacks comes again, and the log knows it.
	keepEvery = 100 * time.Millisecond
	keepLast  = time.Second
)

// list takes all that the store has, and returns its revision.
func (b *Bus) list(ctx context.Context) (int64, error) {
	var all []registry.Entry
	there := map[string]bool{}
	at, err := b.cfg.Store.List(ctx, "", func(e registry.Entry) error {
		all, there[e.Key] = append(all, e), true
		return nil
	})
	if err != nil {
		return 0, err
	}
	// Marks before letters, and these in their order.
	rank := func(e registry.Entry) int {
		if strings.HasPrefix(e.Key, readPrefix) {
			return 0
		}
		return 1
	}
	slices.SortFunc(all, func(x, y registry.Entry) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.Revision, y.Revision))
	})
	b.mu.Lock()
	for key, l := range b.letters {
		if l.revision != 0 && !there[key] {
			b.drop(key)
		}
	}
	maps.DeleteFunc(b.dead, func(key string, _ struct{}) bool { return !there[key] })
	b.mu.Unlock()
	for _, e := range all {
		b.take(e)
	}
	return at, nil
}

// follow takes what changes in the store after a revision.
func (b *Bus) follow(ctx context.Context, at int64) {
	for {
		err := b.cfg.Store.Watch(ctx, "", at, b.take)
		for err != nil {
			if ctx.Err() != nil {
				return
			}
			b.log.Debug("the store of the bus is asked again", "why", err)
			if !pause(ctx, again) {
				return
			}
			at, err = b.list(ctx)
		}
	}
}

// take takes an entry of the store, of which it has seen all before.
func (b *Bus) take(e registry.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch kind, rest, _ := strings.Cut(e.Key, "/"); kind + "/" {
	case letterPrefix:
		if e.Value == nil {
			b.drop(e.Key)
		} else {
			b.feed(e)
		}
	case readPrefix:
		b.hear(rest, e)
	case deadPrefix:
		if e.Value == nil {
			delete(b.dead, e.Key)
		} else {
			b.dead[e.Key] = struct{}{}
		}
	}
}

// feed has the messages of a letter delivered. The lock is held.
func (b *Bus) feed(e registry.Entry) {
	l := b.letters[e.Key] // one of this member's own
	if l != nil && l.revision != 0 {
		return
	}
	fed := &letter{key: e.Key}
	if err := fed.decode(e.Value); err != nil || !laneOf(e.Key, &fed.lane) {
		b.log.Error("an entry of the bus is no letter; it is left", "key", e.Key, "why", err)
		return
	}
	messages := fed.messages
	if fed.messages = nil; l == nil {
		l = fed
		b.add(l)
	}
	l.revision, l.messages = e.Revision, nil
	if l.revision <= b.read { // settled in a life before
		l.left = 0
		return
	}
	b.forgetKnown()
	for _, m := range messages {
		if first, known := b.known[m.ID]; known && first != l && !l.again {
			b.settle(l)
			continue
		}
		b.lanes[l.lane] = append(b.lanes[l.lane], &message{Message: m, of: l})
	}
	b.know(l, messages)
	b.unread = append(b.unread, l)
	b.wake(l.lane)
	b.advance()
}

// advance moves the mark to the last letter before the first that is not settled. The
// lock is held.
func (b *Bus) advance() {
	n := 0
	for n < len(b.unread) && b.unread[n].left == 0 {
		b.read = b.unread[n].revision
		n++
	}
	if n > 0 {
		b.unread = slices.Delete(b.unread, 0, n)
		told(b.moved)
	}
}

// hear notes how far a member is. The lock is held.
func (b *Bus) hear(name string, e registry.Entry) {
	r := reader{entry: e.Revision}
	if _, err := fmt.Sscanf(string(e.Value), "%d %t", &r.revision, &r.gone); err != nil {
		b.log.Error("a mark of the bus is none; it is left", "member", name, "why", err)
		return
	}
	b.readers[name] = r
	if name == b.cfg.Name && r.entry >= b.saved.entry {
		b.saved = r
		b.read = max(b.read, r.revision)
		if r.gone {
			told(b.moved)
		}
	}
	told(b.sweep)
}

// keep writes this member's mark whenever it has moved.
func (b *Bus) keep(ctx context.Context) {
	told(b.moved) // that there is one
	for {
		select {
		case <-b.moved:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepLast)
			defer cancel()
			b.mark(last)
			return
		}
		if err := b.mark(ctx); err != nil && ctx.Err() == nil {
			b.log.Debug("the mark of this member is not written; trying again", "why", err)
			told(b.moved)
		}
		pause(ctx, keepEvery)
	}
}

func (b *Bus) mark(ctx context.Context) error {
	b.mu.Lock()
	r, was := reader{revision: b.read}, b.saved
	b.mu.Unlock()
	if was.entry != 0 && was.revision == r.revision && !was.gone {
		return nil
	}
	key := readPrefix + b.cfg.Name
	entry, err := b.cfg.Store.Put(ctx, key, r.encode(), was.entry)
	if errors.Is(err, registry.ErrChanged) { // it was given up, or the word of the last one was lost
		var e registry.Entry
		if e, err = b.cfg.Store.Get(ctx, key); err == nil {
			entry, err = b.cfg.Store.Put(ctx, key, r.encode(), e.Revision)
		}
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if entry > b.saved.entry {
		r.entry = entry
		b.saved, b.readers[b.cfg.Name] = r, r
	}
	told(b.sweep)
	return nil
}

func (r *reader) encode() []byte { return fmt.Appendf(nil, "%d %t", r.revision, r.gone) }
