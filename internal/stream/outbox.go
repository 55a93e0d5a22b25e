package stream

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Messages are larger than a packet and arrive whole or not at all. They travel
// in fragments, of which lost ones are sent again while the message is young:
// where a packet in eight is lost, a message of five fragments that was sent
// once would miss one in every second case.

// messageLife is how long fragments of a message are sent again. Four sendings
// of each leave one message in a thousand unfinished at 12 % loss, and take
// about six round trips: at EXTREME, the slowest level, 3 s.
const messageLife = 3 * time.Second

// Bounds of what a session has to send or to have acknowledged in messages.
const (
	outboxBytes = 1 << 20
	outboxCount = 1024
)

// messages is what a session holds of messages, once there was one.
type messages struct {
	out outbox
	in  inbox
}

// outbox and inbox return nil before the first message.
func (s *Session) outbox() *outbox {
	if s.messages == nil {
		return nil
	}
	return &s.messages.out
}

func (s *Session) inbox() *inbox {
	if s.messages == nil {
		return nil
	}
	return &s.messages.in
}

// outbox is the messages that this side sends, in order of their numbers.
type outbox struct {
	messages []*message // from number first on; nil: done with
	head     int        // of messages
	first    uint64
	fresh    uint64   // the least number that may have bytes which were never sent
	again    []uint64 // numbers that may have lost bytes, in order of loss
	bytes    int      // of all messages
	backlog  int      // of these, to be sent (again)
	spare    []*message
}

// message is one message that this side sends.
type message struct {
	flow        uint64
	b           []byte
	until       machine.Time // it is given up
	next        int          // bytes that were sent at least once
	acked, lost spans
	queued      bool // in outbox.again
}

// spareMessages bounds the messages that are kept with their buffers for the next.
const spareMessages = 16

func (o *outbox) end() uint64 { return o.first + uint64(len(o.messages)-o.head) }

// get returns the message of a number, or nil.
func (o *outbox) get(number uint64) *message {
	if number < o.first || number >= o.end() {
		return nil
	}
	return o.messages[o.head+int(number-o.first)]
}

func (o *outbox) push(now machine.Time, flow uint64, p []byte) {
	var m *message
	if n := len(o.spare); n > 0 {
		m, o.spare = o.spare[n-1], o.spare[:n-1]
	} else {
		m = &message{}
	}
	m.flow, m.b, m.until = flow, append(m.b[:0], p...), now.Add(messageLife)
	if o.head > 0 && len(o.messages) == cap(o.messages) {
		o.messages = o.messages[:copy(o.messages, o.messages[o.head:])]
		o.head = 0
	}
	o.messages = append(o.messages, m)
	o.bytes += len(p)
	o.backlog += len(p)
}

// pick returns the message to send from next, or nil: lost bytes go first.
func (o *outbox) pick() (*message, uint64) {
	for len(o.again) > 0 {
		number := o.again[0]
		m := o.get(number)
		if m != nil && len(m.lost) > 0 {
			return m, number
		}
		if m != nil {
			m.queued = false
		}
		o.again = o.again[:copy(o.again, o.again[1:])]
	}
	for o.fresh = max(o.fresh, o.first); o.fresh < o.end(); o.fresh++ {
		if m := o.get(o.fresh); m != nil && m.next < len(m.b) {
			return m, o.fresh
		}
	}
	return nil, 0
}

// remove is done with a message.
func (o *outbox) remove(number uint64) {
	m := o.get(number)
	o.messages[o.head+int(number-o.first)] = nil
	for o.head < len(o.messages) && o.messages[o.head] == nil {
		o.head++
		o.first++
	}
	if o.head == len(o.messages) {
		o.messages, o.head = o.messages[:0], 0
	}
	o.bytes -= len(m.b)
	o.backlog -= len(m.b) - m.next
	for _, x := range m.lost {
		o.backlog -= int(x.hi - x.lo)
	}
	if len(o.spare) < spareMessages {
		*m = message{b: m.b[:0], acked: m.acked[:0], lost: m.lost[:0]}
		o.spare = append(o.spare, m)
	}
}

// SendMessage sends p, of 1 to wire.MaxMessageSize bytes, as one message of a
// flow (see SendDatagram). What is lost of it is sent again for 3 s. There is
// no order among messages, and none arrives twice. ErrWouldBlock means that too
// much is under way: the message was not taken.
func (s *Session) SendMessage(now machine.Time, id uint64, p []byte) error {
	if _, err := s.find(id); err != nil {
		return err
	}
	if len(p) == 0 || len(p) > wire.MaxMessageSize || s.state == stateOpen && !s.common.has(wire.CapMessages) {
		return ErrTooLarge
	}
	if s.messages == nil {
		s.messages = &messages{}
	}
	o := s.outbox()
	s.expireMessages(now)
	if len(o.messages)-o.head >= outboxCount || o.bytes+len(p) > outboxBytes {
		return ErrWouldBlock
	}
	o.push(now, id, p)
	s.lastUse = now
	return nil
}

// expireMessages gives up the messages whose time is over.
func (s *Session) expireMessages(now machine.Time) {
	for o := s.outbox(); o != nil && o.first < o.end() && now >= o.get(o.first).until; {
		o.remove(o.first)
		s.stats.MessagesLost++
	}
}

// expiryAt is when expireMessages has work.
func (o *outbox) expiryAt() machine.Time {
	if o == nil || o.first == o.end() {
		return machine.Never
	}
	return o.get(o.first).until
}

// waiting is the bytes that are to be sent (again).
func (o *outbox) waiting() int {
	if o == nil {
		return 0
	}
	return o.backlog
}

// messagesWait reports whether there is something of messages to send.
func (s *Session) messagesWait() bool {
	return s.common.has(wire.CapMessages) && s.outbox().waiting() > 0
}

// fillMessages appends fragments, in as many frames as fit.
func (s *Session) fillMessages(now machine.Time, b []byte, limit int) []byte {
	if !s.messagesWait() {
		return b
	}
	o := s.outbox()
	s.expireMessages(now)
	for limit-len(b) > messageLeast {
		m, number := o.pick()
		if m == nil {
			break
		}
		if s.streams.get(m.flow) == nil { // the flow has ended
			o.remove(number)
			continue
		}
		from, to := m.next, len(m.b)
		again := len(m.lost) > 0
		if again {
			from, to = int(m.lost[0].lo), int(m.lost[0].hi)
		}
		size := wire.MessageRoom(m.flow, number, from, to-from, limit-len(b))
		if size <= 0 {
			break
		}
		end := from + size
		kind := wire.SFrameMessage
		if end == len(m.b) {
			kind = wire.SFrameMessageEnd
		}
		b = wire.AppendMessageHeader(b, m.flow, number, from, size, end == len(m.b))
		b = append(b, m.b[from:end]...)
		s.work.sent.addChunk(chunk{at: number<<messageShift | uint64(from), size: uint16(size), kind: kind})
		o.backlog -= size
		s.counts[trace.ContentOut]++
		if again {
			m.lost.remove(uint64(from), uint64(end))
		} else {
			m.next = end
			s.stats.BytesSent += uint64(size)
		}
	}
	return b
}

// messageLeast is the room below which no further MESSAGE frame is begun: its
// header at the greatest numbers and a few bytes.
const messageLeast = 40

// messageShift makes one number of a message's and an offset in it.
const messageShift = 17

const _ = uint(1<<messageShift - 1 - wire.MaxMessageSize)

// fragment returns the message of a chunk, nil if it is done with, and the bytes
// of it that the chunk holds.
func (s *Session) fragment(c *chunk) (m *message, number, lo, hi uint64) {
	number, lo = c.at>>messageShift, c.at&(1<<messageShift-1)
	return s.outbox().get(number), number, lo, lo + uint64(c.size)
}

// fragmentArrived notes that the peer has a fragment.
func (s *Session) fragmentArrived(c *chunk) {
	m, number, lo, hi := s.fragment(c)
	if m == nil {
		return
	}
	s.outbox().backlog -= int(m.lost.remove(lo, hi))
	m.acked.add(lo, hi)
	if m.acked[0] == (span{0, uint64(len(m.b))}) {
		s.outbox().remove(number)
		s.stats.MessagesSent++
	}
}

// fragmentLost queues a fragment again, except what has arrived by another
// packet, and reports whether anything was queued.
func (s *Session) fragmentLost(c *chunk) bool {
	m, number, lo, hi := s.fragment(c)
	if m == nil {
		return false
	}
	added := m.lost.addExcept(lo, hi, m.acked)
	s.outbox().backlog += int(added)
	if added > 0 && !m.queued {
		m.queued = true
		s.outbox().again = append(s.outbox().again, number)
	}
	return added > 0
}

// trim gives back the memory that only busy messages need. The numbers go on.
func (o *outbox) trim() {
	if o != nil && len(o.messages) == 0 {
		*o = outbox{first: o.first, fresh: o.fresh}
	}
}
