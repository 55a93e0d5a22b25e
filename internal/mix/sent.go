package mix

import "github.com/nyxnet/nyx/internal/wire"

// sentMax is how many cells a route remembers: those that are under way to a hop
// and back at 50 MB/s over 20 ms. It takes 32 KB, of routes that carry data.
const sentMax = 1024

// sentLog remembers the last cells with data of a route, by the counters that its
// hops see, so that a NACK can be matched with what was in the cell.
type sentLog struct {
	cells [sentMax]sentCell
	n     uint32 // remembered so far
}

type sentCell struct {
	counters [wire.MaxHops]uint32
	packet   uint32 // low half of the session packet's number
}

// remember notes the cell that is about to be sealed: its counters are those that
// come next.
func (r *Route) remember(packet []byte) {
	if wire.SessionPacketKind(packet) != wire.SessionData {
		return
	}
	if r.sent == nil {
		r.sent = &sentLog{}
	}
	c := &r.sent.cells[r.sent.n%sentMax]
	for i := range r.hops {
		c.counters[i] = r.hops[i].counter
	}
	c.packet = wire.SessionPacketNumber(packet)
	r.sent.n++
}

// Dropped returns the number (its low half) of the session packet in the cell that
// a NACK tells of, if the cell held data and is not long ago.
func (r *Route) Dropped(nack Back) (packet uint32, ok bool) {
	if r.sent == nil {
		return 0, false
	}
	for back := uint32(1); back <= min(r.sent.n, sentMax); back++ {
		switch c := &r.sent.cells[(r.sent.n-back)%sentMax]; {
		case c.counters[nack.Position] == nack.Counter:
			return c.packet, true
		case c.counters[nack.Position] < nack.Counter:
			return 0, false
		}
	}
	return 0, false
}
