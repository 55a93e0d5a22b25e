package wire

// An ACK frame names packets that arrived, greatest number first:
//
//	[0x02][greatest][delay in µs][ranges after the first, 1 byte ≤ 63]
//	[packets below the greatest in the first range]
//	{ [missing packets between the ranges − 1][packets in the range − 1] }

// MaxAckRanges is the greatest number of ranges of one ACK frame, so that it
// is read in bounded time and fits a packet.
const MaxAckRanges = 64

// MaxAckSize is the greatest encoding of an ACK frame that AckWriter makes.
const MaxAckSize = 1 + 8 + 8 + 1 + 8 + (MaxAckRanges-1)*16

// AckRange is the packet numbers Lo to Hi, both included.
type AckRange struct {
	Lo, Hi uint64
}

// AckFrame is a parsed ACK. Ranges[:N] are in falling order. It is large: the
// caller keeps one and parses into it.
type AckFrame struct {
	// DelayMicros is the time between the arrival of the greatest packet and
	// the sending of the frame.
	DelayMicros uint64
	N           int
	Ranges      [MaxAckRanges]AckRange
}

// AckWriter appends an ACK frame range by range, into a buffer with room for
// it, so that the sender needs no copy of its ranges.
type AckWriter struct {
	b     []byte
	count int
	n     int
	lo    uint64
}

// Begin starts a frame after b with its first range.
func (w *AckWriter) Begin(b []byte, r AckRange, delayMicros uint64) {
	b = AppendVarint(append(b, byte(SFrameAck)), r.Hi)
	b = AppendVarint(b, min(delayMicros, MaxVarint))
	w.count = len(b)
	w.b = AppendVarint(append(b, 0), r.Hi-r.Lo)
	w.n, w.lo = 1, r.Lo
}

// Add appends the next lower range and reports true, or false if the frame is
// full or has grown to limit bytes of the buffer. r.Hi must be less than the
// last range's Lo − 1.
func (w *AckWriter) Add(r AckRange, limit int) bool {
	gap, size := w.lo-r.Hi-2, r.Hi-r.Lo
	if w.n == MaxAckRanges || len(w.b)+VarintLen(gap)+VarintLen(size) > limit {
		return false
	}
	w.b = AppendVarint(AppendVarint(w.b, gap), size)
	w.n, w.lo = w.n+1, r.Lo
	return true
}

// End returns the buffer with the frame.
func (w *AckWriter) End() []byte {
	w.b[w.count] = byte(w.n - 1)
	return w.b
}

// Parse parses a frame whose type byte is SFrameAck into f.
func (f *AckFrame) Parse(b []byte) (int, error) {
	r := fields{b: b, at: 1}
	hi := r.varint()
	f.DelayMicros = r.varint()
	more := int(r.byte())
	if more >= MaxAckRanges {
		r.fail()
	}
	size := r.varint()
	if size > hi {
		r.fail()
	}
	f.N = 0
	for i := 0; !r.failed; i++ {
		f.Ranges[i] = AckRange{Lo: hi - size, Hi: hi}
		f.N = i + 1
		if i == more {
			break
		}
		gap := r.varint()
		below := f.Ranges[i].Lo
		if gap+2 > below {
			r.fail()
			break
		}
		hi = below - gap - 2
		if size = r.varint(); size > hi {
			r.fail()
		}
	}
	n, err := r.result()
	if err != nil {
		f.N = 0
	}
	return n, err
}
