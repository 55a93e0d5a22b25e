package link

// windowSize is how far behind the newest datagram another may come: 4096
// datagrams are 50 ms at 800 Mbit/s, more than networks reorder.
const windowSize = 4096

// window remembers which of the last windowSize counters were seen. The
// highest counter itself is kept by the keyset, because it outlives the window.
type window struct {
	bits  [windowSize / 64]uint64
	floor uint64 // every counter below was seen, or is treated so
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
