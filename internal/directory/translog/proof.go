package translog

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/nyxnet/nyx/internal/directory"
)

// Proof shows, to who has nothing but a Policy, that an entry is in a log that the
// witnesses have seen (tlog-proof).
type Proof struct {
	Index int64
	Path  []tlog.Hash
	// Note is the checkpoint, signed and cosigned.
	Note []byte
}

const proofHead = "c2sp.org/tlog-proof@v1\n"

// Prove makes the proof of a document under a checkpoint of the log.
func (l *Log) Prove(m directory.Mark, c Checkpoint, noteBytes []byte) (*Proof, error) {
	i, ok := l.Find(m)
	if !ok || i >= c.Size {
		return nil, fmt.Errorf("%w: epoch %d revision %d", ErrNotLogged, m.Epoch, m.Revision)
	}
	path, err := l.Inclusion(i, c.Size)
	return &Proof{Index: i, Path: path, Note: noteBytes}, err
}

// Encode writes the proof.
func (p *Proof) Encode() []byte {
	b := fmt.Appendf(nil, "%sindex %d\n", proofHead, p.Index)
	return append(append(AppendHashes(b, p.Path), '\n'), p.Note...)
}

// ParseProof reads a proof; it checks its form alone.
func ParseProof(b []byte) (*Proof, error) {
	if len(b) > MaxProofSize {
		return nil, fmt.Errorf("%w proof: %d bytes", ErrMalformed, len(b))
	}
	rest, ok := strings.CutPrefix(string(b), proofHead)
	head, after, ok2 := strings.Cut(rest, "\n\n")
	first, hashes, _ := strings.Cut(head, "\n")
	number, ok3 := strings.CutPrefix(first, "index ")
	index, err := strconv.ParseInt(number, 10, 64)
	if !ok || !ok2 || !ok3 || err != nil || index < 0 {
		return nil, fmt.Errorf("%w proof", ErrMalformed)
	}
	p := &Proof{Index: index, Note: []byte(after)}
	if p.Path, err = ParseHashes(hashes); err != nil {
		return nil, err
	}
	if string(p.Encode()) != string(b) {
		return nil, fmt.Errorf("%w proof: not the one form of what it says", ErrMalformed)
	}
	return p, nil
}

// Verify checks that an entry, the signed header of a document, is in the log of
// the returned checkpoint, and that enough witnesses have cosigned that.
func (p *Policy) Verify(entry []byte, proof *Proof) (Checkpoint, error) {
	c, err := p.OpenWitnessed(proof.Note)
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrNotLogged, err)
	}
	if proof.Index >= c.Size || tlog.CheckRecord(proof.Path, c.Size, c.Root, proof.Index, tlog.RecordHash(entry)) != nil {
		return c, fmt.Errorf("%w: the proof for entry %d of %s does not lead to the root of %d entries", ErrNotLogged, proof.Index, c.Origin, c.Size)
	}
	return c, nil
}

// hashesMax bounds a proof: a way through 2^63 entries.
const hashesMax = 63

// AppendHashes writes hashes in base64, a line each.
func AppendHashes(b []byte, hashes []tlog.Hash) []byte {
	for _, h := range hashes {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return b
}

// ParseHashes reads hashes, a line each.
func ParseHashes(s string) (hashes []tlog.Hash, err error) {
	s = strings.TrimSuffix(s, "\n")
	if s == "" {
		return nil, nil
	}
	lines := strings.Split(s, "\n")
	if len(lines) > hashesMax {
		return nil, fmt.Errorf("%w: %d hashes", ErrMalformed, len(lines))
	}
	for _, line := range lines {
		h, err := parseHash(line)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, h)
	}
	return hashes, nil
}
