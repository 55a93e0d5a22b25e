package stream

// ring holds a window of a byte sequence at offsets modulo its capacity, a
// power of two. What part of it is valid, its user knows.
type ring struct {
	b []byte
}

// ringMin is the first capacity: a request or a small answer.
const ringMin = 2048

// grow makes room for the bytes [lo, hi), keeping [lo, kept).
func (r *ring) grow(pool *rings, lo, kept, hi uint64) {
	need := hi - lo
	if need <= uint64(len(r.b)) {
		return
	}
	size := uint64(max(len(r.b), ringMin))
	for size < need {
		size *= 2
	}
	next := ring{pool.take(int(size))}
	for at := lo; at < kept; {
		part := r.view(at, kept)
		next.put(at, part)
		at += uint64(len(part))
	}
	pool.give(r.b)
	*r = next
}

// view returns the bytes from lo on that lie together, up to hi.
func (r *ring) view(lo, hi uint64) []byte {
	i := lo & uint64(len(r.b)-1)
	return r.b[i:min(uint64(len(r.b)), i+hi-lo)]
}

// put copies p to offset at; there must be room.
func (r *ring) put(at uint64, p []byte) {
	n := copy(r.b[at&uint64(len(r.b)-1):], p)
	if n < len(p) {
		copy(r.b, p[n:])
	}
}

// get copies from offset at into p; the bytes must be there.
func (r *ring) get(at uint64, p []byte) {
	n := copy(p, r.b[at&uint64(len(r.b)-1):])
	if n < len(p) {
		copy(p[n:], r.b)
	}
}

// release gives the memory back.
func (r *ring) release(pool *rings) {
	pool.give(r.b)
	r.b = nil
}

// rings keeps a few small buffers of a busy session for its next streams.
type rings struct {
	spare [][]byte
}

// ringsSpare bounds the spare buffers, all of ringMin bytes: 64 KiB for a busy
// session, nothing for an idle one.
const ringsSpare = 32

func (p *rings) take(size int) []byte {
	if n := len(p.spare); size == ringMin && n > 0 {
		b := p.spare[n-1]
		p.spare[n-1] = nil
		p.spare = p.spare[:n-1]
		return b
	}
	return make([]byte, size)
}

func (p *rings) give(b []byte) {
	if len(b) == ringMin && len(p.spare) < ringsSpare {
		p.spare = append(p.spare, b)
	}
}
