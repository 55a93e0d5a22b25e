package daemon

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

// One identity has so many certificates known and no more: the oldest goes, and others
// keep theirs. (Control: without the bound it fills the table, and nobody else comes in.)
func TestOneGuestDoesNotFillTheTable(t *testing.T) {
	greedy, other := []byte("greedy"), []byte("other")
	g := guests{authorities: [][]byte{greedy, other}}
	now := time.Now()
	pin := func(who, i byte) [seal.HashSize]byte { return [seal.HashSize]byte{who, i} }
	admit := func(p [seal.HashSize]byte, identity []byte) {
		t.Helper()
		if err := g.admit(p, identity, now); err != nil {
			t.Fatal(err)
		}
	}
	admit(pin(2, 0), other)
	for i := range byte(3 * guestsEach) {
		admit(pin(1, i), greedy)
	}
	admit(pin(1, 3*guestsEach-1), greedy) // the same again
	if len(g.list) != guestsEach+1 {
		t.Errorf("%d certificates are known, want %d", len(g.list), guestsEach+1)
	}
	for _, c := range []struct {
		pin   [seal.HashSize]byte
		known bool
	}{{pin(2, 0), true}, {pin(1, 3*guestsEach-1), true}, {pin(1, 2*guestsEach), true}, {pin(1, 2*guestsEach-1), false}} {
		if _, known := g.of(c.pin, now); known != c.known {
			t.Errorf("certificate %v: known %v", c.pin[:2], known)
		}
	}
}
