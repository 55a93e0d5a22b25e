package obfs

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// Playout gives back, at the end of a route, the pace at which its client filled
// slots: at each tick of the end's own clock it hands over the cells of one place,
// a period of the floor as the client numbers them, and of one only. Which delays
// the mixes drew is so in none of its ticks, but for cells that come after their
// place: they are handed over at the next tick.
//
// Arrived and Push take input, Tick moves on, Pop yields. How long a place is
// waited for follows the mean delay of all cells, dummies as well as real ones,
// over some thousand of them, and only by whole places: it tells nothing of which
// are real, and next to nothing of any.
type Playout struct {
	// Late is how many cells came after their place.
	Late uint64

	period time.Duration // of a place
	depth  time.Duration // how much later than the mean a cell may come

	cells int64         // in the mean
	mean  time.Duration // from the beginning of a place, by the client's count, to a cell of it
	wait  time.Duration // from there to half a period before its tick
	set   bool          // wait is
	odd   int           // cells in a row that lie a lapse or more from the mean
	tick  machine.Time  // the last one
	due   uint32        // the last place that is played out
	heap  []waiting
}

// waiting is a cell that has come. Counters of the end's hop are in the order in
// which the client filled its slots.
type waiting struct {
	counter, place uint32
	came           machine.Time
	frame          *wire.Frame
}

const (
	// playoutMax bounds the cells that wait: what a client that pins the highest
	// class brings to an exit at EXTREME in its depth and three periods, and as much
	// again.
	playoutMax = 4096
	// meanOf is over how many cells the mean goes, 20 s at the floor: it moves by
	// a few hundredths of what one cell's delay varies by, and follows a clock that
	// is wrong by 100 ppm with 2 ms.
	meanOf = 2048
	// lapse is by how much no cell differs from the mean unless the client's clock
	// has stood still: after oddMax of them in a row the mean begins anew. One alone
	// is a cell that something held up, and moves nothing. The mean follows less
	// within a minute or two.
	lapse  = time.Second
	oddMax = 8
)

// NewPlayout returns that of a route whose cells a policy numbers, or nil if it
// numbers none.
func NewPlayout(p Policy) *Playout {
	if p.Depth == 0 {
		return nil
	}
	return &Playout{period: p.Grid.Period(), depth: p.Depth}
}

// Arrived takes note of a cell, real or not.
func (p *Playout) Arrived(now machine.Time, place uint32) {
	lag := time.Duration(now) - time.Duration(place)*p.period
	if d := lag - p.mean; p.cells > 0 && (d > lapse || d < -lapse) {
		if p.odd++; p.odd < oddMax {
			return
		}
		p.cells, p.set = 0, false
	}
	p.odd = 0
	p.cells = min(p.cells+1, meanOf)
	p.mean += (lag - p.mean) / time.Duration(p.cells)
}

// Push keeps the cell of a place, of which the frame is the owner's again with
// Pop. It reports false, and keeps nothing, where there is no room.
func (p *Playout) Push(now machine.Time, place, counter uint32, f *wire.Frame) bool {
	if len(p.heap) >= playoutMax {
		return false
	}
	if p.set && place <= p.due {
		p.Late++
	}
	p.heap = append(p.heap, waiting{})
	i := len(p.heap) - 1
	for i > 0 && p.heap[(i-1)/2].counter > counter {
		p.heap[i] = p.heap[(i-1)/2]
		i = (i - 1) / 2
	}
	p.heap[i] = waiting{counter, place, now, f}
	return true
}

// Tick moves on to the tick at a time of the end's clock. Between a cell that
// comes after the mean time and its tick lies the depth, half a period for where
// in its place the slot was, and up to two periods in which the wait rests
// whatever the mean does.
func (p *Playout) Tick(at machine.Time) {
	p.tick = at
	if p.cells == 0 {
		return
	}
	least := p.mean + p.depth
	settled := least
	if p.cells < meanOf { // what a step is made for now need not be made later
		settled += p.period / 2
	}
	switch {
	case !p.set: // half a period off, so that no rounding moves a place to another tick
		n := (time.Duration(at) - least - p.period/2) / p.period
		p.wait, p.set = time.Duration(at)-n*p.period-p.period/2, true
	case p.wait < settled:
		p.wait += p.period
	case p.wait >= least+2*p.period:
		p.wait -= p.period
	}
	p.due = uint32(max(0, (time.Duration(at)-p.wait)/p.period))
}

// Pop yields a cell whose tick has come, the one that was sent first, or nil. One
// that claims a place further ahead than any clock explains waits a lapse beyond the
// depth, and holds up others no longer.
func (p *Playout) Pop() *wire.Frame {
	if len(p.heap) == 0 || p.heap[0].place > p.due && p.tick.Sub(p.heap[0].came) < p.depth+lapse {
		return nil
	}
	return p.take()
}

// Drain yields what waits, in no order, or nil.
func (p *Playout) Drain() *wire.Frame {
	if len(p.heap) == 0 {
		return nil
	}
	return p.take()
}

// take removes the first of the heap.
func (p *Playout) take() *wire.Frame {
	f, n := p.heap[0].frame, len(p.heap)-1
	last := p.heap[n]
	p.heap[n] = waiting{}
	p.heap = p.heap[:n]
	if n == 0 {
		return f
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= n {
			break
		}
		if c+1 < n && p.heap[c+1].counter < p.heap[c].counter {
			c++
		}
		if p.heap[c].counter > last.counter {
			break
		}
		p.heap[i] = p.heap[c]
		i = c
	}
	p.heap[i] = last
	return f
}
