package wire

// Frame is the plaintext of one link datagram, the unit that a node moves
// between its layers:
//
//	[type 1][route id 4][body 1247]
//
// A Frame has one owner at a time: whoever took it from the Pool, then the
// queue it was pushed to, and so on until someone gives it back.
type Frame struct {
	// B is the plaintext. Its bytes are not zero when taken from a pool.
	B [LinkPayloadSize]byte

	next *Frame
}

// FrameType is the first byte of a link frame.
type FrameType uint8

// Link frame types. Values from 16 on belong to cells and set-ups.
const (
	// FramePad is filler; its content is ignored.
	FramePad FrameType = 0
	// FramePathChallenge and FramePathResponse prove a neighbour's new address.
	FramePathChallenge FrameType = 1
	FramePathResponse  FrameType = 2
	// FrameClose ends the link.
	FrameClose FrameType = 3
	// FrameAdmission carries SESSION_INIT, SESSION_READY and
	// SESSION_TERMINATE between a client and its entry.
	FrameAdmission FrameType = 4
	// FrameDirectory carries requests for directory data and its answers.
	FrameDirectory FrameType = 5
	// FrameMissing tells a client which of its datagrams did not come.
	FrameMissing FrameType = 6
	// FrameSetup carries one part of a route's set-up train.
	FrameSetup FrameType = 16
	// FrameForward and FrameBack carry cells, away from the client and to it.
	FrameForward FrameType = 17
	FrameBack    FrameType = 18
)

// Pool keeps frames for reuse. It is not safe for concurrent use: each machine
// has its own. The zero Pool is ready.
type Pool struct {
	free  *Frame
	spare int
	// Out is the number of frames taken and not given back.
	Out int
}

// frameSlab is how many frames one allocation makes, and spareMax how many a
// pool keeps; the rest goes back to the collector after a burst.
const (
	frameSlab = 32
	spareMax  = 8192
)

// Get takes a frame. Its content is what its last user left.
func (p *Pool) Get() *Frame {
	p.Out++
	if p.free == nil {
		slab := make([]Frame, frameSlab)
		for i := range slab {
			p.put(&slab[i])
		}
	}
	f := p.free
	p.free, f.next = f.next, nil
	p.spare--
	return f
}

// Put gives a frame back. The caller must not use it again.
func (p *Pool) Put(f *Frame) {
	p.Out--
	if p.spare < spareMax {
		p.put(f)
	}
}

func (p *Pool) put(f *Frame) {
	f.next = p.free
	p.free = f
	p.spare++
}

// Queue is a first-in first-out list of frames. The zero Queue is empty.
type Queue struct {
	head, tail *Frame
	// Len is the number of frames in the queue.
	Len int
}

// Push appends f, which the queue then owns.
func (q *Queue) Push(f *Frame) {
	f.next = nil
	if q.tail == nil {
		q.head = f
	} else {
		q.tail.next = f
	}
	q.tail = f
	q.Len++
}

// Pop removes the oldest frame, or returns nil.
func (q *Queue) Pop() *Frame {
	f := q.head
	if f == nil {
		return nil
	}
	q.head, f.next = f.next, nil
	if q.head == nil {
		q.tail = nil
	}
	q.Len--
	return f
}
