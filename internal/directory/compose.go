package directory

import (
	"fmt"

	"github.com/nyxnet/nyx/internal/seal"
)

// Compose makes and signs the document that authorities with these keys would
// make of nodes, without descriptors: for measurements, which need a directory of
// a size and not the network. Of the header it takes network, epoch, revision and
// parameters; all signers are the authorities.
func Compose(h Header, nodes []*Node, signers []*seal.Signer, wall int64) (*Document, error) {
	h.Params = h.Params.withDefaults()
	h.ValidFrom, h.ValidUntil = h.Params.Begin(h.Epoch), h.Params.Begin(h.Epoch+uint64(h.Params.ValidEpochs))
	h.Threshold, h.Authorities = len(signers), len(signers)
	for _, n := range nodes {
		if err := n.check(); err != nil {
			return nil, fmt.Errorf("%w node %x: %v", ErrMalformed, n.ID[:4], err)
		}
	}
	d, err := newDocument(h, nodes)
	if err != nil {
		return nil, err
	}
	for _, signer := range signers {
		s := Signature{Authority: AuthorityID(signer.Public()), Time: wall}
		if s.Bytes, err = signer.Sign(documentContext, signed(s.Time, d.header)); err != nil {
			return nil, fmt.Errorf("sign document: %w", err)
		}
		d.addSignature(s)
	}
	return d, nil
}
