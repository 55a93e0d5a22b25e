package stream

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// A ticket lets a client whose session broke begin the next at any responder of
// a fleet, with a handshake of one key exchange instead of two and with 0-RTT data
// (docs/protocol.md, section 12.13). The fleet shares a key and no state: what a
// responder needs is in the ticket.

const (
	// ticketPeriod is the life of a key that seals tickets. Those of the present
	// and of the previous period are taken.
	ticketPeriod = int64(time.Hour / time.Second)
	// ticketLife is how long a client may use one.
	ticketLife = time.Hour
)

// resumptionKey labels the secret that both sides take from their handshake for
// the next.
const resumptionKey = "resumption"

// ticketProtocol names the handshake by ticket in its schedule.
func ticketProtocol(k seal.KEM) string { return "nyx session 1 ticket " + k.String() + " SHA-256" }

// ticketTries is after how many repetitions a HELLO by ticket that gets no answer
// is given up for one without: a responder may know of no tickets.
const ticketTries = 3

// resumable are the levels at which tickets are given and taken: a ticket links
// two sessions of a client at the fleet's nodes.
func resumable(l wire.Level) bool { return l <= wire.Standard }

// Tickets seals and opens the tickets of a fleet. It belongs to one acceptor.
type Tickets struct {
	// Given is told of each ticket that a client gets, Taken of each by which a session
	// begins, both with the unix time of the ticket's end; nil: nobody is. The ticket is
	// borrowed.
	Given, Taken func(ticket []byte, until int64)

	draw     *prng.Stream
	present  *ticketRoot
	previous *ticketRoot // nil: none, or over
	until    int64       // unix time at which previous is over
}

// ticketRoot is what tickets have from one fleet key.
type ticketRoot struct {
	root seal.Key
	keys [2]ticketKey // by the parity of their period
}

type ticketKey struct {
	period int64
	aead   seal.AEAD
}

// NewTickets returns the tickets of the fleet that shares a key.
func NewTickets(fleet *seal.Key, rng prng.Source) *Tickets {
	return &Tickets{present: newTicketRoot(fleet), draw: rng.Stream("ticket")}
}

func newTicketRoot(fleet *seal.Key) *ticketRoot {
	return &ticketRoot{root: seal.Derive(fleet, "session tickets")}
}

func (t *ticketRoot) forget() {
	t.root.Clear()
	for i := range t.keys {
		t.keys[i].aead.Forget()
	}
}

// rotate replaces the fleet key. Tickets under the present one are taken for as
// long as they may be used, or until the next rotation; those that are older cost
// a round trip.
func (t *Tickets) rotate(unix int64, fleet *seal.Key) {
	t.forgetPrevious()
	t.previous, t.present = t.present, newTicketRoot(fleet)
	t.until = unix + int64(ticketLife/time.Second)
}

// RotateTickets replaces the fleet key of tickets, of an acceptor that has one.
func (a *Acceptor) RotateTickets(now machine.Time, fleet *seal.Key) {
	a.Tickets.rotate(a.cfg.unix(now), fleet)
}

func (t *Tickets) forgetPrevious() {
	if t.previous != nil {
		t.previous.forget()
		t.previous = nil
	}
}

func (t *ticketRoot) key(period int64) *seal.AEAD {
	k := &t.keys[period&1]
	if !k.aead.Ready() || k.period != period {
		key := seal.Derive(&t.root, "tickets "+strconv.FormatInt(period, 10))
		k.aead.Init(seal.AES256GCM, &key) // one suite, whatever the processors of the fleet
		k.period = period
		key.Clear()
	}
	return &k.aead
}

// seal makes a ticket: [counter 8, its highest bit the parity of the period]
// [sealed: secret 32, unix time of its end 4, level 1, zero 3][tag 16].
func (t *Tickets) seal(unix int64, level wire.Level, secret *seal.Key) (out wire.Ticket) {
	period := unix / ticketPeriod
	counter := t.draw.Uint64()>>1 | uint64(period&1)<<63
	var plain [wire.TicketSize - 8 - wire.TagSize]byte
	copy(plain[:], secret[:])
	binary.BigEndian.PutUint32(plain[32:], uint32(unix+int64(ticketLife/time.Second)))
	plain[36] = byte(level)
	binary.BigEndian.PutUint64(out[:], counter)
	t.present.key(period).Seal(out[8:8], plain[:], nil, counter)
	clear(plain[:])
	if t.Given != nil {
		t.Given(out[:], unix+int64(ticketLife/time.Second))
	}
	return out
}

// open returns the secret of a ticket of this level that has not ended, and the unix
// time of its end.
func (t *Tickets) open(unix int64, level wire.Level, ticket []byte) (secret seal.Key, until int64, ok bool) {
	counter := binary.BigEndian.Uint64(ticket)
	period := unix / ticketPeriod
	if uint64(period&1) != counter>>63 {
		period--
	}
	var plain [wire.TicketSize - 8]byte
	if unix > t.until {
		t.forgetPrevious()
	}
	out, ok := t.present.key(period).Open(plain[:0], ticket[8:], nil, counter)
	if !ok && t.previous != nil {
		out, ok = t.previous.key(period).Open(plain[:0], ticket[8:], nil, counter)
	}
	if !ok {
		return secret, 0, false
	}
	if until = int64(binary.BigEndian.Uint32(out[32:])); unix > until || out[36] != byte(level) || !resumable(level) {
		return secret, 0, false
	}
	copy(secret[:], out)
	clear(plain[:])
	return secret, until, true
}

// Ticket is what a client holds of a ticket. It is for one session.
type Ticket struct {
	sealed wire.Ticket
	secret seal.Key
	until  machine.Time
}

// Good reports whether the ticket can be used.
func (t *Ticket) Good(now machine.Time) bool { return t != nil && now < t.until }

// Clear overwrites the ticket.
func (t *Ticket) Clear() {
	if t != nil {
		*t = Ticket{}
	}
}

// TakeTicket returns the ticket that a client's session was given, once, or nil.
func (s *Session) TakeTicket() *Ticket {
	t := s.ticket
	s.ticket = nil
	return t
}

// Resumed reports whether the session was begun by a ticket.
func (s *Session) Resumed() bool { return s.resumed }
