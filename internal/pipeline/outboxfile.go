package pipeline

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// boxFileMost is at what size the file is written anew, in bytes: as it holds what
// was sent too, a few times what may wait.
const boxFileMost = 4 * outboxBytes

// boxFile is an outbox on disk: a batch that grows, of which all was sent when it is
// emptied. A nil boxFile keeps nothing.
type boxFile struct {
	path string
	file *os.File
	size int64
}

// openBox opens the file and returns what events it holds. What comes after a cut,
// of a process that ended while it wrote, is not kept: it was not acknowledged.
func openBox(path string) (*boxFile, [][]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("the outbox of events: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, 2*boxFileMost))
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("the outbox of events: %w", err)
	}
	var held [][]byte
	rest := b
	for {
		one, after, ok := cutBatch(rest)
		if !ok {
			break
		}
		held, rest = append(held, one), after
	}
	box := &boxFile{path, f, int64(len(b) - len(rest))}
	if err := f.Truncate(box.size); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("the outbox of events: %w", err)
	}
	return box, held, nil
}

// add writes a batch to the disk.
func (b *boxFile) add(batch []byte) error {
	if b == nil || len(batch) == 0 {
		return nil
	}
	if _, err := b.file.WriteAt(batch, b.size); err != nil {
		return fmt.Errorf("the outbox of events: %w", err)
	}
	b.size += int64(len(batch))
	return b.file.Sync()
}

// keep makes the file no larger than it needs to be for what waits.
func (b *boxFile) keep(queue [NumLanes][]boxed) error {
	if b == nil {
		return nil
	}
	var batch []byte
	for _, lane := range queue {
		for _, one := range lane {
			batch = AppendBatch(batch, one.event)
		}
	}
	if len(batch) == 0 {
		b.size = 0
		return b.file.Truncate(0) // comes back after a loss of power, and is sent again
	}
	if b.size < boxFileMost {
		return nil
	}
	return b.replace(batch)
}

// replace writes the file anew: it is the old or the new one, whatever happens.
func (b *boxFile) replace(batch []byte) error {
	fresh, err := os.CreateTemp(filepath.Dir(b.path), filepath.Base(b.path)+".new-*")
	if err != nil {
		return err
	}
	_, err = fresh.Write(batch)
	if err = errors.Join(err, fresh.Sync()); err == nil {
		err = os.Rename(fresh.Name(), b.path)
	}
	if err != nil {
		fresh.Close()
		if gone := os.Remove(fresh.Name()); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return err
	}
	b.file.Close()
	b.file, b.size = fresh, int64(len(batch))
	return nil
}

func (b *boxFile) close() error {
	if b == nil {
		return nil
	}
	return b.file.Close()
}
