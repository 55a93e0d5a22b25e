package stream

import (
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// The way out of a packet:
//
//	1. PollPacket: which kind may leave on this path now.
//	2. pollData: does the path carry data; congestion window, pacing, probes, due
//	   acknowledgements.
//	3. fill: acknowledgement, control frames, heartbeats, datagrams, streams.
//	4. seal in place; the record of the packet; the timers.
//	5. PollPacket again: what has no tag does not leave.

// PollPacket fills b, of wire.SessionPacketSize bytes, if something should
// leave on the path now, and reports whether it did.
//
// A packet of which the seal has left no tag is not sent: it counts as lost.
func (s *Session) PollPacket(now machine.Time, id uint8, b []byte) bool {
	if id >= MaxPaths || !s.paths[id].present {
		return false
	}
	b = b[:wire.SessionPacketSize]
	for range untaggedMax {
		if !s.poll(now, id, b) {
			return false
		}
		if tagged(b) {
			return true
		}
		s.counts[trace.MissingAuthTags]++
	}
	return false
}

// untaggedMax bounds the packets that one call gives up for want of a tag.
const untaggedMax = 4

func (s *Session) poll(now machine.Time, id uint8, b []byte) bool {
	switch s.state {
	case stateHello:
		return s.pollHello(now, id, b)
	case stateOpen:
		if s.hs != nil && s.pollReply(now, id, b) {
			return true
		}
		return s.pollData(now, id, b)
	case stateClosing:
		return s.pollClose(now, id, b)
	}
	return false
}

// pollData sends a packet of frames under the session keys.
func (s *Session) pollData(now machine.Time, id uint8, b []byte) bool {
	p := &s.paths[id]
	active := id == s.active
	s.weigh(now)
	if w := s.work; w != nil && !s.paced() && w.tracks[id] != nil {
		w.tracks[id].slots.came(now)
	}
	carries := s.carries(now, id)
	if !carries {
		s.sound(now, id)
	}
	acks := active || carries && !s.paced()
	ackDue := acks && s.arrived.ready(now) || s.arrived.paths>>id&1 != 0
	data := carries && s.maySend(now, id)
	beat := active && s.beatDue(data)
	repair := carries && !ackDue && !p.ping && s.repairDue(now, id)
	if !data && !ackDue && !p.ping && !beat && !repair {
		if s.rests(now) && s.idleSweep != machine.Never && s.settled() {
			s.sweep() // a heartbeat's work is of no use to the next one, 20 s later
		}
		return false
	}
	w := s.busy()
	if w.sent.full() {
		s.dropTail(now)
	}
	s.rollKey(now)
	if repair && s.sendRepair(now, id, b) {
		return true
	}
	first := w.sent.chunkNext
	body := b[wire.SessionHeaderSize:wire.SessionHeaderSize]
	share := s.protecting(id)
	limit := s.sourceLimit(share)
	eliciting := p.ping
	if p.ping {
		body = append(body, byte(wire.SFramePing))
	}
	body, eliciting = s.fill(now, body, limit, id, acks, data, ackDue, eliciting)
	if len(body) == 0 {
		return false
	}
	p.ping = false
	clear(body[len(body):wire.SessionPayloadSize])
	flags := uint8(0)
	if share > 0 && data && eliciting && s.protect(now, s.out.next, body, share) {
		flags = recProtected
	}
	s.out.next++
	s.sealPacket(now, b)
	s.record(now, id, first, eliciting, flags)
	s.arrived.paths &^= 1 << id
	return true
}

// maySend reports whether window, pacing or the probe timer let data leave,
// and there is any.
func (s *Session) maySend(now machine.Time, id uint8) bool {
	if s.work == nil || s.work.tracks[id] == nil {
		return s.hasWork()
	}
	t := s.work.tracks[id]
	if t.probes > 0 {
		if !s.hasWork() {
			s.paths[id].ping = true
		}
		return true
	}
	return s.hasWork() && s.unbound(now, t)
}

// unbound reports whether window and pacing of a path let a packet leave.
func (s *Session) unbound(now machine.Time, t *track) bool {
	return t.room() && (!s.paced() || t.pace.ready(now, t.ctl.PacingRate()))
}

// fill appends frames up to limit. It reports whether they ask for an
// acknowledgement. acks says that acknowledgements which leave by this path
// count as told. A path that was asked by itself, or that takes the place of a
// silent one, tells of all that came: what told of it before may be lost with
// another.
func (s *Session) fill(now machine.Time, b []byte, limit int, id uint8, acks, data, ackDue, eliciting bool) ([]byte, bool) {
	if ackDue || s.arrived.pending > 0 && acks {
		room, frames := limit, ackFramesAlone
		asked := s.arrived.paths>>id&1 != 0
		if data && !asked {
			room, frames = ackRoomWithData, 1
		}
		b = s.appendRebuilt(b, room)
		var complete bool
		b, complete = s.arrived.appendAcks(now, b, room, frames, asked)
		if acks {
			s.arrived.told(complete || !data)
		}
	}
	before := len(b)
	if id == s.active {
		b = s.fillHeartbeats(b, limit, data)
	}
	if data {
		b = s.fillControl(b, limit, id)
		b = s.fillDatagrams(b, limit)
		if s.sched.messagesLast = !s.sched.messagesLast; s.sched.messagesLast {
			b = s.fillStreams(now, b, limit)
			b = s.fillMessages(now, b, limit)
		} else {
			b = s.fillMessages(now, b, limit)
			b = s.fillStreams(now, b, limit)
		}
	}
	return b, eliciting || len(b) > before
}

// An acknowledgement that leaves alone may fill its packet, which is full-sized
// anyhow; with data it stays small.
const (
	ackFramesAlone  = 6
	ackRoomWithData = 220
)

// controlReserve is the greatest control frame but CLOSE: RESET.
const controlReserve = 1 + 8 + 8 + 8

func (s *Session) fillControl(b []byte, limit int, id uint8) []byte {
	l := &s.work.sent
	value := func(flag pending, t wire.SessionFrameType, v uint64) {
		if s.pending&flag != 0 && limit-len(b) >= controlReserve {
			b = wire.AppendValue(b, t, v)
			l.addChunk(chunk{kind: t, at: v})
			s.pending &^= flag
		}
	}
	if s.pending != 0 {
		if id == s.active { // it means the route by which it comes
			value(pendPath, wire.SFramePath, s.pathSeq)
		}
		value(pendMaxData, wire.SFrameMaxData, s.recv.win.max)
		value(pendMaxStreams, wire.SFrameMaxStreams, s.recv.maxStreams)
		value(pendClass, wire.SFrameClass, s.work.classOut)
		if s.pending&pendLanes != 0 {
			b = s.fillLanes(b, limit)
		}
		if s.pending&pendNack != 0 && limit-len(b) >= controlReserve {
			b = s.work.nackOut.Append(b)
			s.pending &^= pendNack
			s.work.nackOut = wire.NackFrame{}
		}
		if s.pending&pendPing != 0 && limit > len(b) {
			b = append(b, byte(wire.SFramePing))
			s.pending &^= pendPing
		}
	}
	for st := s.sched.control; st != nil && limit-len(b) >= 4*controlReserve; st = s.sched.control {
		s.sched.control, st.ctlNext = st.ctlNext, nil
		flags := st.ctl
		st.ctl = 0
		if st.dead {
			continue
		}
		if flags&ctlReset != 0 {
			b = wire.ResetFrame{Stream: st.id, Code: st.out.resetCode, Final: st.out.next}.Append(b)
			l.addChunk(chunk{st: st, kind: wire.SFrameReset})
		}
		if flags&ctlStop != 0 && st.in.flags&inDone == 0 {
			b = wire.StopFrame{Stream: st.id, Code: st.in.stopCode}.Append(b)
			l.addChunk(chunk{st: st, kind: wire.SFrameStop})
		}
		if flags&ctlWindow != 0 && st.in.flags&(inFin|inReset|inStopped|inDone) == 0 {
			b = wire.AppendMaxStreamData(b, st.id, st.in.win.max)
			l.addChunk(chunk{st: st, kind: wire.SFrameMaxStreamData})
		}
		if flags&ctlPriority != 0 {
			b = wire.PriorityFrame{Stream: st.id, Lane: uint8(st.out.lane), Version: st.out.laneVersion}.Append(b)
			l.addChunk(chunk{st: st, kind: wire.SFramePriority})
		}
	}
	return b
}

func (s *Session) fillStreams(now machine.Time, b []byte, limit int) []byte {
	for limit-len(b) > streamLeast {
		st := s.sched.lanes.pick()
		if st == nil {
			break
		}
		before := len(b)
		var sent, blocked bool
		b, sent, blocked = s.appendStream(now, st, b, limit)
		switch {
		case blocked:
			s.block(st)
		case !sent:
			s.dequeue(st)
			s.enqueue(st)
			return b
		default:
			s.served(st, len(b)-before)
		}
	}
	return b
}

// streamLeast is the room below which no further STREAM frame is begun: its
// header at the greatest offsets and a few bytes.
const streamLeast = 24

// record notes the packet that was just numbered and sets the timers.
func (s *Session) record(now machine.Time, id uint8, firstChunk uint64, eliciting bool, flags uint8) {
	w := s.work
	s.countSent(now)
	if w.sent.next == w.sent.tail && !eliciting {
		w.sent.next, w.sent.tail = s.out.next, s.out.next // nothing to remember
		return
	}
	r := w.sent.push(firstChunk)
	r.path, r.flags = id, flags
	if !eliciting {
		return
	}
	if s.out.asked == 0 {
		s.out.asked = now
	}
	t := s.track(id)
	r.epoch = t.epoch
	r.cc.SentAt, r.cc.Bytes = now, wire.SessionPacketSize
	w.sent.setOpen()
	t.flying++
	t.sent++
	w.limited = w.limited || !s.hasWork()
	t.ctl.OnSent(now, &r.cc, t.inFlight(), !s.hasWork() || t.most > 0)
	t.pace.spend(now, t.ctl.PacingRate())
	if t.probes > 0 {
		t.probes--
	}
	s.owes(now)
	if id < MaxPaths && (t.flying == 1 || t.owing == 0) {
		t.owing = now
	}
	s.setProbeTimer(now, t)
}

// pacer spreads packets at the controller's rate, as a bucket of credit in
// bytes × nanoseconds per second, so that it is exact in integers.
type pacer struct {
	credit int64
	at     machine.Time
	begun  bool
}

// Bounds of a burst: 16 packets or what the rate gives in 4 ms, so that an owner
// that wakes late catches up. paceGather is the burst that a waiting sender
// gathers, 2 ms' worth up to 64 packets: every hop of a route moves packets
// in the batches in which they come, and a batch of 64 costs a hop a third of
// what 64 packets cost one by one.
const (
	paceLeast     = wire.SessionPacketSize * int64(time.Second)
	paceBurst     = 16 * paceLeast
	paceSpan      = int64(4 * time.Millisecond)
	paceGather    = int64(2 * time.Millisecond)
	paceGatherMax = 64 * paceLeast
	paceGap       = int64(100 * time.Millisecond) // fills any bucket, overflows none
)

func (p *pacer) refill(now machine.Time, rate int64) {
	most := max(paceBurst, rate*paceSpan)
	if !p.begun {
		p.credit, p.begun = most, true
	} else if now > p.at {
		p.credit = min(p.credit+rate*min(int64(now-p.at), paceGap), most)
	}
	p.at = now
}

// ready reports whether a packet may leave at a rate; 0 is no pacing.
func (p *pacer) ready(now machine.Time, rate uint64) bool {
	if rate == 0 {
		return true
	}
	p.refill(now, int64(rate))
	return p.credit >= paceLeast
}

func (p *pacer) spend(now machine.Time, rate uint64) {
	if rate != 0 {
		p.refill(now, int64(rate))
		p.credit -= paceLeast
	}
}

// next is when ready will hold, with a burst gathered, so that a fast session
// does not wake its owner for every packet. It is Never if a packet may leave
// now and only its slot is waited for.
func (p *pacer) next(rate uint64) machine.Time {
	if rate == 0 || !p.begun || p.credit >= paceLeast {
		return machine.Never
	}
	want := max(paceLeast, min(int64(rate)*paceGather, paceGatherMax)) - p.credit
	return p.at + machine.Time(want/int64(rate)) + 1
}

// chunkArrived notes that the peer has a chunk.
func (s *Session) chunkArrived(now machine.Time, c *chunk) {
	switch c.kind {
	case wire.SFrameStream:
		s.streamArrived(now, c.st, c.at, c.at+uint64(c.size), false)
	case wire.SFrameStreamFin:
		s.streamArrived(now, c.st, c.at, c.at+uint64(c.size), true)
	case wire.SFrameMessage, wire.SFrameMessageEnd:
		s.fragmentArrived(c)
	case wire.SFrameReset:
		c.st.out.flags |= outDone
		s.finish(now, c.st)
	}
}

// chunkLost queues a chunk again if it still matters.
func (s *Session) chunkLost(c *chunk) bool {
	switch c.kind {
	case wire.SFrameStream:
		return s.streamLost(c.st, c.at, c.at+uint64(c.size), false)
	case wire.SFrameStreamFin:
		return s.streamLost(c.st, c.at, c.at+uint64(c.size), true)
	case wire.SFrameMessage, wire.SFrameMessageEnd:
		return s.fragmentLost(c)
	case wire.SFrameReset:
		if c.st.out.flags&outDone == 0 {
			s.control(c.st, ctlReset)
		}
	case wire.SFrameStop:
		s.control(c.st, ctlStop)
	case wire.SFrameMaxStreamData:
		s.control(c.st, ctlWindow)
	case wire.SFramePriority:
		s.control(c.st, ctlPriority)
	case wire.SFrameLane:
		s.tellWeight(Lane(c.at))
	case wire.SFrameMaxData:
		s.pending |= pendMaxData
	case wire.SFrameMaxStreams:
		s.pending |= pendMaxStreams
	case wire.SFramePath:
		if c.at == s.pathSeq {
			s.pending |= pendPath
		}
	case wire.SFrameClass:
		s.pending |= pendClass
	}
	return false
}

// countSent counts a packet that leaves.
func (s *Session) countSent(now machine.Time) {
	s.stats.PacketsSent++
	s.counts[trace.SessionPacketOut]++
	s.lastSent = now
}
