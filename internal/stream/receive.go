package stream

import (
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// The way in of a packet:
//
//	1. HandlePacket: size, kind, connection id.
//	2. handleData: replay guard, keys, number noted as arrived.
//	3. frames: each frame to its handler; a malformed one ends the session.
//	4. the acknowledgement that is owed, the path's sign of life.

// HandlePacket takes a session packet that came by a path. b is overwritten.
func (s *Session) HandlePacket(now machine.Time, id uint8, b []byte) {
	if id >= MaxPaths {
		s.counts[trace.DropSessionMalformed]++
		return
	}
	switch wire.SessionPacketKind(b) {
	case wire.SessionData:
		if wire.SessionPacketID(b) != s.localID {
			s.counts[trace.DropSessionUnknown]++
		} else if s.state == stateHello {
			s.hold(b)
		} else {
			s.handleData(now, id, b)
		}
	case wire.SessionEarly:
		s.handleEarly(now, id, b)
	case wire.SessionReply:
		s.handleReplyPart(now, id, b)
	default:
		s.counts[trace.DropSessionMalformed]++
	}
}

// HandleNewPath is HandlePacket for a packet that came by a route which is not
// a path yet: it becomes path id if, and only if, the packet is authentic, in place
// of the path that has the id, if one has. It reports whether it was.
func (s *Session) HandleNewPath(now machine.Time, id uint8, b []byte) bool {
	s.joining = true
	s.HandlePacket(now, id, b)
	authentic := !s.joining
	s.joining = false
	return authentic
}

func (s *Session) handleData(now machine.Time, id uint8, b []byte) {
	if s.state == stateClosed {
		s.counts[trace.DropSessionUnknown]++
		return
	}
	pn := wire.ExpandNumber(s.arrived.largest+1, wire.SessionPacketNumber(b))
	if s.arrived.seen(pn) {
		s.counts[trace.DropSessionReplay]++
		return
	}
	payload, ok := s.openPacket(now, pn, b)
	if !ok {
		s.counts[trace.DropSessionAuth]++
		return
	}
	if !s.confirmed {
		s.confirm(now)
	}
	s.accept(now, id, pn, payload)
}

// accept takes the frames of an authentic packet.
func (s *Session) accept(now machine.Time, id uint8, pn uint64, payload []byte) {
	s.counts[trace.SessionPacketIn]++
	s.stats.PacketsReceived++
	s.arrived.add(now, pn)
	if s.joining {
		s.joining = false
		s.RemovePath(now, id)
		s.AddPath(now, id)
	}
	s.heard(now, id)
	if s.state == stateClosing {
		s.handleWhileClosing(now, payload)
		return
	}
	eliciting, prompt, ok := true, false, true
	switch {
	case s.wasRebuilt(pn): // its content was taken
	case len(payload) > 0 && wire.SessionFrameType(payload[0]) == wire.SFrameRepair:
		ok = s.handleRepair(now, id, pn, payload)
	default:
		eliciting, prompt, ok = s.frames(now, id, payload)
		ok = ok && s.keep(now, id, pn, payload)
	}
	if !ok {
		s.counts[trace.DropSessionMalformed]++
		s.fail(now, wire.CodeProtocol, "malformed frame")
		return
	}
	if eliciting {
		s.arrived.owe(now, s.cfg.AckEvery, s.cfg.AckDelay)
		if prompt && id != s.active && s.paths[id].present {
			s.arrived.paths |= 1 << id
		} else if prompt {
			s.arrived.now = true
		}
	}
	s.idleSweep = 0
}

// frames handles every frame of a payload. prompt says that the peer waits for
// the acknowledgement.
func (s *Session) frames(now machine.Time, id uint8, b []byte) (eliciting, prompt, ok bool) {
	var metadata, greatest int
	for len(b) > 0 && (s.state == stateOpen || s.state == stateHello) {
		t := wire.SessionFrameType(b[0])
		if t == wire.SFramePadding {
			if !wire.IsZero(b) {
				return eliciting, prompt, false
			}
			break
		}
		n, content, ok := s.frame(now, id, t, b)
		if !ok {
			return eliciting, prompt, false
		}
		metadata, greatest = metadata+n-content, max(greatest, n)
		if t != wire.SFrameAck && t != wire.SFrameRebuilt && t != wire.SFrameClose {
			eliciting = true
		}
		if t == wire.SFramePing || t == wire.SFramePath {
			prompt = true
		}
		b = b[n:]
	}
	s.cfg.Distributions.Observe(trace.MetadataSize, uint64(metadata))
	s.cfg.Sink.Emit(now, trace.PacketTaken, uint64(metadata), uint64(greatest))
	return eliciting, prompt, true
}

// frame handles one frame and returns its size, and how much of it is content.
func (s *Session) frame(now machine.Time, id uint8, t wire.SessionFrameType, b []byte) (n, content int, ok bool) {
	if c := capabilityOf(t); c != 0 && !s.cfg.knows.has(c) {
		return 0, 0, s.unknownFrame()
	}
	var err error
	ok = true
	switch t {
	case wire.SFrameStream, wire.SFrameStreamFin:
		var f wire.StreamFrame
		if f, n, err = wire.ParseStream(b); err == nil {
			s.lastUse, s.receiving = now, s.client && s.paced()
			content = len(f.Data)
			ok = s.handleStream(now, &f)
		}
	case wire.SFrameAck:
		var f wire.AckFrame
		if n, err = f.Parse(b); err == nil {
			if ok = s.rebuiltNow(); !ok {
				s.leaveSilent(now, id)
				ok = s.handleAck(now, &f)
			}
		}
	case wire.SFrameRebuilt:
		var f wire.RebuiltFrame
		if f, n, err = wire.ParseRebuilt(b); err == nil {
			ok = s.rebuiltNow() || s.handleRebuilt(now, f)
		}
	case wire.SFramePing:
		n = 1
	case wire.SFrameReset:
		var f wire.ResetFrame
		if f, n, err = wire.ParseReset(b); err == nil {
			ok = s.handleReset(now, f)
		}
	case wire.SFrameStop:
		var f wire.StopFrame
		if f, n, err = wire.ParseStop(b); err == nil {
			ok = s.handleStop(now, f)
		}
	case wire.SFrameMaxStreamData:
		var stream, limit uint64
		if stream, limit, n, err = wire.ParseMaxStreamData(b); err == nil {
			ok = s.handleMaxStreamData(now, stream, limit)
		}
	case wire.SFramePriority:
		var f wire.PriorityFrame
		if f, n, err = wire.ParsePriority(b); err == nil {
			ok = s.handlePriority(now, f)
		}
	case wire.SFrameLane:
		var f wire.LaneFrame
		if f, n, err = wire.ParseLane(b); err == nil {
			ok = s.handleLane(now, f)
		}
	case wire.SFrameDatagram:
		var f wire.DatagramFrame
		if f, n, err = wire.ParseDatagram(b); err == nil {
			s.lastUse, content = now, len(f.Data)
			ok = s.handleDatagram(now, f)
		}
	case wire.SFrameMessage, wire.SFrameMessageEnd:
		var f wire.MessageFrame
		if f, n, err = wire.ParseMessage(b); err == nil {
			s.lastUse, content = now, len(f.Data)
			ok = s.handleMessage(now, &f)
		}
	case wire.SFrameNack:
		var f wire.NackFrame
		if f, n, err = wire.ParseNackFrame(b); err == nil {
			s.stats.NacksReceived += f.Packets
		}
	case wire.SFrameClose:
		var f wire.CloseFrame
		if f, n, err = wire.ParseClose(b); err == nil {
			s.handleClose(now, f)
		}
	case wire.SFrameMaxData, wire.SFrameMaxStreams, wire.SFrameHeartbeat, wire.SFramePath, wire.SFrameClass:
		var v uint64
		if v, n, err = wire.ParseValue(b); err == nil {
			s.handleValue(now, id, t, v)
		}
	default:
		return 0, 0, s.unknownFrame()
	}
	return n, content, ok && err == nil
}

func (s *Session) handleValue(now machine.Time, id uint8, t wire.SessionFrameType, v uint64) {
	switch t {
	case wire.SFrameMaxData:
		if v > s.send.max {
			s.send.max = v
			s.unblock()
		}
	case wire.SFrameMaxStreams:
		if v > s.send.maxStreams {
			s.send.maxStreams = v
			s.unblock()
		}
	case wire.SFrameHeartbeat:
		s.stats.HeartbeatsReceived++
		s.counts[trace.HeartbeatIn]++
	case wire.SFramePath:
		s.handlePath(now, id, v)
	case wire.SFrameClass:
		s.tell(Event{Kind: ClassChanged, Code: v})
	}
}

func (s *Session) handleMaxStreamData(now machine.Time, id, limit uint64) bool {
	st, ok := s.peerStream(now, id)
	if st == nil {
		return ok || s.failFrame(now, "limit for a stream that was never opened")
	}
	if limit > st.out.limit {
		st.out.limit = limit
		s.enqueue(st)
		s.wakeWriter(st)
	}
	return true
}

// failFrame ends the session for a frame that is not allowed.
func (s *Session) failFrame(now machine.Time, reason string) bool {
	s.fail(now, wire.CodeProtocol, reason)
	return false
}
