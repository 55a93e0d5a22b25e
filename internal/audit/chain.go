package audit

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a SHA-256 of the tree.
type Hash = tlog.Hash

// An entry of the log is an event behind the hash of the entry before it:
//
//	hash of the predecessor (32; zeros for the first) ‖ event
//
// and its hash is that of a leaf of RFC 6962, SHA-256(0x00 ‖ entry). So one hash
// for each event makes the chain and the tree.
const entryHead = 32

// EntryMax bounds an entry, in bytes.
const EntryMax = entryHead + EventMax

// EntryHash is the hash of an entry: a leaf of the tree, and what the next entry
// carries.
func EntryHash(entry []byte) Hash { return tlog.RecordHash(entry) }

// ParseEntry cuts an entry of valid length.
func ParseEntry(entry []byte) (prev Hash, event []byte, err error) {
	if len(entry) < entryHead+eventHead || len(entry) > EntryMax {
		return Hash{}, nil, fmt.Errorf("%w: an entry of %d bytes", ErrEvent, len(entry))
	}
	return Hash(entry[:entryHead]), entry[entryHead:], nil
}

// Chain is where the log ends: what the next entry carries, and the tree of all so
// far. The zero Chain is an empty log.
type Chain struct {
	Last Hash // of the newest entry
	Edge
}

// Append writes the entry of an event and its length (2) before it.
func (c *Chain) Append(b, event []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(entryHead+len(event)))
	start := len(b)
	b = append(append(b, c.Last[:]...), event...)
	c.Last = EntryHash(b[start:])
	c.Edge.Append(c.Last)
	return b
}

// Next takes an entry that was read and reports whether it goes on from the last.
func (c *Chain) Next(entry []byte) bool {
	if string(entry[:entryHead]) != string(c.Last[:]) {
		return false
	}
	c.Last = EntryHash(entry)
	c.Edge.Append(c.Last)
	return true
}

// tileHeight is that of tlog-tiles: 256 leaves.
const tileHeight = 8

// TileSize is the number of leaves of a tile: the roots of tiles are kept beside the
// log, so that a proof reads few entries.
const TileSize = 1 << tileHeight

// Edge is the right edge of a tree (RFC 6962), all that appending and the root need:
// the roots of its whole subtrees, the largest first.
type Edge struct {
	size  int64
	roots []Hash
	tile  Hash // the last whole one
}

// NewEdge returns the edge of a tree of whole tiles, by their roots.
func NewEdge(tiles []Hash) (e Edge) {
	for i, tile := range tiles {
		e.push(tile, int64(i), tileHeight)
	}
	e.size = int64(len(tiles)) << tileHeight
	return e
}

// Size is the number of leaves.
func (e *Edge) Size() int64 { return e.size }

// Append adds a leaf.
func (e *Edge) Append(leaf Hash) {
	e.push(leaf, e.size, 0)
	e.size++
}

// push adds the root of a subtree of a height before which there are n of them.
func (e *Edge) push(h Hash, n int64, height int) {
	for ; n&1 == 1; n >>= 1 {
		last := len(e.roots) - 1
		h = tlog.NodeHash(e.roots[last], h)
		e.roots = e.roots[:last]
		if height++; height == tileHeight {
			e.tile = h
		}
	}
	e.roots = append(e.roots, h)
}

// Tile is the root of the last tile that Append made whole.
func (e *Edge) Tile() Hash { return e.tile }

// Root is the root over all leaves; zero of none.
func (e *Edge) Root() (h Hash) {
	for i := len(e.roots) - 1; i >= 0; i-- {
		if i == len(e.roots)-1 {
			h = e.roots[i]
		} else {
			h = tlog.NodeHash(e.roots[i], h)
		}
	}
	return h
}
