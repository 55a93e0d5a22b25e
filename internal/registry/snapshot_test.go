package registry_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/storetest"
)

// TestSnapshot: a store that is restored from a snapshot has the descriptors and
// the documents, and signs nothing that may have been signed since.
func TestSnapshot(t *testing.T) {
	ctx := t.Context()
	n, s := storetest.NewNetwork(t), registry.NewMemory(nil, nil)
	r := registry.New(s)
	var all [][]byte
	for i := range 6 {
		all = append(all, n.Descriptor(t, i, 1))
		if err := r.Keep(ctx, all[i]); err != nil {
			t.Fatal(err)
		}
	}
	d := n.Document(t, 1, all...)
	if _, err := r.Sign(ctx, d.Mark()); err != nil {
		t.Fatal(err)
	}
	if err := r.Publish(ctx, d); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	entries, sum, err := registry.Snapshot(ctx, s, &file)
	if err != nil || entries != 6+1+1+len(d.Rows()) {
		t.Fatalf("%d entries, %v", entries, err)
	}
	if n, again, err := registry.Verify(bytes.NewReader(file.Bytes())); err != nil || n != entries || again != sum {
		t.Fatalf("%d entries verified, hash %x and %x: %v", n, again, sum, err)
	}
	later := directory.Mark{Epoch: n.Epoch + 2, Revision: math.MaxUint32}
	fresh := registry.NewMemory(nil, nil)
	if n, err := registry.Restore(ctx, fresh, bytes.NewReader(file.Bytes()), later); err != nil || n != entries {
		t.Fatalf("%d entries restored: %v", n, err)
	}
	again := registry.New(fresh)
	kept := 0
	if _, err := again.Load(ctx, func([]byte) { kept++ }); err != nil || kept != 6 {
		t.Errorf("%d descriptors: %v", kept, err)
	}
	if got, why, err := again.Published(ctx, &n.Trust, n.Wall); err != nil || got == nil || got.Mark() != d.Mark() {
		t.Errorf("the document is not there: %v, %v", why, err)
	}
	since := directory.Mark{Epoch: n.Epoch + 1, Revision: 7}
	if _, err := again.Sign(ctx, since); !errors.Is(err, directory.ErrConflict) {
		t.Errorf("what may have been signed since is signed again: %v", err)
	}
	if _, err := again.Sign(ctx, directory.Mark{Epoch: later.Epoch + 1}); err != nil {
		t.Errorf("the next epoch: %v", err)
	}
	if _, err := registry.Restore(ctx, fresh, bytes.NewReader(file.Bytes()), later); !errors.Is(err, registry.ErrNotEmpty) {
		t.Errorf("restored over what is there: %v", err)
	}
}

// TestSnapshotIsVerified: every cut and every changed bit is found.
func TestSnapshotIsVerified(t *testing.T) {
	s := registry.NewMemory(nil, nil)
	storetest.Put(t, s, "a", "one", 0)
	storetest.Put(t, s, "b/c", "", 0)
	var file bytes.Buffer
	if _, _, err := registry.Snapshot(t.Context(), s, &file); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	refused := func(what string, at int, b []byte) {
		t.Helper()
		if _, _, err := registry.Verify(bytes.NewReader(b)); !errors.Is(err, registry.ErrSnapshot) {
			t.Errorf("%s at %d: %v", what, at, err)
		}
	}
	for i := range whole {
		refused("cut", i, whole[:i])
		for bit := range 8 {
			changed := bytes.Clone(whole)
			changed[i] ^= 1 << bit
			refused("changed", i, changed)
		}
	}
	refused("longer", len(whole), append(bytes.Clone(whole), 0))
}

// TestRestoreEndsWithAnError: when the store fails, and when ctx ends.
func TestRestoreEndsWithAnError(t *testing.T) {
	s := registry.NewMemory(nil, nil)
	for i := range 500 {
		storetest.Put(t, s, string(rune('a'+i%26))+string(rune('a'+i/26)), "value", 0)
	}
	var file bytes.Buffer
	if _, _, err := registry.Snapshot(t.Context(), s, &file); err != nil {
		t.Fatal(err)
	}
	full, n := errors.New("disk full"), 0
	failing := registry.NewMemory(nil, func(registry.Entry) error {
		if n++; n > 100 {
			return full
		}
		return nil
	})
	if _, err := registry.Restore(t.Context(), failing, bytes.NewReader(file.Bytes()), directory.Mark{Epoch: 1}); !errors.Is(err, full) {
		t.Errorf("error %v of a full disk", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := registry.Restore(ctx, registry.NewMemory(nil, nil), bytes.NewReader(file.Bytes()), directory.Mark{Epoch: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v after the end", err)
	}
}
