package ledger

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/directory/translog"
)

// ErrUnsigned means an entry that no checkpoint covers yet.
var ErrUnsigned = errors.New("ledger: no checkpoint covers the entry yet; one will within a minute while the log is written")

// Proof shows that an event is in a log, to who has nothing but the log's key.
type Proof struct {
	Entry []byte // hash of the entry before it, and the event
	*translog.Proof
}

const proofHead = "nyx audit proof 1\n"

// Encode writes the proof: the entry in base64, and a tlog-proof.
func (p *Proof) Encode() []byte {
	b := base64.StdEncoding.AppendEncode([]byte(proofHead), p.Entry)
	return append(append(b, '\n'), p.Proof.Encode()...)
}

// ParseProof reads a proof; it checks its form alone.
func ParseProof(b []byte) (*Proof, error) {
	rest, ok := bytes.CutPrefix(b, []byte(proofHead))
	line, rest, ok2 := bytes.Cut(rest, []byte("\n"))
	entry, err := base64.StdEncoding.Strict().DecodeString(string(line))
	if !ok || !ok2 || err != nil || len(entry) > audit.EntryMax {
		return nil, fmt.Errorf("%w: not the form of one", audit.ErrProof)
	}
	p, err := translog.ParseProof(rest)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", audit.ErrProof, err)
	}
	return &Proof{entry, p}, nil
}

// Prove makes the proof of the entry at a place, under the newest checkpoint.
func (s *Store) Prove(ctx context.Context, key *audit.LogKey, seq int64) (*Proof, error) {
	note, c, err := s.signed(key)
	if err != nil {
		return nil, err
	}
	if seq < 0 || seq >= c.Size {
		return nil, fmt.Errorf("%w: entry %d, and %d are signed", ErrUnsigned, seq, c.Size)
	}
	p := &Proof{}
	err = s.entries(ctx, seq, seq+1, func(_ int64, entry []byte) error {
		p.Entry = append([]byte(nil), entry...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if p.Entry == nil {
		return nil, fmt.Errorf("ledger: entry %d was removed by retention; its hash is kept, and proves a copy of it", seq)
	}
	tree, err := s.tree(ctx, c.Size)
	if err != nil {
		return nil, err
	}
	if p.Proof, err = tree.Prove(seq, c, note); err != nil {
		return nil, err
	}
	if _, _, err := audit.CheckProof(key, p.Entry, p.Proof); err != nil {
		return nil, fmt.Errorf("%w; see nyx audit verify", err)
	}
	return p, nil
}

// Consistency proves that the newest checkpoint goes on from an earlier one.
func (s *Store) Consistency(ctx context.Context, from, to *audit.Checkpoint) ([]audit.Hash, error) {
	tree, err := s.tree(ctx, to.Size)
	if err != nil {
		return nil, err
	}
	return tree.ProveConsistency(from.Size, to.Size)
}

// tree is that of the first entries.
func (s *Store) tree(ctx context.Context, size int64) (*audit.Tree, error) {
	f, err := os.Open(filepath.Join(s.Dir, "tiles"))
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, size/audit.TileSize*32))
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	leaves := func(tile int64) ([]audit.Hash, error) { return s.leaves(ctx, tile, size) }
	return &audit.Tree{Tiles: cutHashes(b), Leaves: leaves}, nil
}

// leaves are the hashes of the entries of a tile, of a log of a size.
func (s *Store) leaves(ctx context.Context, tile, size int64) (leaves []audit.Hash, err error) {
	from := tile * audit.TileSize
	to := min(from+audit.TileSize, size)
	for range shortenedTries { // an entry may go between the hashes and the entries
		var begin int64
		if begin, err = s.Begin(); err != nil {
			return nil, err
		}
		leaves = leaves[:0]
		keep := func(h audit.Hash) error { leaves = append(leaves, h); return nil }
		if err := s.hashes(from, min(begin, to), keep); err != nil {
			return nil, err
		}
		err = s.entries(ctx, max(from, begin), to, func(_ int64, entry []byte) error { return keep(audit.EntryHash(entry)) })
		if err != nil || int64(len(leaves)) == to-from {
			break
		}
	}
	return leaves, err
}
