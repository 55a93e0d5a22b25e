// Package translog is the transparency log of directory documents: what makes a
// document that only some were shown impossible to hide (docs/protocol.md,
// section 7.10).
//
// Each authority keeps a log of its own: a Merkle tree (RFC 6962) whose entries are
// the signed headers of the documents that it published, in their order. Its head
// is a checkpoint, which the authority signs and which independent witnesses
// cosign if it goes on from the one that they cosigned last. A client uses a
// document only with a Proof that it stands in some authority's log under a
// checkpoint of enough witnesses. Who reads the logs thus sees every document that
// any client can be made to use, and two of one number by their entries.
//
// Formats are those of C2SP: signed-note, tlog-checkpoint, tlog-cosignature,
// tlog-tiles, tlog-witness and tlog-proof, with hybrid signatures (keys.go) in the
// place of Ed25519.
//
// The package is pure: time is an argument, bytes come from the caller. A Log, a
// Witness, a Memory and a Watch belong to one goroutine each.
package translog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
)

// Errors. Each is wrapped with what it is about; test with errors.Is.
var (
	// ErrMalformed means bytes that are not what they should be.
	ErrMalformed = errors.New("log: malformed")
	// ErrOrigin means the log of nobody that is known.
	ErrOrigin = errors.New("log: unknown log")
	// ErrSignature means a checkpoint that its log has not signed, or with a
	// signature that does not verify.
	ErrSignature = errors.New("log: checkpoint not signed by its log")
	// ErrWitnesses means a checkpoint with too few cosignatures.
	ErrWitnesses = errors.New("log: not enough witnesses")
	// ErrNotLogged means that a document is not shown to be in a log.
	ErrNotLogged = errors.New("log: the document is not in a log")
	// ErrInconsistent means two checkpoints of one log of which no proof shows
	// that the later one goes on from the earlier one.
	ErrInconsistent = errors.New("log: not shown to go on from what was seen before")
	// ErrSize means a request to a witness that does not begin where it stands.
	ErrSize = errors.New("log: the witness stands elsewhere")
)

// Limits of the specification.
const (
	// MaxWitnesses bounds the cosignatures of a checkpoint.
	MaxWitnesses = 16
	// MaxCheckpointSize bounds a checkpoint, in bytes: 17 signatures of 4.6 KB.
	MaxCheckpointSize = 96 << 10
	// MaxProofSize bounds a proof or a request to a witness, in bytes: a
	// checkpoint, and 64 hashes of 45 bytes.
	MaxProofSize = MaxCheckpointSize + 4<<10
	// MaxEntrySize bounds an entry, in bytes: a header with 64 parameters.
	MaxEntrySize = 16 << 10
	// MaxEntries bounds a log: an entry a minute for more than a century.
	MaxEntries = 1 << 26
)

// Policy is whose logs and whose cosignatures count. It comes with the network
// file.
type Policy struct {
	Network string
	// Authorities are the public keys of those who keep logs.
	Authorities [][]byte
	// Witnesses are the public keys of the witnesses.
	Witnesses [][]byte
	// Threshold of them must have cosigned; more than half, so that no two
	// checkpoints that contradict each other find enough honest witnesses. Zero
	// is only for networks without witnesses, in which no log is demanded.
	Threshold int
}

// NewPolicy is what a network file says of logs.
func NewPolicy(t *directory.Trust) *Policy {
	return &Policy{Network: t.Network, Authorities: t.Authorities, Witnesses: t.Witnesses, Threshold: t.WitnessThreshold}
}

// Demanded reports whether documents must be in a log.
func (p *Policy) Demanded() bool { return p.Threshold > 0 }

// Check says what makes no sense in a policy.
func (p *Policy) Check() error {
	n := len(p.Witnesses)
	switch {
	case n > MaxWitnesses:
		return fmt.Errorf("%d witnesses, not up to %d", n, MaxWitnesses)
	case n == 0 && p.Threshold == 0:
		return nil
	case p.Threshold > n || 2*p.Threshold <= n:
		return fmt.Errorf("threshold %d of %d witnesses: it takes more than half, so that nobody can be shown another log", p.Threshold, n)
	}
	for i, key := range p.Witnesses {
		same := func(other []byte) bool { return string(other) == string(key) }
		switch {
		case len(key) != seal.SignPublicSize:
			return fmt.Errorf("key of witness %d has %d bytes, not %d", i+1, len(key), seal.SignPublicSize)
		case slices.ContainsFunc(p.Witnesses[:i], same):
			return fmt.Errorf("key of witness %d twice", i+1)
		case slices.ContainsFunc(p.Authorities, same):
			return fmt.Errorf("key of witness %d is an authority's; who watches is another than who is watched", i+1)
		}
	}
	return nil
}

// Origin names the log of an authority.
func Origin(network string, authority []byte) string {
	id := directory.AuthorityID(authority)
	return fmt.Sprintf("nyx/%s/log/%x", network, id[:16])
}

// WitnessName names a witness in cosignatures.
func WitnessName(network string, witness []byte) string {
	id := seal.Hash("witness id", witness)
	return fmt.Sprintf("nyx/%s/witness/%x", network, id[:16])
}

// log returns the key of the log of an origin.
func (p *Policy) log(origin string) ([]byte, error) {
	for _, key := range p.Authorities {
		if Origin(p.Network, key) == origin {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrOrigin, origin)
}
