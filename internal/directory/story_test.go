package directory

import (
	"bytes"
	"testing"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// Nodes publish, two of three authorities sign, a client verifies and draws.
func TestFromDescriptorsToPath(t *testing.T) {
	var descriptors [][]byte
	for i := range 2 {
		descriptors = append(descriptors, testDescriptor(t, i, RoleEntry|RoleExit, nil))
	}
	for i := range 4 {
		descriptors = append(descriptors, testDescriptor(t, 2+i, RoleMix, nil))
	}
	a := testAuthorities(t, 2, 3, descriptors...)
	first := a.document(t, testEpoch, 0, testWall, 0)
	second := a.document(t, testEpoch, 0, testWall, 1)
	if err := first.Merge(second); err != nil {
		t.Fatal(err)
	}

	k, err := NewKeeper(a.trust, Mark{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := k.Accept(first.Encode(), testWall+10)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d.Encode(), first.Encode()) {
		t.Fatal("the document does not encode as it came")
	}
	v, err := NewView(d)
	if err != nil {
		t.Fatal(err)
	}
	p, err := v.Draw(prng.FromUint64(1).Stream("route"), Request{Level: wire.Standard, Port: 443})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Nodes()) != 5 || !p.Entry().Roles.Has(RoleEntry) || !p.Exit().Roles.Has(RoleExit) {
		t.Fatalf("path of %d nodes from %v to %v", len(p.Nodes()), p.Entry().Roles, p.Exit().Roles)
	}
	for _, n := range p.Nodes() {
		if _, ok := v.Link(n.ID); !ok {
			t.Errorf("no link key for %x", n.ID[:4])
		}
		if _, ok := v.Onion(n.ID, v.EpochNow(testWall)); !ok {
			t.Errorf("no onion key for %x", n.ID[:4])
		}
	}
}
