package changes

import (
	"context"
	"fmt"
	"strconv"

	"github.com/nyxnet/nyx/internal/control/settings"
)

// toldKey has the revision up to which the changes were told.
const toldKey = "told"

// Tell has tell told of every change, in their order and some at a time, until ctx
// ends; it begins after those that were told before, by whomever. The mark of what was
// told is kept when tell has returned without an error: so whoever dies when, each
// change is told at least once, and some that were just told are told again. One
// process does it, the leader; of two, one ends with registry.ErrChanged.
func (l *Log) Tell(ctx context.Context, tell func(context.Context, []settings.Change) error) error {
	mark, err := l.cfg.Store.Get(ctx, toldKey)
	told := uint64(0)
	if err == nil && mark.Revision != 0 {
		if told, err = strconv.ParseUint(string(mark.Value), 10, 64); err != nil {
			err = fmt.Errorf("the mark of the changes that were told is none: %w", err)
		}
	}
	for err == nil {
		var some []settings.Change
		if some, err = l.following(ctx, told); err != nil {
			return err
		}
		if err = tell(ctx, some); err != nil {
			return err
		}
		told = some[len(some)-1].Revision
		mark.Revision, err = l.cfg.Store.Put(ctx, toldKey, strconv.AppendUint(nil, told, 10), mark.Revision)
	}
	return err
}

// following waits for changes after a revision, and returns the first of them.
func (l *Log) following(ctx context.Context, revision uint64) ([]settings.Change, error) {
	next, err := l.After(ctx, revision)
	if err != nil || next.State == nil {
		return next.Changes, err
	}
	// Those are no longer in memory.
	err = l.History(ctx, revision+1, func(c settings.Change) bool {
		next.Changes = append(next.Changes, c)
		return len(next.Changes) < answerMost
	})
	if err == nil && len(next.Changes) == 0 {
		err = fmt.Errorf("the changes after revision %d are not there", revision)
	}
	return next.Changes, err
}
