package congestion

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// A short path is one whose quickest packets are acknowledged within shortRTT:
// five hops on one machine or in one rack. What limits such a path is not a
// link with a rate but the processors of its hosts, and those move the more,
// the more packets they find at a time. A model of rate and round trip has
// nothing to hold on to there: pacing at the rate that was measured keeps
// batches small, and so the rate low.
//
// On a short path the window alone governs. It grows while packets stay in
// flight for less than hostTime, which is the queue that it may build, and
// shrinks beyond twice that, or on loss.

// hostTime is how long packets may stay in flight on a short path: long enough
// for every host to gather a batch, and for a processor that others share to
// come back; short enough to be felt by nobody.
const hostTime = 12 * time.Millisecond

// shortRTT is well below any path that leaves a building.
const shortRTT = 2500 * time.Microsecond

// Bounds of a short path's window, and its steps once in a round.
const (
	shortWindowMax = 16 << 20
	// shortLossMax, 1/32, is the loss in a round that ends growth: hosts that
	// overflow drop whole batches.
	shortLossShift = 5
)

// shortPath is the state of the window on a short path.
type shortPath struct {
	quickest time.Duration // least time in flight since the path began; 0: none
	window   uint64
	steep    bool // double until a queue shows
	limited  bool // a packet of this round was sent for want of data

	sum         time.Duration
	count       int64
	acked, lost uint64
}

// on reports whether the path is short.
func (s *shortPath) on() bool { return s.quickest != 0 && s.quickest < shortRTT }

func (s *shortPath) begin(window uint64) { *s = shortPath{window: window, steep: true} }

// deliver counts an arrival.
func (s *shortPath) deliver(now machine.Time, p *Packet) {
	took := now.Sub(p.SentAt)
	if s.quickest == 0 || took < s.quickest {
		s.quickest = max(took, 1)
	}
	s.sum += took
	s.count++
	s.acked += uint64(p.Bytes)
	s.limited = s.limited || p.limited
}

// endFrame moves the window once in a round.
func (s *shortPath) endFrame(least uint64) {
	if s.acked < s.window || s.count == 0 {
		return
	}
	mean := s.sum / time.Duration(s.count)
	switch {
	case s.lost<<shortLossShift > s.acked+s.lost:
		s.window, s.steep = s.window*7/10, false
	case mean > 2*hostTime:
		s.window, s.steep = s.window*17/20, false
	case s.limited:
	case mean > hostTime:
		s.steep = false
	case s.steep:
		s.window *= 2
	case mean < hostTime/2:
		s.window += s.window / 4
	default:
		s.window += s.window / 16
	}
	s.window = min(max(s.window, least), shortWindowMax)
	s.sum, s.count, s.acked, s.lost, s.limited = 0, 0, 0, 0, false
}
