package directory

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Distrust is what the operator of an authority says of nodes that are not to be
// used: of all of them, so that a later word replaces it. The authority's bulletins
// say Distrusted of these nodes; why stays with the authority.
type Distrust struct {
	Network string
	Time    int64 // second of signing, since 1970
	Nodes   []DistrustedNode
}

// DistrustedNode is one of them. They are in the order of their IDs.
type DistrustedNode struct {
	Node   wire.NodeID
	Since  int64 // second since 1970
	Reason string
}

// Bounds of a Distrust.
const (
	// MaxDistrusted bounds the nodes.
	MaxDistrusted = 1024
	// MaxDistrustReason bounds each reason, in bytes.
	MaxDistrustReason = 200
	// MaxDistrustSize bounds the signed word.
	MaxDistrustSize = MaxDistrusted*(MaxDistrustReason+64) + 8<<10
)

type distrustWire struct {
	Format  uint64               `cbor:"1,keyasint"`
	Network string               `cbor:"2,keyasint"`
	Time    int64                `cbor:"3,keyasint"`
	Nodes   []distrustedNodeWire `cbor:"4,keyasint"`
}

type distrustedNodeWire struct {
	_      struct{} `cbor:",toarray"`
	Node   []byte
	Since  int64
	Reason string
}

// Set has the word say of a node why it is distrusted, in place of what it said.
func (d *Distrust) Set(n DistrustedNode) {
	d.Lift(n.Node)
	d.Nodes = append(d.Nodes, n)
	slices.SortFunc(d.Nodes, func(a, b DistrustedNode) int { return bytes.Compare(a.Node[:], b.Node[:]) })
}

// Lift has it say nothing of a node, and reports whether it did.
func (d *Distrust) Lift(id wire.NodeID) bool {
	before := len(d.Nodes)
	d.Nodes = slices.DeleteFunc(d.Nodes, func(n DistrustedNode) bool { return n.Node == id })
	return len(d.Nodes) < before
}

func (d *Distrust) check() error {
	if !validName(d.Network) {
		return fmt.Errorf("network %q: %s", d.Network, nameRule)
	}
	if len(d.Nodes) > MaxDistrusted {
		return fmt.Errorf("%d nodes, not up to %d", len(d.Nodes), MaxDistrusted)
	}
	for i, n := range d.Nodes {
		if i > 0 && bytes.Compare(d.Nodes[i-1].Node[:], n.Node[:]) >= 0 {
			return fmt.Errorf("node %x out of order", n.Node[:4])
		}
		if n.Reason == "" || len(n.Reason) > MaxDistrustReason || !utf8.ValidString(n.Reason) || strings.ContainsFunc(n.Reason, unicode.IsControl) {
			return fmt.Errorf("the reason for node %x must be one line of 1 to %d bytes", n.Node[:4], MaxDistrustReason)
		}
	}
	return nil
}

// SignDistrust returns the signed word of an authority's operator.
func SignDistrust(signer *seal.Signer, d *Distrust) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("%w distrust: %v", ErrMalformed, err)
	}
	w := distrustWire{Format: Format, Network: d.Network, Time: d.Time}
	for _, n := range d.Nodes {
		w.Nodes = append(w.Nodes, distrustedNodeWire{Node: n.Node[:], Since: n.Since, Reason: n.Reason})
	}
	body := marshal(&w)
	signature, err := signer.Sign(distrustContext, body)
	if err != nil {
		return nil, fmt.Errorf("sign distrust: %w", err)
	}
	return marshal(&signedWire{Body: body, Signature: signature}), nil
}

// OpenDistrust verifies the word of an authority's operator by the authority's
// public key. Nothing of b is kept.
func OpenDistrust(b []byte, network string, key []byte) (*Distrust, error) {
	if len(b) > MaxDistrustSize {
		return nil, fmt.Errorf("%w: distrust of %d bytes, not up to %d", ErrSize, len(b), MaxDistrustSize)
	}
	var s signedWire
	if err := unmarshal("distrust", b, &s); err != nil {
		return nil, err
	}
	if seal.Verify(key, distrustContext, s.Body, s.Signature) != nil {
		return nil, fmt.Errorf("%w: distrust", ErrSignature)
	}
	var w distrustWire
	if err := unmarshal("distrust body", s.Body, &w); err != nil {
		return nil, err
	}
	d := &Distrust{Network: w.Network, Time: w.Time}
	for _, n := range w.Nodes {
		if len(n.Node) != len(wire.NodeID{}) {
			return nil, fmt.Errorf("%w distrust: node id of %d bytes", ErrMalformed, len(n.Node))
		}
		d.Nodes = append(d.Nodes, DistrustedNode{wire.NodeID(n.Node), n.Since, n.Reason})
	}
	if err := d.check(); err != nil || w.Format != Format {
		return nil, fmt.Errorf("%w distrust of format %d: %v", ErrMalformed, w.Format, err)
	}
	if d.Network != network {
		return nil, fmt.Errorf("%w: distrust in %q, this network is %q", ErrNetwork, d.Network, network)
	}
	return d, nil
}
