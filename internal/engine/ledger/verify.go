package ledger

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/nyxnet/nyx/internal/audit"
)

// Verify checks the whole log: that every frame authenticates, every entry goes on
// from the one before, every checkpoint is signed by the log and has the root of the
// entries, and that what is missing was removed on the record. others are signed
// checkpoints that somebody kept elsewhere: a log that was made anew, or cut, does
// not lead to them. each, if it is not nil, gets every event. A log that is being
// written is verified up to what it had committed; torn says how many bytes of an
// unfinished frame follow. Where retention removes a day meanwhile it begins anew, and so
// does each.
//
// An error that wraps audit.ErrBroken or audit.ErrForked says where.
func (s *Store) Verify(ctx context.Context, key *audit.LogKey, others [][]byte, each func(audit.Entry) error) (v audit.Verified, torn int64, err error) {
	for range shortenedTries {
		if v, torn, err = s.verify(ctx, key, others, each); !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return v, torn, err
}

// shortenedTries is how often what a removal disturbs is done: there is one a day.
const shortenedTries = 3

func (s *Store) verify(ctx context.Context, key *audit.LogKey, others [][]byte, each func(audit.Entry) error) (v audit.Verified, torn int64, err error) {
	var known []*audit.Checkpoint
	take := func(note []byte) error {
		c, err := key.Open(note)
		known = append(known, c)
		return err
	}
	for _, note := range others {
		if err := take(note); err != nil {
			return v, 0, err
		}
	}
	if err := s.Checkpoints(take); err != nil {
		return v, 0, err
	}
	all, err := s.files() // later, so that they hold what was signed
	if err != nil {
		return v, 0, err
	}
	verifier, err := audit.NewVerifier(known)
	if err != nil {
		return v, 0, err
	}
	if len(all) > 0 {
		if err := s.hashes(0, all[0].head.First, verifier.Hash); err != nil {
			return v, 0, err
		}
	}
	for i, seg := range all {
		torn, err = s.verifySegment(ctx, verifier, seg, i == len(all)-1, each)
		if err != nil {
			return v, 0, err
		}
	}
	v, err = verifier.Finish()
	return v, torn, err
}

func (s *Store) verifySegment(ctx context.Context, v *audit.Verifier, seg file, last bool, each func(audit.Entry) error) (torn int64, err error) {
	if err := v.Begin(seg.head.First, seg.head.Prev); err != nil {
		return 0, err
	}
	r, err := s.scan(ctx, seg)
	if err != nil {
		return 0, err
	}
	defer r.close()
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		entries, count, err := r.read()
		switch {
		case err == io.EOF:
			return 0, nil
		case errors.Is(err, errTorn) && last:
			return r.size - r.at, nil
		case errors.Is(err, errTorn):
			return 0, r.fault("the segment ends within a frame")
		case err != nil:
			return 0, err
		}
		for range count {
			var entry []byte
			if entry, entries, err = audit.CutEntry(entries); err != nil {
				return 0, r.fault(err.Error())
			}
			seq := v.Size()
			e, err := v.Entry(entry)
			if err != nil {
				return 0, err
			}
			if each != nil {
				if err := each(audit.Entry{Seq: seq, Event: e}); err != nil {
					return 0, err
				}
			}
		}
		if len(entries) > 0 {
			return 0, r.fault("bytes after the last entry of a frame")
		}
	}
}
