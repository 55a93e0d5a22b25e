package link

// What a client's link loses (docs/protocol.md, section 4.8):
//
//	receiver  1  missed: a counter leaves a gap
//	          2  tell: it is still there a moment later, and the peer is told
//	sender    3  keep: the last cells wait in a ring, by their counters
//	          4  handleMissing: what the peer misses comes out of it
//	          5  PollMissing: the owner makes of it what can go once more

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// lateTime is how long a datagram may come after a newer one before it is
	// told to be missing: most of what networks reorder, and little of the time
	// in which it is of use to send it again.
	lateTime = 3 * time.Millisecond
	// keptMax bounds the cells that one link keeps (1.3 MB): those of a tenth of a
	// second at the greatest rate of two routes.
	keptMax = 1024
	// againShare is the part of its cells that a client sends again at most, so
	// that a peer who says that all are missing gets little for it; againBurst is
	// how many at once.
	againShare = 8
	againBurst = 32
	// againMax bounds what waits for PollMissing: the owner polls after each call.
	againMax = 4 * againBurst
	// wordCost is how many datagrams have to come for each time that a peer is told,
	// and wordsMax how many count: who sends little, with gaps, gets no more back.
	wordCost, wordsMax = 2, 32
)

// gaps is what a receiver has not told of yet.
type gaps struct {
	from, to uint64           // counters among which some are missing
	at       machine.Time     // when they are told; 0: none are
	tell     wire.LinkMissing // that waits to be sent
	again    bool             // once more: the way back loses datagrams too
	credit   uint8            // datagrams that came since the last word
}

// missed notes that a counter came and those from next up to it did not.
func (e *Endpoint) missed(now machine.Time, k *keyset, next, counter uint64) {
	if h := k.hot; h != nil && h.gaps.at == 0 && k.owner != nil {
		h.await(now, next, counter)
		e.reschedule(k.owner)
	}
}

// await has the counters in a range looked at soon.
func (h *hot) await(now machine.Time, from, to uint64) {
	h.gaps.from, h.gaps.to, h.gaps.at = max(from, to-min(to, windowSize)), to, now.Add(lateTime)
}

// missing is the newest that is missing in a range below next, and what can be told
// with it.
func (h *hot) missing(next, from, to uint64) (m wire.LinkMissing, any bool) {
	for c := to; c > from; {
		switch c--; {
		case !h.window.fresh(next, c):
		case !any:
			m.Last, any = c, true
		case !m.Add(c):
			return m, true
		}
	}
	return m, any
}

// tell tells the peer what is still missing, and looks for what went missing
// meanwhile.
func (e *Endpoint) tell(now machine.Time, l *link) {
	k, h := l.cur, l.cur.hot
	if m, any := h.missing(k.next, h.gaps.from, h.gaps.to); any && h.gaps.credit >= wordCost {
		h.gaps.tell, h.gaps.again = m, true
		h.gaps.credit -= wordCost
		e.flag(l, flagMissing)
		e.counts[trace.LinkMissingTold]++
	}
	to := h.gaps.to
	h.gaps.at = 0
	if _, any := h.missing(k.next, to, k.next); any {
		h.await(now, to, k.next)
	}
}

// kept are the cells that a client has sent of late under its present keys, in the
// order of their counters.
type kept struct {
	cells  fifo[keptCell]
	credit int // cells since one was sent again, up to a burst's
}

type keptCell struct {
	counter uint64
	at      machine.Time
	frame   *wire.Frame // nil: it was taken
}

// keep keeps a frame that was sent, if the peer may ask for it.
func (e *Endpoint) keep(now machine.Time, l *link, counter uint64, f *wire.Frame) {
	if e.cfg.Keep == 0 || wire.FrameType(f.B[0]) != wire.FrameForward {
		e.pool.Put(f)
		return
	}
	if l.kept == nil {
		l.kept = &kept{cells: fifo[keptCell]{max: keptMax}, credit: againBurst * againShare}
	}
	e.expireKept(now, l.kept)
	if l.kept.cells.n == keptMax {
		e.dropKept(l.kept)
	}
	l.kept.cells.push(keptCell{counter, now, f})
	l.kept.credit = min(l.kept.credit+1, againBurst*againShare)
}

// expireKept gives back what is of no use any more.
func (e *Endpoint) expireKept(now machine.Time, k *kept) {
	for k.cells.n > 0 && now.Sub(k.cells.front().at) > e.cfg.Keep {
		e.dropKept(k)
	}
}

func (e *Endpoint) dropKept(k *kept) {
	if c, _ := k.cells.pop(); c.frame != nil {
		e.pool.Put(c.frame)
	}
}

// release gives back all that a link keeps.
func (e *Endpoint) release(l *link) {
	if l.kept == nil {
		return
	}
	for l.kept.cells.n > 0 {
		e.dropKept(l.kept)
	}
	l.kept = nil
}

// find is the cell of a counter, or nil.
func (k *kept) find(counter uint64) *keptCell {
	q := &k.cells
	at := func(i int) *keptCell { return &q.ring[(q.head+i)&(len(q.ring)-1)] }
	low, high := 0, q.n
	for low < high {
		if mid := (low + high) / 2; at(mid).counter < counter {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == q.n || at(low).counter != counter {
		return nil
	}
	return at(low)
}

// handleMissing takes what the peer says is missing of what was sent under k.
func (e *Endpoint) handleMissing(now machine.Time, l *link, k *keyset, frame []byte) {
	m, _, err := wire.ParseLinkMissing(frame)
	if err != nil || e.cfg.Keep == 0 {
		e.counts[trace.DropLinkMalformed]++
		return
	}
	if l.kept == nil || k != l.cur {
		return // nothing is kept across a change of keys
	}
	e.expireKept(now, l.kept)
	for counter := range m.Each {
		c := l.kept.find(counter)
		if c == nil || c.frame == nil || l.kept.credit < againShare {
			continue
		}
		if e.again.push(missed{l.id, c.at, c.frame}) {
			l.kept.credit -= againShare
			c.frame = nil
		}
	}
}

// missed is a cell that the peer misses.
type missed struct {
	link  ID
	at    machine.Time // when it was sent
	frame *wire.Frame
}

// PollMissing yields a cell that the peer of a link misses, as it was sent, and how
// long ago. The caller then owns the frame.
func (e *Endpoint) PollMissing(now machine.Time) (id ID, f *wire.Frame, late time.Duration, ok bool) {
	m, ok := e.again.pop()
	if !ok {
		return 0, nil, 0, false
	}
	return m.link, m.frame, now.Sub(m.at), true
}
