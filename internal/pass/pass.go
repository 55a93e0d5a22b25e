// Package pass is what clients, entries and issuers know together of unlinkable tokens
// (docs/protocol.md, section 9): which challenge a pass answers, which keys sign in
// which period, and how many passes somebody gets. The cryptography is package seal's,
// the bytes are package wire's.
package pass

import (
	"errors"
	"fmt"
	"io"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Errors. Each is wrapped with what is wrong; test with errors.Is.
var (
	// ErrKeys means a list of keys that is malformed, or of another network or issuer.
	ErrKeys = errors.New("pass: not a list of keys of this network's issuer")
	// ErrForked means that an issuer has named two keys for one period, by which it
	// could tell clients apart.
	ErrForked = errors.New("pass: the issuer has named two keys for one period")
)

// Challenge is the digest of what a pass answers: the issuer of a network, and as
// redemption context one entry, at which alone the pass is good.
func Challenge(network string, entry wire.NodeID) [32]byte {
	context := seal.Hash("pass context", entry[:])
	return seal.SHA256(wire.AppendPassChallenge(nil, network, &context))
}

// Tag is what an entry keeps of a pass that was spent.
type Tag [16]byte

// TagOf is the tag of a pass. It follows from what was signed alone: whoever has two
// signatures on one pass has one pass.
func TagOf(p *wire.Pass) (t Tag) {
	h := seal.Hash("pass spent", p.AppendInput(nil))
	copy(t[:], h[:])
	return t
}

// Blinder blinds a message for a key: blind.Blind, which only who fetches passes
// links.
type Blinder func(random io.Reader, key *seal.PassPublic, message []byte) (Blind, error)

// Blind is a message that waits for its signature.
type Blind interface {
	Blinded() []byte
	Finalize(signature []byte) ([]byte, error)
}

// Order is a batch of passes that are asked for, one for each entry that is named.
type Order struct {
	passes []wire.Pass
	blinds []Blind
	body   []byte
}

// NewOrder draws passes under a key, one for each of these entries.
func NewOrder(random io.Reader, network string, key *seal.PassPublic, entries []wire.NodeID, blind Blinder) (*Order, error) {
	if len(entries) == 0 || len(entries) > wire.PassBatchMax {
		return nil, fmt.Errorf("pass: %d passes at once, not 1 to %d", len(entries), wire.PassBatchMax)
	}
	o := &Order{passes: make([]wire.Pass, len(entries))}
	id := key.ID()
	for i, entry := range entries {
		p := &o.passes[i]
		p.Challenge, p.Key = Challenge(network, entry), id
		if _, err := io.ReadFull(random, p.Nonce[:]); err != nil {
			return nil, fmt.Errorf("pass: no randomness: %w", err)
		}
		b, err := blind(random, key, p.AppendInput(nil))
		if err != nil {
			return nil, err
		}
		r := wire.PassRequest{Key: id[31]}
		copy(r.Blinded[:], b.Blinded())
		o.blinds, o.body = append(o.blinds, b), r.Append(o.body)
	}
	return o, nil
}

// Body is what the issuer is sent.
func (o *Order) Body() []byte { return o.body }

// Finish makes the passes of the issuer's answer, in the order of the entries.
func (o *Order) Finish(answer []byte) ([]wire.Pass, error) {
	if len(answer) != len(o.passes)*wire.PassSignatureSize {
		return nil, fmt.Errorf("pass: %d bytes in answer to %d requests", len(answer), len(o.passes))
	}
	for i, b := range o.blinds {
		signature, err := b.Finalize(answer[i*wire.PassSignatureSize:][:wire.PassSignatureSize])
		if err != nil {
			return nil, err
		}
		copy(o.passes[i].Authenticator[:], signature)
	}
	return o.passes, nil
}
