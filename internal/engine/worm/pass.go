package worm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/engine/s3"
)

// look finds out what the place holds, and that it is the beginning of this log: the
// same key, the same newest checkpoint, and no more than the log has.
func (c *Copier) look(ctx context.Context) error {
	if err := c.cfg.Bucket.Check(ctx); err != nil {
		return err
	}
	parts, err := c.cfg.parts(ctx)
	if err != nil {
		return err
	}
	extents, size, err := c.cfg.Store.Settled(ctx)
	if err != nil {
		return err
	}
	if err := c.begins(ctx, parts, extents); err != nil {
		return err
	}
	c.parts = parts
	if whole(parts, extents) {
		c.reached(size)
	}
	return nil
}

// begins returns ErrOther unless what is there is the beginning of this log.
func (c *Copier) begins(ctx context.Context, parts map[string][]part, extents []ledger.Extent) error {
	settled, oldest := map[string]int64{}, ""
	for _, e := range extents {
		settled[e.Name] = e.Bytes
		if oldest == "" && strings.HasPrefix(e.Name, segmentsDir) {
			oldest = e.Name
		}
	}
	for file, row := range parts {
		if strings.HasPrefix(file, segmentsDir) && file < oldest {
			continue // retention removed it from the log
		}
		last := row[len(row)-1]
		if last.end() > settled[file] {
			return fmt.Errorf("%w: it has more of %s; if this log was cut or lost, restore it from there (nyx audit restore), else choose another prefix", ErrOther, file)
		}
		if file == keyFile || file == checkpointsFile {
			if err := c.same(ctx, file, last); err != nil {
				return err
			}
		}
	}
	return nil
}

// same returns ErrOther unless a part is what the log has in its place.
func (c *Copier) same(ctx context.Context, file string, p part) error {
	theirs, _, err := c.cfg.Bucket.Get(ctx, p.Object)
	if err != nil {
		return err
	}
	ours, err := c.read(file, p.at, p.end())
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return err
	}
	if !bytes.Equal(ours, theirs) {
		return fmt.Errorf("%w: %s is another; choose another prefix, and find out who has written there", ErrOther, p.Key)
	}
	return nil
}

// read reads a piece of a file of the log.
func (c *Copier) read(file string, from, to int64) ([]byte, error) {
	f, err := os.Open(filepath.Join(c.cfg.Store.Dir, filepath.FromSlash(file)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, to-from)
	n, err := io.ReadFull(io.NewSectionReader(f, from, to-from), b)
	return b[:n], err
}

// pass copies all that is settled and not there yet.
func (c *Copier) pass(ctx context.Context) error {
	if c.parts == nil {
		if err := c.look(ctx); err != nil {
			return err
		}
	}
	extents, size, err := c.cfg.Store.Settled(ctx)
	if err != nil {
		return err
	}
	for _, e := range extents {
		for {
			from, to := hole(c.parts[e.Name], e.Bytes)
			if from == to {
				break
			}
			if err := c.put(ctx, e.Name, from, to); err != nil {
				return err
			}
		}
	}
	c.reached(size)
	return nil
}

// put puts a part. One that is there already, because an answer was lost, is taken for
// what it is.
func (c *Copier) put(ctx context.Context, file string, from, to int64) error {
	content, err := c.read(file, from, to)
	if err != nil {
		return err
	}
	p := part{s3.Object{Key: c.cfg.key(file, from), Size: to - from}, from}
	err = c.cfg.Bucket.Put(ctx, p.Key, content, c.cfg.Now().Add(c.cfg.Keep))
	if errors.Is(err, s3.ErrExists) {
		var there []s3.Object
		if there, err = c.cfg.Bucket.List(ctx, p.Key); err == nil && len(there) == 0 {
			err = fmt.Errorf("%s is said to be there, and is not", p.Key)
		}
		if err != nil {
			return err
		}
		p.Object = there[0]
		if err = c.same(ctx, file, p); err == nil && p.Size == 0 {
			err = fmt.Errorf("%w: %s is empty; choose another prefix", ErrOther, p.Key)
		}
	}
	if err != nil {
		return err
	}
	c.parts[file] = with(c.parts[file], p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.figures.Objects++
	c.figures.Bytes += uint64(p.Size)
	return nil
}

// whole reports whether all that is settled is there.
func whole(parts map[string][]part, extents []ledger.Extent) bool {
	for _, e := range extents {
		if from, to := hole(parts[e.Name], e.Bytes); from < to {
			return false
		}
	}
	return true
}

// reached notes that so many entries are there.
func (c *Copier) reached(size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.figures.Entries = size
	if c.cfg.Size() <= size {
		c.level = c.cfg.Now()
	}
}
