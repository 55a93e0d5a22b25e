package bench

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/relay"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/session"
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
	// idleStrangers is far below the number of sessions: a node that took
	// admitted clients for strangers would lose most of them.
	idleStrangers = 64
)

// idleWorld is one Stream node, one Mix node, and clients reduced to what keeps
// a session alive: a link, a route and the session's core. The route of each
// goes from the Stream node through the Mix node back to the Stream node.
// Datagrams arrive at once; time moves in steps of idleStep.
type idleWorld struct {
	gate    *gateway.Gateway
	mid     *relay.Relay
	keys    map[wire.NodeID]*seal.KEMPrivate
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

	gateCPU       time.Duration
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

func newIdleWorld() (*idleWorld, error) {
	w := &idleWorld{rng: prng.FromUint64(1), keys: map[wire.NodeID]*seal.KEMPrivate{}, addrs: map[wire.NodeID]netip.AddrPort{}}
	onions := map[wire.NodeID]*seal.KEMPrivate{}
	for _, id := range []wire.NodeID{idleGate, idleMid} {
		label := fmt.Sprint("node ", id[0])
		var err error
		if w.keys[id], err = benchKEM(w.rng, label); err != nil {
			return nil, err
		}
		if onions[id], err = benchKEM(w.rng, label+" onion"); err != nil {
			return nil, err
		}
		w.addrs[id] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, id[0]}), 1)
	}
	node := func(id wire.NodeID) hop.Config {
		return hop.Config{Self: id, Static: w.keys[id], Onion: onions[id], Neighbours: w.neighbour}
	}
	gate := node(idleGate)
	gate.StrangersMax = idleStrangers
	w.gate = gateway.New(gateway.Config{Hop: gate, Policy: control.Policy{Lifetime: 24 * time.Hour}, Fleet: &seal.Key{}}, w.rng.Child("gate"))
	w.mid = relay.New(node(idleMid), w.rng.Child("mid"))
	for _, id := range []wire.NodeID{idleGate, idleMid, idleGate} {
		w.hops = append(w.hops, mix.HopSpec{ID: id, Onion: onions[id].Public()})
	}
	return w, nil
}

func (w *idleWorld) neighbour(id wire.NodeID) (*seal.KEMPublic, netip.AddrPort, bool) {
	k := w.keys[id]
	if k == nil {
		return nil, netip.AddrPort{}, false
	}
	return k.Public(), w.addrs[id], true
}

// letGo leaves the Stream node alone with what it holds.
func (w *idleWorld) letGo() {
	w.mid, w.clients, w.touched, w.timers = nil, nil, nil, machine.Timers[*idleClient]{}
	w.toGate, w.toMid, w.toClients, w.spare, w.pool = nil, nil, nil, nil, wire.Pool{}
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
func (w *idleWorld) run(until machine.Time) {
	for w.err == nil {
		w.settle()
		next := min(w.gate.NextTimer(), w.mid.NextTimer(), w.timers.Next())
		next = max(w.now, (next+machine.Time(idleStep)-1)/machine.Time(idleStep)*machine.Time(idleStep))
		if next > until {
			w.now = until
			return
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
		begun := cpuTime()
		w.gate.HandleTimer(w.now)
		w.gateCPU += cpuTime() - begun
	}
}

// settle carries datagrams until nobody has any.
func (w *idleWorld) settle() {
	for moved := true; moved; {
		moved = len(w.touched)+len(w.toGate)+len(w.toMid)+len(w.toClients) > 0
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
		drive(w, w.mid, w.addrs[idleMid], &w.toMid)
		w.gateDatagrams += uint64(len(w.toGate))
		begun := cpuTime()
		sent := drive(w, w.gate, w.addrs[idleGate], &w.toGate)
		w.gateCPU += cpuTime() - begun
		w.gateDatagrams += uint64(sent)
		moved = moved || sent > 0
	}
}

// drive gives a node what waits for it, and takes what it sends.
func drive(w *idleWorld, m machine.Machine, self netip.AddrPort, in *[]idleMail) (sent int) {
	for _, mail := range *in {
		m.HandleDatagram(w.now, mail.from, mail.b[:])
	}
	*in = w.recycle(*in)
	for {
		j, ok := m.PollJob()
		if !ok {
			break
		}
		j.Run()
		m.HandleJob(w.now, j)
	}
	switch node := m.(type) {
	case *gateway.Gateway:
		for _, ok := node.Table.PollReplay(); ok; _, ok = node.Table.PollReplay() {
		}
		for ev, ok := node.PollEvent(); ok; ev, ok = node.PollEvent() {
			if ev.Kind == session.Opened || ev.Kind == session.Readable {
				var b [64]byte
				node.Read(w.now, ev.Ref, b[:])
			}
		}
	case *relay.Relay:
		for _, ok := node.Table.PollReplay(); ok; _, ok = node.Table.PollReplay() {
		}
	}
	for w.transmit(m.PollTransmit, self) {
		sent++
	}
	return sent
}

// transmit takes one datagram from a sender, if it has one.
func (w *idleWorld) transmit(poll func(machine.Time, []byte) (netip.AddrPort, int, bool), from netip.AddrPort) bool {
	if len(w.spare) == 0 {
		w.spare = append(w.spare, new([wire.DatagramSize]byte))
	}
	b := w.spare[len(w.spare)-1]
	to, _, ok := poll(w.now, b[:])
	if !ok {
		return false
	}
	w.spare = w.spare[:len(w.spare)-1]
	m := idleMail{from, to, b}
	switch to {
	case w.addrs[idleGate]:
		w.toGate = append(w.toGate, m)
	case w.addrs[idleMid]:
		w.toMid = append(w.toMid, m)
	default:
		w.toClients = append(w.toClients, m)
	}
	return true
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
