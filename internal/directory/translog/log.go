package translog

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/nyxnet/nyx/internal/directory"
)

// Log is the tree of one log, whole: its keeper's, or a copy. An entry takes its
// own size (some 200 bytes) and two hashes. The zero Log is empty.
type Log struct {
	entries [][]byte
	hashes  []tlog.Hash // in the order of tlog.StoredHashIndex
	places  map[directory.Mark]int64
}

// Append adds an entry and returns its index. The Log keeps it.
func (l *Log) Append(entry []byte) (index int64, err error) {
	if len(entry) > MaxEntrySize || len(l.entries) >= MaxEntries {
		return 0, fmt.Errorf("%w entry: %d bytes after %d entries", ErrMalformed, len(entry), len(l.entries))
	}
	_, mark, err := directory.ParseHeader(entry)
	if err != nil {
		return 0, fmt.Errorf("entry %d: %w", len(l.entries), err)
	}
	index = l.Size()
	more, err := tlog.StoredHashes(index, entry, l.reader())
	if err != nil {
		return 0, fmt.Errorf("log: %w", err)
	}
	if l.places == nil {
		l.places = make(map[directory.Mark]int64)
	}
	l.hashes, l.entries = append(l.hashes, more...), append(l.entries, entry)
	l.places[mark] = index
	return index, nil
}

func (l *Log) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, at := range indexes {
			if at < 0 || at >= int64(len(l.hashes)) {
				return nil, fmt.Errorf("%w: no hash %d", ErrMalformed, at)
			}
			out[i] = l.hashes[at]
		}
		return out, nil
	})
}

// Size is the number of entries.
func (l *Log) Size() int64 { return int64(len(l.entries)) }

// Entry returns an entry, which the caller must not change.
func (l *Log) Entry(i int64) []byte { return l.entries[i] }

// Find returns where the document of a mark stands.
func (l *Log) Find(m directory.Mark) (index int64, ok bool) {
	index, ok = l.places[m]
	return index, ok
}

// Root is the root over the first size entries, which must be there.
func (l *Log) Root(size int64) (tlog.Hash, error) {
	if size < 0 || size > l.Size() {
		return tlog.Hash{}, fmt.Errorf("%w: root of %d entries of %d", ErrMalformed, size, l.Size())
	}
	return tlog.TreeHash(size, l.reader())
}

// Head is the checkpoint over all entries.
func (l *Log) Head(origin string) (Checkpoint, error) {
	root, err := l.Root(l.Size())
	return Checkpoint{origin, l.Size(), root}, err
}

// Holds checks a checkpoint, whose signatures are somebody else's matter, against
// the entries.
func (l *Log) Holds(c Checkpoint) error {
	root, err := l.Root(c.Size)
	if err == nil && root != c.Root {
		err = fmt.Errorf("%w: the first %d entries of %s have another root", ErrInconsistent, c.Size, c.Origin)
	}
	return err
}

// Inclusion proves that entry i is among the first size.
func (l *Log) Inclusion(i, size int64) ([]tlog.Hash, error) {
	if i < 0 || i >= size || size > l.Size() {
		return nil, fmt.Errorf("%w: entry %d of %d", ErrMalformed, i, size)
	}
	return tlog.ProveRecord(size, i, l.reader())
}

// Consistency proves that the tree of the first size entries goes on from that of
// the first old; of none, everything does.
func (l *Log) Consistency(old, size int64) ([]tlog.Hash, error) {
	if old < 0 || old > size || size > l.Size() {
		return nil, fmt.Errorf("%w: from %d to %d of %d entries", ErrMalformed, old, size, l.Size())
	}
	if old == 0 || old == size {
		return nil, nil
	}
	return tlog.ProveTree(size, old, l.reader())
}

// goesOn checks what Consistency proves.
func goesOn(from, to Checkpoint, proof []tlog.Hash) error {
	switch {
	case from.Origin != to.Origin || from.Size > to.Size:
	case from.Size == to.Size:
		if from.Root == to.Root && len(proof) == 0 {
			return nil
		}
	case from.Size == 0:
		if len(proof) == 0 {
			return nil
		}
	case tlog.CheckTree(proof, to.Size, to.Root, from.Size, from.Root) == nil:
		return nil
	}
	return fmt.Errorf("%w: %s, from %d to %d entries", ErrInconsistent, to.Origin, from.Size, to.Size)
}

// tileHeight is that of tlog-tiles: 256 hashes or entries.
const tileHeight = 8

const tileWidth = 1 << tileHeight

// Tile returns a file of tlog-tiles by its path below the log's prefix, as in
// tile/0/000 or tile/entries/000.p/7: hashes, or entries that are each preceded by
// their length in two bytes.
func (l *Log) Tile(path string) ([]byte, error) {
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok {
		return nil, fmt.Errorf("%w: %q is not a tile", ErrMalformed, path)
	}
	level, rest, _ := strings.Cut(rest, "/")
	entries := level == "entries"
	if entries {
		level = "data"
	} else if n, err := strconv.Atoi(level); err != nil || n < 0 || n > 7 {
		return nil, fmt.Errorf("%w: %q is not a tile", ErrMalformed, path)
	}
	// Package tlog names the height, which tlog-tiles has fixed.
	t, err := tlog.ParseTilePath(fmt.Sprintf("tile/%d/%s/%s", tileHeight, level, rest))
	if err != nil {
		return nil, fmt.Errorf("%w: %q is not a tile", ErrMalformed, path)
	}
	if !entries {
		b, err := tlog.ReadTileData(t, l.reader())
		if err != nil {
			err = fmt.Errorf("%w: no tile %q", ErrMalformed, path)
		}
		return b, err
	}
	first := t.N * tileWidth
	if first < 0 || first+int64(t.W) > l.Size() {
		return nil, fmt.Errorf("%w: no tile %q", ErrMalformed, path)
	}
	var b []byte
	for _, e := range l.entries[first : first+int64(t.W)] {
		b = AppendEntry(b, e)
	}
	return b, nil
}

// BundlePath is the path of the entries of a tile, from entry 256·n on, of a log
// of a size that holds some of them.
func BundlePath(n, size int64) string {
	w := min(tileWidth, size-n*tileWidth)
	path := (tlog.Tile{H: tileHeight, L: -1, N: n, W: int(w)}).Path()
	return strings.Replace(path, fmt.Sprintf("tile/%d/data", tileHeight), "tile/entries", 1)
}

// AppendEntry writes an entry as bundles and files have it.
func AppendEntry(b, entry []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(entry))), entry...)
}

// ParseEntries reads entries as AppendEntry wrote them. rest is what of b no
// whole entry is left in: after a crash, the one that was being written.
func ParseEntries(b []byte) (entries [][]byte, rest []byte) {
	for len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+n {
			break
		}
		entries, b = append(entries, b[2:2+n:2+n]), b[2+n:]
	}
	return entries, b
}
