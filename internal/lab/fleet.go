package lab

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Fleet is Stream nodes and clients of which there are the sessions only: the
// real session cores of both ends, in the simulator, with a link in the place
// of routes. It is for what concerns sessions alone, in their tens of thousands.
type Fleet struct {
	Sim      *sim.Network
	Stations []*Station
	Crowd    *Crowd
}

// NewFleet builds a fleet under the run's seed. cost is of a Stream node: of
// each packet, and, as a job, of each HELLO.
func (r *Run) NewFleet(stations int, link sim.Link, cost sim.Cost, cfg func(station int) stream.Config) (*Fleet, error) {
	f := &Fleet{Sim: r.Network(link)}
	keys := r.Source(fmt.Sprint("fleet ", len(r.networks)))
	for i := range stations {
		var seed [seal.KEMSeedSize]byte
		keys.Stream(fmt.Sprint("station ", i)).Read(seed[:])
		static, err := seal.NewKEMPrivate(&seed)
		if err != nil {
			return nil, err
		}
		s := &Station{static: static, cfg: cfg(i)}
		s.Node = f.Sim.AddNode(sim.NodeConfig{Name: fmt.Sprint("station-", i), Addr: nodeAddr(streamNet, i), Cost: cost,
			New: func(_ machine.Time, rng prng.Source) machine.Machine { return s.start(rng) }})
		f.Stations = append(f.Stations, s)
	}
	f.Crowd = &Crowd{fleet: f}
	f.Sim.AddNode(sim.NodeConfig{Name: "crowd", Addr: nodeAddr(userNet, 0),
		New: func(_ machine.Time, rng prng.Source) machine.Machine { return f.Crowd.start(rng) }})
	f.Crowd.node = f.Sim.Node("crowd")
	return f, nil
}

// ends is what both kinds of machine are: sessions, each with a peer.
type ends[O any] struct {
	*session.Set[O]
	Counts trace.Counts

	at   func(O) netip.AddrPort
	over func(now machine.Time, m *session.Member[O], code uint64)
	app  func(now machine.Time, ev session.Event)
	now  *session.Member[O] // whose turn it is to send
	// spoil, if not nil, is given each packet that leaves.
	spoil func(packet []byte)
}

// handle gives a packet to its session.
func (e *ends[O]) handle(now machine.Time, b []byte) {
	m := e.Get(wire.SessionPacketID(b))
	if m == nil {
		e.Counts[trace.DropSessionUnknown]++
		return
	}
	m.Core.HandlePacket(now, 0, b)
	e.Touch(m)
	e.pass(now, m)
}

// pass tells the application, and ends a session that is over.
func (e *ends[O]) pass(now machine.Time, m *session.Member[O]) {
	for {
		ev, ok := e.Pass(m)
		if !ok {
			break
		}
		if ev.Kind == stream.Closed {
			e.Remove(m)
			e.over(now, m, ev.Code)
		}
	}
	for {
		ev, ok := e.PollEvent()
		if !ok {
			return
		}
		e.app(now, ev)
	}
}

// PollTransmit yields the next packet.
func (e *ends[O]) PollTransmit(now machine.Time, b []byte) (to netip.AddrPort, n int, ok bool) {
	for {
		if e.now == nil {
			if e.now, ok = e.Next(); !ok {
				return netip.AddrPort{}, 0, false
			}
		}
		m := e.now
		if m.Core.PollPacket(now, 0, b[:wire.SessionPacketSize]) {
			if e.spoil != nil {
				e.spoil(b[:wire.SessionPacketSize])
			}
			return e.at(m.Owner), wire.SessionPacketSize, true
		}
		e.now = nil
		e.pass(now, m)
		e.Settle(m)
	}
}

// PollJob and HandleJob are for machines without jobs.
func (e *ends[O]) PollJob() (machine.Job, bool) { return nil, false }

// HandleJob takes back nothing.
func (e *ends[O]) HandleJob(machine.Time, machine.Job) {}

// Station is a Stream node. It answers every request with what it got.
type Station struct {
	ends[netip.AddrPort]
	Node *sim.Node

	static   *seal.KEMPrivate
	cfg      stream.Config
	acceptor *stream.Acceptor
	parts    map[uint32]*stream.Assembly  // of HELLOs, by the client's id
	worked   map[[seal.HashSize]byte]bool // HELLOs: whether they were answered
	work     []machine.Job                // HELLOs to be answered
	refusals []refused
	open     map[session.Ref]*exchange
	spare    buffers
	messages int  // datagrams that came
	silent   bool // refusals are not told: a control
	buf      [wire.MaxDatagramSize]byte
}

type refused struct {
	to     netip.AddrPort
	packet [wire.SessionPacketSize]byte
}

// helloJob is a HELLO whose key work takes its time on the node's processor.
type helloJob struct {
	from   netip.AddrPort
	hello  []byte
	digest [seal.HashSize]byte
}

func (*helloJob) Run() {}

func (s *Station) start(rng prng.Source) machine.Machine {
	s.ends = ends[netip.AddrPort]{Set: session.NewSet[netip.AddrPort](), at: func(a netip.AddrPort) netip.AddrPort { return a },
		over: s.forget, app: s.serve}
	s.acceptor = stream.NewAcceptor(s.cfg, rng)
	s.worked = map[[seal.HashSize]byte]bool{}
	s.parts, s.open = map[uint32]*stream.Assembly{}, map[session.Ref]*exchange{}
	s.work, s.refusals = nil, nil
	return s
}

// SetKEM changes what the node takes, while its sessions go on.
func (s *Station) SetKEM(k seal.KEM) { s.acceptor.SetKEM(k) }

// HandleDatagram takes a session packet.
func (s *Station) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	if wire.SessionPacketKind(b) != wire.SessionHello {
		s.handle(now, b)
		return
	}
	id := wire.SessionPacketID(b)
	a := s.parts[id]
	if a == nil {
		a = &stream.Assembly{}
		s.parts[id] = a
	}
	hello, whole := a.Add(b)
	if !whole {
		return
	}
	delete(s.parts, id)
	digest := seal.Hash("lab hello", hello)
	switch answered, known := s.worked[digest]; {
	case !known:
		s.worked[digest] = false
		s.work = append(s.work, &helloJob{from, hello, digest})
	case answered: // a repetition costs no key work
		s.accept(now, from, hello)
	}
}

// PollJob yields a HELLO to be answered.
func (s *Station) PollJob() (machine.Job, bool) {
	if len(s.work) == 0 {
		return nil, false
	}
	j := s.work[0]
	s.work = s.work[1:]
	return j, true
}

// HandleJob answers a HELLO.
func (s *Station) HandleJob(now machine.Time, job machine.Job) {
	j := job.(*helloJob)
	s.worked[j.digest] = true
	s.accept(now, j.from, j.hello)
}

func (s *Station) accept(now machine.Time, from netip.AddrPort, hello []byte) {
	core, err := s.acceptor.Accept(now, wire.Fast, s.static, hello, &s.Counts)
	if refusal := (*stream.Refusal)(nil); errors.As(err, &refusal) {
		if !s.silent {
			s.refusals = append(s.refusals, refused{from, refusal.Packet})
		}
		return
	}
	if err != nil {
		s.Counts[trace.DropSessionMalformed]++
		return
	}
	m := s.Get(core.LocalID())
	if m == nil {
		m = s.Add(core, from)
		core.AddPath(now, 0)
	}
	s.Touch(m)
	s.pass(now, m)
}

// PollTransmit yields the next packet.
func (s *Station) PollTransmit(now machine.Time, b []byte) (netip.AddrPort, int, bool) {
	if len(s.refusals) > 0 {
		r := s.refusals[0]
		s.refusals = s.refusals[1:]
		return r.to, copy(b, r.packet[:]), true
	}
	return s.ends.PollTransmit(now, b)
}

func (s *Station) forget(_ machine.Time, m *session.Member[netip.AddrPort], _ uint64) {
	s.acceptor.Forget(m.Core)
	for ref := range s.open { // deletes only: the order reaches nothing
		if ref.Session == m.ID {
			delete(s.open, ref)
		}
	}
}

// serve answers what has come whole.
func (s *Station) serve(now machine.Time, ev session.Event) {
	x := s.open[ev.Ref]
	switch ev.Kind {
	case session.Opened:
		x = &exchange{in: s.spare.get(), out: s.spare.get()}
		s.open[ev.Ref] = x
	case session.Datagram:
		for {
			if _, err := s.ReadDatagram(now, ev.Ref, s.buf[:]); err != nil {
				return
			}
			s.messages++
		}
	}
	if x == nil {
		return
	}
	for !x.ended {
		n, err := x.take(now, s, ev.Ref)
		if errors.Is(err, io.EOF) {
			x.ended, x.out = true, append(x.out, x.in...)
		} else if err != nil || n == 0 {
			return
		}
	}
	flush(now, s, ev.Ref, x)
	if x.closed {
		s.spare.put(x)
		delete(s.open, ev.Ref)
	}
}

// Crowd is all clients of a fleet.
type Crowd struct {
	ends[*Caller]

	fleet *Fleet
	node  *sim.Node
	rng   prng.Source
	count int
	open  map[session.Ref]*exchange
	spare buffers
}

// Caller is one client's session.
type Caller struct {
	Core *stream.Session
	// Code is why the session has ended, and Over says that it has.
	Code wire.Code
	Over bool

	crowd  *Crowd
	member *session.Member[*Caller]
	to     netip.AddrPort
}

func (c *Crowd) start(rng prng.Source) machine.Machine {
	c.ends = ends[*Caller]{Set: session.NewSet[*Caller](), at: func(o *Caller) netip.AddrPort { return o.to }, over: c.ended, app: c.step}
	c.rng, c.open = rng, map[session.Ref]*exchange{}
	return c
}

// HandleDatagram takes a session packet.
func (c *Crowd) HandleDatagram(now machine.Time, _ netip.AddrPort, b []byte) { c.handle(now, b) }

func (c *Crowd) ended(_ machine.Time, m *session.Member[*Caller], code uint64) {
	m.Owner.Code, m.Owner.Over = wire.Code(code), true
}

// Call begins a session with a Stream node. It may be called at any virtual
// time outside of a machine's step.
func (f *Fleet) Call(to *Station, cfg stream.Config) (o *Caller) {
	c := f.Crowd
	f.Sim.Do(c.node, func(now machine.Time) {
		for o == nil { // connection ids of one machine must differ
			c.count++
			core, err := stream.Dial(now, cfg, to.static.Public(), c.rng.Child(fmt.Sprint("caller ", c.count)), &c.Counts)
			if err != nil {
				panic("lab: the fleet cannot dial: " + err.Error())
			}
			if c.Get(core.LocalID()) == nil {
				o = &Caller{Core: core, crowd: c, to: to.Node.Addr()}
				o.member = c.Add(core, o)
				core.AddPath(now, 0)
			}
		}
	})
	return o
}

// Ask sends a request on a stream of its own and calls done once: whether the
// answer came. A session that ends in between answers nothing; who asks keeps a
// limit of its own.
func (o *Caller) Ask(body []byte, done func(now machine.Time)) {
	c := o.crowd
	c.fleet.Sim.Do(c.node, func(now machine.Time) {
		id, err := o.Core.OpenStream(now, stream.PriorityNormal)
		if err != nil {
			return
		}
		ref := session.Ref{Session: o.member.ID, Stream: id}
		x := &exchange{in: c.spare.get(), out: append(c.spare.get(), body...), ended: true,
			done: func(now machine.Time, _ []byte, _ error) { done(now) }}
		c.open[ref] = x
		flush(now, c, ref, x)
		c.Touch(o.member)
	})
}

// Do runs f with the session, as its application would.
func (o *Caller) Do(f func(now machine.Time, core *stream.Session)) {
	c := o.crowd
	c.fleet.Sim.Do(c.node, func(now machine.Time) {
		f(now, o.Core)
		c.Touch(o.member)
	})
}

func (c *Crowd) step(now machine.Time, ev session.Event) {
	x := c.open[ev.Ref]
	if x == nil {
		return
	}
	if ev.Kind == session.Writable {
		flush(now, c, ev.Ref, x)
		return
	}
	for {
		n, err := x.take(now, c, ev.Ref)
		if errors.Is(err, io.EOF) {
			delete(c.open, ev.Ref)
			x.done(now, x.in, nil)
			c.spare.put(x)
			return
		}
		if err != nil || n == 0 {
			return
		}
	}
}

// answerWithin is by when a request of a fleet must have its answer.
const answerWithin = 10 * time.Second
