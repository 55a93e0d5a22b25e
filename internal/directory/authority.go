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

// AuthorityConfig configures an Authority.
type AuthorityConfig struct {
	// Network is the network's name.
	Network string
	// Signer is the authority's key.
	Signer *seal.Signer
	// Threshold of Authorities must sign a document.
	Threshold, Authorities int
	// Params of the network; zero fields mean the defaults.
	Params Params
	// NodesMax bounds the descriptors held. Zero means MaxNodes.
	NodesMax int
	// Admit refuses a descriptor by returning why; it sees the descriptor
	// before its signature is checked. Nil admits all: for networks whose
	// authorities are not reachable by strangers.
	Admit func(*Descriptor) error
}

// Authority collects descriptors and makes documents of them. Authorities that
// hold equal descriptors make equal documents, byte for byte. It belongs to
// one goroutine.
type Authority struct {
	cfg   AuthorityConfig
	nodes map[wire.NodeID]*Descriptor
	built *Document // the last, nil when the descriptors have changed since
}

// NewAuthority returns an authority without descriptors.
func NewAuthority(cfg AuthorityConfig) (*Authority, error) {
	cfg.Params = cfg.Params.withDefaults()
	if cfg.NodesMax == 0 {
		cfg.NodesMax = MaxNodes
	}
	h := Header{Network: cfg.Network, Params: cfg.Params, Threshold: cfg.Threshold, Authorities: cfg.Authorities}
	h.ValidUntil = h.Params.Begin(uint64(h.Params.ValidEpochs))
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrTrust, err)
	}
	if cfg.Signer == nil || cfg.NodesMax < 0 || cfg.NodesMax > MaxNodes {
		return nil, fmt.Errorf("%w: no key, or a limit of %d nodes", ErrTrust, cfg.NodesMax)
	}
	return &Authority{cfg: cfg, nodes: make(map[wire.NodeID]*Descriptor)}, nil
}

// Len is the number of descriptors held.
func (a *Authority) Len() int { return len(a.nodes) }

// Params returns the parameters that documents carry.
func (a *Authority) Params() Params { return a.cfg.Params }

// Collect takes a signed descriptor, in place of an older one of the same
// node. wall is the time in seconds since 1970. Cheap checks come first;
// the signature is checked last. It reports whether anything changed: the same
// descriptor again is no error.
func (a *Authority) Collect(b []byte, wall int64) (changed bool, err error) {
	d, w, err := parseUnverified(b)
	if err != nil {
		return false, err
	}
	if changed, err = a.wants(d, wall); err != nil || !changed {
		return false, err
	}
	if err := verifyDescriptor(d, w); err != nil {
		return false, err
	}
	a.nodes[d.ID], a.built = d, nil
	return true, nil
}

// Take is Collect for a descriptor that ParseDescriptor has verified, which may be
// done for many at a time.
func (a *Authority) Take(d *Descriptor, wall int64) (changed bool, err error) {
	if changed, err = a.wants(d, wall); err == nil && changed {
		a.nodes[d.ID], a.built = d, nil
	}
	return changed, err
}

// wants reports whether a descriptor would change anything, or why it is refused.
func (a *Authority) wants(d *Descriptor, wall int64) (bool, error) {
	if d.Network != a.cfg.Network {
		return false, fmt.Errorf("%w: the descriptor is for %q, this network is %q", ErrNetwork, d.Network, a.cfg.Network)
	}
	if err := a.checkFresh(d, wall); err != nil {
		return false, err
	}
	if a.cfg.Admit != nil {
		if err := a.cfg.Admit(d); err != nil {
			return false, fmt.Errorf("%w: node %x: %v", ErrRefused, d.ID[:4], err)
		}
	}
	held := a.nodes[d.ID]
	return held == nil || held.Digest != d.Digest, nil
}

func (a *Authority) checkFresh(d *Descriptor, wall int64) error {
	const ahead = int64(ClockGrace / time.Second)
	const age = int64(DescriptorAgeMax / time.Second)
	if d.Version > uint64(max(wall, 0)+ahead) || d.Version < uint64(max(wall-age, 0)) {
		return fmt.Errorf("%w: node %x signed it at %d, it is %d here", ErrStale, d.ID[:4], d.Version, wall)
	}
	held := a.nodes[d.ID]
	switch {
	case held == nil && len(a.nodes) >= a.cfg.NodesMax:
		return fmt.Errorf("%w: %d descriptors held", ErrFull, len(a.nodes))
	case held == nil:
		return nil
	case d.Version < held.Version:
		return fmt.Errorf("%w: node %x: version %d after %d", ErrStale, d.ID[:4], d.Version, held.Version)
	case d.Version == held.Version && bytes.Compare(d.Digest[:], held.Digest[:]) < 0:
		// Two bodies in one second: all authorities keep the same one.
		return fmt.Errorf("%w: node %x: version %d twice", ErrStale, d.ID[:4], d.Version)
	}
	return nil
}

// Build makes the unsigned document of an epoch from what has been collected.
// A node is in it if its descriptor is not too old and brings an onion key in
// use at that epoch and not overdue for rotation. A revision above zero
// replaces a document of the same epoch. What the last one was built of is kept,
// so that another look at the same descriptors costs a header.
func (a *Authority) Build(epoch uint64, revision uint32) (*Document, error) {
	if a.built == nil || a.built.Epoch != epoch {
		d, err := a.build(epoch)
		if err != nil {
			return nil, err
		}
		a.built = d
	}
	d := *a.built
	d.Revision = revision
	d.header = d.Header.encode()
	return &d, nil
}

func (a *Authority) build(epoch uint64) (*Document, error) {
	p := a.cfg.Params
	h := Header{
		Network: a.cfg.Network, Epoch: epoch,
		ValidFrom: p.Begin(epoch), ValidUntil: p.Begin(epoch + uint64(p.ValidEpochs)),
		Params: p, Threshold: a.cfg.Threshold, Authorities: a.cfg.Authorities,
	}
	oldest := uint64(max(h.ValidFrom-int64(DescriptorAgeMax/time.Second), 0))
	nodes := make([]*Node, 0, len(a.nodes))
	for _, d := range a.nodes {
		key, ok := d.OnionAt(epoch)
		if d.Version < oldest || !ok || epoch-key.Epoch >= 2*uint64(p.OnionEpochs) {
			continue
		}
		n := d.Node
		nodes = append(nodes, &n)
	}
	nodes = boundRegions(nodes)
	if bound, ok := p.Value(ParamCapacityMax); ok {
		for _, n := range nodes {
			n.Capacity = uint32(min(int64(n.Capacity), max(bound, 0)))
		}
	}
	return newDocument(h, nodes)
}

// boundRegions keeps the nodes of the MaxRegions regions with the most nodes,
// so that descriptors with invented regions cannot spoil a document.
func boundRegions(nodes []*Node) []*Node {
	count := make(map[string]int)
	for _, n := range nodes {
		count[n.Region]++
	}
	if len(count) <= MaxRegions {
		return nodes
	}
	names := make([]string, 0, len(count))
	for name := range count {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	names = names[:MaxRegions]
	return slices.DeleteFunc(nodes, func(n *Node) bool { return !slices.Contains(names, n.Region) })
}

// Sign adds the authority's signature to a document. It signs only what it
// would build itself, so that an authority vouches for what it has checked.
func (a *Authority) Sign(d *Document, wall int64) error {
	own, err := a.Build(d.Epoch, d.Revision)
	if err != nil {
		return err
	}
	if !bytes.Equal(own.header, d.header) {
		return fmt.Errorf("%w: epoch %d revision %d is not what this authority builds", ErrConflict, d.Epoch, d.Revision)
	}
	s := Signature{Authority: AuthorityID(a.cfg.Signer.Public()), Time: max(wall, 0)}
	if s.Bytes, err = a.cfg.Signer.Sign(documentContext, signed(s.Time, d.header)); err != nil {
		return fmt.Errorf("sign document: %w", err)
	}
	d.addSignature(s)
	return nil
}

// Forget drops descriptors that are past their age at wall.
func (a *Authority) Forget(wall int64) {
	const age = int64(DescriptorAgeMax / time.Second)
	for id, d := range a.nodes {
		if d.Version < uint64(max(wall-age, 0)) {
			delete(a.nodes, id)
			a.built = nil
		}
	}
}
