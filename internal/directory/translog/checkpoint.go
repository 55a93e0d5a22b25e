package translog

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/nyxnet/nyx/internal/seal"
)

// Checkpoint is the head of a log: all that it holds, in three lines.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
}

// text is the note's text: origin, size, root (tlog-checkpoint).
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

func parseText(text string) (c Checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return c, fmt.Errorf("%w checkpoint: %d lines", ErrMalformed, len(lines)-1)
	}
	c.Origin = lines[0]
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 1 || c.Size > MaxEntries {
		return c, fmt.Errorf("%w checkpoint: size %q", ErrMalformed, lines[1])
	}
	if c.Root, err = parseHash(lines[2]); err != nil {
		return c, err
	}
	if c.text() != text {
		return c, fmt.Errorf("%w checkpoint: not the one form of what it says", ErrMalformed)
	}
	return c, nil
}

func parseHash(s string) (h tlog.Hash, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%w: %q is not a hash in base64", ErrMalformed, s)
	}
	return tlog.Hash(b), nil
}

// Sign returns the checkpoint as a note signed by its log.
func (c Checkpoint) Sign(network string, secret *seal.Signer) ([]byte, error) {
	k := logKey(network, secret.Public())
	if k.name != c.Origin {
		return nil, fmt.Errorf("%w: %q is not this key's", ErrOrigin, c.Origin)
	}
	return note.Sign(&note.Note{Text: c.text()}, signer{key: k, secret: secret})
}

// cosign returns a witness's signature line.
func (c Checkpoint) cosign(network string, secret *seal.Signer, wall int64) ([]byte, error) {
	text := c.text()
	b, err := note.Sign(&note.Note{Text: text}, signer{witnessKey(network, secret.Public()), secret, uint64(max(wall, 0))})
	if err != nil {
		return nil, err
	}
	return b[len(text)+1:], nil
}

// Open reads a note: the checkpoint, if its log has signed it, and the number of
// witnesses that have cosigned it, each once. One bad signature of somebody known
// spoils the note.
func (p *Policy) Open(b []byte) (c Checkpoint, witnesses int, err error) {
	n, c, err := p.open(b)
	if err != nil {
		return Checkpoint{}, 0, err
	}
	return c, len(n.Sigs) - 1, nil
}

func (p *Policy) open(b []byte) (*note.Note, Checkpoint, error) {
	if len(b) > MaxCheckpointSize {
		return nil, Checkpoint{}, fmt.Errorf("%w checkpoint: %d bytes", ErrMalformed, len(b))
	}
	origin, _, _ := bytes.Cut(b, []byte("\n"))
	public, err := p.log(string(origin))
	if err != nil {
		return nil, Checkpoint{}, err
	}
	known := []note.Verifier{logKey(p.Network, public)}
	for _, w := range p.Witnesses {
		known = append(known, witnessKey(p.Network, w))
	}
	n, err := note.Open(b, note.VerifierList(known...))
	if err != nil {
		return nil, Checkpoint{}, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	if !slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { return s.Name == string(origin) }) {
		return nil, Checkpoint{}, ErrSignature
	}
	c, err := parseText(n.Text)
	return n, c, err
}

// OpenWitnessed is Open of a note that enough witnesses must have cosigned.
func (p *Policy) OpenWitnessed(b []byte) (Checkpoint, error) {
	c, n, err := p.Open(b)
	if err == nil && n < p.Threshold {
		err = fmt.Errorf("%w: checkpoint %d of %s has %d of %d", ErrWitnesses, c.Size, c.Origin, n, p.Threshold)
	}
	return c, err
}

// Cosigned adds signature lines of witnesses to a note, those that verify and that
// it lacks, and reports whether they are enough now.
func (p *Policy) Cosigned(b []byte, lines ...[]byte) (out []byte, enough bool, err error) {
	n, _, err := p.open(b)
	if err != nil {
		return nil, false, err
	}
	for _, line := range lines {
		more, _, err := p.open(slices.Concat(b, line))
		if err != nil {
			continue
		}
		for _, s := range more.Sigs {
			has := func(o note.Signature) bool { return o.Name == s.Name && o.Hash == s.Hash }
			if !slices.ContainsFunc(n.Sigs, has) {
				n.Sigs = append(n.Sigs, s)
			}
		}
	}
	n.UnverifiedSigs = nil
	out, err = note.Sign(n)
	return out, len(n.Sigs)-1 >= p.Threshold, err
}

// Trim returns the note with no more cosignatures than are needed, for those whom
// each byte costs.
func (p *Policy) Trim(b []byte) ([]byte, error) {
	n, c, err := p.open(b)
	if err != nil {
		return nil, err
	}
	kept, rest := n.Sigs[:0:0], p.Threshold
	for _, s := range n.Sigs {
		if s.Name != c.Origin {
			if rest--; rest < 0 {
				continue
			}
		}
		kept = append(kept, s)
	}
	return note.Sign(&note.Note{Text: n.Text, Sigs: kept})
}
