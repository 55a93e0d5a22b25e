// Package hop is what every node on a route has: its links, its table of
// routes, and the path of a cell between the two. Relays are a hop and nothing
// else; Stream nodes are a hop with an end.
package hop

import (
	"net/netip"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Neighbours says how to reach a node of the network: its static key and its
// address, from the directory.
type Neighbours func(wire.NodeID) (key *seal.KEMPublic, addr netip.AddrPort, ok bool)

// Config is a hop's identity and surroundings.
type Config struct {
	Self       wire.NodeID
	Static     *seal.KEMPrivate // link key
	Onion      *seal.KEMPrivate // route set-up key
	Neighbours Neighbours
	// At returns the node that has an address; nil: none is looked for.
	At func(netip.AddrPort) (wire.NodeID, bool)
	// Clients says that links may come from who does not identify itself.
	Clients bool
	// EndOfRoute says that routes may end here.
	EndOfRoute bool
	// ClientsMax bounds the links of clients, StrangersMax those of clients that
	// were not admitted; 0 is the default of package link.
	ClientsMax, StrangersMax int
	// SetupsMax bounds the route set-ups a second, and the handshakes of links
	// that others begin; 0 is the defaults of packages mix and link.
	SetupsMax int
	// QueueMax bounds the frames that wait on one link; 0 is the default.
	QueueMax int
	// Sink hears of links that come up and go down.
	Sink trace.Sink
	// Lost, if not nil, is told of a node that does not answer any more.
	Lost func(peer wire.NodeID, why link.Reason)
}

// Hop moves frames between links and routes. It belongs to one machine.
type Hop struct {
	Links  *link.Endpoint
	Table  *mix.Table
	Pool   wire.Pool
	Counts trace.Counts

	self       wire.NodeID
	neighbours Neighbours
	queueMax   int
	sink       trace.Sink
	lost       func(wire.NodeID, link.Reason)
	batch      []opened
}

// opened is what was found of one datagram of a batch before its turn.
type opened struct {
	link link.Opened
	cell mix.Peeled
}

// queueMax is the default bound of one link's queue: 5 MB, 50 ms at 1 Gbit/s.
const queueMax = 4096

// New returns a hop.
func New(cfg Config, rng prng.Source) *Hop {
	if cfg.QueueMax == 0 {
		cfg.QueueMax = queueMax
	}
	h := &Hop{self: cfg.Self, neighbours: cfg.Neighbours, queueMax: cfg.QueueMax, sink: cfg.Sink, lost: cfg.Lost}
	h.Links = link.New(link.Config{
		Self:            cfg.Self,
		Static:          cfg.Static,
		Peer:            h.peerKey,
		At:              cfg.At,
		AcceptAnonymous: cfg.Clients,
		MaxClients:      cfg.ClientsMax,
		MaxStrangers:    cfg.StrangersMax,
		MaxHandshakes:   cfg.SetupsMax,
		QueueMax:        cfg.QueueMax,
	}, rng.Child("link"), &h.Pool, &h.Counts)
	h.Table = mix.NewTable(mix.Config{
		Onion:      cfg.Onion,
		Limits:     mix.Limits{Setups: cfg.SetupsMax},
		EndOfRoute: cfg.EndOfRoute,
		Next:       h.next,
		Node:       h.node,
		Room:       h.room,
	}, rng.Child("mix"), &h.Pool, &h.Counts)
	return h
}

func (h *Hop) peerKey(id wire.NodeID) *seal.KEMPublic {
	key, _, ok := h.neighbours(id)
	if !ok {
		return nil
	}
	return key
}

func (h *Hop) node(id link.ID) bool {
	_, identified, _ := h.Links.Peer(id)
	return identified
}

// room keeps the table from handing over what a full link would drop in
// silence: the table can tell the client.
func (h *Hop) room(id link.ID) bool { return h.Links.QueueLen(id) < h.queueMax }

// next finds or opens the link to the next hop of a route, which is another
// node: nobody has a link with himself.
func (h *Hop) next(now machine.Time, id wire.NodeID) (link.ID, bool) {
	key, addr, ok := h.neighbours(id)
	if !ok || id == h.self {
		return 0, false
	}
	return h.Links.Dial(now, id, key, addr), true
}

// Batch is that of machine.Opener.
func (h *Hop) Batch(n int) {
	if n == 0 {
		for i := range h.batch {
			h.Table.Release(&h.batch[i].cell)
		}
		h.batch = nil
		return
	}
	h.batch = machine.Grow(h.batch, n)
	for i := range h.batch[:n] {
		h.Table.Prepare(&h.batch[i].cell)
		h.batch[i].link.Reset()
	}
}

// OpenAhead is that of machine.Opener: it opens the link's seal of datagram i,
// and the layer of the cell in it.
func (h *Hop) OpenAhead(i int, b []byte) {
	o := &h.batch[i]
	if id, frame, ok := h.Links.Open(&o.link, b); ok {
		h.Table.Peel(&o.cell, id, frame)
	}
}

// Receive opens a datagram's link, with what OpenAhead found of datagram i
// of a batch; -1: there is none. cell is for mix.Table.HandlePeeled.
func (h *Hop) Receive(now machine.Time, from netip.AddrPort, b []byte, i int) (id link.ID, frame []byte, cell *mix.Peeled, ok bool) {
	if i < 0 {
		id, frame, ok = h.Links.HandleDatagram(now, from, b)
		return id, frame, nil, ok
	}
	o := &h.batch[i]
	id, frame, ok = h.Links.HandleOpened(now, from, b, &o.link)
	return id, frame, &o.cell, ok
}

// Forward pushes every cell whose delay is over to its link.
func (h *Hop) Forward(now machine.Time) {
	for {
		to, f, ok := h.Table.PollSend(now)
		if !ok {
			return
		}
		h.Links.Push(to, f)
	}
}

// LinkEvents tells the table of links that went down and the sink of all, and
// passes every event on to the owner.
func (h *Hop) LinkEvents(now machine.Time, each func(link.Event)) {
	for {
		ev, ok := h.Links.PollEvent()
		if !ok {
			return
		}
		switch ev.Kind {
		case link.Up:
			var node uint64
			if ev.Identified {
				node = 1
			}
			h.sink.Emit(now, trace.LinkUp, node, 0)
		case link.Down:
			h.sink.Emit(now, trace.LinkDown, uint64(ev.Reason), 0)
			h.Table.LinkDown(now, ev.Link)
			if h.lost != nil && ev.Identified && (ev.Reason == link.Silent || ev.Reason == link.Unanswered) {
				h.lost(ev.Peer, ev.Reason)
			}
		}
		if each != nil {
			each(ev)
		}
	}
}

// HandleTimer runs what is due in links and routes.
func (h *Hop) HandleTimer(now machine.Time) {
	h.Links.HandleTimer(now)
	h.Table.HandleTimer(now)
}

// NextTimer is the earlier of the two layers' timers.
func (h *Hop) NextTimer() machine.Time { return min(h.Links.NextTimer(), h.Table.NextTimer()) }
