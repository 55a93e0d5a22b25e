package anonymity

import (
	"math"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/attack"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/relay"
	"github.com/nyxnet/nyx/internal/wire"
)

// watch is what can be noted at the nodes of a network, which do all that they
// would without: of each route the cells that come to each hop, and which user's it
// is. What of it an adversary has is for each attack to say; whose a route is, none
// is told.
type watch struct {
	spies  []*spy // Stream nodes, then Mix nodes, as they were made
	byAddr map[netip.AddrPort]*spy
	nodes  map[wire.NodeID]netip.AddrPort
	users  map[netip.AddrPort]int
	owners map[place]owner // by where routes come from on the way out
	backs  map[place]owner // and on the way back
	routes [][]*route      // of each user

	begin, end machine.Time  // of what is kept
	reserve    time.Duration // for which entries keep cells
	pools      mixing
}

// place is a route at a hop: where it comes from, and under which id.
type place struct {
	at, from netip.AddrPort
	id       uint32
}

// owner is whose a route is, and the hop's position on it.
type owner struct {
	user, position int
	route          *route
}

// route is one route of a user: the cells as each hop sees them come, on their way
// out and back, in the order of their counters where no hop mixes, else of their
// times. No cell comes back to a last hop.
type route struct {
	hops, back [][]attack.Cell
}

// spy is a node that was taken over: it works as before, and notes what it opens.
type spy struct {
	machine.Machine
	hop    *hop.Hop
	mixes  bool
	watch  *watch
	addr   netip.AddrPort
	index  int
	opened link.Opened
	peeled mix.Peeled
	pool   attack.Pool
}

// Unwrap returns the honest node.
func (s *spy) Unwrap() machine.Machine { return s.Machine }

// wrap puts a spy around a node.
func (w *watch) wrap(m machine.Machine) machine.Machine {
	s := &spy{Machine: m, watch: w}
	switch core := m.(type) {
	case *gateway.Gateway:
		s.hop = core.Hop
	case *relay.Relay:
		s.hop, s.mixes = core.Hop, true
	default:
		return m
	}
	w.spies = append(w.spies, s)
	return s
}

// attach tells the spies where they are.
func (w *watch) attach(n *lab.Network) {
	w.byAddr, w.nodes = map[netip.AddrPort]*spy{}, map[wire.NodeID]netip.AddrPort{}
	w.users, w.owners, w.backs = map[netip.AddrPort]int{}, map[place]owner{}, map[place]owner{}
	settle := func(i int, at netip.AddrPort, id wire.NodeID) {
		w.spies[i].addr, w.spies[i].index = at, i
		w.byAddr[at], w.nodes[id] = w.spies[i], at
	}
	for i, g := range n.Gateways {
		settle(i, g.Node.Addr(), g.ID)
	}
	for i, r := range n.Relays {
		settle(len(n.Gateways)+i, r.Node.Addr(), r.ID)
	}
	for i, u := range n.Users {
		w.users[u.Node.Addr()] = i
	}
	w.routes = make([][]*route, len(n.Users))
}

// HandleDatagram notes a cell, and passes it on.
func (s *spy) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	if s.mixes { // as relay.Relay does
		if id, frame, ok := s.hop.Links.HandleDatagram(now, from, b); ok {
			s.note(now, from, id, frame)
			s.hop.Table.HandleFrame(now, id, frame)
			return
		}
		s.watch.pools.arrive(s, from, noSource)
		return
	}
	s.opened.Reset()
	if id, frame, ok := s.hop.Links.Open(&s.opened, b); ok {
		s.note(now, from, id, frame)
	}
	s.Machine.HandleDatagram(now, from, b)
}

// note notes a frame that has come, if it is a cell.
func (s *spy) note(now machine.Time, from netip.AddrPort, id link.ID, frame []byte) {
	source := noSource
	switch wire.FrameType(frame[0]) {
	case wire.FrameForward:
		if o, known := s.owner(from, id, wire.FrameRouteID(frame)); known {
			source = o.user
			c := attack.Cell{At: now, Counter: wire.CellCounter(frame)}
			if o.position == 0 {
				c.Late = s.late(id, frame)
				c.At = now.Add(-c.Late)
			}
			s.watch.keep(o.route.hops, o.position, now, c)
		}
	case wire.FrameBack:
		if o, known := s.watch.backs[place{s.addr, from, wire.FrameRouteID(frame)}]; known {
			s.watch.keep(o.route.back, o.position, now, attack.Cell{At: now, Counter: wire.CellCounter(frame)})
		}
		if last := s.watch.byAddr[from]; last != nil && !last.mixes {
			source = len(s.watch.routes) + last.index
		} else {
			source = anySource
		}
	}
	s.watch.pools.arrive(s, from, source)
}

// late is by how much a cell of a client comes in place of another that was lost,
// as the entry reads it: it keeps it for less than others.
func (s *spy) late(id link.ID, frame []byte) time.Duration {
	s.hop.Table.Prepare(&s.peeled)
	s.hop.Table.Peel(&s.peeled, id, frame)
	if kept, ok := s.peeled.Kept(); ok {
		return s.watch.reserve - kept
	}
	return 0
}

// keep keeps a cell that came to a hop in the time that is watched.
func (w *watch) keep(hops [][]attack.Cell, position int, now machine.Time, c attack.Cell) {
	if now >= w.begin && now < w.end {
		hops[position] = append(hops[position], c)
	}
}

// owner finds whose a route is: at the entry by its client, further on by what the
// hop before knows.
func (s *spy) owner(from netip.AddrPort, id link.ID, routeID uint32) (owner, bool) {
	w := s.watch
	key := place{s.addr, from, routeID}
	o, known := w.owners[key]
	if !known {
		user, isUser := w.users[from]
		if !isUser {
			return owner{}, false
		}
		o = owner{user: user, route: &route{}}
		w.routes[user] = append(w.routes[user], o.route)
	}
	if len(o.route.hops) == o.position { // its first cell here
		o.route.hops, o.route.back = append(o.route.hops, nil), append(o.route.back, nil)
		w.owners[key] = o
		if to, next, ok := s.hop.Table.Onward(id, routeID); ok {
			if peer, ok, _ := s.hop.Links.Peer(to); ok {
				w.owners[place{w.nodes[peer], s.addr, next}] = owner{o.user, o.position + 1, o.route}
				w.backs[place{s.addr, w.nodes[peer], next}] = o
			}
		}
	}
	return o, true
}

// PollTransmit notes what leaves a mix.
func (s *spy) PollTransmit(now machine.Time, b []byte) (to netip.AddrPort, n int, ok bool) {
	if to, n, ok = s.Machine.PollTransmit(now, b); ok && s.mixes {
		s.watch.pools.depart(s, to)
	}
	return to, n, ok
}

// Sources of cells that are no user's or last hop's.
const (
	noSource  = -1 // no cell
	anySource = -2 // a cell that comes from a mix, with what is known of it there
)

// mixing follows who may have sent what through the pools of the mixes, while on.
type mixing struct {
	on      bool
	sources int
	between map[[2]netip.AddrPort][][]float64 // cells on their way from mix to mix
	spare   [][]float64
	// atMix are the bits of which input an output is, onPath those of who sent what
	// leaves a last mix.
	atMix, onPath []float64
	measure       bool
}

// begin starts with what the mixes hold.
func (m *mixing) begin(w *watch) {
	m.on, m.sources, m.between = true, len(w.routes)+len(w.spies), map[[2]netip.AddrPort][][]float64{}
	for _, s := range w.spies {
		if s.pool = (attack.Pool{}); s.mixes {
			s.pool.Fill(s.hop.Table.Queued())
		}
	}
}

func (m *mixing) vector() []float64 {
	if n := len(m.spare); n > 0 {
		v := m.spare[n-1]
		m.spare = m.spare[:n-1]
		clear(v)
		return v
	}
	return make([]float64, m.sources)
}

// arrive adds a datagram to the pool of a mix, if it is a cell.
func (m *mixing) arrive(s *spy, from netip.AddrPort, source int) {
	if !m.on || !s.mixes {
		return
	}
	var known []float64
	if before := s.watch.byAddr[from]; before != nil && before.mixes {
		key := [2]netip.AddrPort{from, s.addr}
		if queue := m.between[key]; len(queue) > 0 {
			known, m.between[key] = queue[0], queue[1:]
		}
	} else if source >= 0 {
		known = m.vector()
		known[source] = 1
	}
	switch {
	case source == noSource:
	case known == nil:
		s.pool.Fill(1)
	default:
		s.pool.Add(known)
	}
	if known != nil {
		m.spare = append(m.spare, known)
	}
}

// depart takes a datagram out of it.
func (m *mixing) depart(s *spy, to netip.AddrPort) {
	if !m.on {
		return
	}
	size, known := s.pool.Size(), m.vector()
	s.pool.Take(known)
	if m.measure && size >= 1 {
		m.atMix = append(m.atMix, math.Log2(size))
	}
	if next := s.watch.byAddr[to]; next != nil && next.mixes {
		key := [2]netip.AddrPort{s.addr, to}
		m.between[key] = append(m.between[key], known)
		return
	}
	if m.measure {
		m.onPath = append(m.onPath, attack.Entropy(known))
	}
	m.spare = append(m.spare, known)
}
