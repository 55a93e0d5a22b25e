package daemon

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/registry"
)

// faulty is a store whose changes of some entries fail.
type faulty struct {
	registry.Store
	fails func(key string) bool
}

var errFull = errors.New("no space left")

func (f *faulty) Put(ctx context.Context, key string, value []byte, was int64) (int64, error) {
	if f.fails(key) {
		return 0, errFull
	}
	return f.Store.Put(ctx, key, value, was)
}

// startOn starts an authority of a council again on a store.
func (c *council) startOn(i int, s registry.Store) {
	c.Helper()
	if c.all[i] != nil {
		c.stop(i)
	}
	if c.stores == nil {
		c.stores = map[int]registry.Store{}
	}
	c.stores[i] = s
	c.start(i)
}

// TestNothingIsAcknowledgedUnkept: a descriptor that cannot be kept is refused, so
// that its node posts it again; a mark that cannot be kept signs nothing.
func TestNothingIsAcknowledgedUnkept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouncil(t, 1, 1)
		defer c.close()
		var broken atomic.Value
		broken.Store("")
		s := &faulty{registry.NewMemory(nil, nil), func(key string) bool {
			b := broken.Load().(string)
			return b != "" && (key == b || b == "node" && registry.IsDescriptor(key))
		}}
		c.startOn(0, s)
		broken.Store("node")
		if status, _ := c.ask(0, http.MethodPost, descriptorPath, descriptor(t, 0)); status != http.StatusServiceUnavailable {
			t.Errorf("what cannot be kept is answered with %d", status)
		}
		broken.Store("signed")
		c.post(0, 1)
		advance(3 * time.Second)
		if status, _ := c.ask(0, http.MethodGet, documentPath, nil); status != http.StatusServiceUnavailable {
			t.Errorf("a document is out, and nothing of its signature is kept: %d", status)
		}
		broken.Store("")
		advance(time.Minute)
		c.want(present(), 0, 2)
	})
}

// TestStoreOutlivesTheProcess: an authority that restarts on its store has its
// descriptors, and goes on without waiting for its nodes. The control is one
// whose store has forgotten them.
func TestStoreOutlivesTheProcess(t *testing.T) {
	for name, forgets := range map[string]bool{"kept": false, "forgotten": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCouncil(t, 1, 1)
				defer c.close()
				s := registry.NewMemory(nil, nil)
				c.startOn(0, s)
				c.post(0, 1, 2)
				advance(3 * time.Second)
				c.want(present(), 0, 3)
				if forgets {
					r := registry.New(s)
					r.Load(t.Context(), func([]byte) {})
					if err := r.Forget(t.Context(), 1<<62); err != nil {
						t.Fatal(err)
					}
				}
				c.startOn(0, s)
				c.post(3)
				advance(3 * time.Second)
				if forgets {
					c.want(present(), 0, 3)
				} else {
					c.want(present(), 1, 4)
				}
			})
		})
	}
}

// TestTwoProcessesOfOneAuthority: with one store between them, both have what one
// of them was given, serve what one of them made, and sign one document of a
// number. Without it they sign two (the control).
func TestTwoProcessesOfOneAuthority(t *testing.T) {
	for name, shared := range map[string]bool{"one store": true, "two stores": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCouncil(t, 1, 1)
				defer c.close()
				c.stop(0)
				c.signers = append(c.signers, c.signers[0])
				c.dirs, c.all = append(c.dirs, t.TempDir()), append(c.all, nil)
				c.alone = true // they do not ask each other
				s := registry.NewMemory(nil, nil)
				c.startOn(0, s)
				if !shared {
					s = registry.NewMemory(nil, nil)
				}
				c.startOn(1, s)
				post := func(i int, nodes ...int) {
					for _, n := range nodes {
						if status, _ := c.ask(i, http.MethodPost, descriptorPath, descriptor(t, n)); status != http.StatusOK {
							t.Fatalf("node %d: %d", n, status)
						}
					}
				}
				post(0, 0, 1)
				post(1, 2)
				advance(10 * time.Second)
				marks := [2]directory.Mark{c.newest(0), c.newest(1)}
				if conflict := marks[0].Conflicts(marks[1]); conflict == shared || shared && marks[0] != marks[1] {
					t.Errorf("they serve %d.%d and %d.%d, two documents of one number: %v", marks[0].Epoch, marks[0].Revision, marks[1].Epoch, marks[1].Revision, conflict)
				}
				if shared {
					c.want(present(), marks[0].Revision, 3)
				}
			})
		})
	}
}

// TestAChangedByteInTheStoreIsFound: after a restart an authority takes the
// descriptors of the document that it has signed without checking their signatures
// again; one of which a byte was changed meanwhile is not among them, and is
// refused. (Control: without the comparison of digests in directory.ParseKept the
// node stays, in another region.)
func TestAChangedByteInTheStoreIsFound(t *testing.T) {
	for changed, want := range map[bool]int{false: 4, true: 3} {
		synctest.Test(t, func(t *testing.T) {
			c := newCouncil(t, 1, 1)
			defer c.close()
			s := registry.NewMemory(nil, nil)
			c.startOn(0, s)
			c.post(0, 1, 2)
			advance(3 * time.Second)
			c.want(present(), 0, 3)
			if changed {
				c.stop(0)
				var entry registry.Entry
				if _, err := s.List(t.Context(), "node/", func(e registry.Entry) error { entry = e; return nil }); err != nil {
					t.Fatal(err)
				}
				other := bytes.Replace(entry.Value, []byte("region-0"), []byte("region-1"), 1)
				if bytes.Equal(other, entry.Value) {
					t.Fatal("the descriptor names no region")
				}
				if _, err := s.Put(t.Context(), entry.Key, other, entry.Revision); err != nil {
					t.Fatal(err)
				}
			}
			c.startOn(0, s)
			c.post(3)
			advance(3 * time.Second)
			c.want(present(), 1, want)
		})
	}
}
