package stream

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// fleetNode is one responder of a fleet.
type fleetNode struct {
	*Acceptor
	static *seal.KEMPrivate
	counts trace.Counts
}

const fleetUnix = 1_800_000_000

func newFleetNode(t *testing.T, fleet, seed byte) *fleetNode {
	t.Helper()
	static, err := seal.NewKEMPrivate(&[seal.KEMSeedSize]byte{40: seed})
	if err != nil {
		t.Fatal(err)
	}
	n := &fleetNode{Acceptor: NewAcceptor(Config{UnixStart: fleetUnix}, prng.FromUint64(uint64(seed))), static: static}
	n.Tickets = NewTickets(&seal.Key{fleet}, prng.FromUint64(uint64(seed)))
	n.turn(0)
	return n
}

func (n *fleetNode) take(now machine.Time, level wire.Level, hello []byte) (*Session, error) {
	return n.Accept(now, level, n.static, hello, &n.counts)
}

// resume begins a session with a node, by a ticket unless it is nil, and writes
// a request.
func (n *fleetNode) resume(t *testing.T, now machine.Time, ticket *Ticket, request []byte) (*Session, uint64) {
	t.Helper()
	cfg := Config{UnixStart: fleetUnix, Optional: []uint16{wire.CapTickets}}
	s, err := Resume(now, cfg, n.static.Public(), ticket, prng.FromUint64(uint64(now)), &n.counts)
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.OpenStream(now, PriorityNormal)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := s.Write(now, id, request); err != nil || k != len(request) {
		t.Fatal(k, err)
	}
	s.CloseWrite(now, id)
	s.AddPath(now, 0)
	return s, id
}

// pump carries what both ends have to send.
func pump(now machine.Time, client, server *Session) {
	var b [wire.SessionPacketSize]byte
	for moved := true; moved; {
		moved = false
		for server.PollPacket(now, 0, b[:]) {
			client.HandlePacket(now, 0, b[:])
			moved = true
		}
		for client.PollPacket(now, 0, b[:]) {
			if wire.SessionPacketKind(b[:]) != wire.SessionHello {
				server.HandlePacket(now, 0, b[:])
			}
			moved = true
		}
	}
}

// ticketFrom establishes a session with a node and returns its ticket.
func (n *fleetNode) ticketFrom(t *testing.T, now machine.Time) *Ticket {
	t.Helper()
	c, _ := n.resume(t, now, nil, nil)
	s, err := n.take(now, wire.Fast, c.FirstFlight())
	if err != nil {
		t.Fatal(err)
	}
	s.AddPath(now, 0)
	pump(now, c, s)
	ticket := given(c)
	if !ticket.Good(now) || given(c) != nil {
		t.Fatal("no ticket, or two")
	}
	return ticket
}

// given is the ticket that a session tells of, or nil.
func given(s *Session) (t *Ticket) {
	for {
		ev, ok := s.PollEvent()
		if !ok {
			return t
		}
		if ev.Kind == TicketGiven {
			t = s.TakeTicket()
		}
	}
}

func content(s *Session, now machine.Time, id uint64) string {
	var got bytes.Buffer
	readAll(s, now, id, &got)
	return got.String()
}

// A ticket of one node begins a session at another, with a request of a kilobyte
// in the first flight, keys of its own and a fresh ticket. Neither tickets nor
// what both sides derive from them repeat.
func TestAnyNodeOfTheFleetTakesATicket(t *testing.T) {
	a, b := newFleetNode(t, 1, 1), newFleetNode(t, 1, 2)
	now := machine.Time(time.Minute)
	first := a.ticketFrom(t, now)
	sealed, secret := first.sealed, first.secret
	request := bytes.Repeat([]byte("r"), 900)
	c, id := b.resume(t, now, first, request)
	if first.Good(now) || first.secret != (seal.Key{}) {
		t.Error("a used ticket is left")
	}
	hello := c.FirstFlight()
	if !bytes.Contains(hello, sealed[:]) || bytes.Contains(hello, secret[:]) || len(hello) > wire.MaxHelloSize {
		t.Fatalf("a HELLO of %d bytes", len(hello))
	}
	s, err := b.take(now, wire.Fast, hello)
	if err != nil || !s.Resumed() {
		t.Fatal(err)
	}
	if got := content(s, now, id); got != string(request) {
		t.Errorf("%d bytes of %d came in the first flight", len(got), len(request))
	}
	s.AddPath(now, 0)
	pump(now, c, s)
	next := given(c)
	if !c.Established() || next == nil || next.sealed == sealed || next.secret == secret {
		t.Error("no session, or the same ticket again")
	}
}

// A first flight by ticket that somebody captured brings its data in once: at
// another node of the fleet it is nothing, at its own it is known; after a restart
// there, and by a ticket that was used before, its 0-RTT data is refused.
// (Control: without the node's key in the schedule the other node takes it.)
func TestFirstFlightsByTicketAreTakenOnce(t *testing.T) {
	a, b := newFleetNode(t, 1, 1), newFleetNode(t, 1, 2)
	now := machine.Time(time.Minute)
	ticket := a.ticketFrom(t, now)
	again := *ticket
	c, id := a.resume(t, now, ticket, []byte("once"))
	hello := c.FirstFlight()
	if _, err := b.take(now, wire.Fast, hello); !errors.Is(err, ErrHello) {
		t.Errorf("another node: %v", err)
	}
	s, err := a.take(now, wire.Fast, hello)
	if err != nil || content(s, now, id) != "once" {
		t.Fatal(err)
	}
	if same, err := a.take(now, wire.Fast, hello); same != s || err != nil {
		t.Errorf("the same flight again: %v", err)
	}
	a.Forget(s)
	if _, err := a.take(now, wire.Fast, hello); !errors.Is(err, ErrReplayed) {
		t.Errorf("the same flight after the session's end: %v", err)
	}
	restarted := newFleetNode(t, 1, 1)
	restarted.now.begun, restarted.old.begun = now, now
	if s, err := restarted.take(now.Add(time.Second), wire.Fast, hello); err != nil || content(s, now, id) != "" {
		t.Errorf("after a restart its data is taken, %v", err)
	}
	c, id = a.resume(t, now.Add(1), &again, []byte("twice"))
	s, err = a.take(now.Add(1), wire.Fast, c.FirstFlight())
	if err != nil || content(s, now, id) != "" {
		t.Fatalf("a ticket that was used brings 0-RTT data in, %v", err)
	}
	s.AddPath(now, 0)
	pump(now.Add(1), c, s)
	if got := content(s, now, id); got != "twice" {
		t.Errorf("%q came under the session's keys", got)
	}
}

// A ticket that a node does not take costs a round trip: the handshake goes on
// without it, and what was written arrives once.
func TestRefusedTickets(t *testing.T) {
	home, foreign := newFleetNode(t, 1, 1), newFleetNode(t, 2, 2)
	begun := machine.Time(time.Minute)
	for _, c := range []struct {
		name  string
		node  *fleetNode
		level wire.Level
		after time.Duration
	}{
		{"another fleet", foreign, wire.Fast, 0},
		{"another level", home, wire.Standard, 0},
		{"too late", home, wire.Fast, ticketLife + time.Minute},
		{"much too late", home, wire.Fast, 3 * ticketLife},
	} {
		ticket := home.ticketFrom(t, begun)
		now := begun.Add(c.after)
		request := bytes.Repeat([]byte(c.name), 300)
		client, id := c.node.resume(t, now, ticket, request)
		_, err := c.node.take(now, c.level, client.FirstFlight())
		var refusal *Refusal
		if !errors.As(err, &refusal) {
			t.Fatalf("%s: %v", c.name, err)
		}
		client.HandlePacket(now, 0, refusal.Packet[:])
		client.HandlePacket(now, 0, refusal.Packet[:]) // it may come again
		s, err := c.node.take(now, c.level, client.FirstFlight())
		if err != nil || s.Resumed() || client.Resumed() {
			t.Fatalf("%s: %v", c.name, err)
		}
		s.AddPath(now, 0)
		pump(now, client, s)
		if got := content(s, now, id); !client.Established() || got != string(request) {
			t.Errorf("%s: %d bytes of %d arrived", c.name, len(got), len(request))
		}
		begun = now.Add(time.Minute)
	}
}

// A ticket outlives the fleet's key by its own life, until the next rotation; new
// ones are under the new key, and what is replaced is overwritten.
func TestTicketsOutliveTheFleetKey(t *testing.T) {
	home, moved := newFleetNode(t, 1, 1), newFleetNode(t, 2, 2)
	begun := machine.Time(time.Minute)
	taken := func(what string, n *fleetNode, ticket *Ticket, now machine.Time, want bool) {
		t.Helper()
		client, _ := n.resume(t, now, ticket, []byte("request"))
		s, err := n.take(now, wire.Fast, client.FirstFlight())
		if got := err == nil && s.Resumed(); got != want {
			t.Errorf("%s: taken %v, want %v; %v", what, got, want, err)
		}
	}
	tickets := []*Ticket{home.ticketFrom(t, begun), home.ticketFrom(t, begun), home.ticketFrom(t, begun)}
	first := home.Tickets.present
	home.RotateTickets(begun, &seal.Key{2})
	taken("under the key before", home, tickets[0], begun, true)
	taken("under the new key, at another node", moved, home.ticketFrom(t, begun), begun, true)
	taken("under the key before, where it never was", moved, tickets[1], begun, false)
	home.RotateTickets(begun, &seal.Key{3})
	taken("two rotations ago", home, tickets[2], begun, false)
	second := home.Tickets.previous
	if first.root != (seal.Key{}) || second.root == (seal.Key{}) {
		t.Error("the key of two rotations ago is left, or the last one is not")
	}
	late := begun.Add(ticketLife + time.Minute)
	taken("late, of another home with the key before", home, moved.ticketFrom(t, late), late, false)
	taken("late, under the present key", home, home.ticketFrom(t, late), late, true)
	if home.Tickets.previous != nil || second.root != (seal.Key{}) {
		t.Error("the previous key outlives its tickets")
	}
}

// No ticket is given to who does not ask, nor at levels at which it would link
// what they keep apart, nor by who has no fleet.
func TestWhoGetsTickets(t *testing.T) {
	for _, c := range []struct {
		level       wire.Level
		asks, fleet bool
		given       bool
	}{{wire.Fast, true, true, true}, {wire.Standard, true, true, true}, {wire.High, true, true, false},
		{wire.Extreme, true, true, false}, {wire.Fast, false, true, false}, {wire.Fast, true, false, false}} {
		n := newFleetNode(t, 1, 1)
		if !c.fleet {
			n.Tickets = nil
		}
		cfg := Config{Level: c.level}
		if c.asks {
			cfg.Optional = []uint16{wire.CapTickets}
		}
		client, err := Dial(0, cfg, n.static.Public(), prng.FromUint64(1), &n.counts)
		if err != nil {
			t.Fatal(err)
		}
		s, err := n.take(0, c.level, client.FirstFlight())
		if err != nil {
			t.Fatal(err)
		}
		client.AddPath(0, 0)
		s.AddPath(0, 0)
		pump(0, client, s)
		if got := given(client) != nil; got != c.given || !client.Established() {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// BenchmarkAccept is what a responder's handshake costs, in full and by ticket.
func BenchmarkAccept(b *testing.B) {
	static, _ := seal.NewKEMPrivate(&[seal.KEMSeedSize]byte{1})
	var counts trace.Counts
	tickets := NewTickets(&seal.Key{1}, prng.FromUint64(1))
	for _, by := range []string{"full", "ticket"} {
		b.Run(by, func(b *testing.B) {
			a := NewAcceptor(Config{}, prng.FromUint64(1))
			a.Tickets = tickets
			hellos := make([][]byte, b.N)
			for i := range hellos {
				var ticket *Ticket
				if by == "ticket" {
					ticket = &Ticket{until: machine.Never}
					ticket.sealed = tickets.seal(0, wire.Fast, &ticket.secret)
				}
				c, err := Resume(0, Config{}, static.Public(), ticket, prng.FromUint64(uint64(i)), &counts)
				if err != nil {
					b.Fatal(err)
				}
				hellos[i] = c.FirstFlight()
			}
			b.ResetTimer()
			for _, hello := range hellos {
				s, err := a.Accept(0, wire.Fast, static, hello, &counts)
				if err != nil {
					b.Fatal(err)
				}
				a.Forget(s)
			}
		})
	}
}
