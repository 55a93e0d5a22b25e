// Package recordstest is what holds for every records.Store.
package recordstest

import (
	"errors"
	"sync"
	"testing"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/records"
)

// Run tests an empty store.
func Run(t *testing.T, s records.Store) {
	t.Run("Life", func(t *testing.T) { life(t, s) })
	t.Run("Swap", func(t *testing.T) { swap(t, s) })
	t.Run("Expire", func(t *testing.T) { expire(t, s) })
	t.Run("OneOfMany", func(t *testing.T) { oneOfMany(t, s) })
	t.Run("Conflict", func(t *testing.T) { conflict(t, s) })
	t.Run("Copies", func(t *testing.T) { copies(t, s) })
	t.Run("Batch", func(t *testing.T) { batch(t, s) })
	t.Run("Claims", func(t *testing.T) { claims(t, s) })
}

func record(kind, n byte) control.SessionRecord {
	return control.SessionRecord{Token: control.TokenHash{kind, n, 0xff}, Version: 1, Expires: 100, Class: 1}
}

func create(t *testing.T, s records.Store, r control.SessionRecord) {
	t.Helper()
	if err := records.Add(t.Context(), s, r, 0); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, s records.Store, r control.SessionRecord) {
	t.Helper()
	if got, err := s.Get(t.Context(), r.Token, 0); err != nil || got != r {
		t.Fatalf("%+v, error %v; want %+v", got, err, r)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// life: a session is there once, until its time is over or it is removed.
func life(t *testing.T, s records.Store) {
	r := record(1, 0)
	_, err := s.Get(t.Context(), r.Token, 0)
	wantErr(t, err, records.ErrNone)
	create(t, s, r)
	want(t, s, r)
	wantErr(t, records.Add(t.Context(), s, r.WithClass(9), 0), records.ErrDuplicate)
	want(t, s, r)
	_, err = s.Get(t.Context(), r.Token, 100)
	wantErr(t, err, records.ErrNone)
	again := r
	again.Expires = 200
	if err := records.Add(t.Context(), s, again, 100); err != nil {
		t.Fatalf("in the place of one that is over: %v", err)
	}
	want(t, s, again)
	for range 2 {
		if err := s.Remove(t.Context(), []control.TokenHash{r.Token}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.Get(t.Context(), r.Token, 0)
	wantErr(t, err, records.ErrNone)
}

// swap: a change names the whole record that it follows.
func swap(t *testing.T, s records.Store) {
	r := record(2, 0)
	wantErr(t, s.Swap(t.Context(), r, r.WithClass(2)), records.ErrChanged)
	create(t, s, r)
	next := r.WithClass(2)
	if err := s.Swap(t.Context(), r, next); err != nil {
		t.Fatal(err)
	}
	want(t, s, next)
	wantErr(t, s.Swap(t.Context(), r, r.WithClass(3)), records.ErrChanged)
	other := next
	other.Class++
	wantErr(t, s.Swap(t.Context(), other, other.WithClass(3)), records.ErrChanged)
	want(t, s, next)
}

// expire: those whose time is over go, some at a time.
func expire(t *testing.T, s records.Store) {
	for n := range byte(10) {
		r := record(3, n)
		r.Expires = 1000 + int64(n)
		create(t, s, r)
	}
	gone := 0
	for {
		n, err := s.Expire(t.Context(), 1004, 3)
		if err != nil || n > 3 {
			t.Fatalf("%d removed, error %v", n, err)
		}
		if gone += n; n == 0 {
			break
		}
	}
	for n := range byte(10) {
		r := record(3, n)
		if _, err := s.Get(t.Context(), r.Token, 0); (err == nil) != (n >= 5) {
			t.Errorf("record %d: %v", n, err)
		}
	}
}

// oneOfMany: of those who create or change at once, one comes through.
func oneOfMany(t *testing.T, s records.Store) {
	for n := range byte(10) {
		r := record(4, n)
		for round, change := range []func(class uint8) error{
			func(class uint8) error { r := r; r.Class = class; return records.Add(t.Context(), s, r, 0) },
			func(class uint8) error {
				was, err := s.Get(t.Context(), r.Token, 0)
				if err != nil || was.Version != 1 {
					return records.ErrChanged // another was first
				}
				return s.Swap(t.Context(), was, was.WithClass(class))
			},
		} {
			var mu sync.Mutex
			won := 0
			var running sync.WaitGroup
			for class := range uint8(8) {
				running.Go(func() {
					err := change(class)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						won++
					} else if !errors.Is(err, records.ErrDuplicate) && !errors.Is(err, records.ErrChanged) {
						t.Error(err)
					}
				})
			}
			running.Wait()
			if won != 1 {
				t.Fatalf("round %d: %d came through", round, won)
			}
		}
	}
}

// conflict: concurrent changes of one class come out the same, in whatever order
// they arrive: the greatest.
func conflict(t *testing.T, s records.Store) {
	for n := range byte(10) {
		r := record(5, n)
		create(t, s, r)
		var running sync.WaitGroup
		for class := uint8(2); class < 10; class++ {
			running.Go(func() {
				if _, err := records.Change(t.Context(), s, r, r.WithClass(class), 0); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		want(t, s, r.WithClass(9))
		last, err := records.Change(t.Context(), s, r.WithClass(9), r.WithClass(9).WithClass(1), 0)
		if err != nil || last.Class != 1 || last.Version != 3 {
			t.Fatalf("a change that knew: %+v, error %v", last, err)
		}
	}
}

// copies: what comes from elsewhere, late, twice and in any order, is joined.
func copies(t *testing.T, s records.Store) {
	r := record(6, 0)
	one, two := r.WithClass(5), r.Claimed(300)
	for _, next := range []control.SessionRecord{two, r, one, two, r} {
		if _, err := records.Receive(t.Context(), s, next, 0); err != nil {
			t.Fatal(err)
		}
	}
	want(t, s, one.Join(two))
}

// batch: many are created and removed at once, and repeated where nobody knows whether
// it came through. Those that are there as others stay, and are counted.
func batch(t *testing.T, s records.Store) {
	var all []control.SessionRecord
	var tokens []control.TokenHash
	for n := range 700 {
		r := record(7, byte(n))
		r.Token[3] = byte(n >> 8)
		all, tokens = append(all, r), append(tokens, r.Token)
	}
	for range 2 {
		if n, err := s.Create(t.Context(), all, 0); n != 0 || err != nil {
			t.Fatalf("%d were there, error %v", n, err)
		}
	}
	others := []control.SessionRecord{all[3].WithClass(2), all[4], all[699].Claimed(400)}
	if n, err := s.Create(t.Context(), others, 0); n != 2 || err != nil {
		t.Errorf("%d of 3 were there as others, error %v; want 2", n, err)
	}
	want(t, s, all[3])
	if err := s.Remove(t.Context(), tokens[:699]); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(t.Context(), tokens[0], 0)
	wantErr(t, err, records.ErrNone)
	want(t, s, all[699])
	for _, none := range [][]control.TokenHash{nil, tokens} {
		if err := s.Remove(t.Context(), none); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Create(t.Context(), nil, 0); n != 0 || err != nil {
		t.Errorf("of none %d were there, error %v", n, err)
	}
}

// claims: of those who resume a session one is first, however many come at once, and
// whether its record is there yet or comes after them.
func claims(t *testing.T, s records.Store) {
	for _, known := range []bool{true, false} {
		r := record(8, 0)
		if !known {
			r = record(8, 1)
		} else {
			create(t, s, r)
		}
		var mu sync.Mutex
		first, again := 0, 0
		var running sync.WaitGroup
		for range 8 {
			running.Go(func() {
				c, err := records.Take(t.Context(), s, r.Token, r.Expires, 0)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Error(err)
				case c.Again:
					again++
				default:
					first++
				}
				if known && !c.Known {
					t.Error("the record was not found")
				}
			})
		}
		running.Wait()
		if first != 1 || again != 7 {
			t.Errorf("known %v: %d were first and %d again", known, first, again)
		}
		if _, err := records.Receive(t.Context(), s, r, 0); err != nil {
			t.Fatal(err)
		}
		if c, err := records.Take(t.Context(), s, r.Token, r.Expires, 0); err != nil || !c.Again || !c.Known {
			t.Errorf("known %v: after the record has come, %+v, error %v", known, c, err)
		}
	}
}
