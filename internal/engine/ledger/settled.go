package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/audit"
)

// Extent is the beginning of a file of a log, as far as it never changes again.
type Extent struct {
	Name  string // below the log's directory, with slashes
	Bytes int64
}

// Settled lists what of a log is settled: its key, the hashes of what was removed, the
// segments as far as the newest checkpoint covers them, and the checkpoints. Whoever
// copies it in this order has a log that verifies at every moment, and no crash takes
// back what was copied. It also says of how many entries that is. Tiles are left out:
// they follow from the rest.
func (s *Store) Settled(ctx context.Context) (extents []Extent, size int64, err error) {
	notes, size, err := s.settledNotes()
	if err != nil || size == 0 {
		return nil, 0, err
	}
	all, err := s.files() // later, so that they hold what was signed
	if err != nil {
		return nil, 0, err
	}
	key, err := os.Stat(filepath.Join(s.Dir, "log.key"))
	if err != nil {
		return nil, 0, fmt.Errorf("ledger: %w", err)
	}
	extents = append(extents, Extent{"log.key", key.Size()})
	if len(all) > 0 && all[0].head.First > 0 {
		extents = append(extents, Extent{"hashes", int64(len(audit.HashesHead)) + all[0].head.First*32})
	}
	for i, seg := range all {
		if seg.head.First >= size {
			break // nothing of it is signed: a crash may take it, head and all
		}
		end := seg.size
		if i+1 == len(all) || all[i+1].head.First > size {
			if end, err = s.settledFrames(ctx, seg, size); err != nil {
				return nil, 0, err
			}
		}
		extents = append(extents, Extent{segmentsDir + "/" + filepath.Base(seg.path), end})
	}
	return append(extents, Extent{"checkpoints", notes}), size, nil
}

// settledNotes says how many bytes of the checkpoints are on the disk, and how many
// entries the last of them covers.
func (s *Store) settledNotes() (end, size int64, err error) {
	f, err := os.OpenFile(filepath.Join(s.Dir, "checkpoints"), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("ledger: %w", err)
	}
	defer f.Close()
	end, err = readNotes(f, func(note []byte) error { size = saidSize(note); return nil })
	if err == nil {
		err = f.Sync() // the log may have written the last and not synced it yet
	}
	return end, size, err
}

// settledFrames says where the frames of a segment end that hold the entries before a
// place. A checkpoint is made between frames.
func (s *Store) settledFrames(ctx context.Context, seg file, before int64) (int64, error) {
	r, err := s.scan(ctx, seg)
	if err != nil {
		return 0, err
	}
	defer r.close()
	for r.next < before {
		switch whole, err := r.skip(before); {
		case err == io.EOF || errors.Is(err, errTorn):
			return 0, &audit.Fault{First: r.next, Last: before - 1, What: "they are missing: the log was signed with them"}
		case err != nil:
			return 0, err
		case !whole:
			return 0, r.fault("a checkpoint ends within it")
		}
	}
	return r.at, nil
}
