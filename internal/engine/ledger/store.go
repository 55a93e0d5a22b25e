package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/audit"
)

// Store reads a log, beside the process that writes it or without one. Its methods
// are safe for concurrent use.
type Store struct {
	Dir     string
	Wrapper audit.KeyWrapper
}

// errStop ends reading early.
var errStop = errors.New("ledger: enough")

// Begin is the place of the first entry that is there whole: what stands before it
// was removed.
func (s *Store) Begin() (int64, error) {
	all, err := s.files()
	if err != nil || len(all) == 0 {
		return 0, err
	}
	return all[0].head.First, nil
}

// End is the place after the last entry.
func (s *Store) End(ctx context.Context) (int64, error) {
	all, err := s.files()
	if err != nil || len(all) == 0 {
		return 0, err
	}
	r, err := s.scan(ctx, all[len(all)-1])
	if err != nil {
		return 0, err
	}
	defer r.close()
	for {
		if _, err := r.skip(1 << 62); err == io.EOF || errors.Is(err, errTorn) {
			return r.next, nil
		} else if err != nil {
			return 0, err
		}
	}
}

// Find is the place of the event of an ID: the newest, if an ID came back after the
// window.
func (s *Store) Find(ctx context.Context, id string) (seq int64, err error) {
	wanted, err := audit.ParseID(id)
	if err != nil {
		return 0, err
	}
	seq = -1
	err = s.Read(ctx, 0, 1<<62, func(e audit.Entry) error {
		if e.Event.ID == wanted {
			seq = e.Seq
		}
		return nil
	})
	if err != nil || seq >= 0 {
		return seq, err
	}
	begin, err := s.Begin()
	if err != nil {
		return seq, err
	}
	if begin > 0 {
		return seq, fmt.Errorf("ledger: there is no event %s in the log; it may be one of the %d that retention has removed", id, begin)
	}
	return seq, fmt.Errorf("ledger: there is no event %s in the log", id)
}

// Read calls each with the entries from a place on, before another, in their order.
// It checks that frames authenticate and stand where they should; that nobody with
// the keys has changed the log is for Verify to say. It ends at what is not written
// to its end. Entries that were removed are passed over.
func (s *Store) Read(ctx context.Context, from, before int64, each func(audit.Entry) error) error {
	return s.entries(ctx, from, before, func(seq int64, entry []byte) error {
		_, event, err := audit.ParseEntry(entry)
		if err != nil {
			return fault(seq, err)
		}
		e, err := audit.Parse(event)
		if err != nil {
			return fault(seq, err)
		}
		return each(audit.Entry{Seq: seq, Event: e})
	})
}

func fault(seq int64, err error) error {
	return &audit.Fault{First: seq, Last: seq, What: err.Error()}
}

// entries is Read without parsing.
func (s *Store) entries(ctx context.Context, from, before int64, each func(seq int64, entry []byte) error) error {
	all, err := s.files()
	if err != nil {
		return err
	}
	for i, seg := range all {
		if i+1 < len(all) && all[i+1].head.First <= from {
			continue
		}
		if seg.head.First >= before {
			break
		}
		err := s.segment(ctx, seg, from, before, each)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed by retention meanwhile
		}
		if errors.Is(err, errTorn) && i == len(all)-1 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) segment(ctx context.Context, seg file, from, before int64, each func(seq int64, entry []byte) error) error {
	r, err := s.scan(ctx, seg)
	if err != nil {
		return err
	}
	defer r.close()
	for {
		skipped, err := r.skip(from)
		if err == io.EOF || r.next >= before {
			return nil
		}
		if err != nil {
			return err
		}
		if !skipped {
			break
		}
	}
	for r.next < before {
		if err := ctx.Err(); err != nil {
			return err
		}
		seq := r.next
		entries, count, err := r.read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for range count {
			var entry []byte
			if entry, entries, err = audit.CutEntry(entries); err != nil {
				return fault(seq, err)
			}
			if seq >= from && seq < before {
				if err := each(seq, entry); err != nil {
					return err
				}
			}
			seq++
		}
		if len(entries) > 0 {
			return fault(seq, fmt.Errorf("%d bytes after the last entry of a frame", len(entries)))
		}
	}
	return nil
}

// hashes reads the hashes of removed entries, from a place on, before another.
func (s *Store) hashes(from, before int64, each func(audit.Hash) error) error {
	if from >= before {
		return nil
	}
	f, err := os.Open(filepath.Join(s.Dir, "hashes"))
	if err != nil {
		return fmt.Errorf("ledger: the hashes of removed entries: %w", err)
	}
	defer f.Close()
	head := make([]byte, len(audit.HashesHead))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != audit.HashesHead {
		return fmt.Errorf("%w: %s does not hold the hashes of removed entries", audit.ErrBroken, f.Name())
	}
	r := newHashReader(f, from)
	for ; from < before; from++ {
		h, err := r.next()
		if err != nil {
			return &audit.Fault{First: from, Last: before - 1, What: "they were removed, and their hashes are missing"}
		}
		if err := each(h); err != nil {
			return err
		}
	}
	return nil
}

// Checkpoints calls each with every checkpoint that the log wrote, in their order,
// without checking it.
func (s *Store) Checkpoints(each func(note []byte) error) error {
	f, err := os.Open(filepath.Join(s.Dir, "checkpoints"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer f.Close()
	_, err = readNotes(f, each)
	return err
}

// readNotes reads notes behind their lengths, and says where the last whole one ends.
func readNotes(f *os.File, each func(note []byte) error) (end int64, err error) {
	r := newReader(f)
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return end, nil
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > audit.CheckpointMax {
			return end, fmt.Errorf("%w: %s at byte %d is no checkpoint", audit.ErrBroken, f.Name(), end)
		}
		note := make([]byte, n)
		if _, err := io.ReadFull(r, note); err != nil {
			return end, nil
		}
		if err := each(note); err != nil {
			return end, err
		}
		end += int64(4 + n)
	}
}

// Last is the newest checkpoint; nil before the first.
func (s *Store) Last() (note []byte, err error) {
	err = s.Checkpoints(func(b []byte) error { note = b; return nil })
	return note, err
}

// signed is the newest checkpoint, as it is and opened; ErrUnsigned before the first.
func (s *Store) signed(key *audit.LogKey) (note []byte, c *audit.Checkpoint, err error) {
	if note, err = s.Last(); err != nil {
		return nil, nil, err
	}
	if note == nil {
		return nil, nil, ErrUnsigned
	}
	c, err = key.Open(note)
	return note, c, err
}
