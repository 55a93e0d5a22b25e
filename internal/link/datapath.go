package link

// The way of a datagram:
//
//	in    0  Open, where datagrams are opened ahead of their turn (ahead.go)
//	      1  HandleDatagram, HandleOpened: size, then the receiver index
//	      2  dispatch: link keys; or a handshake that we run; or the one try
//	         with this node's handshake key (answer.go)
//	      3  open: replay window, AEAD in place, or what step 0 found, window
//	         marked (keys.go)
//	      4  heard: confirmation of keys, change of address (path.go)
//	      5  control frames end here; every other frame goes to the caller
//	out   6  Push: the link's queue
//	      7  PollTransmit: handshake parcels first (outbox.go), then ready
//	         links in turn, up to runMax datagrams each
//	      8  sealTo: the frame is sealed straight into the caller's buffer
//	      9  keep: a client keeps a cell for a while, in case that it is lost
//	         (missing.go)

import (
	"net/netip"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// runMax is how many datagrams of one link PollTransmit yields before the
// next link: what one segmented write can carry (64 KiB are 51 datagrams).
const runMax = 64

// HandleDatagram takes one UDP payload, which it decrypts in place. When ok, it
// carried a frame for the layers above: frame aliases b and is valid as long
// as b is.
func (e *Endpoint) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) (id ID, frame []byte, ok bool) {
	return e.HandleOpened(now, from, b, nil)
}

// HandleOpened is HandleDatagram with what Open found of b, if o is not nil:
// frame may then alias o.
func (e *Endpoint) HandleOpened(now machine.Time, from netip.AddrPort, b []byte, o *Opened) (id ID, frame []byte, ok bool) {
	e.counts[trace.LinkIn]++
	if len(b) != wire.DatagramSize {
		e.counts[trace.DropSize]++
		return 0, nil, false
	}
	index, counter := wire.LinkHeader(b)
	k := e.recent
	if k == nil || k.local != index {
		if k = e.byIndex[index]; k == nil {
			e.handleUnknown(now, from, counter, b)
			return 0, nil, false
		}
		e.recent = k
	}
	if k.stage == dialling {
		e.handleBack(now, k.owner, counter, b)
		return 0, nil, false
	}
	cold := k.hot == nil
	frame, newest, ok := e.open(now, k, counter, b, o)
	if !ok {
		return 0, nil, false
	}
	l := e.heard(now, from, k, newest)
	if l == nil {
		return 0, nil, false
	}
	switch wire.FrameType(frame[0]) {
	case wire.FrameForward, wire.FrameBack, wire.FrameSetup, wire.FrameAdmission, wire.FrameDirectory:
		l.lastUse = now
		if cold && k.hot != nil {
			e.reschedule(l) // to cool again
		}
		return l.id, frame, true
	case wire.FramePad:
	case wire.FramePathChallenge, wire.FramePathResponse:
		e.handlePath(now, from, l, frame)
	case wire.FrameClose:
		e.handleClose(l, frame)
	case wire.FrameMissing:
		e.handleMissing(now, l, k, frame)
	default:
		e.counts[trace.DropLinkMalformed]++
	}
	return 0, nil, false
}

// heard notes an authentic datagram under k: the first one under an answered
// keyset brings its link up. Nil: the link is gone.
func (e *Endpoint) heard(now machine.Time, from netip.AddrPort, k *keyset, newest bool) *link {
	l := k.owner
	if k.stage == answered {
		if l = e.confirm(now, from, k); l == nil {
			return nil
		}
	}
	l.lastRecv = now
	if l.dial != nil && l.dial.confirming && k == l.cur {
		e.confirmed(now, l)
	}
	if newest && from != l.addr && k == l.cur {
		e.pathSeen(now, from, l)
	}
	return l
}

func (e *Endpoint) handleClose(l *link, frame []byte) {
	if _, _, err := wire.ParseLinkBare(frame); err != nil {
		e.counts[trace.DropLinkMalformed]++
		return
	}
	e.drop(l, PeerClosed)
}

// PollTransmit writes the next datagram into b, which has room for
// wire.DatagramSize bytes, and says where it goes.
func (e *Endpoint) PollTransmit(now machine.Time, b []byte) (to netip.AddrPort, n int, ok bool) {
	if e.outbox.n > 0 {
		p, _ := e.outbox.pop()
		n = e.sealParcel(p, b)
		e.counts[trace.LinkOut]++
		return p.to, n, true
	}
	for l := e.ready.head; l != nil; l = e.ready.head {
		if l.flags != 0 {
			to, n = e.sealControl(now, l, b)
			e.counts[trace.LinkOut]++
			return to, n, true
		}
		if l.cur == nil || l.queue.Len == 0 {
			e.ready.pop()
			continue
		}
		to = l.addr
		n = e.sealFrame(now, l, b)
		e.ready.run++
		if l.queue.Len == 0 {
			e.ready.pop()
		} else if e.ready.run >= runMax {
			e.ready.rotate()
		}
		e.counts[trace.LinkOut]++
		return to, n, true
	}
	return netip.AddrPort{}, 0, false
}

func (e *Endpoint) sealFrame(now machine.Time, l *link, b []byte) int {
	f := l.queue.Pop()
	e.queued--
	wakes := l.cur.hot == nil && !l.cur.rests(now)
	l.lastSent, l.lastUse = now, now
	if wakes {
		l.cur.warm()
		e.reschedule(l) // to cool again
	}
	counter := l.cur.sent
	n := e.sealTo(l.cur, b, f.B[:])
	e.keep(now, l, counter, f)
	return n
}

// readyList is the round of links that have something to send.
type readyList struct {
	head, tail *link
	run        int // datagrams of the head's present turn
}

// add puts l in the round if it is not there.
func (r *readyList) add(l *link) {
	if !l.ready {
		r.push(l)
	}
}

func (r *readyList) push(l *link) {
	l.ready, l.next = true, nil
	if r.tail == nil {
		r.head = l
	} else {
		r.tail.next = l
	}
	r.tail = l
}

func (r *readyList) pop() {
	l := r.head
	r.head, l.next, l.ready, r.run = l.next, nil, false, 0
	if r.head == nil {
		r.tail = nil
	}
}

func (r *readyList) rotate() {
	l := r.head
	r.pop()
	r.push(l)
}
