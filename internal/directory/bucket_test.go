package directory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/seal"
)

// hashedNodes are n nodes whose IDs are hashes, as those of the network are,
// over regions in turn.
func hashedNodes(n, regions int) []*Node {
	nodes := testNodes(n*2/5, n-n*2/5)
	for i, node := range nodes {
		node.ID = seal.Hash("test", []byte{byte(i >> 16), byte(i >> 8), byte(i)})
		node.Region = fmt.Sprintf("region-%d", i%regions)
		node.Capacity = uint32(10 + i%90)
	}
	return nodes
}

func TestTableDividesTheNodes(t *testing.T) {
	for _, n := range []int{0, 1, 64, 65, 128, 129, 700} {
		d := testDocument(t, hashedNodes(n, 1))
		count, capacity := 0, [roleCount]uint64{}
		for i, r := range d.Rows() {
			if r.Index != i || 1<<r.Bits != len(d.Rows()) {
				t.Errorf("%d nodes: row %d of %d has index %d of %d bits", n, i, len(d.Rows()), r.Index, r.Bits)
			}
			count += r.Count
			for role, c := range r.Capacity {
				capacity[role] += c
			}
		}
		if rows := len(d.Rows()); count != n || n > 0 && (rows*bucketNodes < n || rows > 1 && n <= rows*bucketNodes/2) {
			t.Errorf("%d nodes: %d of them in %d buckets", n, count, rows)
		}
		want := [roleCount]uint64{}
		for _, node := range d.Nodes {
			for role := range want {
				if node.Roles.Has(1 << role) {
					want[role] += uint64(node.Capacity)
				}
			}
		}
		if capacity != want {
			t.Errorf("%d nodes: capacity %v, not %v", n, capacity, want)
		}
	}
}

// A region that grows splits its buckets, and moves nothing between others.
func TestGrowthSplitsBuckets(t *testing.T) {
	nodes := hashedNodes(200, 1)
	before, after := testDocument(t, slices.Clone(nodes[:128])), testDocument(t, slices.Clone(nodes))
	if b, a := len(before.Rows()), len(after.Rows()); b != 2 || a != 4 {
		t.Fatalf("%d buckets, then %d", b, a)
	}
	for _, n := range before.Nodes {
		if was, is := indexOf(n.ID, 1), indexOf(n.ID, 2); is>>1 != was {
			t.Errorf("node %x went from bucket %d to %d", n.ID[:2], was, is)
		}
	}
}

func TestBucketsAndTableMakeTheDocument(t *testing.T) {
	d := testDocument(t, hashedNodes(500, 3))
	table, err := ParseTable(d.Table())
	if err != nil {
		t.Fatal(err)
	}
	var buckets []*Bucket
	for place := range table.Rows() {
		b, err := ParseBucket(d.Bucket(place), &table.Header)
		if err != nil {
			t.Fatal(err)
		}
		buckets = append(buckets, b)
	}
	whole, err := table.Assemble(buckets)
	if err != nil {
		t.Fatal(err)
	}
	if string(whole.Encode()) != string(d.Encode()) {
		t.Error("another document")
	}
	if _, err := table.Assemble(buckets[1:]); !errors.Is(err, ErrProof) {
		t.Errorf("without a bucket: %v", err)
	}
	buckets[1] = buckets[0]
	if _, err := table.Assemble(buckets); !errors.Is(err, ErrProof) {
		t.Errorf("with a bucket twice: %v", err)
	}
}

func TestBucketRefused(t *testing.T) {
	d := testDocument(t, hashedNodes(300, 2))
	good := func() *Bucket {
		b, err := ParseBucket(d.Bucket(1), &d.Header)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	other := testDocument(t, hashedNodes(301, 2))
	tests := []struct {
		what   string
		change func(*Bucket)
		kind   error
		want   string
	}{
		{"node withheld", func(b *Bucket) { b.entries = b.entries[1:] }, ErrProof, "bucket 1 of"},
		{"node changed", func(b *Bucket) { n := *b.Nodes[2]; n.Capacity++; b.entries[2] = n.Entry() }, ErrProof, "bucket 1 of"},
		{"node of another bucket", func(b *Bucket) { b.entries = append(b.entries, testNode(1<<20, RoleMix).Entry()) }, ErrMalformed, "out of order"},
		{"node of another region", func(b *Bucket) { n := *b.Nodes[0]; n.Region = "region-9"; b.entries = [][]byte{n.Entry()} }, ErrMalformed, "belongs into another"},
		{"nodes swapped", func(b *Bucket) { b.entries[0], b.entries[1] = b.entries[1], b.entries[0] }, ErrMalformed, "node 1 twice or out of order"},
		{"another place", func(b *Bucket) { b.Place = 2 }, ErrProof, "bucket 2 of"},
		{"place outside", func(b *Bucket) { b.Place = 1 << 20 }, ErrProof, "bucket 1048576 of"},
		{"proof cut", func(b *Bucket) { b.proof = b.proof[1:] }, ErrProof, "bucket 1 of"},
		{"proof long", func(b *Bucket) { b.proof = append(b.proof, digest{}) }, ErrProof, "bucket 1 of"},
		{"of another document", func(b *Bucket) { *b = *mustBucket(t, other, 1) }, ErrProof, "bucket 1 of"},
		{"fewer bits", func(b *Bucket) { b.Bits, b.Index = 0, 0 }, ErrProof, "bucket 1 of"},
		{"index too large", func(b *Bucket) { b.Index = 1 << b.Bits }, ErrMalformed, "number"},
		{"region no name", func(b *Bucket) { b.Region = "" }, ErrMalformed, `region ""`},
	}
	for _, tt := range tests {
		b := good()
		tt.change(b)
		_, err := ParseBucket(b.Encode(), &d.Header)
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.what, err, tt.want)
		}
	}
	if _, err := ParseBucket(make([]byte, MaxBucketSize+1), &d.Header); !errors.Is(err, ErrSize) {
		t.Errorf("too large: %v", err)
	}
}

func mustBucket(t *testing.T, d *Document, place int) *Bucket {
	t.Helper()
	b, err := ParseBucket(d.Bucket(place), &d.Header)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTableRefused(t *testing.T) {
	d := testDocument(t, hashedNodes(300, 2))
	tests := []struct {
		what   string
		change func(*Document)
		want   string
	}{
		{"row missing", func(d *Document) { d.rows = d.rows[1:] }, "rows, the header says"},
		{"capacity raised", func(d *Document) { d.rows[1].Capacity[2]++ }, "do not hash to the root"},
		{"rows swapped", func(d *Document) { d.rows[0], d.rows[1] = d.rows[1], d.rows[0] }, "do not hash to the root"},
		{"count raised", func(d *Document) { d.rows[0].Count++ }, "do not hash to the root"},
	}
	for _, tt := range tests {
		changed := *d
		changed.rows = slices.Clone(d.rows)
		tt.change(&changed)
		if _, err := ParseTable(changed.Table()); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.what, err, tt.want)
		}
	}
	if _, err := ParseTable(make([]byte, MaxTableSize+1)); !errors.Is(err, ErrSize) {
		t.Errorf("too large: %v", err)
	}
}

func TestBucketAndTableHaveOneEncoding(t *testing.T) {
	d := fakeSigned(t, 2)
	testOneEncoding(t, d.Table(), func(b []byte) ([]byte, error) {
		d, err := ParseTable(b)
		if err != nil {
			return nil, err
		}
		return d.Table(), nil
	})
	testOneEncoding(t, d.Bucket(0), func(b []byte) ([]byte, error) {
		k, err := ParseBucket(b, &d.Header)
		if err != nil {
			return nil, err
		}
		return k.Encode(), nil
	})
}

// A table is believed for its signatures, as a document is, and one Keeper keeps
// from going back whichever it was shown.
func TestKeeperTakesTables(t *testing.T) {
	a := testAuthorities(t, 2, 3, testDescriptor(t, 1, RoleMix, nil))
	one, two := a.document(t, testEpoch, 0, testWall, 0, 1), a.document(t, testEpoch, 1, testWall, 1, 2)
	k, err := NewKeeper(a.trust, Mark{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.AcceptTable(two.Table(), testWall); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Accept(one.Encode(), testWall); !errors.Is(err, ErrRollback) {
		t.Errorf("an older document after a table: %v", err)
	}
	if _, err := k.AcceptTable(a.document(t, testEpoch, 2, testWall, 0).Table(), testWall); !errors.Is(err, ErrThreshold) {
		t.Errorf("a table that one has signed: %v", err)
	}
	if _, err := k.AcceptTable(two.Table(), testWall+100*hour); !errors.Is(err, ErrExpired) {
		t.Errorf("an old table: %v", err)
	}
}
