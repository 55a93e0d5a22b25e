package stream

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// arrival is a run of packets that arrived, lo to hi included, and the number
// of the acknowledgement after which it last changed.
type arrival struct {
	lo, hi uint64
	stamp  uint32
}

// arrivals is what a receiver knows of the peer's packets: the replay guard
// and the source of acknowledgements. Runs are in rising order.
//
// A run is reported in the repeatAcks acknowledgements after its last change
// and then no more: under heavy reordering dozens of runs are open at once, and
// a frame that always began at the top would never reach those that change.
type arrivals struct {
	runs  []arrival
	floor uint64 // packets below are taken for seen
	stamp uint32 // acknowledgements sent
	now   bool   // an acknowledgement leaves at once
	paths uint8  // paths that are owed one by themselves, of all that came

	largest   uint64
	largestAt machine.Time
	count     uint64 // packets accepted

	pending int          // packets that ask for an acknowledgement
	due     machine.Time // when it leaves at the latest
}

// Bounds of the record of arrivals. A packet older than runsMax gaps is
// refused as a replay; its content comes again.
const (
	runsMax    = 2048
	repeatAcks = 8
)

// seen reports whether a packet was accepted before or is too old to tell.
func (a *arrivals) seen(pn uint64) bool {
	if pn < a.floor {
		return true
	}
	n := len(a.runs)
	if n == 0 || pn > a.runs[n-1].hi {
		return false
	}
	i := a.search(pn)
	return i < n && a.runs[i].lo <= pn
}

// search returns the index of the first run whose hi is at least pn.
func (a *arrivals) search(pn uint64) int {
	lo, hi := 0, len(a.runs)
	for lo < hi {
		mid := (lo + hi) / 2
		if a.runs[mid].hi < pn {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// add records a packet that seen has denied.
func (a *arrivals) add(now machine.Time, pn uint64) {
	a.count++
	n := len(a.runs)
	if n == 0 || pn > a.largest {
		a.largest, a.largestAt = pn, now
	}
	if n > 0 && a.runs[n-1].hi+1 == pn {
		a.runs[n-1].hi, a.runs[n-1].stamp = pn, a.stamp
		return
	}
	i := a.search(pn)
	below := i > 0 && a.runs[i-1].hi+1 == pn
	above := i < n && a.runs[i].lo == pn+1
	switch {
	case below && above:
		a.runs[i-1].hi, a.runs[i-1].stamp = a.runs[i].hi, a.stamp
		a.runs = append(a.runs[:i], a.runs[i+1:]...)
	case below:
		a.runs[i-1].hi, a.runs[i-1].stamp = pn, a.stamp
	case above:
		a.runs[i].lo, a.runs[i].stamp = pn, a.stamp
	default:
		a.runs = append(a.runs, arrival{})
		copy(a.runs[i+1:], a.runs[i:])
		a.runs[i] = arrival{pn, pn, a.stamp}
		if len(a.runs) > runsMax {
			a.floor = a.runs[0].hi + 1
			a.runs = append(a.runs[:0], a.runs[1:]...)
		}
	}
}

// owe notes that a packet asks for an acknowledgement.
func (a *arrivals) owe(now machine.Time, every int, delay time.Duration) {
	if a.pending == 0 {
		a.due = now.Add(delay)
	}
	if a.pending++; a.pending >= every {
		a.now = true
	}
}

// ready reports whether an acknowledgement should leave by itself.
func (a *arrivals) ready(now machine.Time) bool {
	return a.now || a.pending > 0 && now >= a.due
}

// appendAcks appends ACK frames for what changed lately, or for all that is known,
// at most frames of them, within limit bytes. It reports whether everything found
// room.
func (a *arrivals) appendAcks(now machine.Time, b []byte, limit, frames int, all bool) ([]byte, bool) {
	i := len(a.runs) - 1
	delay := uint64(max(0, now.Sub(a.largestAt)) / time.Microsecond)
	for ; frames > 0 && i >= 0; frames-- {
		if len(b)+ackReserve > limit {
			return b, false
		}
		var w wire.AckWriter
		w.Begin(b, wire.AckRange{Lo: a.runs[i].lo, Hi: a.runs[i].hi}, delay)
		for i--; i >= 0; i-- {
			if r := &a.runs[i]; (all || a.stamp-r.stamp < repeatAcks) && !w.Add(wire.AckRange{Lo: r.lo, Hi: r.hi}, limit) {
				break
			}
		}
		b = w.End()
		if i < 0 {
			return b, true
		}
	}
	return b, false
}

// ackReserve is the room that the first range of an ACK frame may need.
const ackReserve = 1 + 8 + 8 + 1 + 8

// told notes that an acknowledgement left; complete says that it held all.
func (a *arrivals) told(complete bool) {
	a.stamp++
	a.pending, a.now = 0, false
	if !complete {
		a.pending, a.now = 1, true
	}
}
