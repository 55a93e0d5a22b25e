package lab

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/wire"
)

// A request of the lab is one stream: the client writes a target and a body
// and ends its direction; the service behind the exit answers with a status
// and a body, and ends the other.

// Service is what stands behind an exit, or what a user offers (User.Serve).
type Service struct {
	// Answer makes the answer to a request. body is borrowed.
	Answer func(now machine.Time, body []byte) []byte
	// Arrived, if not nil, is told when bytes of a request have come, as who
	// watches the target sees them: the body so far, borrowed, and how many
	// of its bytes are new.
	Arrived func(now machine.Time, body []byte, fresh int)
	// Message takes a datagram of a stream's flow; nil drops it.
	Message func(now machine.Time, b []byte)

	hold func(now machine.Time, ev session.Event) bool // has an event wait for release; nil: none does
	held []session.Event

	open  map[session.Ref]*exchange
	spare buffers
	buf   [wire.MaxMessageSize]byte // of a flow's datagrams and messages
}

// Echo answers with the request's body.
func Echo(_ machine.Time, body []byte) []byte { return append([]byte(nil), body...) }

// exchange is one stream at one end: what came in so far, what waits to go out.
type exchange struct {
	in     []byte
	out    []byte
	sent   int  // bytes of out that were written
	target bool // the target was read (service)
	ended  bool // the whole answer is in out (service), or the request (client)
	closed bool // CloseWrite was called
	done   func(now machine.Time, answer []byte, err error)
}

// readSize is what one read of a stream asks for.
const readSize = 16 << 10

// take reads what a stream has, once, to the end of in.
func (x *exchange) take(now machine.Time, core session.Streams, ref session.Ref) (n int, err error) {
	have := len(x.in)
	x.in = slices.Grow(x.in, readSize)
	n, err = core.Read(now, ref, x.in[have:have+readSize])
	x.in = x.in[:have+n]
	return n, err
}

// buffers are what exchanges leave to later ones: bulk would otherwise have the
// collector run for its 64 KiB a request.
type buffers [][]byte

// buffersMax bounds what is kept for exchanges to come.
const buffersMax = 64

func (b *buffers) get() []byte {
	last := len(*b) - 1
	if last < 0 {
		return nil
	}
	buf := (*b)[last]
	*b = (*b)[:last]
	return buf
}

func (b *buffers) put(x *exchange) {
	for _, buf := range [...][]byte{x.in, x.out} {
		if cap(buf) > 0 && len(*b) < buffersMax {
			*b = append(*b, buf[:0])
		}
	}
	x.in, x.out = nil, nil
}

// Open is how many requests are being served: at an exit, connections to targets.
func (s *Service) Open() int { return len(s.open) }

func (s *Service) reset() { s.open, s.held = map[session.Ref]*exchange{}, nil }

// step serves what became possible.
func (s *Service) step(now machine.Time, core *gateway.Gateway) {
	for {
		ev, ok := core.PollEvent()
		if !ok {
			return
		}
		s.take(now, core, ev)
	}
}

func (s *Service) take(now machine.Time, core session.Streams, ev session.Event) {
	if s.hold != nil && s.hold(now, ev) {
		s.held = append(s.held, ev)
		return
	}
	s.handle(now, core, ev)
}

// release serves what was held, as far as nothing holds it any more.
func (s *Service) release(now machine.Time, core session.Streams) {
	held := s.held
	s.held = nil
	for _, ev := range held {
		s.take(now, core, ev)
	}
}

func (s *Service) handle(now machine.Time, core session.Streams, ev session.Event) {
	switch ev.Kind {
	case session.Opened:
		x := &exchange{in: s.spare.get(), out: s.spare.get()}
		s.open[ev.Ref] = x
		s.serve(now, core, ev.Ref, x)
	case session.Readable:
		if x := s.open[ev.Ref]; x != nil { // nil: answered in an earlier step
			s.serve(now, core, ev.Ref, x)
		}
	case session.Writable:
		if x := s.open[ev.Ref]; x != nil {
			s.flush(now, core, ev.Ref, x)
		}
	case session.Datagram:
		s.messages(now, core, ev.Ref)
	case session.Closed:
		if ev.Ref.Stream == session.AllStreams {
			for ref := range s.open { // deletes only: the order reaches nothing
				if ref.Session == ev.Ref.Session {
					delete(s.open, ref)
				}
			}
		}
		delete(s.open, ev.Ref)
	}
}

func (s *Service) serve(now machine.Time, core session.Streams, ref session.Ref, x *exchange) {
	s.read(now, core, ref, x)
	s.flush(now, core, ref, x)
}

func (s *Service) read(now machine.Time, core session.Streams, ref session.Ref, x *exchange) {
	for !x.ended {
		n, err := x.take(now, core, ref)
		if !x.target {
			_, used, ok := wire.ParseTarget(x.in)
			if !ok {
				core.Abort(now, ref, 1)
				delete(s.open, ref)
				return
			}
			if used > 0 {
				x.target, x.in = true, x.in[:copy(x.in, x.in[used:])]
				x.out = append(x.out, byte(wire.StatusOK))
				n = len(x.in)
			}
		}
		if s.Arrived != nil && x.target && n > 0 && len(x.in) > 0 {
			s.Arrived(now, x.in, n)
		}
		switch {
		case errors.Is(err, io.EOF):
			x.ended = true
			x.out = append(x.out, s.Answer(now, x.in)...)
		case err != nil || n == 0:
			return
		}
	}
}

func (s *Service) flush(now machine.Time, core session.Streams, ref session.Ref, x *exchange) {
	flush(now, core, ref, x)
	if x.closed {
		s.spare.put(x)
		delete(s.open, ref)
	}
}

// flush writes what waits, and ends the direction after the last byte.
func flush(now machine.Time, core session.Streams, ref session.Ref, x *exchange) {
	for x.sent < len(x.out) {
		n, err := core.Write(now, ref, x.out[x.sent:])
		x.sent += n
		if err != nil || n == 0 {
			return
		}
	}
	if x.ended && !x.closed {
		x.closed = true
		core.CloseWrite(now, ref)
	}
}

func (s *Service) messages(now machine.Time, core session.Streams, ref session.Ref) {
	for {
		n, err := core.ReadDatagram(now, ref, s.buf[:])
		if err != nil {
			return
		}
		if s.Message != nil {
			s.Message(now, s.buf[:n])
		}
	}
}

// User is a client with an application beside it.
type User struct {
	Node *sim.Node
	// Host is the target of its requests; empty: "service.lab".
	Host string
	// Arrived, if not nil, is told when bytes of an answer have come, and how many.
	Arrived func(now machine.Time, fresh int)

	net    *Network
	open   map[session.Ref]*exchange
	spare  buffers
	offers *Service     // what it serves to callers; nil: nothing
	key    *service.Key // of that
}

// Core returns the running machine, or nil after a crash.
func (u *User) Core() *client.Client {
	m, _ := u.Node.Machine().(*client.Client)
	return m
}

// forget drops the application's state with the machine's.
func (u *User) forget() {
	u.open = map[session.Ref]*exchange{}
	if u.offers != nil {
		u.offers.reset()
	}
}

var (
	// ErrEnded means that a stream or its session ended before the answer.
	ErrEnded = errors.New("lab: the stream ended before the answer")
	// ErrRefused means that the exit answered with another status than OK.
	ErrRefused = errors.New("lab: the exit refused the request")
)

// Ask sends a request in the session of an isolation key, and calls done once,
// with the answer, which is borrowed, or with why there is none. It may be
// called at any virtual time outside of a machine's step.
func (u *User) Ask(isolation string, body []byte, done func(now machine.Time, answer []byte, err error)) {
	u.ask(func(now machine.Time) (session.Ref, error) { return u.Core().Open(now, isolation, u.target(wire.TCP)) }, body, done)
}

func (u *User) ask(open func(machine.Time) (session.Ref, error), body []byte, done func(now machine.Time, answer []byte, err error)) {
	u.net.Sim.Do(u.Node, func(now machine.Time) {
		ref, err := open(now)
		if err != nil {
			done(now, nil, err)
			return
		}
		x := &exchange{in: u.spare.get(), out: append(u.spare.get(), body...), ended: true, done: done}
		u.open[ref] = x
		flush(now, u.Core(), ref, x)
	})
}

func (u *User) target(network wire.Network) wire.Target {
	return wire.Target{Network: network, Host: cmp.Or(u.Host, "service.lab"), Port: 80}
}

// Flow opens a stream for datagrams in the session of an isolation key. send
// passes one datagram, once, or a message if it is larger than one packet; it
// may be called at any time after established.
func (u *User) Flow(isolation string, established func(now machine.Time, send func(now machine.Time, b []byte) error)) {
	u.net.Sim.Do(u.Node, func(now machine.Time) {
		ref, err := u.Core().Open(now, isolation, u.target(wire.UDP))
		if err != nil {
			return
		}
		send := func(now machine.Time, b []byte) error {
			if len(b) > wire.MaxDatagramSize {
				return u.Core().SendMessage(now, ref, b)
			}
			return u.Core().SendDatagram(now, ref, b)
		}
		// The status is the sign that the stream stands; this side stays open.
		u.open[ref] = &exchange{target: true, done: func(now machine.Time, _ []byte, err error) {
			if err == nil {
				established(now, send)
			}
		}}
	})
}

// step hands answers over.
func (u *User) step(now machine.Time) {
	core := u.Core()
	for {
		ev, ok := core.PollEvent()
		if !ok {
			return
		}
		x := u.open[ev.Ref]
		switch {
		case ev.Kind == session.Closed && ev.Ref.Stream == session.AllStreams:
			u.endSession(now, ev.Ref.Session)
			if u.offers != nil {
				u.offers.handle(now, core, ev)
			}
		case x == nil && u.offers != nil:
			u.offers.handle(now, core, ev)
		case x == nil:
		case ev.Kind == session.Readable:
			u.read(now, core, ev.Ref, x)
		case ev.Kind == session.Writable:
			flush(now, core, ev.Ref, x)
		case ev.Kind == session.Closed:
			u.finish(now, ev.Ref, x, nil, ErrEnded)
		}
	}
}

func (u *User) read(now machine.Time, core *client.Client, ref session.Ref, x *exchange) {
	for {
		n, err := x.take(now, core, ref)
		if u.Arrived != nil && n > 0 {
			u.Arrived(now, n)
		}
		switch {
		case x.target && len(x.in) > 0: // a flow: the status is all
			u.finish(now, ref, x, nil, nil)
			return
		case errors.Is(err, io.EOF) && len(x.in) > 0 && x.in[0] == byte(wire.StatusOK):
			u.finish(now, ref, x, x.in[1:], nil)
			return
		case errors.Is(err, io.EOF):
			u.finish(now, ref, x, nil, ErrRefused)
			return
		case errors.Is(err, stream.ErrWouldBlock):
			return
		case err != nil:
			u.finish(now, ref, x, nil, err)
			return
		}
	}
}

func (u *User) finish(now machine.Time, ref session.Ref, x *exchange, answer []byte, err error) {
	delete(u.open, ref)
	x.done(now, answer, err)
	u.spare.put(x)
}

// endSession fails what was open in a session, in the order of its streams.
func (u *User) endSession(now machine.Time, id uint32) {
	var refs []session.Ref
	for ref := range u.open {
		if ref.Session == id {
			refs = append(refs, ref)
		}
	}
	slices.SortFunc(refs, func(a, b session.Ref) int { return cmp.Compare(a.Stream, b.Stream) })
	for _, ref := range refs {
		u.finish(now, ref, u.open[ref], nil, ErrEnded)
	}
}

// Pending is the number of requests without an answer.
func (u *User) Pending() int { return len(u.open) }

// Poisson calls f at the times of a Poisson process from now until end, with
// the number of the call. The times depend on the seed and the label alone.
func (w *Network) Poisson(label string, perSecond float64, end machine.Time, f func(now machine.Time, i int)) {
	poissonTimes(w.Sim, w.Sim.Rand(label), perSecond, end, f)
}

// poissonTimes is Poisson with randomness of the caller's, so that two networks can have
// the same load.
func poissonTimes(net *sim.Network, rng *prng.Stream, perSecond float64, end machine.Time, f func(now machine.Time, i int)) {
	mean := time.Duration(float64(time.Second) / perSecond)
	i := 0
	var next func(machine.Time)
	next = func(now machine.Time) {
		f(now, i)
		i++
		if at := now.Add(rng.Exp(mean)); at < end {
			net.At(at, next)
		}
	}
	net.At(net.Now().Add(rng.Exp(mean)), next)
}
