package link

import (
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Times and limits of the initiator.
const (
	retryFirst = 200 * time.Millisecond // between the first repetitions of INIT; see machine.RepeatAfter
	retryMax   = 2 * time.Second        // between the last
	dialTime   = 10 * time.Second       // without an answer the dial has failed
	// cookiesMax is how many cookies one handshake follows: each costs two
	// datagrams, and whoever saw the INIT can send them.
	cookiesMax = 8
	// respTriesMax is how many RESP that fail one handshake computes on, for
	// the same reason.
	respTriesMax = 8
	// protocolName starts the schedule of the handshake.
	protocolName = "nyx link 1"
)

// dial is a handshake that we run: first INIT until RESP, then a probe until
// the first datagram under the new keys.
type dial struct {
	keys       *keyset
	confirming bool
	continues  *keyset // the keys that are replaced; nil: a new link

	ephemeral *seal.KEMPrivate
	schedule  *seal.Schedule // after INIT
	message   []byte         // INIT
	nonce     [wire.LinkNonceSize]byte
	cookie    [wire.LinkCookieSize]byte
	out, back seal.AEAD // shapes to the responder and from it

	parts     [wire.LinkParts][]byte // RESP so far
	respIndex uint32
	cookies   int
	respTries int

	started  machine.Time
	nextAt   machine.Time
	tries    int // since the last COOKIE
	giveUpAt machine.Time
}

// Dial opens a link to a node whose link key and address are known, or returns
// the one that exists. 0: no key or address was given, or the node is this one.
// The outcome is an event.
func (e *Endpoint) Dial(now machine.Time, peer wire.NodeID, key *seal.KEMPublic, addr netip.AddrPort) ID {
	if l := e.byPeer[peer]; l != nil {
		return l.id
	}
	if key == nil || !addr.IsValid() || peer == e.cfg.Self {
		return 0
	}
	l := e.newLink(now, addr, &remote{node: peer, key: key})
	if !e.startDial(now, l) {
		e.counts[trace.DropHandshakeMalformed]++
		e.drop(l, Unanswered)
		return 0
	}
	return l.id
}

// startDial makes the INIT of a first handshake, or of a rekey when the link
// has keys. False: the peer's key is of low order.
func (e *Endpoint) startDial(now machine.Time, l *link) bool {
	d := &dial{
		keys:      &keyset{owner: l, initiator: true, suite: e.cfg.Suite, stage: dialling},
		continues: l.cur, started: now, giveUpAt: now.Add(dialTime),
	}
	e.draw.keys.Read(d.nonce[:])
	e.register(d.keys)
	if !e.composeInit(d, l.remote) {
		e.unregister(d.keys)
		return false
	}
	out, back := shapeKey(l.remote.node), backKey(&d.nonce)
	d.out.Init(shapeSuite, &out)
	d.back.Init(shapeSuite, &back)
	l.dial = d
	e.sendInit(now, l)
	return true
}

func (e *Endpoint) composeInit(d *dial, r *remote) bool {
	var seed [seal.KEMSeedSize]byte
	e.draw.keys.Read(seed[:])
	ephemeral, err := seal.NewKEMPrivate(&seed)
	if err != nil {
		panic("link: KEM refuses a seed: " + err.Error())
	}
	e.draw.keys.Read(seed[:32])
	secret, ciphertext, err := seal.Encapsulate(r.key, (*[32]byte)(seed[:32]))
	clear(seed[:])
	if err != nil {
		return false
	}
	d.ephemeral = ephemeral
	d.schedule = initSchedule(r.node, r.key, &d.nonce, d.keys.local)
	d.schedule.MixHash(ephemeral.Public().Bytes())
	d.schedule.MixHash(ciphertext[:])
	d.schedule.MixKey(secret[:])
	secret.Clear()

	block := e.initBlock(d)
	d.message = append(make([]byte, 0, wire.LinkInitSize), ephemeral.Public().Bytes()...)
	d.message = append(d.message, ciphertext[:]...)
	d.message = d.schedule.SealNext(d.message, block.Append(nil))
	return true
}

func (e *Endpoint) initBlock(d *dial) wire.LinkInitBlock {
	block := wire.LinkInitBlock{Suite: uint8(d.keys.suite), Capabilities: e.capabilities}
	if e.cfg.Static != nil {
		block.Kind, block.Identity = wire.LinkIdentified, e.cfg.Self
	}
	if d.continues != nil {
		block.Continues = d.continues.remote
		if e.cfg.Static == nil {
			proof := continuityProof(d.continues, d.schedule)
			copy(block.Identity[:], proof[:])
		}
	}
	return block
}

// initSchedule starts both sides' schedules from what INIT has in the clear.
func initSchedule(node wire.NodeID, key *seal.KEMPublic, nonce *[wire.LinkNonceSize]byte, index uint32) *seal.Schedule {
	s := seal.NewSchedule(protocolName)
	s.MixHash(node[:])
	s.MixHash(key.Bytes())
	s.MixHash(nonce[:])
	s.MixHash([]byte{byte(index >> 24), byte(index >> 16), byte(index >> 8), byte(index)})
	return s
}

// continuityProof shows that who runs the schedule holds the keys of k.
func continuityProof(k *keyset, s *seal.Schedule) [seal.MACSize]byte {
	secret, moment := k.continuity(), s.Key("continues")
	defer secret.Clear()
	return seal.MAC(&secret, moment[:])
}

func (e *Endpoint) sendInit(now machine.Time, l *link) {
	d := l.dial
	d.nextAt = now.Add(machine.RepeatAfter(d.tries, retryFirst, retryMax))
	d.tries++
	e.flag(l, flagInit0|flagInit1)
	e.reschedule(l)
}

func (e *Endpoint) sealInit(d *dial, part uint8, b []byte) int {
	m := wire.LinkInit{Part: part, Index: d.keys.local, Nonce: d.nonce, Cookie: d.cookie,
		Chunk: d.message[int(part)*wire.LinkInitChunkSize:]}
	return e.sealShape(&d.out, b, m.Append(b[wire.LinkHeaderSize:wire.LinkHeaderSize]), e.draw.index.Uint32())
}

// endDial takes the link's handshake, if any, out of use.
func (e *Endpoint) endDial(l *link) {
	d := l.dial
	if d == nil {
		return
	}
	if !d.confirming {
		e.forget(d.keys)
		d.schedule.Clear()
	}
	l.flags &^= flagInit0 | flagInit1 | flagProbe
	l.dial = nil
}

// handleBack takes a datagram to the index of a handshake that we run.
func (e *Endpoint) handleBack(now machine.Time, l *link, counter uint64, b []byte) {
	d := l.dial
	body, ok := d.back.Open(b[wire.LinkHeaderSize:wire.LinkHeaderSize], b[wire.LinkHeaderSize:], b[:wire.LinkHeaderSize], counter)
	if !ok {
		e.counts[trace.DropLinkAuth]++
		return
	}
	if c, _, err := wire.ParseLinkCookie(body); err == nil {
		e.handleCookie(now, l, &c)
		return
	}
	r, _, err := wire.ParseLinkResp(body)
	if err != nil {
		e.counts[trace.DropHandshakeMalformed]++
		return
	}
	if d.parts[0] == nil && d.parts[1] == nil || r.Index != d.respIndex {
		d.respIndex, d.parts = r.Index, [wire.LinkParts][]byte{}
	}
	d.parts[r.Part] = append(d.parts[r.Part][:0], r.Chunk...)
	if d.parts[0] == nil || d.parts[1] == nil {
		return
	}
	message := append(d.parts[0], d.parts[1]...)
	d.parts = [wire.LinkParts][]byte{}
	e.handleResp(now, l, message)
}

func (e *Endpoint) handleCookie(now machine.Time, l *link, c *wire.LinkCookie) {
	d := l.dial
	if d.cookies >= cookiesMax || c.Cookie == d.cookie {
		e.counts[trace.DropHandshakeLimit]++
		return
	}
	d.cookies++
	d.cookie = c.Cookie
	d.tries = 0
	e.sendInit(now, l)
}

func (e *Endpoint) handleResp(now machine.Time, l *link, message []byte) {
	d := l.dial
	if d.respTries >= respTriesMax {
		e.counts[trace.DropHandshakeLimit]++
		return
	}
	d.respTries++
	block, s, ok := e.openResp(d, message)
	switch {
	case !ok:
		e.counts[trace.DropHandshakeMalformed]++
	case block.Status != wire.LinkAccepted || block.Suite != uint8(d.keys.suite) ||
		block.Capabilities&wire.LinkRequiredMask&^wire.LinkKnownRequired != 0:
		s.Clear()
		e.drop(l, Refused)
	default:
		e.established(now, l, s)
	}
}

// openResp authenticates the responder. The dial's own schedule stays as it
// was: a forged RESP must not spoil the real one.
func (e *Endpoint) openResp(d *dial, message []byte) (block wire.LinkRespBlock, s *seal.Schedule, ok bool) {
	s = d.schedule.Clone()
	defer func() {
		if !ok {
			s.Clear()
		}
	}()
	respIndexInto(s, d.respIndex)
	toEphemeral, rest := message[:seal.KEMCiphertextSize], message[seal.KEMCiphertextSize:]
	toStatic, rest := rest[:seal.KEMCiphertextSize+seal.Overhead], rest[seal.KEMCiphertextSize+seal.Overhead:]
	if !mixDecapsulated(s, d.ephemeral, toEphemeral, true) {
		return block, s, false
	}
	ciphertext, err := s.OpenNext(nil, toStatic)
	if err != nil {
		return block, s, false
	}
	if e.cfg.Static != nil && !mixDecapsulated(s, e.cfg.Static, ciphertext, false) {
		return block, s, false
	}
	if d.continues != nil {
		mixContinuity(s, d.continues)
	}
	plain, err := s.OpenNext(nil, rest)
	if err != nil {
		return block, s, false
	}
	block, _, err = wire.ParseLinkRespBlock(plain)
	return block, s, err == nil
}

func respIndexInto(s *seal.Schedule, index uint32) {
	s.MixHash([]byte{byte(index >> 24), byte(index >> 16), byte(index >> 8), byte(index)})
}

// mixDecapsulated absorbs the secret of a ciphertext, and the ciphertext
// itself unless it was absorbed in its sealed form.
func mixDecapsulated(s *seal.Schedule, k *seal.KEMPrivate, ciphertext []byte, public bool) bool {
	secret, err := k.Decapsulate(ciphertext)
	if err != nil {
		return false
	}
	if public {
		s.MixHash(ciphertext)
	}
	s.MixKey(secret[:])
	secret.Clear()
	return true
}

func mixContinuity(s *seal.Schedule, k *keyset) {
	secret := k.continuity()
	s.MixKey(secret[:])
	secret.Clear()
}

// established installs the keys of a finished handshake and probes until the
// responder, too, is heard under them.
func (e *Endpoint) established(now machine.Time, l *link, s *seal.Schedule) {
	d, first := l.dial, l.cur == nil
	d.keys.remote = d.respIndex
	d.keys.derive(s)
	d.schedule.Clear()
	*d = dial{keys: d.keys, confirming: true, started: d.started, giveUpAt: now.Add(dialTime)}
	l.flags &^= flagInit0 | flagInit1
	e.install(now, l, d.keys)
	l.lastRecv = now
	if first {
		e.up(now, l)
	}
	e.probe(now, l)
}

func (e *Endpoint) up(now machine.Time, l *link) {
	l.lastUse = now
	peer, known := l.peer()
	e.events.push(Event{Kind: Up, Link: l.id, Peer: peer, Identified: known})
}

func (e *Endpoint) probe(now machine.Time, l *link) {
	d := l.dial
	d.nextAt = now.Add(machine.RepeatAfter(d.tries, retryFirst, retryMax))
	d.tries++
	e.flag(l, flagProbe)
	e.reschedule(l)
}

// confirmed ends the handshake: the responder was heard under the new keys.
func (e *Endpoint) confirmed(now machine.Time, l *link) {
	l.dial = nil
	l.flags &^= flagProbe
	if l.prev != nil {
		l.prevUntil = now.Add(prevGrace)
	}
	e.reschedule(l)
}
