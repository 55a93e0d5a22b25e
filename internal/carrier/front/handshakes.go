package front

import (
	"sync/atomic"
	"time"
)

// Bounds are the upper ends of the classes in which handshakes are counted;
// what took longer is in one class more.
var Bounds = [...]time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	120 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second,
}

// Handshakes counts the handshakes of a face's servers by how long they took:
// from the first packet to the first request, or to the end of the handshake
// where requests have connections of their own. It is written by any
// goroutine; the zero Handshakes is ready.
type Handshakes struct {
	classes [len(Bounds) + 1]atomic.Uint64
	time    atomic.Int64
	refused atomic.Uint64
}

func (h *Handshakes) observe(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.classes[i].Add(1)
	h.time.Add(int64(d))
}

// HandshakeCounts is what a Handshakes counted.
type HandshakeCounts struct {
	Classes [len(Bounds) + 1]uint64 // by Bounds
	Time    time.Duration           // of all together
	Refused uint64                  // connections for which there was no room
}

// Counts returns the counts.
func (h *Handshakes) Counts() (c HandshakeCounts) {
	for i := range h.classes {
		c.Classes[i] = h.classes[i].Load()
	}
	c.Time, c.Refused = time.Duration(h.time.Load()), h.refused.Load()
	return c
}
