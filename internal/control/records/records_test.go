package records_test

import (
	"bytes"
	"testing"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/records"
	"github.com/nyxnet/nyx/internal/control/records/recordstest"
	"github.com/nyxnet/nyx/internal/engine/cache"
	"github.com/nyxnet/nyx/internal/seal"
)

func TestMemory(t *testing.T) { recordstest.Run(t, records.NewMemory()) }

// Another node of the fleet finds the state of a session; another fleet does not, and
// what a cache has lost or changed is told as lost.
func TestStates(t *testing.T) {
	local, err := cache.NewLocal(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	store, ctx := records.NewMemory(), t.Context()
	fleet, foreign := &seal.Key{1}, &seal.Key{2}
	r := control.SessionRecord{Token: control.TokenHash{7}, Version: 1, Expires: 3600}
	if err := store.Create(ctx, r, 0); err != nil {
		t.Fatal(err)
	}
	state := bytes.Repeat([]byte("state"), 600)
	node := records.NewStates(store, local, fleet)
	if err := node.Keep(ctx, r, state, 0); err != nil {
		t.Fatal(err)
	}
	if got, found, err := records.NewStates(store, local, fleet).Look(ctx, r.Token, 0); err != nil || got != r || !bytes.Equal(found, state) {
		t.Errorf("another node: %+v, %d bytes, error %v", got, len(found), err)
	}
	if _, found, err := records.NewStates(store, local, foreign).Look(ctx, r.Token, 0); err != nil || found != nil {
		t.Errorf("another fleet finds %d bytes, error %v", len(found), err)
	}
	other := r
	other.Token[0]++
	if err := store.Create(ctx, other, 0); err != nil {
		t.Fatal(err)
	}
	if _, found, err := node.Look(ctx, other.Token, 0); err != nil || found != nil {
		t.Errorf("of a session without state: %d bytes, error %v", len(found), err)
	}
	if _, _, err := node.Look(ctx, r.Token, 3600); err == nil {
		t.Error("a session whose time is over is found")
	}
	if err := node.Keep(ctx, r, make([]byte, records.StateMax+1), 0); err == nil {
		t.Error("a state beyond the bound is kept")
	}
	if took, missing := node.Lookups(); took.Count != 2 || missing != 1 {
		t.Errorf("%d look-ups, %d missing", took.Count, missing)
	}
}
