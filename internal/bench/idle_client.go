package bench

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// A client of this measurement is a script of the protocol, not the cores of
// package client: of a million of them each may cost some hundred bytes and some
// hundred microseconds. What it sends, the node cannot tell from a real client's,
// and answers with all the work that it has for one. What the node cannot see is
// left out:
//
//   - all clients hold one ephemeral key, and use one encapsulation to the node's
//     static key. Set-ups take an encapsulation each, for a node refuses a
//     ciphertext that it knows;
//   - the Mix node is a part of the script (idle_world.go): its layer of a
//     set-up and of cells is no layer at all.

// Names of the handshakes (docs/protocol.md, sections 4.2 and 12.3).
const (
	idleLinkProtocol    = "nyx link 1"
	idleSessionProtocol = "nyx session 1 X25519 ML-KEM-768 SHA-256"
)

// idleSuite seals everything of these clients.
const idleSuite = seal.AES256GCM

// idleExit is the position of the exit on the route: entry, Mix node, exit.
const idleExit = 2

// idleClient is what a client keeps for its heartbeats. Its number, from 1, is
// its index on the link, its train and route id everywhere, and its connection id.
type idleClient struct {
	link        seal.Key // of datagrams to the node
	entry, exit seal.Key // of layers away from it
	back        seal.Key // of the exit's layer to it
	up, down    seal.Key // of the session
	index       uint32   // of the node's end of the link
	session     uint32   // the node's connection id
	datagrams   uint32   // sent on the link
	cells       uint32   // sent on the route
	packets     uint32   // sent in the session
}

// idleSetup is what a client needs until its session stands.
type idleSetup struct {
	nonce    [wire.LinkNonceSize]byte
	schedule *seal.Schedule // of the link, then of the session
	init     []byte
	resp     [wire.LinkParts][]byte
	recv     seal.Key // of datagrams from the node; used for its admission only
	linked   bool
	onion    []byte // the exit's set-up packet
	reply    []byte
	replied  int // parts of the reply
}

// idleSecrets is what all clients share.
type idleSecrets struct {
	node       wire.NodeID
	static     *seal.KEMPublic
	onion      *seal.KEMPublic
	ephemeral  *seal.KEMPrivate
	secret     seal.Key // to static
	ciphertext []byte
	shape      seal.Key // of handshake datagrams to the node
}

func newIdleSecrets(node wire.NodeID, static, onion *seal.KEMPublic, ephemeral *seal.KEMPrivate) (*idleSecrets, error) {
	s := &idleSecrets{node: node, static: static, onion: onion, ephemeral: ephemeral}
	secret, ciphertext, err := seal.Encapsulate(static, &[32]byte{1})
	s.secret, s.ciphertext = secret, ciphertext[:]
	named := seal.Key(seal.Hash("link handshake", node[:]))
	s.shape = seal.Derive(&named, "to responder")
	return s, err
}

func bigEndian(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// begin sends INIT, without a cookie.
func (w *idleShard) begin(n uint32) {
	s := w.secrets
	u := &idleSetup{schedule: seal.NewSchedule(idleLinkProtocol)}
	copy(u.nonce[:], bigEndian(n))
	u.schedule.MixHash(s.node[:])
	u.schedule.MixHash(s.static.Bytes())
	u.schedule.MixHash(u.nonce[:])
	u.schedule.MixHash(bigEndian(n))
	u.schedule.MixHash(s.ephemeral.Public().Bytes())
	u.schedule.MixHash(s.ciphertext)
	u.schedule.MixKey(s.secret[:])
	block := wire.LinkInitBlock{Suite: uint8(idleSuite)}
	u.init = append(u.init, s.ephemeral.Public().Bytes()...)
	u.init = append(u.init, s.ciphertext...)
	u.init = u.schedule.SealNext(u.init, block.Append(nil))
	w.setups[n] = u
	w.sendInit(n, u, [wire.LinkCookieSize]byte{})
}

// sendInit sends both parts of INIT. Their header names no link of the node.
func (w *idleShard) sendInit(n uint32, u *idleSetup, cookie [wire.LinkCookieSize]byte) {
	for part := range uint8(wire.LinkParts) {
		m := wire.LinkInit{Part: part, Index: n, Nonce: u.nonce, Cookie: cookie, Chunk: u.init[int(part)*wire.LinkInitChunkSize:]}
		b := w.toGate.add(n)
		wire.PutLinkHeader(b, 0, uint64(n)<<1|uint64(part))
		body := m.Append(b[wire.LinkHeaderSize:wire.LinkHeaderSize])
		w.shape.Seal(body[:0], body, b[:wire.LinkHeaderSize], uint64(n)<<1|uint64(part))
	}
}

// receive takes a datagram of the node to a client. Once a session stands, what
// comes over the link has been seen at the Mix node (fromMid).
func (w *idleShard) receive(n uint32, b []byte) error {
	u := w.setups[n]
	if u == nil {
		return nil
	}
	head, body := b[:wire.LinkHeaderSize], b[wire.LinkHeaderSize:wire.DatagramSize]
	_, counter := wire.LinkHeader(b)
	if u.linked {
		if u.onion != nil {
			return nil
		}
		frame, ok := w.once.Open(idleSuite, &u.recv, body[:0], body, head, counter)
		if !ok || wire.FrameType(frame[0]) != wire.FrameAdmission {
			return nil
		}
		if m, ok := wire.ParseAdmission(frame); !ok || m.Kind != wire.AdmissionReady {
			return fmt.Errorf("client %d was not admitted: %s", n, m.Refused.Reason)
		}
		return w.build(n, u)
	}
	named := seal.Key(seal.Hash("link handshake", u.nonce[:]))
	shape := seal.Derive(&named, "to initiator")
	body, ok := w.once.Open(seal.AES256GCM, &shape, body[:0], body, head, counter)
	if !ok {
		return fmt.Errorf("a handshake datagram to client %d does not open", n)
	}
	if c, _, err := wire.ParseLinkCookie(body); err == nil {
		w.sendInit(n, u, c.Cookie)
		return nil
	}
	r, _, err := wire.ParseLinkResp(body)
	if err != nil {
		return err
	}
	u.resp[r.Part] = append([]byte(nil), r.Chunk...)
	if u.resp[0] == nil || u.resp[1] == nil {
		return nil
	}
	return w.link(n, u, r.Index, append(u.resp[0], u.resp[1]...))
}

// link takes the keys of the link and asks for admission.
func (w *idleShard) link(n uint32, u *idleSetup, index uint32, resp []byte) error {
	c, s := &w.clients[n], u.schedule
	s.MixHash(bigEndian(index))
	ciphertext, rest := resp[:seal.KEMCiphertextSize], resp[seal.KEMCiphertextSize:]
	if err := mixDecapsulated(s, w.secrets.ephemeral, ciphertext); err != nil {
		return err
	}
	if _, err := s.OpenNext(nil, rest[:seal.KEMCiphertextSize+seal.Overhead]); err != nil {
		return fmt.Errorf("the link of client %d: %w", n, err)
	}
	if _, err := s.OpenNext(nil, rest[seal.KEMCiphertextSize+seal.Overhead:]); err != nil {
		return fmt.Errorf("the link of client %d: %w", n, err)
	}
	c.index, c.link, u.recv = index, s.Key("link data to responder"), s.Key("link data to initiator")
	u.linked, u.resp, u.init, u.schedule = true, [wire.LinkParts][]byte{}, nil, nil
	m := wire.SessionInit{Version: wire.AdmissionVersion}
	copy(m.ClientID[:], bigEndian(n))
	m.Put(&w.frame)
	w.send(n)
	return nil
}

func mixDecapsulated(s *seal.Schedule, key *seal.KEMPrivate, ciphertext []byte) error {
	secret, err := key.Decapsulate(ciphertext)
	s.MixHash(ciphertext)
	s.MixKey(secret[:])
	return err
}

// send seals the frame at hand for the link of a client.
func (w *idleShard) send(n uint32) {
	c := &w.clients[n]
	b := w.toGate.add(n)
	wire.PutLinkHeader(b, c.index, uint64(c.datagrams))
	w.once.Seal(idleSuite, &c.link, b[wire.LinkHeaderSize:wire.LinkHeaderSize], w.frame.B[:], b[:wire.LinkHeaderSize], uint64(c.datagrams))
	c.datagrams++
}

// build makes both set-ups of a route and sends the entry's; the exit's waits
// at the Mix node. Of a train go the nine frames that are the packet itself.
func (w *idleShard) build(n uint32, u *idleSetup) error {
	c := &w.clients[n]
	hello := w.hello(n, u)
	forward := wire.Routing{Suite: uint8(idleSuite), TTL: time.Hour, ForwardStart: 1}
	last := forward
	forward.NextRoute, forward.Next = n, idleMid
	last.Last, last.Position = true, idleExit
	toEntry, key, err := w.onion(&forward, nil)
	if err != nil {
		return err
	}
	c.entry = seal.Derive(&key, "forward")
	if u.onion, key, err = w.onion(&last, hello); err != nil {
		return err
	}
	c.exit, c.back = seal.Derive(&key, "forward"), seal.Derive(&key, "back")
	c.cells, c.packets = 1, 1 // the frames of the HELLO were packet 0
	for i := range wire.TrainData {
		putShard(&w.frame, n, i, toEntry)
		w.send(n)
	}
	return nil
}

func putShard(f *wire.Frame, n uint32, i int, packet []byte) {
	wire.PutShardHeader(f.B[:], n, i)
	copy(f.B[wire.ShardOffset:], packet[i*wire.ShardSize:(i+1)*wire.ShardSize])
}

// onion is a set-up packet of one layer (docs/protocol.md, section 5.2).
func (w *idleShard) onion(r *wire.Routing, first []byte) (packet []byte, secret seal.Key, err error) {
	var scalar [32]byte
	w.scalars.Read(scalar[:])
	secret, alpha, err := seal.Encapsulate(w.secrets.onion, &scalar)
	if err != nil {
		return nil, secret, err
	}
	packet = make([]byte, wire.SetupSize)
	gamma := packet[copy(packet, alpha[:]):]
	rest := gamma[wire.SetupMACSize:]
	beta, delta := rest[:wire.SetupHeaderSize], rest[wire.SetupHeaderSize:]
	r.Append(beta[:0])
	wire.PutFirstFlight(delta, first)
	header, payload, mac := seal.Derive(&secret, "setup header"), seal.Derive(&secret, "setup payload"), seal.Derive(&secret, "setup mac")
	seal.XORKeyStream(&header, beta)
	seal.XORKeyStream(&payload, delta)
	sum := seal.MAC(&mac, rest)
	copy(gamma, sum[:])
	return packet, secret, nil
}

// hello begins the session with one open stream.
func (w *idleShard) hello(n uint32, u *idleSetup) []byte {
	s := w.secrets
	own := wire.Capabilities{SessionWindow: 1 << 20, StreamWindow: 1 << 18, Streams: 100, AckDelayMicros: 25_000}
	const said = "an open stream"
	block := wire.HelloBlock{Capabilities: own.Append(nil), Frames: append(wire.AppendStreamHeader(nil, 0, 0, len(said), false), said...)}
	head := wire.HelloHead{KEM: uint8(seal.KEM768), Suite: uint8(idleSuite), ID: n, Proposed: n, Key: s.ephemeral.Public().Bytes(), Ciphertext: s.ciphertext}
	copy(head.Random[:], bigEndian(n))
	message := head.Append(make([]byte, 0, wire.MaxHelloSize))
	u.schedule = seal.NewSchedule(idleSessionProtocol)
	u.schedule.MixHash(s.static.Bytes())
	u.schedule.MixHash(message)
	u.schedule.MixKey(s.secret[:])
	return u.schedule.SealNext(message, block.Append(nil))
}

// fromExit takes a cell of the exit, which the Mix node saw.
func (w *idleShard) fromExit(n uint32, frame []byte) error {
	c := &w.clients[n]
	sealed := wire.CellLayer(frame, idleExit)
	plain, ok := w.once.Open(idleSuite, &c.back, sealed[:0], sealed, nil, uint64(wire.CellCounter(frame)))
	if !ok {
		return fmt.Errorf("a cell of the exit to client %d does not open", n)
	}
	if command, _ := wire.ParseLayerHeader(plain); wire.BackCommand(command) != wire.BackPacket {
		return fmt.Errorf("a cell of the exit to client %d is no packet", n)
	}
	packet := plain[wire.LayerHeaderSize:][:wire.SessionPacketSize]
	switch wire.SessionPacketKind(packet) {
	case wire.SessionReply:
		return w.replied(n, packet)
	case wire.SessionData:
		return w.packet(n, packet)
	}
	return nil
}

// replied takes a part of the REPLY; with the last one the session stands.
func (w *idleShard) replied(n uint32, packet []byte) error {
	c, u := &w.clients[n], w.setups[n]
	part, ok := wire.ParseSessionPart(packet)
	if !ok {
		return fmt.Errorf("the REPLY to client %d is malformed", n)
	}
	if u == nil {
		return nil // a repetition
	}
	if u.reply == nil {
		u.reply = make([]byte, part.Length)
	}
	copy(u.reply[int(part.Part)*wire.SessionChunkSize:], part.Chunk)
	if u.replied++; u.replied < int(part.Parts) {
		return nil
	}
	ciphertext, sealed, err := wire.ParseReply(uint8(seal.KEM768), u.reply)
	if err != nil {
		return err
	}
	if err := mixDecapsulated(u.schedule, w.secrets.ephemeral, ciphertext); err != nil {
		return err
	}
	plain, err := u.schedule.OpenNext(nil, sealed)
	if err != nil {
		return fmt.Errorf("the REPLY to client %d: %w", n, err)
	}
	block, err := wire.ParseReplyBlock(plain)
	if err != nil {
		return err
	}
	c.session, c.up, c.down = block.ID, u.schedule.Key("client to responder"), u.schedule.Key("responder to client")
	delete(w.setups, n)
	w.settled(n)
	w.say(n, []byte{byte(wire.SFramePing)})
	return nil
}

// packet takes a packet of the session: an answer to what was said last, or
// something to be acknowledged.
func (w *idleShard) packet(n uint32, packet []byte) error {
	c := &w.clients[n]
	if c.session == 0 {
		return nil // it overtook the REPLY; nothing in it is missed
	}
	head, body := packet[:wire.SessionHeaderSize], packet[wire.SessionHeaderSize:]
	number := wire.SessionPacketNumber(packet)
	frames, ok := w.once.Open(idleSuite, &c.down, body[:0], body, head, uint64(number))
	if !ok {
		return fmt.Errorf("a packet to client %d does not open", n)
	}
	for len(frames) > 0 && wire.SessionFrameType(frames[0]) == wire.SFrameAck {
		used, err := w.ack.Parse(frames)
		if err != nil {
			return err
		}
		if w.ack.Ranges[0].Hi == uint64(c.packets-1) {
			w.answered++
		}
		frames = frames[used:]
	}
	if !wire.IsZero(frames) {
		var ack wire.AckWriter
		ack.Begin(make([]byte, 0, wire.MaxAckSize), wire.AckRange{Lo: uint64(number), Hi: uint64(number)}, 0)
		w.say(n, ack.End())
	}
	return nil
}

// say sends a packet of frames along the route. What stands inside the entry's
// layer is the cell for the exit.
func (w *idleShard) say(n uint32, frames []byte) {
	c := &w.clients[n]
	var packet [wire.SessionPacketSize]byte
	wire.PutSessionHeader(packet[:], wire.SessionData, c.session, uint64(c.packets))
	body := packet[wire.SessionHeaderSize : wire.SessionHeaderSize+wire.SessionPayloadSize]
	copy(body, frames)
	w.once.Seal(idleSuite, &c.up, body[:0], body, packet[:wire.SessionHeaderSize], uint64(c.packets))
	c.packets++

	clear(w.frame.B[:])
	outer := w.frame.B[wire.CellOffset:][: wire.LayerSize(0)-wire.TagSize : wire.LayerSize(0)]
	wire.PutLayerHeader(outer, byte(wire.CommandRelay), 0)
	cell := outer[wire.LayerHeaderSize+wire.CounterSize:]
	binary.BigEndian.PutUint32(cell, c.cells)
	inner := cell[wire.CounterSize:][: wire.LayerSize(idleExit)-wire.TagSize : wire.LayerSize(idleExit)]
	wire.PutLayerHeader(inner, byte(wire.CommandDeliver), 0)
	copy(inner[wire.LayerHeaderSize:], packet[:])
	w.once.Seal(idleSuite, &c.exit, inner[:0], inner, nil, uint64(c.cells))
	w.once.Seal(idleSuite, &c.entry, outer[:0], outer, nil, uint64(c.cells))
	wire.PutCellHeader(w.frame.B[:], wire.FrameForward, n, c.cells)
	c.cells++
	w.send(n)
}

// beat sends a heartbeat, and pad what keeps the link alive between two.
func (w *idleShard) beat(n uint32) {
	w.say(n, wire.AppendValue(nil, wire.SFrameHeartbeat, uint64(w.clients[n].packets)))
}

func (w *idleShard) pad(n uint32) {
	clear(w.frame.B[:]) // wire.FramePad
	w.send(n)
}
