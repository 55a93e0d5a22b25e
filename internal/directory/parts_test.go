package directory

import (
	"bytes"
	"errors"
	"testing"
)

// TestParts: a document from its table and the nodes of its rows, which other
// documents share.
func TestParts(t *testing.T) {
	d := testDocument(t, testNodes(40, 200))
	table, err := ParseTable(d.Table())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := table.Join(func(place int) ([]byte, error) { return d.Part(place), nil })
	if err != nil || !bytes.Equal(whole.Encode(), d.Encode()) {
		t.Fatalf("not the same document: %v", err)
	}
	other := testNodes(40, 200)
	other[0].Capacity++
	changed, same := testDocument(t, other), 0
	for place := range d.Rows() {
		if bytes.Equal(d.Part(place), changed.Part(place)) {
			same++
		}
	}
	if same != len(d.Rows())-1 || same < 2 {
		t.Errorf("%d of %d parts are the same", same, len(d.Rows()))
	}
	if _, err := table.Join(func(place int) ([]byte, error) { return changed.Part(place), nil }); !errors.Is(err, ErrProof) {
		t.Errorf("the parts of another document: %v", err)
	}
	gone := errors.New("gone")
	if _, err := table.Join(func(int) ([]byte, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
	if _, err := table.Join(func(int) ([]byte, error) { return nil, nil }); err == nil {
		t.Error("a document without its parts")
	}
}

// TestClaim: what a descriptor claims is what it holds when it is verified.
func TestClaim(t *testing.T) {
	b := testDescriptor(t, 1, RoleMix, nil)
	c, err := ParseClaim(b)
	d, verified := ParseDescriptor(b)
	if err != nil || verified != nil || c != (Claim{d.ID, d.Version, d.Digest}) {
		t.Fatalf("%+v, %v, %v", c, err, verified)
	}
	later, twin := c, c
	later.Version++
	later.Digest[0]--
	twin.Digest[31]++
	if c.Newer(c) || !later.Newer(c) || c.Newer(later) || twin.Newer(c) == c.Newer(twin) {
		t.Error("the order of descriptors is none")
	}
	if _, err := ParseClaim(b[:len(b)-1]); err == nil {
		t.Error("a descriptor that is cut off claims something")
	}
}
