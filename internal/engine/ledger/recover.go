package ledger

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/audit"
)

func newReader(f *os.File) *bufio.Reader { return bufio.NewReaderSize(f, 64<<10) }

// hashReader reads hashes of 32 bytes.
type hashReader struct{ r *bufio.Reader }

// newHashReader reads those of the file of removed entries from a place on.
func newHashReader(f *os.File, from int64) hashReader {
	return hashReader{bufio.NewReaderSize(io.NewSectionReader(f, int64(len(audit.HashesHead))+from*32, 1<<62), 64<<10)}
}

func (r hashReader) next() (h audit.Hash, err error) {
	_, err = io.ReadFull(r.r, h[:])
	return h, err
}

// recover finds where the log ends: it cuts off a torn frame, reads what came after
// the newest checkpoint and the events of the window, and compares with what was
// signed.
func (l *Log) recover(ctx context.Context) error {
	if err := l.openKey(); err != nil {
		return err
	}
	last, err := l.openNotes()
	if err != nil {
		return err
	}
	if l.tiles, err = os.OpenFile(filepath.Join(l.cfg.Dir, "tiles"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	size, err := l.cutTorn(ctx)
	if err != nil {
		return err
	}
	if last != nil && size < last.Size {
		return &audit.Fault{First: size, Last: last.Size - 1, What: "they are missing: the log was signed with them; restore the directory, and keep this one for whoever has to find out"}
	}
	if err = l.replay(ctx, size, last); !errors.Is(err, errTiles) {
		return err
	}
	if err := l.tiles.Truncate(0); err != nil { // from the first entry on
		return fmt.Errorf("ledger: %w", err)
	}
	l.known = newWindow(l.cfg.Window)
	if err = l.replay(ctx, size, last); errors.Is(err, errTiles) {
		err = &audit.Fault{First: 0, Last: last.Size - 1, What: "their root is not the one that was signed; see nyx audit verify"}
	}
	return err
}

// errTiles means tiles that do not lead to the root that was signed.
var errTiles = errors.New("ledger: tiles do not fit the checkpoint")

// replay reads the log from where tiles, checkpoint and window allow.
func (l *Log) replay(ctx context.Context, size int64, last *audit.Checkpoint) error {
	tiles, err := l.readTiles()
	if err != nil {
		return err
	}
	from := max(0, size-int64(l.cfg.Window))
	if last != nil {
		from = min(from, last.Size)
	} else {
		from = 0
	}
	from = min(from/audit.TileSize, int64(len(tiles)))
	tiles = tiles[:from]
	from *= audit.TileSize
	l.chain = audit.Chain{Edge: audit.NewEdge(tiles)}
	taken := func() error {
		if err := l.tile(); err != nil {
			return err
		}
		if last != nil && l.chain.Size() == last.Size && l.chain.Root() != last.Root {
			return errTiles
		}
		return nil
	}
	begin, err := l.store.Begin()
	if err != nil {
		return err
	}
	err = l.store.hashes(from, min(begin, size), func(h audit.Hash) error {
		l.chain.Edge.Append(h)
		l.chain.Last = h
		return taken()
	})
	if err != nil {
		return err
	}
	err = l.store.entries(ctx, l.chain.Size(), size, func(seq int64, entry []byte) error {
		prev, event, err := audit.ParseEntry(entry)
		if err != nil {
			return fault(seq, err)
		}
		if seq == from {
			l.chain.Last = prev // its own proof is the root that was signed
		}
		if seq != l.chain.Size() || !l.chain.Next(entry) {
			return &audit.Fault{First: l.chain.Size(), Last: seq, What: "the entry does not go on from the one before it"}
		}
		e, err := audit.Parse(event)
		if err != nil {
			return fault(seq, err)
		}
		l.known.add(e.ID)
		return taken()
	})
	if err == nil && l.chain.Size() != size {
		err = &audit.Fault{First: l.chain.Size(), Last: size - 1, What: "they cannot be read"}
	}
	return err
}

func (l *Log) readTiles() (tiles []audit.Hash, err error) {
	b, err := io.ReadAll(io.NewSectionReader(l.tiles, 0, 1<<62))
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return cutHashes(b), nil
}

// cutHashes cuts hashes of 32 bytes.
func cutHashes(b []byte) (hashes []audit.Hash) {
	for ; len(b) >= 32; b = b[32:] {
		hashes = append(hashes, audit.Hash(b[:32]))
	}
	return hashes
}

// openKey compares the log's name and key with those that it was made with.
func (l *Log) openKey() error {
	path := filepath.Join(l.cfg.Dir, "log.key")
	key, err := ReadKey(path)
	if errors.Is(err, os.ErrNotExist) {
		return writeDurable(path, appendKey(nil, &l.key), l.cfg.sync)
	}
	if err != nil {
		return err
	}
	if key.Origin != l.key.Origin || string(key.Public) != string(l.key.Public) {
		return fmt.Errorf("ledger: the log in %s is %q under another key or name; give it the signing key that it was made with", l.cfg.Dir, key.Origin)
	}
	return nil
}

// openNotes opens the file of checkpoints, cuts off a torn one, and returns the
// newest.
func (l *Log) openNotes() (*audit.Checkpoint, error) {
	f, err := os.OpenFile(filepath.Join(l.cfg.Dir, "checkpoints"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	l.notes = f
	end, err := readNotes(f, func(note []byte) error { l.newest = note; return nil })
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil || l.newest == nil {
		return nil, err
	}
	c, err := l.key.Open(l.newest)
	if err != nil {
		return nil, err
	}
	l.signed = c.Size
	return c, nil
}

// sign writes a checkpoint over all entries, unless there is one.
func (l *Log) sign() error {
	if l.failed != nil {
		return l.failed
	}
	size := l.chain.Size()
	if size == l.signed {
		return nil
	}
	c := audit.Checkpoint{Origin: l.key.Origin, Size: size, Root: l.chain.Root(), Time: l.cfg.Now()}
	note, err := c.Sign(l.cfg.Signer)
	if err != nil {
		return err
	}
	if _, err := l.notes.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(note))), note...)); err != nil {
		return err
	}
	if err := l.cfg.sync(l.notes); err != nil {
		return err
	}
	l.signed, l.wait = size, min(2*l.wait, l.cfg.CheckpointEvery)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = note
	return nil
}

// cutTorn finds how many entries there are, and cuts off what a crash left of a
// frame in the last segment. A segment in which a frame is broken before the last is
// not torn: it was changed.
func (l *Log) cutTorn(ctx context.Context) (size int64, err error) {
	all, err := l.store.files()
	if err != nil || len(all) == 0 {
		return 0, err
	}
	newest := all[len(all)-1]
	l.day = newest.head.Day
	r, err := l.store.scan(ctx, newest)
	if err != nil {
		return 0, err
	}
	defer r.close()
	for {
		_, _, err := r.read()
		switch {
		case err == io.EOF:
			return r.next, nil
		case errors.Is(err, errTorn) || errors.Is(err, audit.ErrBroken) && r.last():
			l.counts.Cut = r.size - r.at
			return r.next, truncate(r.path, r.at, l.cfg.sync)
		case err != nil:
			return 0, err
		}
	}
}

// last reports whether nothing stands behind the frame that was read last, which did
// not authenticate.
func (s *scanner) last() bool { return s.at+int64(len(s.frame)) == s.size }

func truncate(path string, size int64, sync func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		defer f.Close()
		if err = f.Truncate(size); err == nil {
			err = sync(f)
		}
	}
	if err != nil {
		return fmt.Errorf("ledger: %s, torn at byte %d: %w", path, size, err)
	}
	return nil
}
