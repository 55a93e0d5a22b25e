package stream

import (
	"encoding/binary"
	"io"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// mail is a bounded queue of datagrams, stored one after another as
// [flow 8][length 4][data].
type mail struct {
	b     []byte
	head  int
	count int
	told  bool // DatagramReadable was told and not used up
}

const mailHeader = 12

// mailMax bounds a queue of datagrams in bytes: 100 ms at 20 Mbit/s. When it
// is full the oldest goes: of what is not sent again, the newest matters most.
const mailMax = 256 << 10

func (m *mail) size() int { return len(m.b) - m.head }

// push appends a datagram and returns how many old ones it displaced.
func (m *mail) push(flow uint64, p []byte) (displaced int) {
	for m.size()+mailHeader+len(p) > mailMax {
		m.drop()
		displaced++
	}
	if m.head > 0 && len(m.b)+mailHeader+len(p) > cap(m.b) {
		m.b = m.b[:copy(m.b, m.b[m.head:])]
		m.head = 0
	}
	m.b = binary.BigEndian.AppendUint64(m.b, flow)
	m.b = binary.BigEndian.AppendUint32(m.b, uint32(len(p)))
	m.b = append(m.b, p...)
	m.count++
	return displaced
}

// front returns the oldest datagram; the queue must not be empty.
func (m *mail) front() (flow uint64, p []byte) {
	b := m.b[m.head:]
	n := int(binary.BigEndian.Uint32(b[8:]))
	return binary.BigEndian.Uint64(b), b[mailHeader : mailHeader+n]
}

func (m *mail) drop() {
	m.head += mailHeader + int(binary.BigEndian.Uint32(m.b[m.head+8:]))
	m.count--
	if m.head == len(m.b) {
		m.b, m.head = m.b[:0], 0
	}
}

// SendDatagram sends p, of at most wire.MaxDatagramSize bytes, in one packet,
// once. id is a stream that both sides know, whose life the flow shares. Where
// datagrams come faster than the route takes them, the oldest are dropped.
func (s *Session) SendDatagram(now machine.Time, id uint64, p []byte) error {
	if _, err := s.find(id); err != nil {
		return err
	}
	if len(p) > wire.MaxDatagramSize {
		return ErrTooLarge
	}
	if s.state == stateOpen && !s.common.has(wire.CapDatagrams) {
		return ErrNoDatagrams
	}
	if s.sched.datagrams == nil {
		s.sched.datagrams = &mail{}
	}
	s.stats.DatagramsDropped += uint64(s.sched.datagrams.push(id, p))
	s.lastUse = now
	return nil
}

// fillDatagrams appends the datagrams that fit, at most one full packet of
// them before streams have their turn.
func (s *Session) fillDatagrams(b []byte, limit int) []byte {
	m := s.sched.datagrams
	if m == nil || !s.common.has(wire.CapDatagrams) {
		return b
	}
	for m.count > 0 {
		flow, p := m.front()
		f := wire.DatagramFrame{Flow: flow, Data: p}
		if f.Len() > limit-len(b) {
			break
		}
		b = f.Append(b)
		s.stats.BytesSent += uint64(len(p))
		s.counts[trace.ContentOut]++
		m.drop()
	}
	return b
}

// handleDatagram takes a DATAGRAM frame; one of a flow that has ended is
// dropped.
func (s *Session) handleDatagram(now machine.Time, f wire.DatagramFrame) bool {
	st, ok := s.peerStream(now, f.Flow)
	if st == nil {
		return ok || s.failFrame(now, "datagram of a flow that was never opened")
	}
	if st.in.flags&inStopped != 0 {
		return true
	}
	s.deliverDatagram(st, f.Data)
	return true
}

func (s *Session) deliverDatagram(st *stream, b []byte) {
	if st.mail == nil {
		st.mail = &mail{}
	}
	s.stats.DatagramsDropped += uint64(st.mail.push(st.id, b))
	s.stats.BytesReceived += uint64(len(b))
	if !st.mail.told {
		st.mail.told = true
		s.tell(Event{Kind: DatagramReadable, Stream: st.id})
	}
}

// ReadDatagram copies the oldest datagram or message of the stream's flow into
// p. If p is too small it stays, and the size that it needs comes with
// io.ErrShortBuffer. After a DatagramReadable event the caller reads until
// ErrWouldBlock.
func (s *Session) ReadDatagram(_ machine.Time, id uint64, p []byte) (int, error) {
	st, err := s.find(id)
	if err != nil {
		return 0, err
	}
	m := st.mail
	if m == nil || m.count == 0 {
		if m != nil {
			m.told = false
		}
		return 0, ErrWouldBlock
	}
	_, d := m.front()
	if len(d) > len(p) {
		return len(d), io.ErrShortBuffer
	}
	n := copy(p, d)
	m.drop()
	return n, nil
}

// beats are heartbeats that wait for a packet. They have a queue of their own:
// a heartbeat rides with data where data flows, and waits for it a while. After
// that it takes a packet, with those that came meanwhile; where the session was
// quiet, at once.
type beats struct {
	queued uint8
	ripe   bool // has waited long enough
	debt   uint8
	number uint64
	since  machine.Time // of the oldest that waits
}

// beatsMax bounds the queue: what has not left by then is stale.
const beatsMax = 64

// beatShare is how many packets of data leave before heartbeats take another one
// in front of data that is held up, and the part of a packet with data that they
// may fill: together 3 % of what a session sends.
const beatShare = 64

// beatDue reports whether a heartbeat should take a packet of its own; data
// says that one with data is about to leave.
func (s *Session) beatDue(data bool) bool {
	return s.beats.queued > 0 && !data && s.beats.ripe && (s.beats.debt == 0 || !s.hasWork())
}

// beatWait is how long a heartbeat waits for data: where it would take a packet
// from the pacer, of which data may come to have need, a quarter of a round trip.
func (s *Session) beatWait() time.Duration {
	if s.paced() {
		return max(s.cfg.AckDelay, s.estimate().smooth/4)
	}
	return s.cfg.AckDelay
}

// SendHeartbeat queues a heartbeat, or a PING to a peer that knows none.
func (s *Session) SendHeartbeat(now machine.Time) {
	if s.state != stateOpen {
		return
	}
	if !s.common.has(wire.CapHeartbeats) {
		s.pending |= pendPing
		return
	}
	if s.beats.queued == 0 {
		s.beats.since = now
		s.beats.ripe = !s.hasWork() && now.Sub(s.quietSince()) >= s.beatWait()
	}
	s.beats.queued = min(s.beats.queued+1, beatsMax)
}

// fillHeartbeats appends the heartbeats that wait; several in a row are one
// sign of life each. data says that data shares the packet.
func (s *Session) fillHeartbeats(b []byte, limit int, data bool) []byte {
	if data {
		limit = min(limit, len(b)+wire.SessionPayloadSize/beatShare)
		s.beats.debt -= min(s.beats.debt, 1)
	} else if s.beats.queued > 0 && s.hasWork() {
		s.beats.debt = beatShare
	}
	for s.beats.queued > 0 && limit-len(b) >= 9 {
		s.beats.number++
		b = wire.AppendValue(b, wire.SFrameHeartbeat, s.beats.number)
		s.beats.queued--
		s.stats.Heartbeats++
		s.counts[trace.HeartbeatOut]++
		s.beats.ripe = false
	}
	return b
}

// SendClass tells the peer the rate class of this side's routes; the last value
// counts, and is sent until it arrives.
func (s *Session) SendClass(_ machine.Time, class uint64) {
	s.busy().classOut = min(class, wire.MaxVarint)
	s.pending |= pendClass
}

// Dropped tells that a hop dropped a packet, of whose number low is the low half,
// for want of room: its content is queued again now, and not when it is overdue,
// and the congestion controller hears of it. It reports false if the packet's fate
// was known, or of no matter.
func (s *Session) Dropped(now machine.Time, low uint32) bool {
	w := s.work
	if w == nil || s.state != stateOpen {
		return false
	}
	pn := wire.ExpandNumber(s.out.next, low)
	if open, ok := w.sent.nextOpen(pn, min(pn+1, w.sent.next)); !ok || open != pn {
		return false
	}
	r := w.sent.at(pn)
	if r.flags&recLost != 0 {
		return false
	}
	r.flags |= recTold
	s.cfg.Distributions.ObserveTime(trace.DropDetect, now.Sub(r.cc.SentAt))
	s.lose(now, r, true)
	if t := w.trackOf(r); t != nil {
		s.setProbeTimer(now, t)
	}
	return true
}

// NoteDrops tells the peer that hops of the route reported packets dropped on
// their way from the peer.
func (s *Session) NoteDrops(_ machine.Time, reason byte, packets uint64) {
	w := s.busy()
	w.nackOut = wire.NackFrame{Reason: reason, Packets: min(w.nackOut.Packets+packets, wire.MaxVarint)}
	s.pending |= pendNack
}
