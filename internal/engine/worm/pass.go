package worm

import (
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
// same key, the same newest checkpoint, and no more than the log has. What else is new
// there is for check to compare.
func (c *Copier) look(ctx context.Context) error {
	at := c.cfg.Now()
	if err := c.cfg.Bucket.Check(ctx); err != nil {
		return err
	}
	parts, err := c.cfg.parts(ctx)
	if err != nil {
		return err
	}
	extents, _, err := c.cfg.Store.Settled(ctx)
	if err != nil {
		return err
	}
	c.carry(parts)
	if err := c.begins(ctx, parts, extents); err != nil {
		return err
	}
	c.parts, c.looked = parts, at
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
		last := &row[len(row)-1]
		if last.end() > settled[file] {
			return fmt.Errorf("%w: it has more of %s; if this log was cut or lost, restore it from there (nyx audit restore), else choose another prefix", ErrOther, file)
		}
		if (file == keyFile || file == checkpointsFile) && last.until.IsZero() {
			if err := c.same(ctx, file, last); err != nil {
				return err
			}
		}
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

// pass copies all that is settled and not there yet, and sees to it that what is there is
// the log's and locked. That may take long after a start: what the log gets meanwhile is
// copied every so often.
func (c *Copier) pass(ctx context.Context) error {
	for {
		extents, size, err := c.fill(ctx)
		if err != nil {
			return err
		}
		done, err := c.check(ctx, extents, c.cfg.Now().Add(c.cfg.Every))
		if err != nil {
			return err
		}
		if done {
			c.reached(size)
			return nil
		}
	}
}

// fill puts what is settled and not there. It returns what that is, and of how many
// entries.
func (c *Copier) fill(ctx context.Context) ([]ledger.Extent, int64, error) {
	if c.cfg.Now().Sub(c.looked) >= lookEvery {
		if err := c.look(ctx); err != nil {
			return nil, 0, err
		}
	}
	extents, size, err := c.cfg.Store.Settled(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range extents {
		for {
			from, to := hole(c.parts[e.Name], e.Bytes)
			if from == to {
				break
			}
			if err := c.put(ctx, e.Name, from, to); err != nil {
				return nil, 0, err
			}
		}
	}
	return extents, size, nil
}

// put puts a part. One that is there already, because an answer was lost, is taken for
// what it is.
func (c *Copier) put(ctx context.Context, file string, from, to int64) error {
	content, err := c.read(file, from, to)
	if err != nil {
		return err
	}
	p := part{at: from, until: c.until(file)}
	p.Object, err = c.cfg.Bucket.Put(ctx, c.cfg.key(file, from), content, p.until)
	if errors.Is(err, s3.ErrExists) {
		p, err = c.there(ctx, file, from)
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

// there is the part of a file at a place in which there was none at the last look.
func (c *Copier) there(ctx context.Context, file string, at int64) (part, error) {
	key := c.cfg.key(file, at)
	objects, err := c.cfg.Bucket.List(ctx, key)
	if err != nil {
		return part{}, err
	}
	if len(objects) == 0 || objects[0].Key != key {
		return part{}, fmt.Errorf("%s is said to be there, and is not", key)
	}
	p := part{Object: objects[0], at: at}
	return p, c.same(ctx, file, &p)
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
