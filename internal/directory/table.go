package directory

import (
	"fmt"

	"github.com/nyxnet/nyx/internal/seal"
)

// A table is a document without its nodes: the header, the rows of the buckets
// and the signatures. It is some 100 bytes a bucket, and says what each weighs.

type tableWire struct {
	Header     []byte          `cbor:"1,keyasint"`
	Rows       []rowWire       `cbor:"2,keyasint"`
	Signatures []signatureWire `cbor:"3,keyasint"`
}

// Table encodes the document without its nodes.
func (d *Document) Table() []byte {
	w := tableWire{Header: d.header, Signatures: d.signaturesWire()}
	for i := range d.rows {
		w.Rows = append(w.Rows, d.rows[i].wire())
	}
	return marshal(&w)
}

// ParseTable parses what Table returned and checks its form and its root, not
// its signatures: a document without nodes, for Rows, Assemble and NewPartial.
// Nothing of b is kept.
func ParseTable(b []byte) (*Document, error) {
	d, rows, err := parseTableEnvelope(b)
	if err != nil {
		return nil, err
	}
	return d, d.parseRows(rows)
}

func parseTableEnvelope(b []byte) (*Document, []rowWire, error) {
	if len(b) > MaxTableSize {
		return nil, nil, fmt.Errorf("%w: table of %d bytes, not up to %d", ErrSize, len(b), MaxTableSize)
	}
	var w tableWire
	if err := unmarshal("table", b, &w); err != nil {
		return nil, nil, err
	}
	d, err := openEnvelope(w.Header, w.Signatures)
	return d, w.Rows, err
}

// VerifyTable parses a table and checks it as Verify does a document.
func VerifyTable(b []byte, trust *Trust, wall int64) (*Document, error) {
	if err := trust.validate(); err != nil {
		return nil, err
	}
	d, rows, err := parseTableEnvelope(b)
	if err != nil {
		return nil, err
	}
	if err := d.verify(trust, wall); err != nil {
		return nil, err
	}
	return d, d.parseRows(rows)
}

// VerifyTablePast is VerifyTable without regard to time: for who looks back.
func VerifyTablePast(b []byte, trust *Trust) (*Document, error) {
	if err := trust.validate(); err != nil {
		return nil, err
	}
	d, rows, err := parseTableEnvelope(b)
	if err == nil {
		err = d.verifyOrigin(trust)
	}
	if err == nil {
		err = d.parseRows(rows)
	}
	return d, err
}

// parseRows checks the rows against the header. That they divide the regions
// as they must is not checked: it is what the authorities have signed.
func (d *Document) parseRows(rows []rowWire) error {
	if len(rows) != d.Buckets {
		return fmt.Errorf("%w table: %d rows, the header says %d", ErrMalformed, len(rows), d.Buckets)
	}
	d.rows = make([]Row, len(rows))
	for i, w := range rows {
		if len(w.Root) != seal.HashSize || w.Bits > bucketBitsMax || w.Count > MaxNodes {
			return fmt.Errorf("%w table: row %d", ErrMalformed, i)
		}
		d.rows[i] = Row{
			Region: w.Region, Bits: int(w.Bits), Index: int(w.Index), Count: int(w.Count),
			Capacity: [roleCount]uint64{w.Entry, w.Exit, w.Mix, w.Meeting}, Root: digest(w.Root),
		}
	}
	if merkleRoot(d.rowLeaves()) != d.Root {
		return fmt.Errorf("%w table: rows do not hash to the root", ErrMalformed)
	}
	return nil
}

// Assemble returns the whole document of a table and all its buckets, by place.
func (d *Document) Assemble(buckets []*Bucket) (*Document, error) {
	whole := *d
	for i, b := range buckets {
		if i >= len(d.rows) || b == nil || b.Place != i || b.Row != d.rows[i] {
			return nil, fmt.Errorf("%w: bucket %d is not that of the table", ErrProof, i)
		}
		whole.entries = append(whole.entries, b.entries...)
		whole.Nodes = append(whole.Nodes, b.Nodes...)
	}
	if len(buckets) != len(d.rows) || len(whole.Nodes) != d.Count {
		return nil, fmt.Errorf("%w: %d buckets of %d", ErrProof, len(buckets), len(d.rows))
	}
	return &whole, whole.setNodes(whole.Nodes)
}
