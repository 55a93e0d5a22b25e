package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/setup"
)

// logged demands for each document the proof that it stands in a log which the
// witnesses have seen, and that this log goes on from what was seen of it before.
// A nil logged, in networks without witnesses, demands nothing.
type logged struct {
	policy *translog.Policy
	memory *translog.Memory
	prefix string // of the files of newest checkpoints; "" for none
	report *reporter
	proven directory.Mark
}

// newLogged goes on from the checkpoints that were kept in a directory for a
// reader of documents of that name; "" keeps none.
func newLogged(trust *directory.Trust, dir, name string, report *reporter) (*logged, error) {
	policy := translog.NewPolicy(trust)
	if err := policy.Check(); err != nil || !policy.Demanded() {
		return nil, err
	}
	l := &logged{policy: policy, report: report}
	var notes [][]byte
	if dir != "" {
		l.prefix = filepath.Join(dir, name+".log-")
		for _, key := range policy.Authorities {
			note, err := setup.LoadNote(l.path(translog.Origin(policy.Network, key)))
			if err != nil {
				return nil, err
			}
			if note != nil {
				notes = append(notes, note)
			}
		}
	}
	var err error
	if l.memory, err = translog.NewMemory(policy, notes...); err != nil {
		return nil, fmt.Errorf("a checkpoint in %s is damaged; remove it, and know that another log is then believed once: %w", dir, err)
	}
	return l, nil
}

func (l *logged) path(origin string) string {
	return l.prefix + logID(origin) + setup.CheckpointSuffix
}

// logID is the last part of an origin: the beginning of its authority's ID.
func logID(origin string) string { return origin[strings.LastIndexByte(origin, '/')+1:] }

// asks asks one or several servers for a path, until take has no fault to find with
// an answer.
type asks func(ctx context.Context, path string, most int64, take func([]byte) error) error

// check asks for the proof of a document.
func (l *logged) check(ctx context.Context, of asks, d *directory.Document) error {
	if l == nil || d.Mark() == l.proven {
		return nil
	}
	err := of(ctx, logPath+"proof/"+markPath(d.Mark()), translog.MaxProofSize, func(b []byte) error {
		proof, err := translog.ParseProof(b)
		if err != nil {
			return err
		}
		c, err := l.policy.Verify(d.SignedHeader(), proof)
		if err != nil {
			return err
		}
		return l.remember(ctx, of, c, proof.Note)
	})
	if err != nil {
		return fmt.Errorf("%w: epoch %d revision %d: %w", translog.ErrNotLogged, d.Epoch, d.Revision, err)
	}
	l.proven = d.Mark()
	return nil
}

// remember takes a checkpoint, with the proof that what was seen before and it are
// one log.
func (l *logged) remember(ctx context.Context, of asks, c translog.Checkpoint, note []byte) error {
	from, to := l.memory.Lacks(c)
	if from == to {
		err := l.accept(c, note, nil)
		l.tell(c, note, err)
		return err
	}
	path := fmt.Sprintf("%sconsistency/%s/%d/%d", logPath, logID(c.Origin), from, to)
	err := of(ctx, path, translog.MaxProofSize, func(b []byte) error {
		hashes, err := translog.ParseHashes(string(b))
		if err != nil {
			return err
		}
		return l.accept(c, note, hashes)
	})
	l.tell(c, note, err)
	if err != nil {
		err = fmt.Errorf("%w: %w", translog.ErrInconsistent, err)
	}
	return err
}

// tell reports two checkpoints for whose consistency something else than a proof was
// given.
func (l *logged) tell(c translog.Checkpoint, note []byte, err error) {
	if errors.Is(err, translog.ErrInconsistent) {
		_, before := l.memory.Newest(c.Origin)
		l.report.fork(l.policy, before, note)
	}
}

func (l *logged) accept(c translog.Checkpoint, note []byte, hashes []tlog.Hash) error {
	changed, err := l.memory.Accept(c, note, hashes)
	if err != nil || !changed || l.prefix == "" {
		return err
	}
	return setup.SaveNote(l.path(c.Origin), note)
}
