package lab

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"runtime"
	"time"

	"github.com/nyxnet/nyx/internal/lab/cpu"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// keysUnix is the wall time at which SCL-003 begins: tickets need one.
const keysUnix = 1_800_000_000

// mixedKeys is SCL-003: sessions begin at one Stream node, in full or by ticket,
// beside a flood of handshakes that are never finished.
func mixedKeys(r *Run) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	n, err := newKeyNode(r)
	if err != nil {
		return err
	}
	flood, err := n.record(r.Source("flood"))
	if err != nil {
		return err
	}
	arrivals := r.Source("setups").Stream("arrivals")
	gap := time.Duration(float64(time.Second) / r.Param("setups_per_second") * r.Param("stream_nodes"))
	floodGap := time.Duration(float64(time.Second) / r.Param("flood_per_second"))
	full := uint64(r.Param("full_share") * 1e6)
	var begun, whole int
	due := machine.Time(0).Add(arrivals.Exp(gap))
	for second := range int(math.Round(r.Param("seconds") * r.Scale)) {
		n.used = 0
		end := machine.Time(0).Add(time.Duration(second+1) * time.Second)
		for at := end.Add(-time.Second); at < end; at = at.Add(floodGap) {
			for ; due <= at; due = due.Add(arrivals.Exp(gap)) {
				byTicket := !arrivals.Chance(full)
				if byTicket && len(n.tickets) == 0 {
					return errors.New("the clients have no ticket left")
				}
				begun++
				if !byTicket {
					whole++
				}
				r.Trial("setup_done", n.setup(due, byTicket))
			}
			flood.send(at)
		}
		r.Observe("cpu_user_pct", n.used.Seconds())
	}
	r.Note("%d set-ups, %d of them in full: %v of processor time each; %d handshakes of the flood were worked on and %d refused",
		begun, whole, n.setups/time.Duration(begun), n.counts[trace.DropHandshakeMalformed], n.counts[trace.DropHandshakeLimit])
	return nil
}

// keyNode is a Stream node as far as its handshakes go, and the clients' side of
// its sessions.
type keyNode struct {
	id       wire.NodeID
	static   *seal.KEMPrivate
	links    *link.Endpoint
	acceptor *stream.Acceptor
	pool     wire.Pool
	counts   trace.Counts
	used     time.Duration // processor time of the present second
	setups   time.Duration // of all set-ups

	cfg     stream.Config // of clients
	rng     prng.Source
	clients int
	heard   trace.Counts // of the clients
	tickets []*stream.Ticket
}

// ticketsReady is how many tickets clients hold at the beginning.
const ticketsReady = 64

func newKeyNode(r *Run) (*keyNode, error) {
	static, err := seal.NewKEMPrivate(&[seal.KEMSeedSize]byte{3})
	if err != nil {
		return nil, err
	}
	n := &keyNode{id: wire.NodeID{3}, static: static, rng: r.Source("clients"),
		cfg: stream.Config{UnixStart: keysUnix, Optional: []uint16{wire.CapTickets}}}
	cfg := link.Config{Self: n.id, Static: static, AcceptAnonymous: true}
	if !r.Protected {
		cfg.MaxHandshakes = int(time.Second)
	}
	n.links = link.New(cfg, r.Source("links"), &n.pool, &n.counts)
	n.acceptor = stream.NewAcceptor(stream.Config{UnixStart: keysUnix}, r.Source("sessions"))
	n.acceptor.Tickets = stream.NewTickets(&seal.Key{3}, r.Source("tickets"))
	for range ticketsReady {
		if !n.setup(0, false) {
			return nil, errors.New("a first session does not come about")
		}
	}
	n.setups = 0
	return n, nil
}

// work measures what the node does.
func (n *keyNode) work(f func()) {
	begun := cpu.Thread()
	f()
	n.used += cpu.Thread() - begun
}

// setup begins a session, by a ticket that a client holds or in full, and ends it
// when its request has arrived. It reports whether that came about, and as it was
// asked for.
func (n *keyNode) setup(now machine.Time, byTicket bool) (done bool) {
	before := n.used
	defer func() { n.setups += n.used - before }()
	var ticket *stream.Ticket
	if byTicket {
		ticket = n.tickets[0]
		n.tickets = n.tickets[1:]
	}
	n.clients++
	client, err := stream.Resume(now, n.cfg, n.static.Public(), ticket, n.rng.Child(fmt.Sprint(n.clients)), &n.heard)
	if err != nil {
		return false
	}
	id, err := client.OpenStream(now, stream.PriorityNormal)
	if err != nil {
		return false
	}
	client.Write(now, id, []byte("request"))
	client.CloseWrite(now, id)
	client.AddPath(now, 0)
	hello := client.FirstFlight()
	var server *stream.Session
	n.work(func() {
		if server, err = n.acceptor.Accept(now, wire.Fast, n.static, hello, &n.counts); err == nil {
			server.AddPath(now, 0)
		}
	})
	if err != nil {
		return false
	}
	got := n.exchange(now, client, server)
	n.work(func() { n.acceptor.Forget(server) })
	if t := client.TakeTicket(); t != nil {
		n.tickets = append(n.tickets, t)
	}
	return got == "request" && client.Established() && server.Resumed() == byTicket
}

// exchange carries what both ends have to send, and returns what the node reads.
func (n *keyNode) exchange(now machine.Time, client, server *stream.Session) (got string) {
	var b [wire.SessionPacketSize]byte
	var read [64]byte
	for moved := true; moved; {
		moved = false
		for sent := true; sent; {
			if n.work(func() { sent = server.PollPacket(now, 0, b[:]) }); sent {
				client.HandlePacket(now, 0, b[:])
				moved = true
			}
		}
		for client.PollPacket(now, 0, b[:]) {
			if wire.SessionPacketKind(b[:]) != wire.SessionHello { // it flew with the set-up
				n.work(func() { server.HandlePacket(now, 0, b[:]) })
			}
			moved = true
		}
	}
	n.work(func() {
		for {
			ev, ok := server.PollEvent()
			if !ok {
				return
			}
			if ev.Kind != stream.Readable {
				continue
			}
			if k, err := server.Read(now, ev.Stream, read[:]); err == nil || errors.Is(err, io.EOF) {
				got += string(read[:k])
			}
		}
	})
	return got
}

// initFlood is the INITs of one address that is proven: each is the one that it
// recorded, with another nonce, so that the node finds out by key work only.
type initFlood struct {
	node  *keyNode
	from  netip.AddrPort
	shape seal.AEAD
	parts [wire.LinkParts]wire.LinkInit
	draw  *prng.Stream
	count uint64
	b     [wire.DatagramSize]byte
}

// record dials the node as a client does, and keeps the INIT that proves its
// address.
func (n *keyNode) record(rng prng.Source) (*initFlood, error) {
	f := &initFlood{node: n, from: netip.MustParseAddrPort("192.0.2.3:3"), draw: rng.Stream("nonces")}
	key := seal.Key(seal.Hash("link handshake", n.id[:]))
	key = seal.Derive(&key, "to responder")
	f.shape.Init(seal.AES256GCM, &key)
	var counts trace.Counts
	c := link.New(link.Config{}, rng, &wire.Pool{}, &counts)
	c.Dial(0, n.id, n.static.Public(), f.from)
	have := 0
	for range 2 { // first without a cookie, then with it
		have = 0
		for {
			_, _, ok := c.PollTransmit(0, f.b[:])
			if !ok {
				break
			}
			sent := f.b
			n.links.HandleDatagram(0, f.from, sent[:])
			_, counter := wire.LinkHeader(f.b[:])
			body, ok := f.shape.Open(nil, f.b[wire.LinkHeaderSize:], f.b[:wire.LinkHeaderSize], counter)
			if !ok {
				continue
			}
			if m, _, err := wire.ParseLinkInit(body); err == nil && have < wire.LinkParts {
				f.parts[m.Part] = m
				have++
			}
		}
		for {
			if _, _, ok := n.links.PollTransmit(0, f.b[:]); !ok {
				break
			}
			c.HandleDatagram(0, f.from, f.b[:])
		}
	}
	if have != wire.LinkParts || f.parts[0].Cookie == [wire.LinkCookieSize]byte{} {
		return nil, errors.New("no INIT with a cookie was recorded")
	}
	return f, nil
}

// send has the node take one INIT, both parts of it.
func (f *initFlood) send(now machine.Time) {
	var nonce [wire.LinkNonceSize]byte
	f.draw.Read(nonce[:])
	for i := range f.parts {
		m := &f.parts[i]
		m.Nonce = nonce
		f.count++
		wire.PutLinkHeader(f.b[:], m.Index, f.count)
		body := m.Append(f.b[wire.LinkHeaderSize:wire.LinkHeaderSize])
		f.shape.Seal(body[:0], body, f.b[:wire.LinkHeaderSize], f.count)
		f.node.work(func() { f.node.links.HandleDatagram(now, f.from, f.b[:]) })
	}
	f.node.work(func() {
		if f.node.links.NextTimer() <= now {
			f.node.links.HandleTimer(now)
		}
		for ok := true; ok; {
			_, _, ok = f.node.links.PollTransmit(now, f.b[:])
		}
	})
}
