package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/wire"
)

// A service whose keepers all refuse tries again sooner than one that lacks
// some, at distances that double up to the same; success ends that.
func TestPublishingBacksOff(t *testing.T) {
	var p publishPlan
	at := []service.Meeting{{Node: wire.NodeID{1}}}
	now := time.Unix(1_700_000_000, 0)
	if p.due(now, nil) || !p.due(now, at) {
		t.Fatal("a descriptor is due when there are meetings to name, and not before")
	}
	// attempts lets a span of looks go by in which every attempt has one outcome.
	attempts := func(span time.Duration, missed int, err error) (n int) {
		for end := now.Add(span); now.Before(end); now = now.Add(publishLook) {
			if p.due(now, at) {
				n++
				p.done(now, at, missed, err)
			}
		}
		return n
	}
	full := errors.New("every keeper is full")
	if n := attempts(10*time.Second, 6, full); n != 4 { // 0, 1, 3, 7 s
		t.Errorf("%d attempts in the first 10 s, want 4", n)
	}
	if n := attempts(10*time.Minute, 6, full); n < 10 || n > 14 {
		t.Errorf("%d attempts in 10 minutes, want one a minute in the end", n)
	}
	if n := attempts(2*time.Minute, 2, nil); n != 2 {
		t.Errorf("%d attempts in 2 minutes while two keepers do not have it, want 2", n)
	}
	if n := attempts(30*time.Minute, 0, nil); n != 1 {
		t.Errorf("%d attempts in half an hour, want the one for the two keepers", n)
	}
	at = []service.Meeting{{Node: wire.NodeID{2}}}
	if !p.due(now, at) {
		t.Error("meetings that changed are not told at once")
	}
}

// Keepers that do not answer cost a reader a moment each, those that have
// nothing cost none, and the first descriptor ends the search.
func TestKeepersAreAskedInTurn(t *testing.T) {
	silent, nothing, has := wire.NodeID{1}, wire.NodeID{2}, wire.NodeID{3}
	down := errors.New("down")
	for _, c := range []struct {
		keepers []wire.NodeID
		after   time.Duration
		asked   int
		err     error
	}{
		{[]wire.NodeID{has, silent, silent}, 0, 1, nil},
		{[]wire.NodeID{nothing, nothing, has}, 0, 3, nil},
		{[]wire.NodeID{silent, silent, has}, 2 * lookupStagger, 3, nil},
		{[]wire.NodeID{silent, nothing, has}, lookupStagger, 3, nil},
		{[]wire.NodeID{nothing, silent, nothing}, keeperTimeout, 3, down},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked, begun := make(chan struct{}, 3), time.Now()
			d, err := inTurn(t.Context(), c.keepers, func(ctx context.Context, node wire.NodeID) (*service.Descriptor, error) {
				asked <- struct{}{}
				switch node {
				case has:
					return &service.Descriptor{}, nil
				case silent:
					ctx, cancel := context.WithTimeout(ctx, keeperTimeout)
					defer cancel()
					<-ctx.Done()
					return nil, down
				}
				return nil, nil
			})
			if took := time.Since(begun); took != c.after || len(asked) != c.asked || (d == nil) != (c.err != nil) || !errors.Is(err, c.err) {
				t.Errorf("%v: %d asked, %v after %v; want %d, %v after %v", c.keepers, len(asked), err, took, c.asked, c.err, c.after)
			}
		})
	}
}
