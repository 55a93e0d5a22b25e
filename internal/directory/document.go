package directory

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Document is what the network is during one epoch, with the signatures of
// authorities on it. It says nothing about whether they are valid: Verify
// does. Do not change a Document; Merge and Authority.Sign alone add to it.
type Document struct {
	Header
	// Nodes are sorted by ID.
	Nodes []*Node

	header     []byte
	rows       []Row
	leaves     []digest // of rows, once they are needed
	entries    [][]byte // by region, then by ID
	signatures []Signature
	floor      int64 // seconds since 1970 that have passed, see Now
}

// Header is the part of a document that is signed. It binds the table of
// buckets by the Merkle root, and the table binds the nodes.
type Header struct {
	Network string
	// Epoch numbers the document; Revision orders documents of one epoch.
	Epoch    uint64
	Revision uint32
	// ValidFrom and ValidUntil are seconds since 1970; the end is excluded.
	ValidFrom, ValidUntil int64
	Params                Params
	// Threshold of Authorities must sign.
	Threshold, Authorities int
	// Count is the number of nodes, Buckets that of the rows of the table, and
	// Root the Merkle root over these.
	Count, Buckets int
	Root           [seal.HashSize]byte
}

// Params are what all parts of the network must agree on.
type Params struct {
	// EpochLength is the length of an epoch, in whole seconds. Epoch numbers
	// count from 1970 in this unit. Zero means DefaultEpochLength.
	EpochLength time.Duration
	// OnionEpochs is how many epochs an onion key is used. Zero means
	// DefaultOnionEpochs. Route keys become forward secret when the key that
	// set them up is gone: after OnionEpochs × EpochLength and the grace.
	OnionEpochs uint32
	// ValidEpochs is for how many epochs from its own a document is valid, so
	// that the network outlives a silence of its authorities. Zero means
	// DefaultValidEpochs.
	ValidEpochs uint32
	// Named are further parameters, sorted by name.
	Named []Param
}

// Param is a named parameter.
type Param struct {
	Name  string
	Value int64
}

// ParamCapacityMax names the parameter that bounds the capacity of a node in
// documents: what a node may claim of all paths.
const ParamCapacityMax = "capacity-max"

// Defaults of the parameters.
const (
	DefaultEpochLength = time.Hour
	DefaultOnionEpochs = 24
	DefaultValidEpochs = 3
)

// Limits of the parameters: an epoch is seconds to a month, and no product of
// them leaves the range of time.
const (
	epochLengthMin = time.Second
	epochLengthMax = 31 * 24 * time.Hour
	epochsMax      = 1 << 16
	epochMax       = 1 << 40
)

func (p Params) withDefaults() Params {
	if p.EpochLength == 0 {
		p.EpochLength = DefaultEpochLength
	}
	if p.OnionEpochs == 0 {
		p.OnionEpochs = DefaultOnionEpochs
	}
	if p.ValidEpochs == 0 {
		p.ValidEpochs = DefaultValidEpochs
	}
	return p
}

// EpochAt returns the epoch of a second since 1970; 0 before 1970.
func (p Params) EpochAt(unix int64) uint64 {
	if unix < 0 {
		return 0
	}
	return uint64(unix) / p.seconds()
}

// Begin returns the first second of an epoch.
func (p Params) Begin(epoch uint64) int64 {
	return int64(min(epoch, epochMax) * p.seconds())
}

// OnionFrom returns the first epoch of the onion key period that holds epoch.
// Nodes rotate at these epochs.
func (p Params) OnionFrom(epoch uint64) uint64 {
	return epoch - epoch%uint64(p.withDefaults().OnionEpochs)
}

// OnionUntil returns the epoch at which the next onion key becomes the present one.
func (p Params) OnionUntil(epoch uint64) uint64 {
	return p.OnionFrom(epoch) + uint64(p.withDefaults().OnionEpochs)
}

func (p Params) seconds() uint64 {
	return uint64(max(p.withDefaults().EpochLength/time.Second, 1))
}

// Value returns a named parameter.
func (p Params) Value(name string) (int64, bool) {
	i, found := slices.BinarySearchFunc(p.Named, name, func(a Param, name string) int {
		return cmp.Compare(a.Name, name)
	})
	if !found {
		return 0, false
	}
	return p.Named[i].Value, true
}

func (p *Params) check() error {
	switch {
	case p.EpochLength < epochLengthMin || p.EpochLength > epochLengthMax || p.EpochLength%time.Second != 0:
		return fmt.Errorf("epoch length %v, not whole seconds from %v to %v", p.EpochLength, epochLengthMin, epochLengthMax)
	case p.OnionEpochs == 0 || p.OnionEpochs > epochsMax:
		return fmt.Errorf("onion keys for %d epochs, not 1 to %d", p.OnionEpochs, epochsMax)
	case p.ValidEpochs == 0 || p.ValidEpochs > epochsMax:
		return fmt.Errorf("valid for %d epochs, not 1 to %d", p.ValidEpochs, epochsMax)
	case len(p.Named) > MaxParams:
		return fmt.Errorf("%d parameters, not up to %d", len(p.Named), MaxParams)
	}
	for i, v := range p.Named {
		if !validName(v.Name) {
			return fmt.Errorf("parameter %q: %s", v.Name, nameRule)
		}
		if i > 0 && p.Named[i-1].Name >= v.Name {
			return fmt.Errorf("parameter %q out of order", v.Name)
		}
	}
	return nil
}

// Signature is one authority's signature on a document.
type Signature struct {
	// Authority is AuthorityID of the signing key.
	Authority [seal.HashSize]byte
	// Time is the second since 1970 at which it signed.
	Time int64
	// Bytes is the hybrid signature over Time and the header.
	Bytes []byte
}

// AuthorityID names an authority: the hash of its public signing key.
func AuthorityID(public []byte) [seal.HashSize]byte { return seal.Hash("authority id", public) }

type headerWire struct {
	Format      uint64      `cbor:"1,keyasint"`
	Network     string      `cbor:"2,keyasint"`
	Epoch       uint64      `cbor:"3,keyasint"`
	Revision    uint32      `cbor:"4,keyasint"`
	From        int64       `cbor:"5,keyasint"`
	Until       int64       `cbor:"6,keyasint"`
	EpochLength uint32      `cbor:"7,keyasint"`
	OnionEpochs uint32      `cbor:"8,keyasint"`
	ValidEpochs uint32      `cbor:"9,keyasint"`
	Named       []paramWire `cbor:"10,keyasint"`
	Threshold   uint8       `cbor:"11,keyasint"`
	Authorities uint8       `cbor:"12,keyasint"`
	Count       uint32      `cbor:"13,keyasint"`
	Root        []byte      `cbor:"14,keyasint"`
	Buckets     uint32      `cbor:"15,keyasint"`
}

type paramWire struct {
	_     struct{} `cbor:",toarray"`
	Name  string
	Value int64
}

type documentWire struct {
	Header     []byte          `cbor:"1,keyasint"`
	Entries    [][]byte        `cbor:"2,keyasint"`
	Signatures []signatureWire `cbor:"3,keyasint"`
}

type signatureWire struct {
	_         struct{} `cbor:",toarray"`
	Authority []byte
	Time      int64
	Bytes     []byte
}

func (h *Header) encode() []byte {
	w := headerWire{
		Format: DocumentFormat, Network: h.Network, Epoch: h.Epoch, Revision: h.Revision,
		From: h.ValidFrom, Until: h.ValidUntil,
		EpochLength: uint32(h.Params.EpochLength / time.Second),
		OnionEpochs: h.Params.OnionEpochs, ValidEpochs: h.Params.ValidEpochs,
		Threshold: uint8(h.Threshold), Authorities: uint8(h.Authorities),
		Count: uint32(h.Count), Root: h.Root[:], Buckets: uint32(h.Buckets),
	}
	for _, p := range h.Params.Named {
		w.Named = append(w.Named, paramWire{Name: p.Name, Value: p.Value})
	}
	return marshal(&w)
}

func parseHeader(b []byte) (h Header, err error) {
	var w headerWire
	if err := unmarshal("header", b, &w); err != nil {
		return h, err
	}
	if w.Format != DocumentFormat {
		return h, fmt.Errorf("%w header: format %d is not known here; a newer version of the program may read it", ErrMalformed, w.Format)
	}
	if len(w.Root) != seal.HashSize || w.Count > MaxNodes || w.Buckets > MaxBuckets {
		return h, fmt.Errorf("%w header: root of %d bytes over %d nodes in %d buckets", ErrMalformed, len(w.Root), w.Count, w.Buckets)
	}
	h = Header{
		Network: w.Network, Epoch: w.Epoch, Revision: w.Revision,
		ValidFrom: w.From, ValidUntil: w.Until,
		Params: Params{
			EpochLength: time.Duration(w.EpochLength) * time.Second,
			OnionEpochs: w.OnionEpochs, ValidEpochs: w.ValidEpochs,
		},
		Threshold: int(w.Threshold), Authorities: int(w.Authorities),
		Count: int(w.Count), Buckets: int(w.Buckets), Root: digest(w.Root),
	}
	for _, p := range w.Named {
		h.Params.Named = append(h.Params.Named, Param{Name: p.Name, Value: p.Value})
	}
	if err := h.check(); err != nil {
		return h, fmt.Errorf("%w header: %v", ErrMalformed, err)
	}
	return h, nil
}

func (h *Header) check() error {
	if err := h.Params.check(); err != nil {
		return err
	}
	switch {
	case !validName(h.Network):
		return fmt.Errorf("network %q: %s", h.Network, nameRule)
	case h.Epoch > epochMax:
		return fmt.Errorf("epoch %d above %d", h.Epoch, uint64(epochMax))
	case h.Authorities < 1 || h.Authorities > MaxAuthorities || h.Threshold < 1 || h.Threshold > h.Authorities:
		return fmt.Errorf("threshold %d of %d authorities", h.Threshold, h.Authorities)
	case h.ValidFrom != h.Params.Begin(h.Epoch) || h.ValidUntil != h.Params.Begin(h.Epoch+uint64(h.Params.ValidEpochs)):
		return fmt.Errorf("validity %d to %d is not that of epoch %d", h.ValidFrom, h.ValidUntil, h.Epoch)
	}
	return nil
}

// Encode returns the document with its signatures.
func (d *Document) Encode() []byte {
	return marshal(&documentWire{Header: d.header, Entries: d.entries, Signatures: d.signaturesWire()})
}

func (d *Document) signaturesWire() (out []signatureWire) {
	for i := range d.signatures {
		s := &d.signatures[i]
		out = append(out, signatureWire{Authority: s.Authority[:], Time: s.Time, Bytes: s.Bytes})
	}
	return out
}

// Proposal returns the header and the signatures: what authorities show each
// other. The entries are left out, since who signs has built them itself.
func (d *Document) Proposal() []byte {
	return (&Document{header: d.header, signatures: d.signatures}).Encode()
}

// ParseProposal parses what Proposal returned: a document without nodes, to be
// signed or merged. Nothing of b is kept.
func ParseProposal(b []byte) (*Document, error) {
	if len(b) > MaxProposalSize {
		return nil, fmt.Errorf("%w: proposal of %d bytes, not up to %d", ErrSize, len(b), MaxProposalSize)
	}
	d, err := parseEnvelope(b)
	if err == nil && len(d.entries) > 0 {
		err = fmt.Errorf("%w proposal: it brings %d nodes", ErrMalformed, len(d.entries))
	}
	return d, err
}

// Signatures returns the signatures that the document carries, valid or not,
// sorted by authority.
func (d *Document) Signatures() []Signature { return slices.Clone(d.signatures) }

// Hash names the document, whatever signatures it carries.
func (d *Document) Hash() [seal.HashSize]byte { return seal.Hash("directory header", d.header) }

// ParseDocument parses a document and checks its form, its order and its
// Merkle root, not its signatures. Nothing of b is kept.
func ParseDocument(b []byte) (*Document, error) {
	d, err := parseEnvelope(b)
	if err != nil {
		return nil, err
	}
	return d, d.parseNodes()
}

// parseEnvelope reads header and signatures and leaves the entries as bytes:
// the signatures are checked before the nodes are looked at.
func parseEnvelope(b []byte) (*Document, error) {
	if len(b) > MaxDocumentSize {
		return nil, fmt.Errorf("%w: document of %d bytes, not up to %d", ErrSize, len(b), MaxDocumentSize)
	}
	var w documentWire
	if err := unmarshal("document", b, &w); err != nil {
		return nil, err
	}
	d, err := openEnvelope(w.Header, w.Signatures)
	if err != nil {
		return nil, err
	}
	d.entries = w.Entries
	return d, nil
}

// openEnvelope reads the header and the signatures of a document or table.
func openEnvelope(header []byte, signatures []signatureWire) (*Document, error) {
	h, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	d := &Document{Header: h, header: header}
	if len(signatures) > MaxAuthorities {
		return nil, fmt.Errorf("%w document: %d signatures, not up to %d", ErrMalformed, len(signatures), MaxAuthorities)
	}
	for i, s := range signatures {
		if len(s.Authority) != seal.HashSize || len(s.Bytes) != seal.SignatureSize || s.Time < 0 {
			return nil, fmt.Errorf("%w document: signature %d: wrong size or time", ErrMalformed, i)
		}
		if i > 0 && bytes.Compare(signatures[i-1].Authority, s.Authority) >= 0 {
			return nil, fmt.Errorf("%w document: signature %d: authority twice or out of order", ErrMalformed, i)
		}
		d.signatures = append(d.signatures, Signature{Authority: digest(s.Authority), Time: s.Time, Bytes: s.Bytes})
	}
	return d, nil
}

// parseNodes checks the entries against the header and parses them.
func (d *Document) parseNodes() error {
	if len(d.entries) != d.Count {
		return fmt.Errorf("%w document: %d nodes, the header says %d", ErrMalformed, len(d.entries), d.Count)
	}
	nodes, err := parseEntries(d.entries)
	if err != nil {
		return err
	}
	if d.rows = tableOf(nodes, d.entries); len(d.rows) != d.Buckets || merkleRoot(d.rowLeaves()) != d.Root {
		return fmt.Errorf("%w document: nodes do not hash to the root", ErrMalformed)
	}
	return d.setNodes(nodes)
}

// setNodes sorts the nodes by ID.
func (d *Document) setNodes(nodes []*Node) error {
	slices.SortFunc(nodes, func(a, b *Node) int { return compareID(a.ID, b.ID) })
	for i := 1; i < len(nodes); i++ {
		if nodes[i-1].ID == nodes[i].ID {
			return fmt.Errorf("%w document: node %x in two regions", ErrMalformed, nodes[i].ID[:4])
		}
	}
	d.Nodes = nodes
	return nil
}

// Now puts a late clock right: the times of signing that Verify believed have
// passed, whatever wall says. Both in seconds since 1970.
func (d *Document) Now(wall int64) int64 { return max(wall, d.floor) }

// Age is for how long a verified document has been signed by its threshold, by a
// clock that says wall.
func (d *Document) Age(wall int64) time.Duration { return seconds(d.Now(wall) - d.floor) }

// newDocument seals a header over nodes that are checked. It takes the slice.
func newDocument(h Header, nodes []*Node) (*Document, error) {
	if len(nodes) > MaxNodes {
		return nil, fmt.Errorf("%w: %d nodes, not up to %d", ErrFull, len(nodes), MaxNodes)
	}
	d := &Document{Header: h}
	slices.SortFunc(nodes, compareEntries)
	for _, n := range nodes {
		d.entries = append(d.entries, n.Entry())
	}
	d.rows = tableOf(nodes, d.entries)
	d.Count, d.Buckets, d.Root = len(nodes), len(d.rows), merkleRoot(d.rowLeaves())
	if err := d.Header.check(); err != nil {
		return nil, fmt.Errorf("%w header: %v", ErrMalformed, err)
	}
	d.header = d.Header.encode()
	return d, d.setNodes(nodes)
}

// signed returns what an authority signs: its time and the header.
func signed(time int64, header []byte) []byte {
	b := make([]byte, 0, 8+len(header))
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(uint64(time)>>shift))
	}
	return append(b, header...)
}

// Merge adds the signatures of other to d, both being the same document. Of
// two signatures of one authority the later stays.
func (d *Document) Merge(other *Document) error {
	if !bytes.Equal(d.header, other.header) {
		return fmt.Errorf("%w: epoch %d revision %d, and epoch %d revision %d", ErrConflict, d.Epoch, d.Revision, other.Epoch, other.Revision)
	}
	for _, s := range other.signatures {
		d.addSignature(s)
	}
	return nil
}

func (d *Document) addSignature(s Signature) {
	i, found := slices.BinarySearchFunc(d.signatures, s, func(a, b Signature) int {
		return bytes.Compare(a.Authority[:], b.Authority[:])
	})
	switch {
	case !found:
		d.signatures = slices.Insert(d.signatures, i, s)
	case d.signatures[i].Time < s.Time:
		d.signatures[i] = s
	}
}

func compareID(a, b wire.NodeID) int { return bytes.Compare(a[:], b[:]) }
