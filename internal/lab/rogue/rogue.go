// Package rogue is a client that keeps to no rule: it sends what a test tells
// it to, over real links and routes, so that nodes can be tried against who
// holds the keys and not the protocol.
package rogue

import (
	"fmt"
	"net/netip"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Client is a machine (see machine.Machine). It answers nothing by itself; what
// arrives is kept in Admission and in each Route's Packets.
type Client struct {
	Links     *link.Endpoint
	Counts    trace.Counts
	Admission []wire.Admission // what entries said, in order

	view   *directory.View
	rng    prng.Source
	draw   *prng.Stream
	pool   wire.Pool
	routes map[uint32]*Route
	serial int
}

// Route is one route of a Client.
type Route struct {
	Core    *mix.Route
	Packets [][]byte          // session packets that came back, ROUTE_READY included
	Nacks   []wire.NackReason // what hops said that they dropped
	entry   link.ID
}

// New returns a client that knows a directory.
func New(view *directory.View, rng prng.Source) *Client {
	c := &Client{view: view, rng: rng, draw: rng.Stream("draw"), routes: map[uint32]*Route{}}
	c.Links = link.New(link.Config{}, rng.Child("link"), &c.pool, &c.Counts)
	return c
}

// Dial opens a link to a node.
func (c *Client) Dial(now machine.Time, id wire.NodeID) link.ID {
	n, _ := c.view.Node(id)
	key, _ := c.view.Link(id)
	return c.Links.Dial(now, id, key, n.Addrs[0])
}

// Push sends a frame that put writes.
func (c *Client) Push(to link.ID, put func(*wire.Frame)) {
	f := c.pool.Get()
	put(f)
	c.Links.Push(to, f)
}

// Init sends SESSION_INIT with a client id of our choice.
func (c *Client) Init(to link.ID, id, nonce byte) {
	m := wire.SessionInit{ClientID: [16]byte{id}, Nonce: [16]byte{nonce}, Version: wire.AdmissionVersion}
	c.Push(to, m.Put)
}

// Route sends the set-up of a route from an entry through mixes to an exit.
func (c *Client) Route(now machine.Time, level wire.Level, entry, exit wire.NodeID, first []byte) (*Route, error) {
	path, err := c.view.Draw(c.draw, directory.Request{Level: level, Entry: &entry, Exit: &exit})
	if err != nil {
		return nil, err
	}
	var ids []wire.NodeID
	for _, n := range path.Nodes() {
		ids = append(ids, n.ID)
	}
	return c.RouteOver(now, level, ids, first)
}

// RouteOver sends the set-up of a route over hops of our choice, which the rules
// of path choice may forbid.
func (c *Client) RouteOver(now machine.Time, level wire.Level, ids []wire.NodeID, first []byte) (*Route, error) {
	hops := make([]mix.HopSpec, len(ids))
	for i, id := range ids {
		key, ok := c.view.Onion(id, c.view.Epoch())
		if !ok {
			return nil, fmt.Errorf("rogue: no onion key of node %x", id[:4])
		}
		hops[i] = mix.HopSpec{ID: id, Onion: key}
	}
	c.serial++
	core, train, err := mix.Build(hops, level, 600e9, first, c.rng.Child(fmt.Sprint("route ", c.serial)))
	if err != nil {
		return nil, err
	}
	r := &Route{Core: core, entry: c.Dial(now, ids[0])}
	c.routes[core.ID()] = r
	for i := range wire.TrainFrames {
		c.Push(r.entry, func(f *wire.Frame) { train.Frame(i, f) })
	}
	return r, nil
}

// Send sends a session packet, which need not be one.
func (c *Client) Send(r *Route, packet []byte) {
	c.Push(r.entry, func(f *wire.Frame) { r.Core.Seal(f, packet, 0) })
}

// Meet sends a meeting packet.
func (c *Client) Meet(r *Route, m wire.MeetingPacket) {
	var b [wire.SessionPacketSize]byte
	m.Put(b[:])
	c.Send(r, b[:])
}

// Close ends the route at every hop.
func (c *Client) Close(r *Route) {
	c.Push(r.entry, func(f *wire.Frame) { r.Core.SealClose(f) })
	delete(c.routes, r.Core.ID())
}

// Kinds are the kinds of the packets that came back, without dummies.
func (r *Route) Kinds() (out []wire.SessionKind) {
	for _, p := range r.Packets {
		if k := wire.SessionPacketKind(p); k != wire.SessionDummy {
			out = append(out, k)
		}
	}
	return out
}

// HandleDatagram keeps what comes.
func (c *Client) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	_, frame, ok := c.Links.HandleDatagram(now, from, b)
	if !ok {
		return
	}
	switch wire.FrameType(frame[0]) {
	case wire.FrameAdmission:
		if m, ok := wire.ParseAdmission(frame); ok {
			c.Admission = append(c.Admission, m)
		}
	case wire.FrameBack:
		if r := c.routes[wire.FrameRouteID(frame)]; r != nil {
			back, ok := r.Core.Open(now, frame)
			switch {
			case ok && back.Kind == mix.BackPacket:
				r.Packets = append(r.Packets, append([]byte(nil), back.Packet...))
			case ok && back.Kind == mix.BackNack:
				r.Nacks = append(r.Nacks, back.Reason)
			}
		}
	}
}

// PollTransmit yields the next datagram.
func (c *Client) PollTransmit(now machine.Time, b []byte) (netip.AddrPort, int, bool) {
	return c.Links.PollTransmit(now, b)
}

// HandleTimer runs the links' timers.
func (c *Client) HandleTimer(now machine.Time) { c.Links.HandleTimer(now) }

// NextTimer is when HandleTimer has work.
func (c *Client) NextTimer() machine.Time { return c.Links.NextTimer() }

// PollJob yields nothing.
func (c *Client) PollJob() (machine.Job, bool) { return nil, false }

// HandleJob takes back nothing.
func (c *Client) HandleJob(machine.Time, machine.Job) {}
