// Package storetest is what holds for every registry.Store.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/registry"
)

// Patience bounds the wait for what must come.
const Patience = time.Minute

// Run tests a store that is empty.
func Run(t *testing.T, s registry.Store) {
	t.Run("Change", func(t *testing.T) { change(t, s) })
	t.Run("Fill", func(t *testing.T) { fill(t, s) })
	t.Run("List", func(t *testing.T) { list(t, s) })
	t.Run("Watch", func(t *testing.T) { watch(t, s) })
	t.Run("OneOfMany", func(t *testing.T) { oneOfMany(t, s) })
}

// Put puts, and fails the test if it cannot.
func Put(t *testing.T, s registry.Store, key, value string, was int64) int64 {
	t.Helper()
	revision, err := s.Put(t.Context(), key, []byte(value), was)
	if err != nil {
		t.Fatalf("put %s after revision %d: %v", key, was, err)
	}
	return revision
}

// Want gets, and compares; "" is no entry.
func Want(t *testing.T, s registry.Store, key, value string) registry.Entry {
	t.Helper()
	e, err := s.Get(t.Context(), key)
	if err != nil || string(e.Value) != value || (value == "") != (e.Revision == 0) {
		t.Fatalf("%s is %q at revision %d, error %v; want %q", key, e.Value, e.Revision, err, value)
	}
	return e
}

func wantChanged(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, registry.ErrChanged) {
		t.Fatalf("error %v, want ErrChanged", err)
	}
}

// change: every change names the revision of the one before it.
func change(t *testing.T, s registry.Store) {
	ctx := t.Context()
	Want(t, s, "change/a", "")
	first := Put(t, s, "change/a", "one", 0)
	_, err := s.Put(ctx, "change/a", []byte("again"), 0)
	wantChanged(t, err)
	second := Put(t, s, "change/a", "two", first)
	if second <= first {
		t.Fatalf("revision %d after %d", second, first)
	}
	_, err = s.Put(ctx, "change/a", []byte("late"), first)
	wantChanged(t, err)
	wantChanged(t, s.Delete(ctx, "change/a", first))
	if e := Want(t, s, "change/a", "two"); e.Revision != second {
		t.Fatalf("revision %d, want %d", e.Revision, second)
	}
	if err := s.Delete(ctx, "change/a", second); err != nil {
		t.Fatal(err)
	}
	Want(t, s, "change/a", "")
	_, err = s.Put(ctx, "change/a", []byte("late"), second)
	wantChanged(t, err)
	Put(t, s, "change/a", "three", 0)
}

// fill: all or none.
func fill(t *testing.T, s registry.Store) {
	var some []registry.Entry
	for i := range 64 {
		some = append(some, registry.Entry{Key: fmt.Sprint("fill/", i), Value: []byte{byte(i)}})
	}
	there := Put(t, s, "fill/63", "there", 0)
	wantChanged(t, s.Fill(t.Context(), some))
	Want(t, s, "fill/0", "")
	if err := s.Delete(t.Context(), "fill/63", there); err != nil {
		t.Fatal(err)
	}
	if err := s.Fill(t.Context(), some); err != nil {
		t.Fatal(err)
	}
	for _, e := range some {
		Want(t, s, e.Key, string(e.Value))
	}
}

// list: in the order of keys, of this prefix alone, over several pages.
func list(t *testing.T, s registry.Store) {
	const many = 300
	var put sync.WaitGroup
	for i := range many {
		put.Go(func() { s.Put(t.Context(), fmt.Sprintf("list/%03d", i), []byte{byte(i)}, 0) })
	}
	put.Wait()
	Put(t, s, "list0", "not below it", 0)
	last := Put(t, s, "list/empty", "", 0)
	n := 0
	revision, err := s.List(t.Context(), "list/", func(e registry.Entry) error {
		if want := fmt.Sprintf("list/%03d", n); n < many && (e.Key != want || len(e.Value) != 1 || e.Value[0] != byte(n)) {
			t.Errorf("entry %d is %s, %v", n, e.Key, e.Value)
		}
		if n++; e.Value == nil || e.Revision == 0 {
			t.Errorf("%s has value %v and revision %d", e.Key, e.Value, e.Revision)
		}
		return nil
	})
	if err != nil || n != many+1 || revision < last {
		t.Errorf("%d entries at revision %d, error %v", n, revision, err)
	}
	enough := errors.New("enough")
	if _, err := s.List(t.Context(), "list/", func(registry.Entry) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error %v of the caller's", err)
	}
}

// watch: what changes after a revision, before and during the watch.
func watch(t *testing.T, s registry.Store) {
	before := Put(t, s, "watch/a", "one", 0)
	during := Put(t, s, "watch/b", "one", 0)
	Put(t, s, "watch0", "elsewhere", 0)
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	seen := make(chan registry.Entry, 8)
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, "watch/", before, func(e registry.Entry) { seen <- e }) }()
	want := func(key, value string) {
		t.Helper()
		select {
		case e := <-seen:
			if e.Key != key || string(e.Value) != value || (e.Value == nil) != (value == "") {
				t.Fatalf("saw %s %q, want %s %q", e.Key, e.Value, key, value)
			}
		case err := <-ended:
			t.Fatalf("the watch ended: %v", err)
		}
	}
	want("watch/b", "one")
	Put(t, s, "watch/a", "two", before)
	want("watch/a", "two")
	if err := s.Delete(ctx, "watch/b", during); err != nil {
		t.Fatal(err)
	}
	want("watch/b", "")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
}

// oneOfMany: of those who change an entry at once, one does.
func oneOfMany(t *testing.T, s registry.Store) {
	was := Put(t, s, "race", "0", 0)
	var race sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 16 {
		race.Go(func() {
			if _, err := s.Put(t.Context(), "race", []byte{byte(i)}, was); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			} else if !errors.Is(err, registry.ErrChanged) {
				t.Error(err)
			}
		})
	}
	race.Wait()
	if won != 1 {
		t.Errorf("%d of 16 changed one revision", won)
	}
}
