package daemon

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// listener follows the bulletins of a network and combines them: to conditions, for
// who draws paths, and to cover plans. Without any, nothing is known, and nothing
// stops.
type listener struct {
	board   *directory.Board
	urls    []string
	client  *http.Client
	every   time.Duration
	view    atomic.Pointer[directory.View] // the newest, a clone of our own
	tags    map[string]string
	chooser obfs.Chooser
	deliver func(c *directory.Conditions, left time.Duration) // nil: no paths are drawn
	plan    func(*wire.CoverPlan)
}

func newListener(trust directory.Trust, urls []string, client *http.Client) (*listener, error) {
	board, err := directory.NewBoard(trust)
	if client == nil {
		client = newHTTP()
	}
	if err != nil {
		return nil, err
	}
	l := &listener{board: board, urls: urls, client: client, every: bulletinPoll, tags: map[string]string{}}
	l.chooser.Seats, l.chooser.Need = board.Seats()
	return l, nil
}

// run asks one server after the other until ctx ends.
func (l *listener) run(ctx context.Context) {
	defer l.client.CloseIdleConnections()
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for i := 0; ; i++ {
		l.ask(ctx, l.urls[i%len(l.urls)])
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask takes what a server hands out, and tells what is known now, whether that
// brought news or not. A bulletin that is refused is the loss of whoever sent it.
func (l *listener) ask(ctx context.Context, url string) {
	ctx, cancel := context.WithTimeout(ctx, bulletinPoll)
	defer cancel()
	all, tag, err := fetchBulletins(ctx, l.client, url, l.tags[url])
	if err == nil {
		l.tags[url] = tag
	}
	for _, b := range all {
		l.board.Accept(b)
	}
	if ctx.Err() == context.Canceled {
		return
	}
	wall := time.Now().Unix()
	if v := l.view.Load(); v != nil && l.deliver != nil {
		l.deliver(l.board.Conditions(v, wall))
	}
	if plan := l.chooser.Choose(wall, l.board.Plans()); plan != nil {
		l.plan(plan)
	}
}
