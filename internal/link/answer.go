package link

import (
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Limits of the responder.
const (
	// answersMax bounds the handshakes that wait for their second part, and
	// those that wait for confirmation: about 3 KB each.
	answersMax = 4096
	// collectTime is how long a first part waits for the second, which was
	// sent with it. A repetition brings both.
	collectTime = 3 * time.Second
	// answerTime is how long a RESP can be asked for again and confirmed: the
	// initiator's time to dial, and to confirm.
	answerTime = 2 * dialTime
	// kemBurst is how many handshakes that others begin may come at once
	// (Config.MaxHandshakes).
	kemBurst = 512
)

// initKey names one handshake of one address.
type initKey struct {
	from  netip.AddrPort
	nonce [wire.LinkNonceSize]byte
}

// answer is a handshake that someone runs with us, whose address is proven.
type answer struct {
	initKey
	index     uint32       // the initiator's
	began     machine.Time // first part came
	computed  machine.Time // RESP was made
	have      uint8        // parts of INIT
	message   []byte
	done      bool   // computed; resp holds RESP until it is confirmed
	resp      []byte // nil: nothing is answered
	respIndex uint32

	keys      *keyset
	remote    *remote // nil: anonymous
	continues ID      // the link that is rekeyed
}

type answers struct {
	table      map[initKey]*answer
	collecting fifo[*answer] // by age; those that are done stay until their time
	waiting    fifo[*answer] // done, by age
	kem        bucket
}

func (a *answers) init(perSecond int) {
	a.table = make(map[initKey]*answer)
	a.collecting.max, a.waiting.max = answersMax, answersMax
	a.kem = bucket{interval: time.Second / time.Duration(perSecond), burst: kemBurst}
}

// handleUnknown takes a datagram that belongs to no link: an INIT, or noise.
// Until the address is proven it costs one AEAD pass, one keyed hash and no
// memory.
func (e *Endpoint) handleUnknown(now machine.Time, from netip.AddrPort, counter uint64, b []byte) {
	if !e.shape.Ready() {
		e.counts[trace.DropLinkUnknown]++
		return
	}
	body, ok := e.shape.Open(b[wire.LinkHeaderSize:wire.LinkHeaderSize], b[wire.LinkHeaderSize:], b[:wire.LinkHeaderSize], counter)
	if !ok {
		e.counts[trace.DropLinkUnknown]++
		e.greet(now, from)
		return
	}
	m, _, err := wire.ParseLinkInit(body)
	if err != nil {
		e.counts[trace.DropHandshakeMalformed]++
		return
	}
	e.cookies.rotate(now, e.draw.cookie)
	if m.Cookie == ([wire.LinkCookieSize]byte{}) || !e.cookies.valid(from, &m.Cookie) {
		e.counts[trace.DropHandshakeCookie]++
		e.challengeAddress(now, from, &m)
		return
	}
	e.collect(now, from, &m)
}

func (e *Endpoint) challengeAddress(now machine.Time, from netip.AddrPort, m *wire.LinkInit) {
	if !e.cookies.mayAnswer(now, m.Part) {
		return
	}
	if e.outbox.push(parcel{kind: parcelCookie, to: from, index: m.Index, nonce: m.Nonce, cookie: e.cookies.of(from)}) {
		e.counts[trace.LinkCookiesSent]++
	}
}

// collect joins the parts of an INIT; a repeated part is answered by the same
// part of the RESP.
func (e *Endpoint) collect(now machine.Time, from netip.AddrPort, m *wire.LinkInit) {
	a := e.answers.table[initKey{from, m.Nonce}]
	switch {
	case a == nil:
		a = &answer{initKey: initKey{from, m.Nonce}, index: m.Index, began: now, message: make([]byte, wire.LinkInitSize)}
		e.admit(a)
	case a.index != m.Index:
		e.counts[trace.DropHandshakeMalformed]++
		return
	case a.done:
		if a.resp != nil {
			e.sendResp(a, m.Part)
		}
		return
	}
	copy(a.message[int(m.Part)*wire.LinkInitChunkSize:], m.Chunk)
	a.have |= 1 << m.Part
	if a.have != 1<<wire.LinkParts-1 {
		return
	}
	if !e.answers.kem.take(now) {
		e.counts[trace.DropHandshakeLimit]++
		e.discard(a)
		return
	}
	e.compute(now, a)
}

func (e *Endpoint) admit(a *answer) {
	if e.answers.collecting.n >= answersMax {
		old, _ := e.answers.collecting.pop()
		e.expire(old, false)
	}
	e.answers.collecting.push(a)
	e.answers.table[a.initKey] = a
}

// expire ends an answer that left one of the queues. Those that are done stay
// until they leave the second.
func (e *Endpoint) expire(a *answer, done bool) {
	if a.done == done {
		e.discard(a)
	}
}

func (e *Endpoint) discard(a *answer) {
	if e.answers.table[a.initKey] == a {
		delete(e.answers.table, a.initKey)
	}
	if a.keys != nil && a.keys.stage == answered {
		e.forget(a.keys)
	}
	a.message, a.resp, a.keys = nil, nil, nil
}

// compute does the key work of a whole INIT and answers it. Whatever the
// outcome, the answer stays for its time, so that a repetition costs nothing.
func (e *Endpoint) compute(now machine.Time, a *answer) {
	a.done, a.computed = true, now
	if e.answers.waiting.n >= answersMax {
		old, _ := e.answers.waiting.pop()
		e.expire(old, true)
	}
	e.answers.waiting.push(a)
	o, ok := e.openInit(a)
	a.message = nil
	if !ok {
		return
	}
	if continues, ok := e.admitPeer(now, a, &o); ok {
		e.respond(a, &o, continues)
	}
	o.schedule.Clear()
	o.before.Clear()
}

// opened is an INIT that authenticates as far as it can: it was made for us.
type opened struct {
	schedule  *seal.Schedule
	before    *seal.Schedule // before the block: what the proof in it is bound to
	ephemeral *seal.KEMPublic
	block     wire.LinkInitBlock
}

func (e *Endpoint) openInit(a *answer) (o opened, ok bool) {
	defer func() {
		if !ok {
			e.counts[trace.DropHandshakeMalformed]++
		}
	}()
	key, rest := a.message[:seal.KEMPublicSize], a.message[seal.KEMPublicSize:]
	ciphertext, sealed := rest[:seal.KEMCiphertextSize], rest[seal.KEMCiphertextSize:]
	var err error
	if o.ephemeral, err = seal.ParseKEMPublic(key); err != nil {
		return o, false
	}
	o.schedule = initSchedule(e.cfg.Self, e.cfg.Static.Public(), &a.nonce, a.index)
	o.schedule.MixHash(key)
	if !mixDecapsulated(o.schedule, e.cfg.Static, ciphertext, true) {
		return o, false
	}
	o.before = o.schedule.Clone()
	plain, err := o.schedule.OpenNext(nil, sealed)
	if err != nil {
		return o, false
	}
	o.block, _, err = wire.ParseLinkInitBlock(plain)
	return o, err == nil
}

// admitPeer decides who may open or continue a link. continues is the keyset
// that the new keys replace, or nil.
func (e *Endpoint) admitPeer(now machine.Time, a *answer, o *opened) (continues *keyset, ok bool) {
	block := &o.block
	refuse := func() (*keyset, bool) {
		e.counts[trace.DropHandshakePeer]++
		return nil, false
	}
	if block.Kind == wire.LinkIdentified {
		if e.cfg.Peer == nil || block.Identity == e.cfg.Self {
			return refuse()
		}
		key := e.cfg.Peer(block.Identity)
		if key == nil {
			return refuse()
		}
		a.remote = &remote{node: block.Identity, key: key}
		if l := e.byPeer[block.Identity]; l != nil && block.Continues == 0 && e.oursWins(now, l) {
			delete(e.answers.table, a.initKey) // a repetition asks again
			return refuse()
		}
	} else if !e.cfg.AcceptAnonymous {
		return refuse()
	}
	if block.Continues == 0 {
		if a.remote == nil && e.full() {
			e.counts[trace.DropHandshakeLimit]++
			return nil, false
		}
		return nil, true
	}
	k := e.byIndex[block.Continues]
	if k == nil || k.stage != live || k != k.owner.cur || !mayContinue(k, o) {
		return refuse()
	}
	a.continues = k.owner.id
	return k, true
}

// mayContinue reports whether the initiator is the peer of k's link: by its
// identity, which the handshake goes on to prove, or by the keys of k.
func mayContinue(k *keyset, o *opened) bool {
	r := k.owner.remote
	if o.block.Kind == wire.LinkIdentified {
		return r != nil && r.node == o.block.Identity
	}
	proof := continuityProof(k, o.before)
	return r == nil && seal.Equal(proof[:], o.block.Identity[:seal.MACSize])
}

// respond makes the RESP and the keys that wait for confirmation.
func (e *Endpoint) respond(a *answer, o *opened, continues *keyset) {
	verdict := wire.LinkRespBlock{Suite: o.block.Suite}
	if !seal.Suite(o.block.Suite).Valid() || o.block.Capabilities&wire.LinkRequiredMask&^wire.LinkKnownRequired != 0 {
		verdict.Status = wire.LinkUnsupported
	}
	k := &keyset{answer: a, remote: a.index, suite: seal.Suite(o.block.Suite), stage: answered,
		tells: a.remote == nil && o.block.Capabilities&wire.LinkWantsMissing != 0}
	e.register(k)
	resp, ok := e.composeResp(a, o, k.local, continues, &verdict)
	if !ok {
		e.counts[trace.DropHandshakeMalformed]++
		e.forget(k)
		return
	}
	a.resp, a.respIndex = resp, k.local
	if verdict.Status == wire.LinkAccepted {
		k.derive(o.schedule)
		a.keys = k
	} else {
		e.counts[trace.DropHandshakePeer]++
		e.forget(k)
	}
	for part := range uint8(wire.LinkParts) {
		e.sendResp(a, part)
	}
}

func (e *Endpoint) sendResp(a *answer, part uint8) {
	e.outbox.push(parcel{kind: parcelResp, part: part, to: a.from, index: a.index, nonce: a.nonce,
		own: a.respIndex, chunk: a.resp[int(part)*wire.LinkRespChunkSize:]})
}

// composeResp encapsulates to the initiator's ephemeral key and, when it is
// identified, to its static key. The second ciphertext goes sealed, so that
// nobody sees whether it is one.
func (e *Endpoint) composeResp(a *answer, o *opened, index uint32, continues *keyset, verdict *wire.LinkRespBlock) ([]byte, bool) {
	s := o.schedule
	respIndexInto(s, index)
	secret, ciphertext, ok := e.encapsulate(o.ephemeral)
	if !ok {
		return nil, false
	}
	s.MixHash(ciphertext[:])
	s.MixKey(secret[:])
	resp := append(make([]byte, 0, wire.LinkRespSize), ciphertext[:]...)

	clear(ciphertext[:])
	if a.remote != nil {
		if secret, ciphertext, ok = e.encapsulate(a.remote.key); !ok {
			return nil, false
		}
	}
	resp = s.SealNext(resp, ciphertext[:])
	if a.remote != nil {
		s.MixKey(secret[:])
	}
	secret.Clear()
	if continues != nil {
		mixContinuity(s, continues)
	}
	return s.SealNext(resp, verdict.Append(nil)), true
}

func (e *Endpoint) encapsulate(key *seal.KEMPublic) (seal.Key, [seal.KEMCiphertextSize]byte, bool) {
	var seed [32]byte
	e.draw.keys.Read(seed[:])
	secret, ciphertext, err := seal.Encapsulate(key, &seed)
	clear(seed[:])
	return secret, ciphertext, err == nil
}
