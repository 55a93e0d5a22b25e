package directory

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/fxamacker/cbor/v2"

	"github.com/nyxnet/nyx/internal/wire"
)

// Every value has one encoding: CBOR core deterministic (RFC 8949, section
// 4.2.1), maps with small integer keys, every key present. A decoder reads
// strictly, then encodes again and compares: what does not come out as it went
// in is refused, whatever the reason.

var encoding = mustEncMode(cbor.EncOptions{
	Sort:          cbor.SortCoreDeterministic,
	IndefLength:   cbor.IndefLengthForbidden,
	TagsMd:        cbor.TagsForbidden,
	NilContainers: cbor.NilContainerAsEmpty,
	ShortestFloat: cbor.ShortestFloat16,
	Time:          cbor.TimeUnix,
	OmitEmpty:     cbor.OmitEmptyCBORValue,
})

var decoding = mustDecMode(cbor.DecOptions{
	DupMapKey:         cbor.DupMapKeyEnforcedAPF,
	IndefLength:       cbor.IndefLengthForbidden,
	TagsMd:            cbor.TagsForbidden,
	ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	UTF8:              cbor.UTF8RejectInvalid,
	FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	MaxNestedLevels:   4,
	MaxArrayElements:  MaxNodes,
	MaxMapPairs:       16,
})

func mustEncMode(o cbor.EncOptions) cbor.EncMode {
	m, err := o.EncMode()
	if err != nil {
		panic("directory: CBOR encoding options: " + err.Error())
	}
	return m
}

func mustDecMode(o cbor.DecOptions) cbor.DecMode {
	m, err := o.DecMode()
	if err != nil {
		panic("directory: CBOR decoding options: " + err.Error())
	}
	return m
}

// marshal encodes one of the structs of this package, which cannot fail.
func marshal(v any) []byte {
	b, err := encoding.Marshal(v)
	if err != nil {
		panic("directory: CBOR: " + err.Error())
	}
	return b
}

// unmarshal decodes b into v and refuses every encoding but the one.
func unmarshal(what string, b []byte, v any) error {
	if err := decoding.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w %s: %v", ErrMalformed, what, err)
	}
	if !bytes.Equal(marshal(v), b) {
		return fmt.Errorf("%w %s: not in canonical form", ErrMalformed, what)
	}
	return nil
}

// facts is the part that descriptor and document entry have in common.
type facts struct {
	Version      uint64      `cbor:"3,keyasint"`
	Roles        uint8       `cbor:"4,keyasint"`
	Addrs        [][]byte    `cbor:"5,keyasint"`
	Operator     string      `cbor:"6,keyasint"`
	Region       string      `cbor:"7,keyasint"`
	Label        string      `cbor:"8,keyasint"`
	Link         []byte      `cbor:"9,keyasint"`
	Onion        []onionWire `cbor:"10,keyasint"`
	Capacity     uint32      `cbor:"11,keyasint"`
	Capabilities uint64      `cbor:"12,keyasint"`
	Exit         exitWire    `cbor:"13,keyasint"`
	// Carriers make format 2 of format 1: without any the key is absent.
	Carriers []carrierWire `cbor:"15,keyasint,omitempty"`
}

// format is the format that the facts stand in. One node has one encoding.
func (f *facts) format() uint64 {
	if len(f.Carriers) > 0 {
		return FormatCarriers
	}
	return Format
}

type onionWire struct {
	_     struct{} `cbor:",toarray"`
	Epoch uint64
	Key   []byte
}

type exitWire struct {
	_       struct{} `cbor:",toarray"`
	Private bool
	Ports   []portsWire
}

type portsWire struct {
	_           struct{} `cbor:",toarray"`
	First, Last uint16
}

// entryWire is a node in a document.
type entryWire struct {
	Format uint64 `cbor:"1,keyasint"`
	ID     []byte `cbor:"2,keyasint"`
	facts
	Digest []byte `cbor:"14,keyasint"`
}

// bodyWire is what a node signs.
type bodyWire struct {
	Format   uint64 `cbor:"1,keyasint"`
	Identity []byte `cbor:"2,keyasint"`
	facts
	Network string `cbor:"14,keyasint"`
}

func factsOf(n *Node) facts {
	f := facts{
		Version: n.Version, Roles: uint8(n.Roles),
		Operator: n.Operator, Region: n.Region, Label: n.Label, Link: n.Link,
		Capacity: n.Capacity, Capabilities: n.Capabilities,
		Exit: exitWire{Private: n.Exit.Private},
	}
	for _, a := range n.Addrs {
		f.Addrs = append(f.Addrs, appendAddr(nil, a))
	}
	for _, k := range n.Onion {
		f.Onion = append(f.Onion, onionWire{Epoch: k.Epoch, Key: k.Key})
	}
	for _, r := range n.Exit.Ports {
		f.Exit.Ports = append(f.Exit.Ports, portsWire{First: r.First, Last: r.Last})
	}
	for i := range n.Carriers {
		c := &n.Carriers[i]
		f.Carriers = append(f.Carriers, carrierWire{Kind: uint8(c.Kind), Port: c.Port, Name: c.Name, Pin: c.Pin[:]})
	}
	return f
}

// node makes the checked node of the facts.
func (f *facts) node(id wire.NodeID) (*Node, error) {
	n := &Node{
		ID: id, Version: f.Version, Roles: Roles(f.Roles),
		Operator: f.Operator, Region: f.Region, Label: f.Label, Link: f.Link,
		Capacity: f.Capacity, Capabilities: f.Capabilities,
		Exit: ExitPolicy{Private: f.Exit.Private},
	}
	for _, b := range f.Addrs {
		a, err := parseAddr(b)
		if err != nil {
			return nil, err
		}
		n.Addrs = append(n.Addrs, a)
	}
	for _, k := range f.Onion {
		n.Onion = append(n.Onion, OnionKey{Epoch: k.Epoch, Key: k.Key})
	}
	for _, r := range f.Exit.Ports {
		n.Exit.Ports = append(n.Exit.Ports, PortRange{First: r.First, Last: r.Last})
	}
	for i := range f.Carriers {
		c, err := f.Carriers[i].carrier()
		if err != nil {
			return nil, err
		}
		n.Carriers = append(n.Carriers, c)
	}
	return n, n.check()
}

// An address is 4 or 16 bytes of IP and 2 of port.
func appendAddr(b []byte, a netip.AddrPort) []byte {
	b = append(b, a.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}

func parseAddr(b []byte) (netip.AddrPort, error) {
	if len(b) != 6 && len(b) != 18 {
		return netip.AddrPort{}, fmt.Errorf("address of %d bytes, not 6 or 18", len(b))
	}
	ip, _ := netip.AddrFromSlice(b[:len(b)-2])
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[len(b)-2:])), nil
}

// Entry encodes a node as it stands in a document, which is also its leaf in
// the Merkle tree.
func (n *Node) Entry() []byte {
	f := factsOf(n)
	return marshal(&entryWire{Format: f.format(), ID: n.ID[:], facts: f, Digest: n.Digest[:]})
}

// ParseEntry parses a node's entry. Nothing of b is kept.
func ParseEntry(b []byte) (*Node, error) {
	if len(b) > MaxEntrySize {
		return nil, fmt.Errorf("%w: entry of %d bytes, not up to %d", ErrSize, len(b), MaxEntrySize)
	}
	var w entryWire
	if err := unmarshal("entry", b, &w); err != nil {
		return nil, err
	}
	if w.Format != w.format() || len(w.ID) != len(wire.NodeID{}) || len(w.Digest) != len(Node{}.Digest) {
		return nil, fmt.Errorf("%w entry: format %d, id of %d bytes, digest of %d bytes", ErrMalformed, w.Format, len(w.ID), len(w.Digest))
	}
	n, err := w.node(wire.NodeID(w.ID))
	if err != nil {
		return nil, fmt.Errorf("%w entry: %v", ErrMalformed, err)
	}
	n.Digest = [32]byte(w.Digest)
	return n, nil
}
