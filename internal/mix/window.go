package mix

import (
	"math/bits"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
)

const (
	// windowMin is a window's first size in counters, 128 bytes, if it is
	// known where the counters begin.
	windowMin = 1 << 10
	// windowFree is the size that any window may take, 1 KiB, and the first
	// size where the beginning is not known: the first cell to arrive of a
	// burst of 4,000 may have been the last to be sent.
	windowFree = 1 << 13
	// windowPerCell bounds a larger window: counters advance by two a cell on
	// average, so that 64 allow for 31 lost of 32, while a sender that leaps
	// takes 8 bytes a cell and no more.
	windowPerCell = 64
	// windowMax is the greatest size (docs/protocol.md, section 6).
	windowMax = 1 << 20
	// windowHorizon is how long a counter is remembered at least, while the
	// window may still grow: cells that were delayed by seven mixes of 40 ms
	// are at most about a second apart.
	windowHorizon = 4 * time.Second
)

// window remembers which counters of one direction were seen. It begins
// without memory, and doubles rather than forget a counter that is younger
// than windowHorizon. Everything from the floor to the top is in the ring. The zero
// window accepts any counter but 0; with floor set and top one less, counters
// begin at floor.
type window struct {
	ring   []uint64     // bits by counter, a power of two of them; nil: none seen since the floor
	baseAt machine.Time // when base was the top
	base   uint32       // counters below are older than baseAt
	keep   uint32       // counters below are older than the horizon
	top    uint32       // highest counter seen
	floor  uint32       // counters below are refused
	cells  uint32       // accepted since ring was made
}

// fresh reports whether c was neither seen nor is too old. It changes nothing.
func (w *window) fresh(c uint32) bool {
	if c > w.top {
		return true
	}
	if w.ring == nil || c < w.floor {
		return false
	}
	word, bit := w.slot(c)
	return w.ring[word]&bit == 0
}

// seen reports whether c is remembered. Of what is too old it is not known.
func (w *window) seen(c uint32) bool {
	return w.ring != nil && c >= w.floor && c <= w.top && !w.fresh(c)
}

// mark records a counter for which fresh was true.
func (w *window) mark(now machine.Time, c uint32) {
	if w.ring == nil {
		w.begin(now, c)
	} else if c > w.top {
		w.advance(now, c)
	}
	if w.cells < windowMax {
		w.cells++
	}
	word, bit := w.slot(c)
	w.ring[word] |= bit
}

// rested is the window of a direction at rest: what follows the counter before
// next, and the few below it. With next 0 it is not known where counters begin.
type rested struct {
	next   uint32
	recent link.Recent
}

// near reports whether a counter is one that mark may record.
func (r *rested) near(c uint32) bool {
	return r.next != 0 && uint64(c) < min(uint64(r.next)+link.Near, 1<<32-1)
}

func (r *rested) fresh(c uint32) bool { return r.recent.Fresh(uint64(r.next), uint64(c)) }

// mark records a counter that was near and fresh.
func (r *rested) mark(c uint32) {
	r.next = uint32(r.recent.Mark(uint64(r.next), uint64(c)))
}

// widen returns the window that goes on from r.
func (r *rested) widen(now machine.Time) window {
	floor := uint32(r.recent.Floor(uint64(r.next)))
	w := window{floor: floor, top: max(floor, 1) - 1}
	for c := floor; c < r.next; c++ {
		if !r.fresh(c) {
			w.mark(now, c)
		}
	}
	return w
}

// rest ends a window: every counter up to the top is old.
func (w *window) rest() rested {
	next := w.floor
	if w.ring != nil {
		next = min(w.top, ^uint32(0)-1) + 1
	}
	return rested{next, link.Rested}
}

func (w *window) size() uint32 { return uint32(len(w.ring)) * 64 }

// most is the size to which the ring may grow by now.
func (w *window) most() uint32 {
	allowed := min(windowMax, max(windowFree, windowPerCell*w.cells))
	return 1 << (bits.Len32(allowed) - 1)
}

func (w *window) slot(c uint32) (word int, bit uint64) {
	return int(c>>6) & (len(w.ring) - 1), 1 << (c & 63)
}

func (w *window) begin(now machine.Time, c uint32) {
	if w.floor == 0 {
		w.ring = make([]uint64, windowFree/64)
		w.floor = c - min(c, windowFree) + 1
	} else {
		w.ring = make([]uint64, windowMin/64)
	}
	w.cells, w.base, w.keep, w.baseAt = 0, c, w.floor, now
	w.advance(now, c)
}

func (w *window) advance(now machine.Time, c uint32) {
	if now.Sub(w.baseAt) >= windowHorizon {
		w.keep, w.base, w.baseAt = w.base, w.top, now
	}
	for most := w.most(); c-w.keep >= w.size() && w.size() < most; {
		w.grow()
	}
	if c-w.top >= w.size() {
		clear(w.ring)
	} else {
		w.clear(w.top+1, c)
	}
	w.top = c
	if c-w.floor >= w.size() {
		w.floor = c - w.size() + 1
	}
}

// clear forgets the counters from first to last, whose places others held one
// lap ago.
func (w *window) clear(first, last uint32) {
	for n := uint64(first); n <= uint64(last); {
		word, bit := w.slot(uint32(n))
		if n&63 == 0 && uint64(last)-n >= 63 {
			w.ring[word] = 0
			n += 64
		} else {
			w.ring[word] &^= bit
			n++
		}
	}
}

// grow doubles the ring. The word that holds top also holds, above it, the
// oldest counters of one lap ago, which go elsewhere in the new ring.
func (w *window) grow() {
	old, topWord := w.ring, w.top>>6
	w.ring = make([]uint64, 2*len(old))
	place := func(word uint32) *uint64 { return &w.ring[int(word)&(len(w.ring)-1)] }
	from := func(word uint32) uint64 { return old[int(word)&(len(old)-1)] }
	newer := uint64(1)<<(w.top&63)<<1 - 1
	*place(topWord) = from(topWord) & newer
	for k := 1; k < len(old); k++ {
		*place(topWord - uint32(k)) = from(topWord - uint32(k))
	}
	*place(topWord - uint32(len(old))) = from(topWord) &^ newer
}
