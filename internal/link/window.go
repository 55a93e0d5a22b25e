package link

import "math/bits"

// windowSize is how far behind the newest datagram another may come: 4096
// datagrams are 50 ms at 800 Mbit/s, more than networks reorder.
const windowSize = 4096

// Recent remembers which of the 32 counters below the next one were seen: the
// replay window of a direction at rest, on which nothing moves but heartbeats.
// Counters further below count as seen.
type Recent uint32

const (
	recentSize = 32
	// Rested is the Recent that takes every counter below the next one for seen.
	Rested = ^Recent(0)
	// Near bounds how far above the next one a counter may lie that a Recent
	// marks: one further off, of a burst out of order, needs a wide window.
	Near = recentSize / 2
)

// Fresh reports whether a counter was not seen.
func (r Recent) Fresh(next, counter uint64) bool {
	return counter >= next || next-counter <= recentSize && r>>(next-1-counter)&1 == 0
}

// Mark records a counter that was fresh and returns the new next one.
func (r *Recent) Mark(next, counter uint64) uint64 {
	if counter < next {
		*r |= 1 << (next - 1 - counter)
		return next
	}
	*r = *r<<(counter-next+1) | 1
	return counter + 1
}

// Floor is the least counter that is fresh.
func (r Recent) Floor(next uint64) uint64 {
	return next - min(next, recentSize-uint64(bits.LeadingZeros32(uint32(^r))))
}

// window remembers which of the last windowSize counters were seen. The
// highest counter itself is kept by the keyset, because it outlives the window.
type window struct {
	bits  [windowSize / 64]uint64
	floor uint64 // every counter below was seen, or is treated so
}

// begin takes over what a Recent remembers.
func (w *window) begin(next uint64, r Recent) {
	w.floor = r.Floor(next)
	for c := w.floor; c < next; c++ {
		if !r.Fresh(next, c) {
			w.bits[c/64%(windowSize/64)] |= 1 << (c % 64)
		}
	}
}

// fresh reports whether a counter below next was not seen.
func (w *window) fresh(next, counter uint64) bool {
	if counter < w.floor || next-counter > windowSize {
		return false
	}
	return w.bits[counter/64%(windowSize/64)]&(1<<(counter%64)) == 0
}

// mark records a counter that fresh, or a counter not below next, allowed. It
// returns the new next.
func (w *window) mark(next, counter uint64) uint64 {
	if counter >= next {
		w.slide(next, counter)
		next = counter + 1
	}
	w.bits[counter/64%(windowSize/64)] |= 1 << (counter % 64)
	return next
}

// slide clears the places of the counters from next to counter.
func (w *window) slide(next, counter uint64) {
	if counter-next >= windowSize {
		clear(w.bits[:])
		return
	}
	for at := next; at <= counter; {
		low := at % 64
		n := min(64-low, counter-at+1)
		w.bits[at/64%(windowSize/64)] &^= (^uint64(0) >> (64 - n)) << low
		at += n
	}
}
