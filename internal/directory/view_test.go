package directory

import (
	"testing"

	"github.com/nyxnet/nyx/internal/wire"
)

func TestViewNodes(t *testing.T) {
	v := testView(t, testNodes(2, 3))
	if v.Len() != 5 || v.Epoch() != testEpoch || v.Document().Count != 5 {
		t.Errorf("%d nodes, epoch %d", v.Len(), v.Epoch())
	}
	for i := range v.Len() {
		n, ok := v.Node(v.At(i).ID)
		if !ok || n != v.At(i) {
			t.Errorf("node %d is not found by its ID", i)
		}
	}
	if _, ok := v.Node(id(99)); ok {
		t.Error("found a node that is not there")
	}
	if _, ok := v.Link(id(99)); ok {
		t.Error("found the link key of a node that is not there")
	}
	if _, ok := v.Onion(id(99), testEpoch); ok {
		t.Error("found the onion key of a node that is not there")
	}
}

func TestViewOnion(t *testing.T) {
	n := testNode(0, RoleMix)
	current, next := testKEM(t, 1), testKEM(t, 2)
	n.Onion = []OnionKey{{Epoch: testEpoch, Key: current}, {Epoch: testEpoch + 24, Key: next}}
	v := testView(t, []*Node{n})
	tests := []struct {
		epoch uint64
		want  []byte
	}{
		{testEpoch - 1, nil}, {testEpoch, current}, {testEpoch + 23, current}, {testEpoch + 24, next}, {testEpoch + 90, next},
	}
	for range 2 { // the second time from memory
		for _, tt := range tests {
			k, ok := v.Onion(n.ID, tt.epoch)
			if ok != (tt.want != nil) || ok && string(k.Bytes()) != string(tt.want) {
				t.Errorf("epoch %d: wrong key", tt.epoch)
			}
		}
	}
	first, _ := v.Onion(n.ID, testEpoch)
	again, _ := v.Onion(n.ID, testEpoch+1)
	if first != again {
		t.Error("the key was parsed twice")
	}
	link, ok := v.Clone().Link(n.ID)
	if !ok || link == nil {
		t.Error("a clone has no link key")
	}
}

// The epoch to use follows the clock as far as the document reaches.
func TestEpochNow(t *testing.T) {
	v := testView(t, testNodes(2, 3))
	for wall, want := range map[int64]uint64{
		0: testEpoch - 1, testWall - 1: testEpoch - 1, testWall: testEpoch, testWall + hour: testEpoch + 1,
		testWall + 100*hour: testEpoch + 3,
	} {
		if got := v.EpochNow(wall); got != want {
			t.Errorf("second %d: epoch %d, want %d", wall-testWall, got, want)
		}
	}
	v.doc.floor = testWall + 1
	if got := v.EpochNow(0); got != testEpoch {
		t.Errorf("a clock at 1970 gives epoch %d in spite of the signatures", got)
	}
}

func TestKeyCacheIsBounded(t *testing.T) {
	key := testKEM(t, 1)
	var c keyCache
	for i := range keyCacheMax + 10 {
		if _, ok := c.parse(keyName{epoch: uint64(i)}, key); !ok {
			t.Fatal("key refused")
		}
	}
	if len(c.parsed) != keyCacheMax || len(c.ring) != keyCacheMax {
		t.Errorf("%d keys, %d in the ring", len(c.parsed), len(c.ring))
	}
	for i := range 10 {
		if _, ok := c.parsed[keyName{epoch: uint64(i)}]; ok {
			t.Errorf("the old key %d is still there", i)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	n := testNode(0, RoleMix)
	n.Onion[0].Key = testKEM(t, 1)
	v := testView(t, []*Node{n})
	var node wire.NodeID = n.ID
	v.Onion(node, testEpoch)
	if a := testing.AllocsPerRun(100, func() { v.Onion(node, testEpoch); v.Node(node) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}
