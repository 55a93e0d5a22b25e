package client

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// flow has so many cells come at equal gaps, and reports whether a stretch ended.
func (s *stretch) flow(now *machine.Time, cells int, gap time.Duration) (over bool) {
	for range cells {
		*now = now.Add(gap)
		over = s.came(*now) || over
	}
	return over
}

// What a full queue drops of a burst is no sign of a hop that drops: a stretch is a
// flow. (Control: where rests count too, the burst after one ends a stretch.)
func TestAStretchIsAFlow(t *testing.T) {
	now := machine.Time(time.Hour)
	s := stretch{last: now}
	if s.flow(&now, 200, 500*time.Millisecond) || s.flow(&now, 2000, 75*time.Microsecond) {
		t.Error("a burst after a rest ended a stretch")
	}
	if !s.flow(&now, 6000, time.Millisecond) {
		t.Error("a flow of six seconds ended no stretch")
	}
	s = stretch{last: now}
	if !s.flow(&now, stretchCells+1, 200*time.Millisecond) {
		t.Error("the cells of class 5 ended no stretch")
	}
}
