package udp

import (
	"net/netip"

	"github.com/nyxnet/nyx/internal/wire"
)

// Bounds of one batch.
const (
	// sendMax is how many datagrams a batch holds: four full runs, which is
	// enough to spread the cost of a system call and little enough to leave
	// the wire idle for no longer than 0.2 ms.
	sendMax = 4 * runMax
	// runMax is how many datagrams to one address make one message: within
	// 64 segments, the limit of the oldest kernels that segment, and 64 KiB.
	runMax = 45
)

// run is consecutive datagrams to one address, all of one size except the
// last, which may be shorter and ends the run.
type run struct {
	to       netip.AddrPort
	off, end int // in writer.buf
	size     int // of each datagram but the last
	count    int
}

// writer collects a batch in one buffer, each datagram straight behind the one
// before.
type writer struct {
	buf   []byte
	runs  []run
	used  int
	count int
}

// Next returns room for one datagram of 1280 bytes, or nil when the batch is
// full and must be flushed. Without a Commit, the next call returns the same
// room.
func (w *writer) Next() []byte {
	if w.count == sendMax {
		return nil
	}
	if w.buf == nil {
		w.buf = make([]byte, sendMax*wire.DatagramSize)
		w.runs = make([]run, 0, sendMax)
	}
	return w.buf[w.used : w.used+wire.DatagramSize : w.used+wire.DatagramSize]
}

// Commit appends the first n bytes of what Next returned to the batch, as one
// datagram for to.
func (w *writer) Commit(n int, to netip.AddrPort) {
	end := w.used + n
	w.count++
	if k := len(w.runs); k > 0 {
		r := &w.runs[k-1]
		whole := r.end-r.off == r.size*r.count
		if whole && n <= r.size && n > 0 && r.count < runMax && r.to == to {
			r.end, r.count, w.used = end, r.count+1, end
			return
		}
	}
	w.runs = append(w.runs, run{to: to, off: w.used, end: end, size: n, count: 1})
	w.used = end
}

// reset empties the batch.
func (w *writer) reset() {
	w.runs = w.runs[:0]
	w.used, w.count = 0, 0
}
