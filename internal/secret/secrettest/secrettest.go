// Package secrettest is what holds for every secret.Store.
package secrettest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/secret"
)

// Run tests an empty store. again opens the same secrets once more, as another
// process does; nil if that cannot be.
func Run(t *testing.T, s secret.Store, again func() secret.Store) {
	t.Run("Versions", func(t *testing.T) { versions(t, s) })
	t.Run("Destroy", func(t *testing.T) { destroy(t, s) })
	t.Run("Delete", func(t *testing.T) { remove(t, s) })
	t.Run("List", func(t *testing.T) { list(t, s) })
	t.Run("Refused", func(t *testing.T) { refused(t, s) })
	t.Run("Wrapper", func(t *testing.T) { wrapper(t, s) })
	others := []secret.Store{s}
	if again != nil {
		others = append(others, again())
	}
	t.Run("OneOfMany", func(t *testing.T) { oneOfMany(t, others) })
	t.Run("Change", func(t *testing.T) { change(t, others) })
}

// Put puts, and fails the test if it cannot.
func Put(t *testing.T, s secret.Store, name, value string, was uint64) uint64 {
	t.Helper()
	version, err := s.Put(t.Context(), name, []byte(value), was)
	if err != nil {
		t.Fatalf("put %s after version %d: %v", name, was, err)
	}
	if version != was+1 {
		t.Fatalf("put %s after version %d: version %d", name, was, version)
	}
	return version
}

// Want gets, and compares; "" is none.
func Want(t *testing.T, s secret.Store, name string, version uint64, value string) secret.Secret {
	t.Helper()
	got, err := s.Get(t.Context(), name, version)
	if value == "" {
		wantErr(t, err, secret.ErrNone)
		return got
	}
	if err != nil || string(got.Value) != value || version != 0 && got.Version != version || got.Placed.IsZero() {
		t.Fatalf("%s version %d is %q of version %d, placed %v, error %v; want %q", name, version, got.Value, got.Version, got.Placed, err, value)
	}
	return got
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// versions: every Put names the version before it, and each version stays.
func versions(t *testing.T, s secret.Store) {
	Want(t, s, "versions/a", 0, "")
	Put(t, s, "versions/a", "one", 0)
	_, err := s.Put(t.Context(), "versions/a", []byte("again"), 0)
	wantErr(t, err, secret.ErrChanged)
	Put(t, s, "versions/a", "two", 1)
	_, err = s.Put(t.Context(), "versions/a", []byte("late"), 1)
	wantErr(t, err, secret.ErrChanged)
	_, err = s.Put(t.Context(), "versions/a", []byte("early"), 7)
	wantErr(t, err, secret.ErrChanged)
	if got := Want(t, s, "versions/a", 0, "two"); got.Version != 2 {
		t.Errorf("the present version is %d", got.Version)
	}
	Want(t, s, "versions/a", 1, "one")
	Want(t, s, "versions/a", 3, "")
	binary := make([]byte, secret.ValueMax)
	rand.Read(binary)
	if _, err := s.Put(t.Context(), "versions/a", binary, 2); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), "versions/a", 0)
	if err != nil || !bytes.Equal(got.Value, binary) {
		t.Fatalf("%d bytes, error %v", len(got.Value), err)
	}
}

// destroy: old versions go, the present one stays, and numbers go on.
func destroy(t *testing.T, s secret.Store) {
	name := "destroy/a"
	for was := range uint64(3) {
		Put(t, s, name, fmt.Sprint("value ", was+1), was)
	}
	for range 2 { // the second finds nothing left to do
		if err := s.Destroy(t.Context(), name, 3); err != nil {
			t.Fatal(err)
		}
	}
	Want(t, s, name, 1, "")
	Want(t, s, name, 2, "")
	Want(t, s, name, 0, "value 3")
	if err := s.Destroy(t.Context(), name, 100); err != nil {
		t.Fatal(err)
	}
	Want(t, s, name, 3, "value 3")
	_, err := s.Put(t.Context(), name, []byte("late"), 1)
	wantErr(t, err, secret.ErrChanged)
	Put(t, s, name, "value 4", 3)
	if err := s.Destroy(t.Context(), "destroy/none", 3); err != nil {
		t.Errorf("of a secret that is not there: %v", err)
	}
}

// remove: a deleted secret can be made again.
func remove(t *testing.T, s secret.Store) {
	Put(t, s, "delete/a", "one", 0)
	Put(t, s, "delete/a", "two", 1)
	for range 2 {
		if err := s.Delete(t.Context(), "delete/a"); err != nil {
			t.Fatal(err)
		}
	}
	Want(t, s, "delete/a", 0, "")
	Want(t, s, "delete/a", 1, "")
	Put(t, s, "delete/a", "three", 0)
	Want(t, s, "delete/a", 1, "three")
}

// list: by name, present versions only, no values.
func list(t *testing.T, s secret.Store) {
	for _, name := range []string{"list/b/fleet", "list/a", "list/c", "listless"} {
		Put(t, s, name, "of "+name, 0)
	}
	Put(t, s, "list/a", "again", 1)
	got, err := s.List(t.Context(), "list/")
	if err != nil || len(got) != 3 || got[0].Name != "list/a" || got[0].Version != 2 || got[1].Name != "list/b/fleet" || got[2].Name != "list/c" {
		t.Fatalf("%v, error %v", got, err)
	}
	if got[0].Placed.IsZero() {
		t.Error("no time")
	}
	if got, err := s.List(t.Context(), "nothing/"); err != nil || len(got) != 0 {
		t.Errorf("%v, error %v", got, err)
	}
	all, err := s.List(t.Context(), "")
	if err != nil || len(all) < 4 {
		t.Errorf("%v, error %v", all, err)
	}
}

// refused: names that are none, values that are none.
func refused(t *testing.T, s secret.Store) {
	for _, name := range []string{"", "/", "a/", "/a", "a//b", "../a", "a/../b", ".", "A", "a b", "a\x00", "a%2fb", strings.Repeat("a", secret.NameMax+1)} {
		if _, err := s.Put(t.Context(), name, []byte("x"), 0); err == nil {
			t.Errorf("put under the name %q", name)
		}
		if _, err := s.Get(t.Context(), name, 0); err == nil {
			t.Errorf("got the name %q", name)
		}
	}
	for _, value := range [][]byte{nil, {}, make([]byte, secret.ValueMax+1)} {
		if _, err := s.Put(t.Context(), "refused", value, 0); err == nil {
			t.Errorf("put %d bytes", len(value))
		}
	}
	Want(t, s, "refused", 0, "")
}

// wrapper: what was wrapped before a rotation is unwrapped after it, and no more
// when its version is destroyed.
func wrapper(t *testing.T, s secret.Store) {
	ctx := t.Context()
	w := &secret.Wrapper{Store: s, Name: "wrapper/segments"}
	key := seal.Key(bytes.Repeat([]byte{7}, seal.KeySize))
	wrap := func() []byte {
		wrapped, err := w.Wrap(ctx, "a segment", &key)
		if err != nil || len(wrapped) != secret.WrappedSize || bytes.Contains(wrapped, key[:8]) {
			t.Fatalf("wrapped %x, error %v", wrapped, err)
		}
		return wrapped
	}
	wantKey := func(wrapped []byte) {
		t.Helper()
		if got, err := w.Unwrap(ctx, "a segment", wrapped); err != nil || got != key {
			t.Fatalf("unwrapped %x, error %v", got, err)
		}
	}
	first := wrap()
	wantKey(first)
	if bytes.Equal(first, wrap()) {
		t.Error("two wrappings are equal")
	}
	if err := w.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	second := wrap()
	wantKey(first)
	wantKey(second)
	for i := range second {
		bad := bytes.Clone(second)
		bad[i] ^= 1
		if _, err := w.Unwrap(ctx, "a segment", bad); err == nil {
			t.Errorf("unwrapped with byte %d changed", i)
		}
	}
	other := &secret.Wrapper{Store: s, Name: "wrapper/others"}
	if _, err := other.Wrap(ctx, "a segment", &key); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Unwrap(ctx, "a segment", first); err == nil {
		t.Error("unwrapped under another name")
	}
	if _, err := w.Unwrap(ctx, "another", first); err == nil {
		t.Error("unwrapped for another label")
	}
	if err := s.Destroy(ctx, w.Name, 2); err != nil {
		t.Fatal(err)
	}
	_, err := w.Unwrap(ctx, "a segment", first)
	wantErr(t, err, secret.ErrNone)
	wantKey(second)
}

// oneOfMany: of those who follow one version, one comes through.
func oneOfMany(t *testing.T, stores []secret.Store) {
	for was := range uint64(8) {
		var mu sync.Mutex
		var won []int
		var running sync.WaitGroup
		for i := range 8 {
			running.Go(func() {
				_, err := stores[i%len(stores)].Put(t.Context(), "many", fmt.Appendf(nil, "by %d", i), was)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, i)
				} else if !errors.Is(err, secret.ErrChanged) {
					t.Errorf("after version %d: %v", was, err)
				}
			})
		}
		running.Wait()
		if len(won) != 1 {
			t.Fatalf("%d came through after version %d", len(won), was)
		}
		Want(t, stores[0], "many", was+1, fmt.Sprint("by ", won[0]))
	}
}

// change: no change is lost, and each old version is destroyed meanwhile.
func change(t *testing.T, stores []secret.Store) {
	const each = 8
	var running sync.WaitGroup
	for _, s := range stores {
		running.Go(func() {
			for range each {
				version, err := secret.Change(t.Context(), s, "counted", func(present secret.Secret) ([]byte, error) {
					return append(bytes.Clone(present.Value), 'x'), nil
				})
				if err == nil {
					err = s.Destroy(t.Context(), "counted", version)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	Want(t, stores[0], "counted", 0, strings.Repeat("x", each*len(stores)))
}
