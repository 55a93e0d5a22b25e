package mix

import (
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// End names a route that ends at this node. It is comparable, and stays valid
// as a name after the route has ended. The zero End names none.
type End struct{ r *route }

// DeliveryKind says what PollDeliver hands over.
type DeliveryKind uint8

// Deliveries at the end of a route. Opened is the first of a route, Closed the
// last.
const (
	Opened DeliveryKind = iota + 1
	Packet
	Closed
)

// Delivery is something that happened at the end of a route.
type Delivery struct {
	Route End
	Kind  DeliveryKind
	Level wire.Level
	// Profile is for what kind of machine the route is shaped (Opened).
	Profile wire.Profile
	// Packet is the first flight (Opened; may be empty) or the session packet
	// of wire.SessionPacketSize bytes (Packet). It is valid, and may be
	// overwritten, until the next call of PollDeliver.
	Packet []byte
	// Place is which of its periods the client filled with this packet, 0 if it
	// does not say, and Counter the number of the cell at this hop: later cells
	// have greater ones (Packet).
	Place, Counter uint32

	frame *wire.Frame
}

// deliver queues d and owns its frame.
func (t *Table) deliver(d Delivery) {
	if d.frame != nil && t.deliveries.len >= t.cfg.Limits.Queue {
		t.counts[trace.DropCellQueue]++
		t.pool.Put(d.frame)
		return
	}
	t.deliveries.push(d)
}

// PollDeliver yields the next delivery, in the order of arrival.
func (t *Table) PollDeliver() (d Delivery, ok bool) {
	if t.lent != nil {
		t.pool.Put(t.lent)
		t.lent = nil
	}
	d, ok = t.deliveries.pop()
	t.lent, d.frame = d.frame, nil
	return d, ok
}

// SendBack seals a session packet of wire.SessionPacketSize bytes to the client
// at the start of the route. It reports false if the route has ended or the
// queue is full; the packet is then dropped and counted.
func (t *Table) SendBack(now machine.Time, end End, packet []byte) bool {
	r := end.r
	if len(packet) != wire.SessionPacketSize {
		panic("mix: SendBack of a packet that is not of the one size")
	}
	if r == nil || r.dead || now >= r.expires {
		t.counts[trace.DropCellRoute]++
		return false
	}
	if !t.room(1) || t.cfg.Room != nil && !t.cfg.Room(r.prev) {
		t.counts[trace.DropCellQueue]++
		return false
	}
	f := t.pool.Get()
	wire.PutLayerHeader(f.B[wire.CellOffset:], byte(wire.BackPacket), 0)
	clear(f.B[contentAt+copy(f.B[contentAt:], packet):])
	return t.sendBack(now, r, f)
}

// CloseEnd ends a route at its end. The client is not told by this layer, and
// no Closed follows.
func (t *Table) CloseEnd(now machine.Time, end End) {
	if end.r == nil || end.r.dead {
		return
	}
	t.counts[trace.RoutesClosed]++
	t.remove(end.r, false)
}
