package directory

import (
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

// Introduction is how a node, or an authority, tells a control process that a
// certificate is its own: what comes over TLS under it comes from them from then
// on, without a signature more. It is good for one server and one certificate, so
// that nobody can show it again who lacks the certificate's key.
type Introduction struct {
	Network string
	// Identity is the public signing key of who introduces itself.
	Identity []byte
	// Time is the second since 1970 at which it was signed.
	Time int64
	// Server and Own are the hashes of the keys of the control process's
	// certificate and of the node's (front.Pin).
	Server, Own [seal.HashSize]byte
}

// MaxIntroductionSize bounds a signed introduction: a key and a signature.
const MaxIntroductionSize = 10 << 10

type introductionWire struct {
	Format   uint64 `cbor:"1,keyasint"`
	Network  string `cbor:"2,keyasint"`
	Identity []byte `cbor:"3,keyasint"`
	Time     int64  `cbor:"4,keyasint"`
	Server   []byte `cbor:"5,keyasint"`
	Own      []byte `cbor:"6,keyasint"`
}

// SignIntroduction returns the signed introduction of who holds an identity key,
// which it puts into i.
func SignIntroduction(signer *seal.Signer, i *Introduction) ([]byte, error) {
	i.Identity = signer.Public()
	body := marshal(&introductionWire{Format: Format, Network: i.Network, Identity: i.Identity, Time: i.Time, Server: i.Server[:], Own: i.Own[:]})
	signature, err := signer.Sign(introductionContext, body)
	if err != nil {
		return nil, fmt.Errorf("sign introduction: %w", err)
	}
	return marshal(&signedWire{Body: body, Signature: signature}), nil
}

// TakeIntroduction verifies an introduction to a server of a network under a
// certificate, at a second since 1970, and returns the identity key: whether that
// is one of the network's, the caller must know. Nothing of b is kept.
func TakeIntroduction(b []byte, network string, server, own [seal.HashSize]byte, wall int64) (identity []byte, err error) {
	if len(b) > MaxIntroductionSize {
		return nil, fmt.Errorf("%w: introduction of %d bytes, not up to %d", ErrSize, len(b), MaxIntroductionSize)
	}
	var s signedWire
	if err := unmarshal("introduction", b, &s); err != nil {
		return nil, err
	}
	var w introductionWire
	if err := unmarshal("introduction body", s.Body, &w); err != nil {
		return nil, err
	}
	const grace = int64(ClockGrace / time.Second)
	switch {
	case w.Format != Format || len(w.Identity) != seal.SignPublicSize:
		return nil, fmt.Errorf("%w introduction: format %d, identity of %d bytes", ErrMalformed, w.Format, len(w.Identity))
	case w.Network != network:
		return nil, fmt.Errorf("%w: the introduction is for %q, this network is %q", ErrNetwork, w.Network, network)
	case string(w.Server) != string(server[:]) || string(w.Own) != string(own[:]):
		return nil, fmt.Errorf("%w: the introduction is for another server, or under another certificate", ErrRefused)
	case w.Time < wall-grace || w.Time > wall+grace:
		return nil, fmt.Errorf("%w: the introduction is of %d, it is %d here", ErrStale, w.Time, wall)
	case seal.Verify(w.Identity, introductionContext, s.Body, s.Signature) != nil:
		return nil, fmt.Errorf("%w: introduction", ErrSignature)
	}
	return w.Identity, nil
}
