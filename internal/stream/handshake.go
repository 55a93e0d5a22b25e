package stream

import (
	"bytes"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// handshake is the state of a handshake, dropped when both sides are sure of
// the keys. HELLO and REPLY are sent whole in parts, again and again until they
// are answered (machine.RepeatAfter).
type handshake struct {
	schedule *seal.Schedule // client: after the HELLO
	private  *seal.Ephemeral
	draw     *prng.Stream    // client: for HELLOs
	peer     *seal.KEMPublic // client: the responder's static key
	secret   seal.Key        // client: of the ciphertext to it, or of a ticket
	offers   uint8           // client: HELLOs of different KEMs, or without a ticket
	head     wire.HelloHead
	message  []byte // HELLO or REPLY
	part     int    // next part to send
	tries    uint8
	at       machine.Time // of the next repetition
	until    machine.Time // when to give up
	early    seal.AEAD    // 0-RTT packets
	parts    Assembly     // client: REPLY
	held     [][]byte     // client: DATA that overtook the REPLY
	flown    bool         // the HELLO went with a route's set-up
	refusing bool         // responder: the REPLY is a refusal
	done     bool         // responder: confirmed; early packets may still come
}

// heldMax bounds the packets that may overtake a REPLY: the first flight of an
// answer.
const heldMax = 32

// sessionProtocol names the handshake in its schedule.
func sessionProtocol(k seal.KEM) string { return "nyx session 1 " + k.String() + " SHA-256" }

// Dial begins a session with the holder of a static key, as the client. The
// HELLO is made at the first FirstFlight or PollPacket, with what was written
// until then.
func Dial(now machine.Time, cfg Config, peer *seal.KEMPublic, rng prng.Source, counts *trace.Counts) (*Session, error) {
	return Resume(now, cfg, peer, nil, rng, counts)
}

// Resume is Dial by a ticket of the peer's fleet, which is used up, or without if
// it is nil. If the peer does not take it the handshake goes on without.
func Resume(now machine.Time, cfg Config, peer *seal.KEMPublic, ticket *Ticket, rng prng.Source, counts *trace.Counts) (*Session, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	draw := rng.Stream("session hello")
	s := newSession(now, &shared{Config: cfg}, counts, true)
	s.state, s.suite = stateHello, cfg.Suite
	s.localID = drawID(draw)
	s.hs = &handshake{draw: draw, peer: peer, until: now.Add(cfg.HandshakeTimeout)}
	if err := s.offer(cfg.KEM, ticket); err != nil {
		return nil, err
	}
	return s, nil
}

// offer prepares a HELLO with a KEM: the first, by ticket if there is one, or one
// after a refusal.
func (s *Session) offer(kem seal.KEM, ticket *Ticket) (err error) {
	hs := s.hs
	hs.offers++
	hs.at, hs.tries, hs.part, hs.message, hs.flown = machine.Never, 0, 0, nil, false
	hs.head = wire.HelloHead{KEM: uint8(kem), Suite: uint8(s.suite), ID: s.localID, Proposed: drawID(hs.draw)}
	hs.draw.Read(hs.head.Random[:])
	var seed [seal.KEMSeedSize]byte
	hs.draw.Read(seed[:])
	if hs.private, err = seal.NewEphemeral(kem, &seed); err != nil {
		return err
	}
	clear(seed[:])
	hs.head.Key = hs.private.Public()
	if s.resumed = ticket != nil; s.resumed {
		hs.secret, hs.head.Ticket = ticket.secret, slices.Clone(ticket.sealed[:])
		hs.schedule = seal.NewSchedule(ticketProtocol(kem))
		ticket.Clear()
	} else {
		var scalar [32]byte
		hs.draw.Read(scalar[:])
		secret, ciphertext, err := seal.Encapsulate(hs.peer, &scalar)
		if err != nil {
			return err
		}
		hs.secret, hs.head.Ciphertext = secret, ciphertext[:]
		hs.schedule = seal.NewSchedule(sessionProtocol(kem))
		clear(scalar[:])
	}
	hs.schedule.MixHash(hs.peer.Bytes())
	return nil
}

// offerAgain makes the HELLO anew, without a ticket: with the KEM that a refusal
// asks for, or because the responder does not take the ticket, or does not answer.
// It carries no frames: what the first one carried is lost, and sent again, for two
// HELLOs would have two packets 0.
func (s *Session) offerAgain(now machine.Time, kem seal.KEM) {
	hs := s.hs
	s.loseAll(now, func(r *record) bool { return r.flags&recEarly != 0 })
	hs.schedule.Clear()
	hs.early.Forget()
	hs.parts = Assembly{}
	if err := s.offer(kem, nil); err != nil {
		s.end(now, &closing{code: wire.CodeInternal, reason: err.Error()})
	}
}

func drawID(draw *prng.Stream) uint32 {
	for {
		if id := draw.Uint32(); id != 0 {
			return id
		}
	}
}

func newSession(now machine.Time, cfg *shared, counts *trace.Counts, client bool) *Session {
	s := &Session{cfg: cfg, counts: counts, client: client, active: noPath, lastUse: now, lastSent: now}
	s.rtt.start(cfg.InitialRTT)
	s.peerAck = cfg.AckDelay
	s.recv.win.start(firstSessionWindow)
	s.recv.maxStreams = uint64(cfg.MaxStreams)
	s.send.max, s.send.streamWindow, s.send.maxStreams = firstSessionWindow, firstStreamWindow, firstStreams
	s.arrived.largest = ^uint64(0) // so that the first expected number is 0
	return s
}

// FirstFlight returns the HELLO for a route's set-up, with the 0-RTT frames of
// what was written so far, as far as they fit. Everything else follows when a
// path is there. The caller must not change it. It is nil after the handshake,
// and where the HELLO is too large for a set-up: then it follows on a path.
func (s *Session) FirstFlight() []byte {
	if s.state != stateHello || s.hs.head.KEM != uint8(seal.KEM768) {
		return nil
	}
	if s.hs.message == nil {
		s.makeHello(s.lastUse)
		s.hs.flown = true
		s.hs.part = wire.SessionParts(len(s.hs.message))
		s.hs.at = s.lastUse.Add(s.helloWait())
	}
	return s.hs.message
}

// helloWait is the distance to the next repetition of a HELLO or REPLY. On
// shaped routes it comes sooner: it takes cells that would be sent anyway.
func (s *Session) helloWait() time.Duration {
	first := s.cfg.InitialRTT
	if s.paced() {
		first *= 2
	}
	return machine.RepeatAfter(int(s.hs.tries), first, first<<probeBackoff)
}

// makeHello seals the HELLO. Its frames count as packet 0; one after a refusal
// has none.
func (s *Session) makeHello(now machine.Time) {
	hs := s.hs
	own := s.cfg.capabilities()
	block := wire.HelloBlock{Time: s.unixTens(now), Capabilities: own.Append(nil)}
	w := s.busy()
	if hs.offers == 1 {
		room := min(hs.head.Room()-len(block.Append(nil)), wire.SessionPayloadSize)
		first := w.sent.chunkNext
		frames, eliciting := s.fill(now, make([]byte, 0, room), room, s.active, true, true, false, false)
		block.Frames = frames
		s.out.next++
		s.record(now, s.active, first, eliciting, recEarly)
	}

	head := hs.head.Append(make([]byte, 0, wire.MaxHelloSize))
	hs.schedule.MixHash(head)
	hs.schedule.MixKey(hs.secret[:])
	hs.message = hs.schedule.SealNext(head, block.Append(nil))
	early := hs.schedule.Key("early data")
	hs.early.Init(s.suite, &early)
	early.Clear()
}

// unixTens is the time that a HELLO states, coarse so that it tells machines
// apart as little as it can.
func (s *Session) unixTens(now machine.Time) uint32 {
	if s.cfg.UnixStart == 0 {
		return 0
	}
	return uint32(s.cfg.unix(now) / 10)
}

// unix is the unix time, or where it is unknown the machine's.
func (c *Config) unix(now machine.Time) int64 {
	return c.UnixStart + int64(now/machine.Time(time.Second))
}

// pollHello sends the parts of the HELLO, then 0-RTT data.
func (s *Session) pollHello(now machine.Time, id uint8, b []byte) bool {
	hs := s.hs
	if id != s.active {
		return false
	}
	if hs.message == nil {
		s.makeHello(now)
	}
	if hs.part < wire.SessionParts(len(hs.message)) {
		s.sendPart(now, wire.SessionHello, s.localID, b)
		return true
	}
	if !s.maySend(now, id) {
		return false
	}
	w := s.busy()
	first := w.sent.chunkNext
	body, eliciting := s.fill(now, b[wire.SessionHeaderSize:wire.SessionHeaderSize], wire.SessionPayloadSize, id, true, true, false, false)
	if len(body) == 0 {
		return false
	}
	clear(body[len(body):wire.SessionPayloadSize])
	body = body[:wire.SessionPayloadSize]
	pn := s.out.next
	s.out.next++
	wire.PutSessionHeader(b, wire.SessionEarly, hs.head.Proposed, pn)
	untag(b)
	hs.early.Seal(body[:0], body, b[:wire.SessionHeaderSize], pn)
	s.record(now, id, first, eliciting, recEarly)
	return true
}

// sendPart sends the next part of the handshake message.
func (s *Session) sendPart(now machine.Time, kind wire.SessionKind, to uint32, b []byte) {
	hs := s.hs
	if hs.part == 0 {
		hs.at = now.Add(s.helloWait())
	}
	wire.PutSessionPart(b, kind, to, hs.message, hs.part)
	hs.part++
	s.countSent(now)
}

// pollReply sends the parts of the REPLY.
func (s *Session) pollReply(now machine.Time, id uint8, b []byte) bool {
	hs := s.hs
	if id != s.active || hs.done || hs.part >= wire.SessionParts(len(hs.message)) {
		return false
	}
	s.sendPart(now, wire.SessionReply, s.peerID, b)
	return true
}

func (h *handshake) next() machine.Time {
	if h.done {
		return h.at
	}
	return min(h.at, h.until)
}

// tickHandshake repeats what was not answered, on the next path if there are
// several, and gives up in the end. It reports false if it did.
func (s *Session) tickHandshake(now machine.Time) bool {
	hs := s.hs
	switch {
	case hs.done:
		if now >= hs.at {
			s.dropHandshake()
		}
	case now >= hs.until:
		if hs.refusing {
			s.finished(now)
		} else {
			s.fail(now, wire.CodeHandshake, "")
		}
		return false
	case now >= hs.at:
		hs.tries++
		hs.part = 0
		hs.at = now.Add(s.helloWait())
		if s.client && hs.head.Ticket != nil && hs.tries >= ticketTries {
			s.offerAgain(now, seal.KEM(hs.head.KEM))
		}
		if s.client {
			s.turnPath()
		}
	}
	return true
}

// turnPath makes the next path active, while no answer shows which one works.
func (s *Session) turnPath() {
	for i := uint8(1); i < MaxPaths; i++ {
		if id := (s.active + i) % MaxPaths; s.active != noPath && s.paths[id].present {
			s.active = id
			return
		}
	}
}

// hold keeps a DATA packet that came before the REPLY.
func (s *Session) hold(b []byte) {
	if s.hs == nil || s.hs.message == nil || len(s.hs.held) >= heldMax {
		s.counts[trace.DropSessionUnknown]++
		return
	}
	s.hs.held = append(s.hs.held, slices.Clone(b))
}

// handleReplyPart collects a REPLY.
func (s *Session) handleReplyPart(now machine.Time, id uint8, b []byte) {
	if !s.client || wire.SessionPacketID(b) != s.localID {
		s.counts[trace.DropSessionUnknown]++
		return
	}
	if s.state != stateHello {
		if s.state == stateOpen && b[5] == 0 {
			s.pending |= pendPing // the responder has not heard that we are open
		}
		s.counts[trace.DropSessionReplay]++
		return
	}
	if s.hs.message == nil {
		s.counts[trace.DropSessionUnknown]++
		return
	}
	reply, whole := s.hs.parts.Add(b)
	if !whole {
		return
	}
	if !s.handleReply(now, id, reply) {
		s.counts[trace.DropSessionAuth]++
	}
}

// handleReply opens the REPLY and the session. It reports false for one that
// does not authenticate, after which the handshake goes on.
func (s *Session) handleReply(now machine.Time, id uint8, reply []byte) bool {
	hs := s.hs
	if hs.head.Ticket != nil && bytes.Equal(reply, wire.TicketRefused) {
		s.offerAgain(now, seal.KEM(hs.head.KEM))
		return true
	}
	if refusal, tag, err := wire.ParseHelloRefusal(reply); err == nil {
		return s.handleRefusal(now, refusal, tag)
	}
	ciphertext, sealed, err := wire.ParseReply(hs.head.KEM, reply)
	if err != nil {
		return false
	}
	secret, err := hs.private.Decapsulate(ciphertext)
	if err != nil {
		return false
	}
	schedule := hs.schedule.Clone()
	defer schedule.Clear()
	schedule.MixHash(ciphertext)
	schedule.MixKey(secret[:])
	secret.Clear()
	resumption := schedule.Key(resumptionKey)
	defer resumption.Clear()
	plain, err := schedule.OpenNext(nil, sealed)
	if err != nil {
		return false
	}
	block, err := wire.ParseReplyBlock(plain)
	if err != nil || block.Status == 0 && block.ID == 0 {
		return false
	}
	if block.Status != 0 {
		if block.Status == wire.CodeCapability {
			s.mismatch()
		}
		s.end(now, &closing{code: block.Status, reason: "refused by the peer"})
		return true
	}
	theirs, err := wire.ParseCapabilities(block.Capabilities)
	if err != nil {
		return false
	}
	s.open(now, schedule, block.ID, &theirs)
	if block.Ticket != nil {
		s.ticket = &Ticket{sealed: wire.Ticket(block.Ticket), secret: resumption, until: now.Add(ticketLife)}
		s.tell(Event{Kind: TicketGiven})
	}
	s.heard(now, id)
	if id != s.active && s.paths[id].present {
		s.usePath(now, id) // it works, as the active one has not shown
		s.announcePath()
	}
	if !hs.flown && hs.tries == 0 {
		s.estimate().sample(now.Sub(hs.at.Add(-s.helloWait())), 0)
	}
	s.loseAll(now, func(r *record) bool { // what was refused, or left by a path that may not work
		return r.flags&recEarly != 0 && (!block.Early || r.path != id)
	})
	// Early packets may have waited for the HELLO or been lost for want of it:
	// they say nothing about the route.
	for _, t := range s.work.tracks {
		if t != nil {
			t.ctl.OnPathChange(now)
		}
	}
	held := hs.held
	s.dropHandshake()
	s.pending |= pendPing
	for i := range s.paths {
		s.paths[i].ping = s.paths[i].present && uint8(i) != s.active
	}
	if !s.cfg.knowsAll(theirs.Required) {
		s.mismatch()
		s.fail(now, wire.CodeCapability, "a required capability is unknown here")
	}
	for _, b := range held {
		s.handleData(now, id, b)
	}
	return true
}

// open takes the keys and the peer's limits.
func (s *Session) open(now machine.Time, schedule *seal.Schedule, peerID uint32, theirs *wire.Capabilities) {
	up, down := schedule.Key("client to responder"), schedule.Key("responder to client")
	if s.client {
		s.out.start(now, up)
		s.in.start(down)
	} else {
		s.out.start(now, down)
		s.in.start(up)
	}
	up.Clear()
	down.Clear()
	s.state, s.peerID = stateOpen, peerID
	s.common = s.cfg.knows & setOf(theirs.Required, theirs.Optional)
	if m := s.sched.datagrams; m != nil && !s.common.has(wire.CapDatagrams) {
		s.stats.DatagramsDropped += uint64(m.count)
		s.sched.datagrams = nil
	}
	s.send.max = max(s.send.max, theirs.SessionWindow)
	s.send.maxStreams = max(s.send.maxStreams, theirs.Streams)
	s.send.streamWindow = max(s.send.streamWindow, theirs.StreamWindow)
	for _, st := range s.streams.slots {
		if st != nil {
			st.out.limit = max(st.out.limit, s.send.streamWindow)
		}
	}
	s.unblock()
	s.meetLanes()
	s.peerAck = time.Duration(theirs.AckDelayMicros) * time.Microsecond
	s.tell(Event{Kind: Established})
	s.cfg.Sink.Emit(now, trace.SessionUp, 0, 0)
	if s.work != nil {
		for _, t := range s.work.tracks {
			if t != nil {
				s.setProbeTimer(now, t)
			}
		}
	}
}

// confirm notes that the peer has shown the session keys.
func (s *Session) confirm(now machine.Time) {
	s.confirmed = true
	if !s.client {
		s.counts[trace.PQHandshakeSuccess]++
	}
	if hs := s.hs; hs != nil {
		hs.done, hs.message = true, nil
		hs.at = now.Add(3 * s.pto())
	}
}

// dropHandshake overwrites and forgets the handshake.
func (s *Session) dropHandshake() {
	if hs := s.hs; hs != nil {
		hs.secret.Clear()
		hs.early.Forget()
		if hs.schedule != nil {
			hs.schedule.Clear()
		}
		s.hs = nil
	}
}

// handleEarly takes a 0-RTT packet.
func (s *Session) handleEarly(now machine.Time, id uint8, b []byte) {
	hs := s.hs
	if s.client || s.state != stateOpen || hs == nil || !hs.early.Ready() || hs.head.Proposed != wire.SessionPacketID(b) {
		s.counts[trace.DropSessionUnknown]++
		return
	}
	pn := uint64(wire.SessionPacketNumber(b))
	if s.arrived.seen(pn) {
		s.counts[trace.DropSessionReplay]++
		return
	}
	body := b[wire.SessionHeaderSize:]
	payload, ok := hs.early.Open(body[:0], body, b[:wire.SessionHeaderSize], pn)
	if !ok {
		s.counts[trace.DropSessionAuth]++
		return
	}
	s.accept(now, id, pn, payload)
}

// Assembly collects the parts of one HELLO or REPLY. The zero Assembly is
// ready; it holds at most one message, 3 KiB, and takes up a new one when a
// part does not belong to it.
type Assembly struct {
	b      []byte
	id     uint32
	length uint16
	got    uint8
}

// Add takes a HELLO or REPLY packet. When the last part has come it returns the
// message, which the caller may keep.
func (a *Assembly) Add(packet []byte) (message []byte, whole bool) {
	p, ok := wire.ParseSessionPart(packet)
	if !ok {
		return nil, false
	}
	if a.b == nil || a.id != p.ID || a.length != p.Length {
		*a = Assembly{b: make([]byte, p.Length), id: p.ID, length: p.Length}
	}
	copy(a.b[int(p.Part)*wire.SessionChunkSize:], p.Chunk)
	if a.got |= 1 << p.Part; a.got != 1<<p.Parts-1 {
		return nil, false
	}
	message = a.b
	*a = Assembly{}
	return message, true
}
