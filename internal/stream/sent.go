package stream

import (
	"math/bits"

	"github.com/nyxnet/nyx/internal/stream/congestion"
	"github.com/nyxnet/nyx/internal/wire"
)

// record is what a session remembers of one packet that it sent.
type record struct {
	cc     congestion.Packet
	chunk  uint64 // its first chunk in the log
	chunks uint16
	path   uint8
	epoch  uint8 // of the track
	flags  uint8
}

// Record flags.
const (
	recLost      uint8 = 1 << iota // taken for lost, content queued again
	recRequeued                    // content queued again by the probe timer
	recEarly                       // sealed for 0-RTT
	recTold                        // dropped, as a hop told
	recProtected                   // a repair may cover it
	recRebuilt                     // the peer rebuilt its content
	recMoved                       // lost because its path was given up
)

// chunk is a piece of content of a packet, for acknowledgement or another
// sending. at is an offset or the value of a control frame.
type chunk struct {
	st   *stream
	at   uint64
	size uint16
	kind wire.SessionFrameType
}

// sentLog keeps the records of packets [tail, next) in a ring indexed by packet
// number, with a bit for each packet that asks for an acknowledgement and has
// none: in flight, or lost and watched for a late one. Chunks lie in a second
// ring in the order of their packets.
type sentLog struct {
	rec        []record
	open       []uint64 // one bit a record
	chunks     []chunk
	tail, next uint64
	chunkTail  uint64
	chunkNext  uint64
	waiting    int // packets in flight
}

// Sizes of the rings. recordsMax packets are twice the greatest session window.
const (
	recordsMin = 16 // an idle session's heartbeats need one
	recordsMax = 1 << 16
	chunksMin  = 64
)

func (l *sentLog) start(next uint64) { l.tail, l.next = next, next }

// full reports whether no further packet can be recorded.
func (l *sentLog) full() bool { return l.next-l.tail >= recordsMax }

func (l *sentLog) at(pn uint64) *record { return &l.rec[pn&uint64(len(l.rec)-1)] }

func (l *sentLog) isOpen(pn uint64) bool {
	i := pn & uint64(len(l.rec)-1)
	return l.open[i/64]>>(i%64)&1 != 0
}

// push takes the next packet number. The record is empty, its chunks begin at
// firstChunk.
func (l *sentLog) push(firstChunk uint64) *record {
	if l.next-l.tail == uint64(len(l.rec)) {
		l.growRecords()
	}
	r := l.at(l.next)
	*r = record{chunk: firstChunk, chunks: uint16(l.chunkNext - firstChunk)}
	l.next++
	return r
}

// setOpen notes that the newest packet asks for an acknowledgement.
func (l *sentLog) setOpen() {
	i := (l.next - 1) & uint64(len(l.rec)-1)
	l.open[i/64] |= 1 << (i % 64)
	l.waiting++
}

func (l *sentLog) growRecords() {
	old := *l
	size := max(recordsMin, 2*len(l.rec))
	l.rec, l.open = make([]record, size), make([]uint64, (size+63)/64)
	for pn := old.tail; pn < old.next; pn++ {
		*l.at(pn) = *old.at(pn)
		if old.isOpen(pn) {
			i := pn & uint64(size-1)
			l.open[i/64] |= 1 << (i % 64)
		}
	}
}

// addChunk appends a chunk for the packet that is being filled.
func (l *sentLog) addChunk(c chunk) {
	if l.chunkNext-l.chunkTail == uint64(len(l.chunks)) {
		old := l.chunks
		l.chunks = make([]chunk, max(chunksMin, 2*len(old)))
		for i := l.chunkTail; i < l.chunkNext; i++ {
			l.chunks[i&uint64(len(l.chunks)-1)] = old[i&uint64(len(old)-1)]
		}
	}
	l.chunks[l.chunkNext&uint64(len(l.chunks)-1)] = c
	l.chunkNext++
}

func (l *sentLog) chunkAt(i uint64) *chunk { return &l.chunks[i&uint64(len(l.chunks)-1)] }

// nextOpen returns the first open packet of [pn, end).
func (l *sentLog) nextOpen(pn, end uint64) (uint64, bool) {
	if pn = max(pn, l.tail); len(l.open) == 0 {
		return 0, false
	}
	mask := uint64(len(l.rec) - 1)
	for pn < end {
		i := pn & mask
		word := l.open[i/64] >> (i % 64)
		if word != 0 {
			pn += uint64(bits.TrailingZeros64(word))
			return pn, pn < end
		}
		pn += min(64, uint64(len(l.rec))) - i%64
	}
	return 0, false
}

// settle closes a packet's record.
func (l *sentLog) settle(pn uint64, r *record) {
	i := pn & uint64(len(l.rec)-1)
	l.open[i/64] &^= 1 << (i % 64)
	if r.flags&recLost == 0 {
		l.waiting--
	}
}

// lose takes a packet out of flight but keeps its record open.
func (l *sentLog) lose(r *record) {
	r.flags |= recLost
	l.waiting--
}

// advance lets go of settled records at the tail.
func (l *sentLog) advance() {
	if pn, ok := l.nextOpen(l.tail, l.next); ok {
		l.tail = pn
		l.chunkTail = l.at(pn).chunk
		return
	}
	l.tail, l.chunkTail = l.next, l.chunkNext
}
