package directory

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/nyxnet/nyx/internal/wire"
)

// The nodes of a document stand in buckets: by region, and inside a region by
// the leading bits of their IDs, which are hashes. A region that grows past a
// power of two of buckets splits each in two, and moves no node elsewhere. The
// table of buckets is what the header's root is over, so that a bucket with its
// proof is worth as much as the whole document, and the table alone says what
// every part of the network weighs.

// Row is what the table says of one bucket.
type Row struct {
	Region string
	// Bits is how many leading bits of the ID tell the buckets of the region
	// apart, Index the value of these bits here.
	Bits, Index int
	Count       int
	// Capacity is the sum over the nodes that have a role, by role bit.
	Capacity [roleCount]uint64
	// Root is the Merkle root over the entries.
	Root digest
}

// Bucket is the nodes of one row, with the proof that it is one.
type Bucket struct {
	Row
	// Place is the number of the row in the table.
	Place int
	// Nodes are sorted by ID.
	Nodes []*Node

	entries [][]byte
	proof   []digest
}

type rowWire struct {
	_                         struct{} `cbor:",toarray"`
	Region                    string
	Bits                      uint8
	Index, Count              uint32
	Entry, Exit, Mix, Meeting uint64
	Root                      []byte
}

type bucketWire struct {
	Format  uint64   `cbor:"1,keyasint"`
	Region  string   `cbor:"2,keyasint"`
	Bits    uint8    `cbor:"3,keyasint"`
	Index   uint32   `cbor:"4,keyasint"`
	Place   uint32   `cbor:"5,keyasint"`
	Entries [][]byte `cbor:"6,keyasint"`
	Proof   [][]byte `cbor:"7,keyasint"`
}

// bucketBits is by how many bits of the ID a region of so many nodes is divided:
// by so many that a bucket has half to all of bucketNodes on average.
func bucketBits(nodes int) int { return bits.Len(uint(max(nodes-1, 0)) / bucketNodes) }

// indexOf is the value of the leading bits of an ID.
func indexOf(id wire.NodeID, leading int) int {
	return int(binary.BigEndian.Uint32(id[:4]) >> (32 - leading))
}

// compareEntries is the order of nodes in a document: by region, then by ID.
func compareEntries(a, b *Node) int {
	return cmp.Or(cmp.Compare(a.Region, b.Region), compareID(a.ID, b.ID))
}

// tableOf makes the rows of nodes in the order of a document.
func tableOf(nodes []*Node, entries [][]byte) []Row {
	var rows []Row
	for len(nodes) > 0 {
		region := nodes[0].Region
		n := slices.IndexFunc(nodes, func(n *Node) bool { return n.Region != region })
		if n < 0 {
			n = len(nodes)
		}
		leading := bucketBits(n)
		for index, from := 0, 0; index < 1<<leading; index++ {
			to := from
			for to < n && indexOf(nodes[to].ID, leading) == index {
				to++
			}
			rows = append(rows, rowOf(region, leading, index, nodes[from:to], entries[from:to]))
			from = to
		}
		nodes, entries = nodes[n:], entries[n:]
	}
	return rows
}

func rowOf(region string, leading, index int, nodes []*Node, entries [][]byte) Row {
	r := Row{Region: region, Bits: leading, Index: index, Count: len(nodes), Root: merkleRoot(leavesOf(entries))}
	for _, n := range nodes {
		for role := range r.Capacity {
			if n.Roles.Has(1 << role) {
				r.Capacity[role] += uint64(n.Capacity)
			}
		}
	}
	return r
}

func leavesOf(entries [][]byte) []digest {
	leaves := make([]digest, len(entries))
	for i, e := range entries {
		leaves[i] = leafHash(e)
	}
	return leaves
}

func (r *Row) wire() rowWire {
	return rowWire{
		Region: r.Region, Bits: uint8(r.Bits), Index: uint32(r.Index), Count: uint32(r.Count),
		Entry: r.Capacity[0], Exit: r.Capacity[1], Mix: r.Capacity[2], Meeting: r.Capacity[3], Root: r.Root[:],
	}
}

func (r *Row) leaf() digest {
	w := r.wire()
	return rowHash(marshal(&w))
}

func rowLeaves(rows []Row) []digest {
	leaves := make([]digest, len(rows))
	for i := range rows {
		leaves[i] = rows[i].leaf()
	}
	return leaves
}

// Rows returns the table of buckets, which is shared: do not change it.
func (d *Document) Rows() []Row { return d.rows }

// Bucket encodes the bucket of a row, with its proof. The document has its
// nodes. It panics if there is no such row.
func (d *Document) Bucket(place int) []byte {
	from := 0
	for i := range place {
		from += d.rows[i].Count
	}
	r := &d.rows[place]
	b := Bucket{Row: *r, Place: place, entries: d.entries[from : from+r.Count], proof: prove(nil, d.rowLeaves(), place)}
	return b.Encode()
}

// rowLeaves remembers the leaves of the table, for the proofs of many buckets.
func (d *Document) rowLeaves() []digest {
	if d.leaves == nil {
		d.leaves = rowLeaves(d.rows)
	}
	return d.leaves
}

// Encode returns the bucket as it was parsed.
func (b *Bucket) Encode() []byte {
	w := bucketWire{Format: DocumentFormat, Region: b.Region, Bits: uint8(b.Bits), Index: uint32(b.Index), Place: uint32(b.Place), Entries: b.entries}
	for i := range b.proof {
		w.Proof = append(w.Proof, b.proof[i][:])
	}
	return marshal(&w)
}

// ParseBucket parses a bucket and checks its form, its order, and that it is
// the one at its place under the header's root. Who served it need not be
// trusted. Nothing of b is kept.
func ParseBucket(b []byte, h *Header) (*Bucket, error) {
	if len(b) > MaxBucketSize {
		return nil, fmt.Errorf("%w: bucket of %d bytes, not up to %d", ErrSize, len(b), MaxBucketSize)
	}
	var w bucketWire
	if err := unmarshal("bucket", b, &w); err != nil {
		return nil, err
	}
	switch {
	case w.Format != DocumentFormat || !validName(w.Region):
		return nil, fmt.Errorf("%w bucket: format %d, region %q", ErrMalformed, w.Format, w.Region)
	case w.Bits > bucketBitsMax || w.Index >= 1<<w.Bits:
		return nil, fmt.Errorf("%w bucket: number %d of %d bits", ErrMalformed, w.Index, w.Bits)
	}
	nodes, err := parseEntries(w.Entries)
	if err != nil {
		return nil, err
	}
	for i, n := range nodes {
		if n.Region != w.Region || indexOf(n.ID, int(w.Bits)) != int(w.Index) {
			return nil, fmt.Errorf("%w bucket: node %d belongs into another", ErrMalformed, i)
		}
	}
	out := &Bucket{
		Row:   rowOf(w.Region, int(w.Bits), int(w.Index), nodes, w.Entries),
		Place: int(w.Place), Nodes: nodes, entries: w.Entries,
	}
	for _, p := range w.Proof {
		if len(p) != len(digest{}) {
			return nil, fmt.Errorf("%w bucket: hash of %d bytes", ErrMalformed, len(p))
		}
		out.proof = append(out.proof, digest(p))
	}
	return out, verifyProof(h.Root, out.leaf(), out.Place, h.Buckets, out.proof)
}

// parseEntries parses entries and checks their order.
func parseEntries(entries [][]byte) ([]*Node, error) {
	nodes := make([]*Node, 0, len(entries))
	for i, e := range entries {
		n, err := ParseEntry(e)
		if err != nil {
			return nil, fmt.Errorf("node %d: %w", i, err)
		}
		if i > 0 && compareEntries(nodes[i-1], n) >= 0 {
			return nil, fmt.Errorf("%w: node %d twice or out of order", ErrMalformed, i)
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}
