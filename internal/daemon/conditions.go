package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// listener follows the bulletins of a network and combines them: to conditions, for
// who draws paths, and to cover plans. Without any, nothing is known, and nothing
// stops.
type listener struct {
	board   *directory.Board
	from    reading
	every   time.Duration
	view    atomic.Pointer[directory.View] // the newest, a clone of our own
	chooser obfs.Chooser
	deliver func(c *directory.Conditions, left time.Duration) // nil: no paths are drawn
	plan    func(*wire.CoverPlan)
}

// newListener returns a listener that asks by an asker of its own: a server that
// has documents may have no bulletins.
func newListener(trust directory.Trust, asker *mirror.Asker) (*listener, error) {
	board, err := directory.NewBoard(trust)
	if err != nil {
		return nil, err
	}
	l := &listener{board: board, from: reading{asker: asker}, every: bulletinPoll}
	l.chooser.Seats, l.chooser.Need = board.Seats()
	return l, nil
}

// run asks until ctx ends.
func (l *listener) run(ctx context.Context) {
	defer l.from.asker.Close()
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		l.ask(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask takes what a server hands out, and tells what is known now, whether that
// brought news or not.
func (l *listener) ask(ctx context.Context) {
	v := l.view.Load()
	l.from.read(ctx, func(bundle []byte) error {
		_, err := l.board.AcceptBundle(bundle)
		return err
	}, func() bool {
		now := time.Now().Unix()
		if v != nil {
			now = v.Document().Now(now)
		}
		return l.board.Late(now)
	})
	if ctx.Err() == context.Canceled {
		return
	}
	wall := time.Now().Unix()
	if v != nil && l.deliver != nil {
		l.deliver(l.board.Conditions(v, wall))
	}
	if plan := l.chooser.Choose(wall, l.board.Plans()); plan != nil {
		l.plan(plan)
	}
}
