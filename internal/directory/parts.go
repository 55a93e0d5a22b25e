package directory

import (
	"fmt"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Claim is what a descriptor says of itself, unverified.
type Claim struct {
	ID      wire.NodeID
	Version uint64
	Digest  [seal.HashSize]byte
}

// ParseClaim reads what a signed descriptor claims; ParseDescriptor verifies it.
func ParseClaim(b []byte) (Claim, error) {
	d, _, err := parseUnverified(b)
	if err != nil {
		return Claim{}, err
	}
	return Claim{ID: d.ID, Version: d.Version, Digest: d.Digest}, nil
}

// Newer reports whether a descriptor takes the place of another of its node:
// authorities keep the same one of two of one second.
func (c Claim) Newer(o Claim) bool {
	return c.Version > o.Version || c.Version == o.Version && string(c.Digest[:]) > string(o.Digest[:])
}

// Part encodes the nodes of a row: a bucket without a place and a proof, which is
// the same in every document that has a row with this Root. It panics if there is
// no such row.
func (d *Document) Part(place int) []byte {
	from := 0
	for i := range place {
		from += d.rows[i].Count
	}
	r := &d.rows[place]
	b := Bucket{Row: *r, entries: d.entries[from : from+r.Count]}
	return b.Encode()
}

// Join makes the document of a table whole. part returns that of a row that has
// nodes.
func (d *Document) Join(part func(place int) ([]byte, error)) (*Document, error) {
	buckets := make([]*Bucket, len(d.rows))
	for i := range d.rows {
		r := &d.rows[i]
		var w bucketWire
		if r.Count > 0 {
			b, err := part(i)
			if err == nil {
				err = unmarshal("part", b, &w)
			}
			if err != nil {
				return nil, err
			}
		}
		nodes, err := parseEntries(w.Entries)
		if err != nil {
			return nil, err
		}
		if rowOf(r.Region, r.Bits, r.Index, nodes, w.Entries) != *r {
			return nil, fmt.Errorf("%w: part %d is not what the table says", ErrProof, i)
		}
		buckets[i] = &Bucket{Row: *r, Place: i, Nodes: nodes, entries: w.Entries}
	}
	return d.Assemble(buckets)
}
