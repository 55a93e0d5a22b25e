package stream

import (
	"errors"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Acceptor is the responder's side of handshakes: it makes sessions of HELLOs
// and sees to it that a repeated HELLO makes no second one and that its 0-RTT
// data is taken once.
//
// It remembers the hashes of HELLOs in two generations. With clocks known
// (Config.UnixStart), 0-RTT data of a HELLO that states a time before the older
// generation began is refused, so that forgetting is safe, and so is a restart;
// without them the guard is as long as its memory.
type Acceptor struct {
	// Tickets are those of the fleet; nil takes and gives none.
	Tickets *Tickets

	cfg      Config
	configs  map[wire.Level]*shared // cfg at each level, and what sessions share
	draw     *prng.Stream
	now, old generation
	live     map[uint32]struct{} // ids of sessions that were not forgotten
	started  bool
}

type helloHash [16]byte

// generation is the HELLOs of one period. A nil session has ended.
type generation struct {
	seen  map[helloHash]*Session
	begun machine.Time
}

// Bounds of the record of HELLOs. A full generation ends early, which costs
// late clients their 0-RTT data and nobody anything else.
const (
	helloKeep = 10 * time.Minute
	helloMax  = 1 << 17 // about 10 MB a generation
	clockSkew = 10      // seconds by which clocks may differ for 0-RTT
)

// NewAcceptor returns an acceptor without sessions. All that it accepts have
// cfg, except for the level.
func NewAcceptor(cfg Config, rng prng.Source) *Acceptor {
	return &Acceptor{cfg: cfg, configs: map[wire.Level]*shared{}, draw: rng.Stream("session accept"), live: map[uint32]struct{}{}}
}

// Accept takes a whole HELLO for a static key, for a session at a level. The
// same HELLO again gives the same session, whose REPLY is then repeated, or
// ErrReplayed after its end. The caller adds the path by which the HELLO came.
// With a *Refusal there is no session, and its packet goes back where the HELLO
// came from.
func (a *Acceptor) Accept(now machine.Time, level wire.Level, static *seal.KEMPrivate, hello []byte, counts *trace.Counts) (*Session, error) {
	digest := seal.Hash("session hello", hello)
	key := helloHash(digest[:16])
	a.turn(now)
	if s, seen := a.find(key); seen {
		if s == nil {
			counts[trace.DropSessionReplay]++
			return nil, ErrReplayed
		}
		s.repeatReply(now)
		return s, nil
	}
	cfg, err := a.config(level)
	if err != nil {
		return nil, err
	}
	s, err := a.respond(now, cfg, static, hello, counts)
	if err != nil {
		return nil, err
	}
	s.hello = key
	a.now.seen[key] = s
	a.live[s.localID] = struct{}{}
	return s, nil
}

// SetKEM changes the strongest KEM that is taken, for HELLOs that come from now
// on; what stands is not touched.
func (a *Acceptor) SetKEM(k seal.KEM) {
	a.cfg.KEM = k
	clear(a.configs)
}

// config returns what all sessions of a level share.
func (a *Acceptor) config(level wire.Level) (*shared, error) {
	if shared := a.configs[level]; shared != nil {
		return shared, nil
	}
	cfg := a.cfg
	cfg.Level = level
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	a.configs[level] = &shared{Config: cfg}
	return a.configs[level], nil
}

// Forget lets go of a session that has ended, once; its HELLO stays known.
func (a *Acceptor) Forget(s *Session) {
	delete(a.live, s.localID)
	for _, g := range [...]*generation{&a.now, &a.old} {
		if g.seen[s.hello] == s {
			g.seen[s.hello] = nil
		}
	}
}

func (a *Acceptor) find(key helloHash) (s *Session, seen bool) {
	if s, seen = a.now.seen[key]; !seen {
		s, seen = a.old.seen[key]
	}
	if s != nil && s.Drained() {
		s = nil
	}
	return s, seen
}

// turn begins a new generation when the present one is full or old.
func (a *Acceptor) turn(now machine.Time) {
	if !a.started {
		a.started = true
		a.now = generation{map[helloHash]*Session{}, now}
		a.old.begun = now
	}
	if len(a.now.seen) >= helloMax || now.Sub(a.now.begun) >= helloKeep {
		a.old = a.now
		a.now = generation{map[helloHash]*Session{}, now}
	}
}

// fresh reports whether the 0-RTT data of a HELLO that states a time may be
// taken.
func (a *Acceptor) fresh(s *Session, now machine.Time, tens uint32) bool {
	if s.cfg.UnixStart == 0 {
		return true
	}
	stated := int64(tens) * 10
	unix := s.cfg.UnixStart + int64(now/machine.Time(time.Second))
	since := s.cfg.UnixStart + int64(a.old.begun/machine.Time(time.Second))
	return stated >= since+clockSkew && stated <= unix+clockSkew
}

// respond makes the session and its REPLY.
func (a *Acceptor) respond(now machine.Time, cfg *shared, static *seal.KEMPrivate, hello []byte, counts *trace.Counts) (*Session, error) {
	counts[trace.PQHandshakes]++
	head, err := wire.ParseHello(hello)
	kem, unknown := seal.KEM(head.KEM), errors.Is(err, wire.ErrVersion)
	if err != nil && !unknown || head.ID == 0 || !unknown && !seal.Suite(head.Suite).Valid() {
		return nil, ErrHello
	}
	var secret seal.Key
	var until int64 // of the ticket
	protocol := sessionProtocol
	if head.Ticket == nil {
		secret, err = static.Decapsulate(head.Ciphertext)
	} else {
		protocol = ticketProtocol
		secret, until, err = a.openTicket(now, cfg, &head)
	}
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		return nil, refusal
	} else if err != nil {
		return nil, ErrHello
	}
	defer secret.Clear()
	if unknown || kem > cfg.KEM {
		return nil, refuse(static, hello, &secret, head.ID, cfg.KEM, counts)
	}
	schedule := seal.NewSchedule(protocol(kem))
	defer schedule.Clear()
	schedule.MixHash(static.Public().Bytes())
	schedule.MixHash(hello[:head.Size()])
	schedule.MixKey(secret[:])
	plain, err := schedule.OpenNext(nil, head.Sealed)
	if err != nil {
		return nil, ErrHello
	}
	block, err := wire.ParseHelloBlock(plain)
	if err != nil {
		return nil, ErrHello
	}
	theirs, err := wire.ParseCapabilities(block.Capabilities)
	if err != nil {
		return nil, ErrHello
	}
	if best := strongest(&theirs, cfg.KEM); kem < best {
		return nil, refuse(static, hello, &secret, head.ID, best, counts)
	}
	early := schedule.Key("early data")
	defer early.Clear()

	s := newSession(now, cfg, counts, false)
	s.suite, s.peerID, s.localID = seal.Suite(head.Suite), head.ID, a.chooseID(head.Proposed)
	s.hs = &handshake{at: machine.Never, until: now.Add(cfg.HandshakeTimeout)}
	s.hs.head.Proposed = head.Proposed
	reply := wire.ReplyBlock{ID: s.localID}
	if cfg.knowsAll(theirs.Required) {
		own := cfg.capabilities()
		reply.Capabilities = own.Append(nil)
		reply.Early = a.fresh(s, now, block.Time) && a.firstUse(head.Ticket)
	} else {
		reply.Status = wire.CodeCapability
	}
	s.resumed = head.Ticket != nil
	gives := a.Tickets != nil && reply.Status == 0 && resumable(cfg.Level) && slices.Contains(theirs.Optional, wire.CapTickets)
	if err := a.reply(now, s, schedule, kem, head.Key, reply, gives); err != nil {
		return nil, ErrHello
	}
	if reply.Status != 0 {
		s.mismatch()
		s.hs.refusing = true
		s.state = stateClosing
		s.closing = &closing{code: reply.Status, reason: "a required capability is unknown here"}
		return s, nil
	}
	s.open(now, schedule, head.ID, &theirs)
	if s.resumed && a.Tickets.Taken != nil {
		a.Tickets.Taken(head.Ticket, until)
	}
	if reply.Early {
		s.hs.early.Init(s.suite, &early)
		s.takeEarly(now, block.Frames)
	}
	return s, nil
}

// reply seals the REPLY, with a ticket if the responder gives one.
func (a *Acceptor) reply(now machine.Time, s *Session, schedule *seal.Schedule, kem seal.KEM, key []byte, block wire.ReplyBlock, gives bool) error {
	var scalar [32]byte
	a.draw.Read(scalar[:])
	secret, ciphertext, err := seal.EncapsulateTo(kem, key, &scalar)
	if err != nil {
		return err
	}
	schedule.MixHash(ciphertext)
	schedule.MixKey(secret[:])
	secret.Clear()
	clear(scalar[:])
	if gives {
		resumption := schedule.Key(resumptionKey)
		ticket := a.Tickets.seal(s.cfg.unix(now), s.cfg.Level, &resumption)
		resumption.Clear()
		block.Ticket = ticket[:]
	}
	s.hs.message = schedule.SealNext(ciphertext, block.Append(nil))
	return nil
}

// openTicket opens the ticket of a HELLO. A Refusal asks the client to do without.
func (a *Acceptor) openTicket(now machine.Time, cfg *shared, head *wire.HelloHead) (secret seal.Key, until int64, err error) {
	if a.Tickets != nil {
		if secret, until, ok := a.Tickets.open(cfg.unix(now), cfg.Level, head.Ticket); ok {
			return secret, until, nil
		}
	}
	refusal := &Refusal{}
	wire.PutSessionPart(refusal.Packet[:], wire.SessionReply, head.ID, wire.TicketRefused, 0)
	return seal.Key{}, 0, refusal
}

// firstUse notes a ticket and reports whether it is new here. What comes by one
// that was used before is a session like any other, without 0-RTT data.
func (a *Acceptor) firstUse(ticket []byte) bool {
	if ticket == nil {
		return true
	}
	digest := seal.Hash("session ticket", ticket)
	key := helloHash(digest[:16])
	if _, seen := a.find(key); seen {
		return false
	}
	a.now.seen[key] = nil
	return true
}

// takeEarly takes the frames of the HELLO as packet 0.
func (s *Session) takeEarly(now machine.Time, frames []byte) {
	if len(frames) == 0 {
		return
	}
	s.arrived.add(now, 0)
	if _, _, ok := s.frames(now, noPath, frames); !ok {
		s.fail(now, wire.CodeProtocol, "malformed frame")
		return
	}
	s.arrived.owe(now, 1, 0)
}

// chooseID takes the id that the client proposed unless it is taken.
func (a *Acceptor) chooseID(proposed uint32) uint32 {
	for id := proposed; ; id = a.draw.Uint32() {
		if _, taken := a.live[id]; id != 0 && !taken {
			return id
		}
	}
}

// repeatReply sends the REPLY again, to a client that has not seen it.
func (s *Session) repeatReply(now machine.Time) {
	if hs := s.hs; hs != nil && !hs.done {
		hs.part = 0
		hs.at = min(hs.at, now.Add(s.helloWait()))
	}
}
