package bench

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/relay"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Sessions come at most at 900 a second of virtual time: a node takes 2000
// set-ups a second, and each route passes it twice. They take idleSpread at
// least, the interval of heartbeats, so that these lie evenly over time.
const (
	idlePerSecond = 900
	idleSpread    = 20 * time.Second
	idleStep      = 10 * time.Millisecond
)

// idleWorld is one Stream node, in a process of its own, one Mix node, and
// clients reduced to what keeps a session alive: a link, a route and the
// session's core. The route of each goes from the Stream node through the Mix
// node back to the Stream node. Datagrams arrive at once; time moves in steps of
// idleStep.
type idleWorld struct {
	gate    *idleProcess
	mid     *relay.Relay
	keys    map[wire.NodeID]*seal.KEMPrivate
	onions  map[wire.NodeID]*seal.KEMPrivate
	addrs   map[wire.NodeID]netip.AddrPort
	hops    []mix.HopSpec
	clients []*idleClient
	timers  machine.Timers[*idleClient]
	touched []*idleClient
	rng     prng.Source
	pool    wire.Pool
	counts  trace.Counts
	now     machine.Time
	err     error // the first of a client

	toGate, toMid, toClients []idleMail
	spare                    []*[wire.DatagramSize]byte
	due                      bool // the Stream node has not heard of the present time

	gateDatagrams uint64
}

type idleMail struct {
	from, to netip.AddrPort
	b        *[wire.DatagramSize]byte
}

// idleClient is one client.
type idleClient struct {
	addr  netip.AddrPort
	links *link.Endpoint
	link  link.ID
	route *mix.Route // nil until it is admitted
	core  *stream.Session
	timer machine.Timer[*idleClient]
	dirty bool
}

var idleGate, idleMid = wire.NodeID{1}, wire.NodeID{2}

// newIdleWorld starts the Stream node, whose process ends with ctx or by stop.
func newIdleWorld(ctx context.Context) (*idleWorld, error) {
	w := &idleWorld{rng: prng.FromUint64(1), keys: map[wire.NodeID]*seal.KEMPrivate{}, addrs: map[wire.NodeID]netip.AddrPort{}}
	if err := w.addNodes(); err != nil {
		return nil, err
	}
	w.mid = relay.New(w.node(idleMid), w.rng.Child("mid"))
	for _, id := range []wire.NodeID{idleGate, idleMid, idleGate} {
		w.hops = append(w.hops, mix.HopSpec{ID: id, Onion: w.onions[id].Public()})
	}
	var err error
	w.gate, err = startIdleProcess(ctx)
	return w, err
}

// addNodes makes the keys of both nodes, the same in both processes.
func (w *idleWorld) addNodes() error {
	w.onions = map[wire.NodeID]*seal.KEMPrivate{}
	for _, id := range []wire.NodeID{idleGate, idleMid} {
		label := fmt.Sprint("node ", id[0])
		var err error
		if w.keys[id], err = benchKEM(w.rng, label); err != nil {
			return err
		}
		if w.onions[id], err = benchKEM(w.rng, label+" onion"); err != nil {
			return err
		}
		w.addrs[id] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, id[0]}), 1)
	}
	return nil
}

func (w *idleWorld) node(id wire.NodeID) hop.Config {
	return hop.Config{Self: id, Static: w.keys[id], Onion: w.onions[id], Neighbours: w.neighbour}
}

func (w *idleWorld) neighbour(id wire.NodeID) (*seal.KEMPublic, netip.AddrPort, bool) {
	k := w.keys[id]
	if k == nil {
		return nil, netip.AddrPort{}, false
	}
	return k.Public(), w.addrs[id], true
}

// connect begins the session of one more client: link, admission, route with
// the session's first flight, one stream that stays open.
func (w *idleWorld) connect() error {
	i := len(w.clients)
	rng := w.rng.Child(fmt.Sprint("client ", i))
	c := &idleClient{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)}
	c.timer.Value = c
	c.links = link.New(link.Config{}, rng, &w.pool, &w.counts)
	var err error
	if c.core, err = stream.Dial(w.now, stream.Config{}, w.keys[idleGate].Public(), rng, &w.counts); err != nil {
		return err
	}
	id, err := c.core.OpenStream(w.now, stream.PriorityNormal)
	if err != nil {
		return err
	}
	if _, err := c.core.Write(w.now, id, []byte("an open stream")); err != nil {
		return err
	}
	c.link = c.links.Dial(w.now, idleGate, w.keys[idleGate].Public(), w.addrs[idleGate])
	m := wire.SessionInit{Version: wire.AdmissionVersion}
	rng.Stream("pseudonym").Read(m.ClientID[:])
	w.push(c, m.Put)
	w.clients = append(w.clients, c)
	w.touch(c)
	return nil
}

func (w *idleWorld) push(c *idleClient, put func(*wire.Frame)) {
	f := w.pool.Get()
	put(f)
	c.links.Push(c.link, f)
}

func (w *idleWorld) touch(c *idleClient) {
	if !c.dirty {
		c.dirty = true
		w.touched = append(w.touched, c)
	}
}

// run lets time pass until a point, in steps.
func (w *idleWorld) run(ctx context.Context, until machine.Time) error {
	for w.err == nil && ctx.Err() == nil {
		w.settle()
		next := min(w.gate.next, w.mid.NextTimer(), w.timers.Next())
		next = max(w.now, (next+machine.Time(idleStep)-1)/machine.Time(idleStep)*machine.Time(idleStep))
		if next > until {
			w.now = until
			return nil
		}
		w.now = next
		for {
			t, due := w.timers.Pop(w.now)
			if !due {
				break
			}
			t.Value.links.HandleTimer(w.now)
			t.Value.core.HandleTimer(w.now)
			w.touch(t.Value)
		}
		w.mid.HandleTimer(w.now)
		w.due = w.gate.next <= w.now
	}
	return cmp.Or(w.err, ctx.Err())
}

// settle carries datagrams until nobody has any.
func (w *idleWorld) settle() {
	for moved := true; moved; {
		moved = w.due || len(w.touched)+len(w.toGate)+len(w.toMid)+len(w.toClients) > 0
		for _, m := range w.toClients {
			ip := m.to.Addr().As4()
			c := w.clients[int(ip[1])<<16|int(ip[2])<<8|int(ip[3])]
			w.receive(c, m)
			w.touch(c)
		}
		w.toClients = w.recycle(w.toClients)
		for _, c := range w.touched {
			c.dirty = false
			w.work(c)
		}
		w.touched = w.touched[:0]
		if w.runMid() {
			moved = true
		}
		if len(w.toGate) > 0 || w.due {
			w.due = false
			w.gateDatagrams += uint64(len(w.toGate))
			if err := w.gate.exchange(w); err != nil && w.err == nil {
				w.err = err
				return
			}
		}
	}
}

// runMid gives the Mix node what waits for it, and takes what it sends.
func (w *idleWorld) runMid() (sent bool) {
	m := w.mid
	for _, mail := range w.toMid {
		m.HandleDatagram(w.now, mail.from, mail.b[:])
	}
	w.toMid = w.recycle(w.toMid)
	for j, ok := m.PollJob(); ok; j, ok = m.PollJob() {
		j.Run()
		m.HandleJob(w.now, j)
	}
	for _, ok := m.Table.PollReplay(); ok; _, ok = m.Table.PollReplay() {
	}
	for w.transmit(m.PollTransmit, w.addrs[idleMid]) {
		sent = true
	}
	return sent
}

// buffer returns memory for a datagram.
func (w *idleWorld) buffer() *[wire.DatagramSize]byte {
	if n := len(w.spare); n > 0 {
		b := w.spare[n-1]
		w.spare = w.spare[:n-1]
		return b
	}
	return new([wire.DatagramSize]byte)
}

// transmit takes one datagram from a sender, if it has one.
func (w *idleWorld) transmit(poll func(machine.Time, []byte) (netip.AddrPort, int, bool), from netip.AddrPort) bool {
	b := w.buffer()
	to, _, ok := poll(w.now, b[:])
	if !ok {
		w.spare = append(w.spare, b)
		return false
	}
	w.route(idleMail{from, to, b})
	return true
}

// route puts a datagram where it is picked up.
func (w *idleWorld) route(m idleMail) {
	switch m.to {
	case w.addrs[idleGate]:
		w.toGate = append(w.toGate, m)
	case w.addrs[idleMid]:
		w.toMid = append(w.toMid, m)
	default:
		w.toClients = append(w.toClients, m)
	}
}

func (w *idleWorld) recycle(mails []idleMail) []idleMail {
	for _, m := range mails {
		w.spare = append(w.spare, m.b)
	}
	return mails[:0]
}

// receive is a client's datagram: admission is answered with the route, a cell
// goes to the session.
func (w *idleWorld) receive(c *idleClient, m idleMail) {
	_, frame, ok := c.links.HandleDatagram(w.now, m.from, m.b[:])
	if !ok {
		return
	}
	switch {
	case wire.FrameType(frame[0]) == wire.FrameAdmission && c.route == nil:
		route, train, err := mix.Build(w.hops, wire.Fast, time.Hour, c.core.FirstFlight(), w.rng.Child("route "+c.addr.String()))
		if err != nil {
			w.err = err
			return
		}
		c.route = route
		for i := range wire.TrainFrames {
			w.push(c, func(f *wire.Frame) { train.Frame(i, f) })
		}
	case wire.FrameType(frame[0]) == wire.FrameBack && c.route != nil:
		back, ok := c.route.Open(w.now, frame)
		switch {
		case !ok || back.Kind != mix.BackPacket:
		case wire.SessionPacketKind(back.Packet) == wire.SessionRouteReady:
			c.core.AddPath(w.now, 0)
		default:
			c.core.HandlePacket(w.now, 0, back.Packet)
		}
	}
}

// work sends what a client has to send, and sets its timer.
func (w *idleWorld) work(c *idleClient) {
	for _, ok := c.core.PollEvent(); ok; _, ok = c.core.PollEvent() {
	}
	var packet [wire.SessionPacketSize]byte
	for c.route != nil && c.core.PollPacket(w.now, 0, packet[:]) {
		w.push(c, func(f *wire.Frame) { c.route.Seal(f, packet[:], 0) })
	}
	for _, ok := c.links.PollEvent(); ok; _, ok = c.links.PollEvent() {
	}
	for w.transmit(c.links.PollTransmit, c.addr) {
	}
	w.timers.Set(&c.timer, min(c.links.NextTimer(), c.core.NextTimer()))
}
