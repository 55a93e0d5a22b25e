package records_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/records"
	"github.com/nyxnet/nyx/internal/control/records/recordstest"
	"github.com/nyxnet/nyx/internal/engine/cache"
	"github.com/nyxnet/nyx/internal/prng"
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
	if err := records.Add(ctx, store, r, 0); err != nil {
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
	for _, own := range [][]byte{{}, []byte("as it is"), incompressible(), make([]byte, records.StateMax)} {
		for _, plain := range []bool{false, true} {
			writer := records.NewStates(store, local, fleet)
			if writer.Plain = plain; writer.Keep(ctx, r, own, 0) != nil {
				t.Fatalf("%d bytes are not kept", len(own))
			}
			if _, found, err := node.Look(ctx, r.Token, 0); err != nil || found == nil || !bytes.Equal(found, own) {
				t.Errorf("of %d bytes, plain %v: %d are found, error %v", len(own), plain, len(found), err)
			}
		}
	}
	if _, found, err := records.NewStates(store, local, foreign).Look(ctx, r.Token, 0); err != nil || found != nil {
		t.Errorf("another fleet finds %d bytes, error %v", len(found), err)
	}
	other := r
	other.Token[0]++
	if err := records.Add(ctx, store, other, 0); err != nil {
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
	if took, missing := node.Lookups(); took.Count != 10 || missing != 1 {
		t.Errorf("%d look-ups, %d missing", took.Count, missing)
	}
}

// incompressible is a state that nothing makes smaller.
func incompressible() []byte {
	b := make([]byte, 3<<10)
	prng.FromUint64(1).Stream("state").Read(b)
	return b
}

// A state of 3 KiB costs the cache half of that, and one that nothing makes smaller no
// more than itself and what sealing takes.
func TestStatesArePacked(t *testing.T) {
	store, ctx := records.NewMemory(), t.Context()
	r := control.SessionRecord{Token: control.TokenHash{7}, Version: 1, Expires: 3600}
	text := []byte(strings.Repeat(`{"connection":"established","attempts":3,"class":`, 62))
	for _, c := range []struct {
		state []byte
		most  int
	}{{text, len(text) / 2}, {incompressible(), 3<<10 + 33}} {
		kept := &sized{}
		if err := records.NewStates(store, kept, &seal.Key{1}).Keep(ctx, r, c.state, 0); err != nil || kept.size == 0 || kept.size > c.most {
			t.Errorf("%d bytes take %d, error %v", len(c.state), kept.size, err)
		}
	}
}

// sized is a cache that knows how large the last value was.
type sized struct{ size int }

func (*sized) Get(context.Context, string) ([]byte, bool) { return nil, false }

func (s *sized) Set(_ context.Context, _ string, value []byte, _ time.Duration) { s.size = len(value) }
