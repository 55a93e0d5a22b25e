package translog

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/nyxnet/nyx/internal/seal"
)

// Witness cosigns checkpoints of the logs of a Policy, and of each log only what
// goes on from what it cosigned last.
type Witness struct {
	policy *Policy
	secret *seal.Signer
	keep   func(c Checkpoint, note []byte) error
	memory *Memory
}

// NewWitness returns a witness that goes on from the notes that keep was given the
// last time. keep must have a note on disk when it returns: no cosignature leaves
// before.
func NewWitness(p *Policy, secret *seal.Signer, keep func(Checkpoint, []byte) error, notes ...[]byte) (*Witness, error) {
	m, err := NewMemory(p, notes...)
	if err != nil {
		return nil, fmt.Errorf("what the witness has cosigned: %w", err)
	}
	return &Witness{policy: p, secret: secret, keep: keep, memory: m}, nil
}

// Request asks a witness for a cosignature (tlog-witness, add-checkpoint).
type Request struct {
	// Old is the size at which the witness stands, Proof the consistency from
	// there, Note the checkpoint, signed by its log.
	Old   int64
	Proof []tlog.Hash
	Note  []byte
}

// Encode writes the request.
func (r *Request) Encode() []byte {
	b := fmt.Appendf(nil, "old %d\n", r.Old)
	return append(append(AppendHashes(b, r.Proof), '\n'), r.Note...)
}

// ParseRequest reads a request.
func ParseRequest(b []byte) (*Request, error) {
	if len(b) > MaxProofSize {
		return nil, fmt.Errorf("%w request: %d bytes", ErrMalformed, len(b))
	}
	head, note, ok := bytes.Cut(b, []byte("\n\n"))
	first, hashes, _ := strings.Cut(string(head), "\n")
	number, ok2 := strings.CutPrefix(first, "old ")
	old, err := strconv.ParseInt(number, 10, 64)
	if !ok || !ok2 || err != nil || old < 0 {
		return nil, fmt.Errorf("%w request", ErrMalformed)
	}
	r := &Request{Old: old, Note: note}
	r.Proof, err = ParseHashes(hashes)
	return r, err
}

// Cosign answers a request with a signature line. stands is where the witness
// stands with that log, for an ErrSize. What a log signed and could not show to go
// on from there, an ErrInconsistent, is a fork: shown with the note that the
// witness has.
func (w *Witness) Cosign(r *Request, wall int64) (line []byte, stands int64, err error) {
	c, _, err := w.policy.Open(r.Note)
	if err != nil {
		return nil, 0, err
	}
	last, _ := w.memory.Newest(c.Origin)
	switch {
	case r.Old > c.Size:
		return nil, last.Size, fmt.Errorf("%w request: from %d to %d entries", ErrMalformed, r.Old, c.Size)
	case r.Old != last.Size:
		return nil, last.Size, fmt.Errorf("%w: at %d entries, not %d", ErrSize, last.Size, r.Old)
	}
	if last.Size > 0 {
		if err := goesOn(last, c, r.Proof); err != nil {
			return nil, last.Size, err
		}
	}
	if c.Size > last.Size {
		// Cosignatures of others are of no use here, and may be many.
		if r.Note, err = alone(w.policy, r.Note); err != nil {
			return nil, last.Size, err
		}
		if err := w.keep(c, r.Note); err != nil {
			return nil, last.Size, err
		}
		w.memory.newest[c.Origin] = seen{c, r.Note}
	}
	line, err = c.cosign(w.policy.Network, w.secret, wall)
	return line, c.Size, err
}

// Newest is what the witness cosigned last of a log.
func (w *Witness) Newest(origin string) (Checkpoint, []byte) { return w.memory.Newest(origin) }

// alone is a note with its log's signature only.
func alone(p *Policy, note []byte) ([]byte, error) {
	one := *p
	one.Threshold = 0
	return one.Trim(note)
}
