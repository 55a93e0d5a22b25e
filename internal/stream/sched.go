package stream

import "github.com/nyxnet/nyx/internal/wire"

// listID names the queue that a stream stands in.
type listID uint8

const (
	listNone    listID = iota
	listSend           // of its lane
	listBlocked        // waits for the session's limits
)

// queue is a doubly linked list through the streams themselves.
type queue struct {
	head, tail *stream
}

func (q *queue) pushBack(st *stream) {
	st.prev, st.next = q.tail, nil
	if q.tail == nil {
		q.head = st
	} else {
		q.tail.next = st
	}
	q.tail = st
}

func (q *queue) pushFront(st *stream) {
	st.next, st.prev = q.head, nil
	if q.head == nil {
		q.tail = st
	} else {
		q.head.prev = st
	}
	q.head = st
}

func (q *queue) remove(st *stream) {
	if st.prev == nil {
		q.head = st.next
	} else {
		st.prev.next = st.next
	}
	if st.next == nil {
		q.tail = st.prev
	} else {
		st.next.prev = st.prev
	}
	st.next, st.prev = nil, nil
}

// schedule decides what goes into the next packet.
type schedule struct {
	lanes   *lanes // nil while nothing waits and nothing was changed
	blocked queue
	control *stream // streams with control frames, newest first

	datagrams *mail // to be sent
	// messagesLast: streams come before messages in this packet, the other way
	// round in the next.
	messagesLast bool
}

// datagramBytes is the size of the datagrams that wait.
func (c *schedule) datagramBytes() int {
	if c.datagrams == nil {
		return 0
	}
	return c.datagrams.size()
}

// made returns the lanes, made if need be.
func (c *schedule) made() *lanes {
	if c.lanes == nil {
		c.lanes = newLanes()
	}
	return c.lanes
}

func (c *schedule) waiting() bool { return c.lanes != nil && c.lanes.waiting != 0 }

// turnBytes is a stream's turn in its lane: a full packet.
const turnBytes = wire.SessionPayloadSize

// enqueue puts the stream at the end of its queue if it has something to send.
func (s *Session) enqueue(st *stream) {
	if st.list == listNone && !st.dead && st.out.sendable() {
		s.sched.made().push(st, false)
	}
}

// enqueueFirst puts a stream with lost bytes in front: somebody waits for them.
func (s *Session) enqueueFirst(st *stream) {
	if st.dead || !st.out.sendable() {
		return
	}
	s.dequeue(st)
	s.sched.made().push(st, true)
}

func (s *Session) dequeue(st *stream) {
	switch st.list {
	case listSend:
		s.sched.lanes.remove(st)
	case listBlocked:
		s.sched.blocked.remove(st)
	}
	st.list = listNone
}

// served notes that n bytes of a stream were put into a packet: on its lane's
// account, and as part of its turn. What it took beyond its turn, the next is
// shorter by.
func (s *Session) served(st *stream, n int) {
	s.sched.lanes.charge(st.queued, n)
	st.out.turn -= int16(n)
	if st.out.turn <= 0 || !st.out.sendable() {
		s.dequeue(st)
		s.enqueue(st)
	}
}

// block parks a stream until the session's limits move.
func (s *Session) block(st *stream) {
	s.dequeue(st)
	st.list = listBlocked
	s.sched.blocked.pushBack(st)
}

// unblock lets all parked streams try again.
func (s *Session) unblock() {
	for st := s.sched.blocked.head; st != nil; st = s.sched.blocked.head {
		s.dequeue(st)
		s.enqueue(st)
		s.wakeWriter(st)
	}
}

// control notes control frames of a stream.
func (s *Session) control(st *stream, f ctlFlags) {
	if st.dead {
		return
	}
	if st.ctl&ctlQueued == 0 {
		st.ctlNext = s.sched.control
		s.sched.control = st
	}
	st.ctl |= f | ctlQueued
}

// pending are control frames of the session.
type pending uint8

const (
	pendMaxData pending = 1 << iota
	pendMaxStreams
	pendPath
	pendClass
	pendNack
	pendPing // nothing but a sign of life
	pendLanes
)

// hasWork reports whether anything waits that the congestion window governs.
func (s *Session) hasWork() bool {
	return s.pending != 0 || s.sched.control != nil || s.sched.datagramBytes() > 0 || s.messagesWait() || s.sched.waiting()
}
