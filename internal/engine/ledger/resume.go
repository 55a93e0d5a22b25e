package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/seal"
)

// Segment is a segment as who keeps results of a log's days sees it.
type Segment struct {
	Name  string
	Day   audit.Day // on which the log took its entries
	First int64
}

// Segments lists those that are there, in the order of their entries.
func (s *Store) Segments() ([]Segment, error) {
	all, err := s.files()
	if err != nil {
		return nil, err
	}
	out := make([]Segment, len(all))
	for i, f := range all {
		out[i] = Segment{filepath.Base(f.path), f.head.Day, f.head.First}
	}
	return out, nil
}

// digestPiece bounds what Digest holds in memory.
const digestPiece = 1 << 20

// Digest is that of a segment as it lies on the disk: SHA-256 of the SHA-256s of its
// pieces of 1 MiB. An error that is os.ErrNotExist says that it is there no more.
func (s *Store) Digest(name string) ([32]byte, error) {
	f, err := os.Open(filepath.Join(s.Dir, segmentsDir, filepath.Base(name)))
	if err != nil {
		return [32]byte{}, fmt.Errorf("ledger: %w", err)
	}
	defer f.Close()
	piece, sums := make([]byte, digestPiece), []byte(nil)
	for {
		n, err := io.ReadFull(f, piece)
		if n > 0 {
			h := seal.SHA256(piece[:n])
			sums = append(sums, h[:]...)
		}
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return seal.SHA256(sums), nil
		}
		if err != nil {
			return [32]byte{}, fmt.Errorf("ledger: %w", err)
		}
	}
}

// Signed returns the checkpoints of more than so many entries, by size, their
// signatures checked. Those of less cost nothing but reading.
func (s *Store) Signed(key *audit.LogKey, above int64) (out []*audit.Checkpoint, err error) {
	err = s.Checkpoints(func(note []byte) error {
		if saidSize(note) <= above {
			return nil
		}
		c, err := key.Open(note)
		out = append(out, c)
		return err
	})
	return out, err
}

// Covering is the first checkpoint of so many entries or more; nil if there is none.
func (s *Store) Covering(key *audit.LogKey, size int64) (c *audit.Checkpoint, note []byte, err error) {
	err = s.Checkpoints(func(b []byte) error {
		if saidSize(b) < size {
			return nil
		}
		note = b
		return errStop
	})
	if note == nil || err != nil && !errors.Is(err, errStop) {
		return nil, nil, err
	}
	c, err = key.Open(note)
	return c, note, err
}

// saidSize is what a note says of its size before anybody has looked at its signature.
func saidSize(note []byte) int64 {
	_, rest, _ := strings.Cut(string(note), "\n")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		return 1 << 62 // to be opened, and refused
	}
	return n
}

// VerifyFrom verifies what follows a mark at which a segment begins, up to the place
// before, which is signed: as Verify does, and against those of the checkpoints that
// lie between. Of entries that were removed it takes the hashes. each gets the events
// that are there. It returns the mark at before.
func (s *Store) VerifyFrom(ctx context.Context, from *audit.Mark, checkpoints []*audit.Checkpoint, before int64, each func(audit.Entry) error) (end audit.Mark, err error) {
	if before <= from.Size {
		return *from, nil
	}
	var due []*audit.Checkpoint
	for _, c := range checkpoints {
		if c.Size > from.Size && c.Size <= before {
			due = append(due, c)
		}
	}
	v, err := audit.NewVerifier(due)
	if err == nil {
		err = v.Resume(from)
	}
	if err != nil {
		return end, err
	}
	all, err := s.files()
	if err != nil {
		return end, err
	}
	removed := int64(0)
	if len(all) > 0 {
		removed = min(all[0].head.First, before)
	}
	err = s.hashes(from.Size, removed, v.Hash)
	if errors.Is(err, os.ErrNotExist) {
		err = &audit.Fault{First: from.Size, Last: removed - 1, What: "they are missing, and so are the hashes that retention keeps"}
	}
	if err != nil {
		return end, err
	}
	if v.Size() == before {
		return v.Chain().Mark(), nil
	}
	for i, seg := range all {
		if seg.head.First < from.Size {
			continue
		}
		_, err := s.verifySegment(ctx, v, seg, i == len(all)-1, func(e audit.Entry) error {
			if err := each(e); err != nil {
				return err
			}
			if v.Size() == before {
				return errStop
			}
			return nil
		})
		if errors.Is(err, errStop) {
			return v.Chain().Mark(), nil
		}
		if err != nil {
			return end, err
		}
	}
	return end, &audit.Fault{First: v.Size(), Last: before - 1, What: fmt.Sprintf("they are missing: the log ends before them, and %d were signed", before)}
}

// WriteFile writes a file that is there with all of its content or not at all, and is
// on the disk when it returns.
func WriteFile(path string, content []byte) error {
	if err := writeDurable(path, content, datasync); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}
