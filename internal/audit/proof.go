package audit

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/nyxnet/nyx/internal/directory/translog"
)

// Tree finds the hashes of a log's tree, for proofs: from the roots of its tiles,
// and from the leaves of single tiles.
type Tree struct {
	// Tiles are the roots of all whole tiles.
	Tiles []Hash
	// Leaves returns the leaves of a tile, fewer of the last one.
	Leaves func(tile int64) ([]Hash, error)
}

// ReadHashes implements tlog.HashReader.
func (t *Tree) ReadHashes(indexes []int64) ([]Hash, error) {
	out := make([]Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		h, err := t.hash(level, n)
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

// hash is the root of the n-th whole subtree of a level.
func (t *Tree) hash(level int, n int64) (Hash, error) {
	if level >= tileHeight {
		first, many := n<<(level-tileHeight), int64(1)<<(level-tileHeight)
		if first+many > int64(len(t.Tiles)) {
			return Hash{}, fmt.Errorf("%w: the roots of %d tiles are known, not of %d", ErrProof, len(t.Tiles), first+many)
		}
		return root(t.Tiles[first : first+many]), nil
	}
	tile := n >> (tileHeight - level)
	leaves, err := t.Leaves(tile)
	if err != nil {
		return Hash{}, err
	}
	first, many := int(n<<level-tile<<tileHeight), 1<<level
	if first+many > len(leaves) {
		return Hash{}, fmt.Errorf("%w: tile %d has %d leaves, not %d", ErrProof, tile, len(leaves), first+many)
	}
	return root(leaves[first : first+many]), nil
}

// root is that of subtrees of one size, as many as a power of two.
func root(subtrees []Hash) Hash {
	var e Edge
	for _, h := range subtrees {
		e.Append(h)
	}
	return e.Root()
}

// Prove makes the proof that the entry at a place is in the log of a checkpoint, in
// the form of C2SP's tlog-proof.
func (t *Tree) Prove(seq int64, c *Checkpoint, note []byte) (*translog.Proof, error) {
	if seq < 0 || seq >= c.Size {
		return nil, fmt.Errorf("%w: no entry %d among %d", ErrProof, seq, c.Size)
	}
	path, err := tlog.ProveRecord(c.Size, seq, t)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrProof, err)
	}
	return &translog.Proof{Index: seq, Path: path, Note: note}, nil
}

// ProveConsistency makes the proof that the tree of a size goes on from that of a
// smaller one.
func (t *Tree) ProveConsistency(old, size int64) ([]Hash, error) {
	if old < 1 || old > size {
		return nil, fmt.Errorf("%w: from %d to %d entries", ErrProof, old, size)
	}
	if old == size {
		return nil, nil
	}
	path, err := tlog.ProveTree(size, old, t)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrProof, err)
	}
	return path, nil
}

// CheckProof checks that an entry is in a log, by nothing but the log's key, and
// returns the checkpoint that says so and the event.
func CheckProof(key *LogKey, entry []byte, p *translog.Proof) (*Checkpoint, Event, error) {
	c, err := key.Open(p.Note)
	if err != nil {
		return nil, Event{}, err
	}
	if p.Index >= c.Size || tlog.CheckRecord(p.Path, c.Size, c.Root, p.Index, EntryHash(entry)) != nil {
		return nil, Event{}, fmt.Errorf("%w: entry %d does not lead to the root of the %d entries that the log has signed", ErrProof, p.Index, c.Size)
	}
	_, event, err := ParseEntry(entry)
	if err != nil {
		return nil, Event{}, err
	}
	e, err := Parse(event)
	return c, e, err
}

// CheckConsistency compares two checkpoints of a log by the proof of
// ProveConsistency. Of two of one size no proof is needed.
func CheckConsistency(from, to *Checkpoint, path []Hash) error {
	if from.Size > to.Size {
		from, to = to, from
	}
	if from.Size == to.Size {
		if from.Root == to.Root {
			return nil
		}
		return fmt.Errorf("%w: two roots of %d entries were signed, %v and %v", ErrForked, from.Size, from.Root, to.Root)
	}
	if from.Size == 0 || tlog.CheckTree(path, to.Size, to.Root, from.Size, from.Root) == nil {
		return nil
	}
	return fmt.Errorf("%w: the checkpoint of %d entries is not shown to go on from that of %d", ErrForked, to.Size, from.Size)
}
