package directory

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Descriptor is a node's signed statement about itself, verified.
type Descriptor struct {
	Node
	// Network is the network that the node joins.
	Network string
	// Identity is the node's public signing key.
	Identity []byte
}

// signedWire is the envelope of a descriptor: the body as signed, so that the
// signature is checked over the very bytes.
type signedWire struct {
	Body      []byte `cbor:"1,keyasint"`
	Signature []byte `cbor:"2,keyasint"`
}

// SignDescriptor returns the signed descriptor of a node for a network. The
// ID and Digest of n are ignored: they follow from the key and the body.
func SignDescriptor(signer *seal.Signer, network string, n *Node) ([]byte, error) {
	if err := n.check(); err != nil {
		return nil, fmt.Errorf("%w descriptor: %v", ErrMalformed, err)
	}
	if !validName(network) {
		return nil, fmt.Errorf("%w descriptor: network %q: %s", ErrMalformed, network, nameRule)
	}
	f := factsOf(n)
	body := marshal(&bodyWire{Format: f.format(), Identity: signer.Public(), facts: f, Network: network})
	signature, err := signer.Sign(descriptorContext, body)
	if err != nil {
		return nil, fmt.Errorf("sign descriptor: %w", err)
	}
	return marshal(&signedWire{Body: body, Signature: signature}), nil
}

// ParseDescriptor parses a signed descriptor and checks everything: its form,
// its keys, its signature. Nothing of b is kept.
func ParseDescriptor(b []byte) (*Descriptor, error) {
	d, w, err := parseUnverified(b)
	if err != nil {
		return nil, err
	}
	return d, verifyDescriptor(d, w)
}

// ParseKept is ParseDescriptor for one that an authority has kept in a store which
// others may have changed. What stands in a document that the authority has signed
// it has checked before: where the body is the one on which a node of vouched
// rests, byte for byte by its hash, the signature is not checked again. known
// reports that. vouched may be nil. Nothing of b is kept.
func ParseKept(b []byte, vouched *Document) (d *Descriptor, known bool, err error) {
	d, w, err := parseUnverified(b)
	if err != nil {
		return nil, false, err
	}
	if vouched != nil {
		i, found := slices.BinarySearchFunc(vouched.Nodes, d.ID, func(n *Node, id wire.NodeID) int { return bytes.Compare(n.ID[:], id[:]) })
		if found && vouched.Nodes[i].Digest == d.Digest && vouched.Network == d.Network {
			return d, true, nil
		}
	}
	return d, false, verifyDescriptor(d, w)
}

// parseUnverified is the cheap part: an authority looks at what a descriptor
// claims before it spends two signature checks on it.
func parseUnverified(b []byte) (*Descriptor, *signedWire, error) {
	if len(b) > MaxDescriptorSize {
		return nil, nil, fmt.Errorf("%w: descriptor of %d bytes, not up to %d", ErrSize, len(b), MaxDescriptorSize)
	}
	var w signedWire
	if err := unmarshal("descriptor", b, &w); err != nil {
		return nil, nil, err
	}
	var body bodyWire
	if err := unmarshal("descriptor body", w.Body, &body); err != nil {
		return nil, nil, err
	}
	if body.Format != body.format() || len(body.Identity) != seal.SignPublicSize || !validName(body.Network) {
		return nil, nil, fmt.Errorf("%w descriptor: format %d, identity of %d bytes, network %q", ErrMalformed, body.Format, len(body.Identity), body.Network)
	}
	n, err := body.node(NodeID(body.Identity))
	if err != nil {
		return nil, nil, fmt.Errorf("%w descriptor: %v", ErrMalformed, err)
	}
	n.Digest = seal.Hash("descriptor", w.Body)
	return &Descriptor{Node: *n, Network: body.Network, Identity: body.Identity}, &w, nil
}

func verifyDescriptor(d *Descriptor, w *signedWire) error {
	if err := seal.Verify(d.Identity, descriptorContext, w.Body, w.Signature); err != nil {
		return fmt.Errorf("%w: descriptor of node %x", ErrSignature, d.ID[:4])
	}
	if _, err := seal.ParseKEMPublic(d.Link); err != nil {
		return fmt.Errorf("%w descriptor of node %x: link key: %v", ErrMalformed, d.ID[:4], err)
	}
	for _, k := range d.Onion {
		if _, err := seal.ParseKEMPublic(k.Key); err != nil {
			return fmt.Errorf("%w descriptor of node %x: onion key of epoch %d: %v", ErrMalformed, d.ID[:4], k.Epoch, err)
		}
	}
	return nil
}
