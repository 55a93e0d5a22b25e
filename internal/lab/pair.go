package lab

import (
	"encoding/binary"
	"errors"
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

// pair is one session between two nodes of a simulated network with nothing
// between them: for scenarios of the Stream layer. The client asks for answers,
// each on a stream of its own, and the server gives them.
type pair struct {
	net            *sim.Network
	client, server *end
}

// end is one end of a pair, a machine (see machine.Machine).
type end struct {
	*session.Set[struct{}]
	Node   *sim.Node
	counts trace.Counts

	member  *session.Member[struct{}]
	peer    netip.AddrPort
	serves  bool
	fetches map[uint64]*fetch
	buf     [64 << 10]byte
}

// fetch is one answer at one end.
type fetch struct {
	head []byte // of the request, at the server
	left int    // bytes of the answer that were not written
	got  int    // bytes that were read, at the client
	done func(now machine.Time, got int)
}

// newPair starts a session over a link, both ends with cfg.
func (r *Run) newPair(cfg stream.Config, link sim.Link) (*pair, error) {
	p := &pair{net: r.Network(link), client: &end{}, server: &end{serves: true}}
	key, err := seal.NewKEMPrivate(&[seal.KEMSeedSize]byte{1})
	if err != nil {
		return nil, err
	}
	rng := r.Source("pair")
	core, err := stream.Dial(0, cfg, key.Public(), rng.Child("client"), &p.client.counts)
	if err != nil {
		return nil, err
	}
	answer, err := stream.NewAcceptor(cfg, rng.Child("server")).Accept(0, cfg.Level, key, core.FirstFlight(), &p.server.counts)
	if err != nil {
		return nil, err
	}
	at := [2]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1")}
	for i, e := range []*end{p.client, p.server} {
		e.Set, e.fetches, e.peer = session.NewSet[struct{}](), map[uint64]*fetch{}, at[1-i]
		e.member = e.Add([]*stream.Session{core, answer}[i], struct{}{})
		e.core().AddPath(0, 0)
	}
	for i, e := range []*end{p.client, p.server} {
		e.Node = p.net.AddNode(sim.NodeConfig{Name: []string{"client", "server"}[i], Addr: at[i],
			New: func(machine.Time, prng.Source) machine.Machine { return e }})
		e.Node.OnStep(e.step)
	}
	p.net.RunFor(time.Second)
	if !core.Established() {
		return nil, errors.New("lab: the session of a pair does not come about")
	}
	return p, nil
}

func (e *end) core() *stream.Session { return e.member.Core }

func (e *end) ref(id uint64) session.Ref { return session.Ref{Session: e.member.ID, Stream: id} }

// fetch asks for an answer of a size on a stream of a lane, and calls done, once,
// when it is whole. It returns the stream, or false if there is no room for one.
func (p *pair) fetch(l stream.Lane, size int, done func(now machine.Time, got int)) (id uint64, ok bool) {
	e := p.client
	p.net.Do(e.Node, func(now machine.Time) {
		var err error
		if id, err = e.core().OpenStream(now, l); err != nil {
			return
		}
		ok = true
		e.fetches[id] = &fetch{done: done}
		ref := e.ref(id)
		e.Write(now, ref, binary.BigEndian.AppendUint32(nil, uint32(size)))
		e.CloseWrite(now, ref)
	})
	return id, ok
}

// step hands on what the session tells.
func (e *end) step(now machine.Time) {
	for {
		ev, ok := e.PollEvent()
		if !ok {
			return
		}
		f := e.fetches[ev.Ref.Stream]
		switch {
		case ev.Kind == session.Opened && e.fetches == nil:
		case ev.Kind == session.Opened: // by the server: what nobody asked for is read and dropped
			e.fetches[ev.Ref.Stream] = &fetch{done: func(machine.Time, int) {}}
		case ev.Kind == session.Closed:
			delete(e.fetches, ev.Ref.Stream)
		case f == nil:
		case ev.Kind == session.Readable && e.serves:
			e.hear(now, ev.Ref, f)
		case ev.Kind == session.Readable:
			e.take(now, ev.Ref, f)
		case ev.Kind == session.Writable:
			e.give(now, ev.Ref, f)
		}
	}
}

// hear reads a request.
func (e *end) hear(now machine.Time, ref session.Ref, f *fetch) {
	for {
		n, err := e.Read(now, ref, e.buf[:])
		f.head = append(f.head, e.buf[:n]...)
		if errors.Is(err, io.EOF) && len(f.head) == 4 {
			f.left = int(binary.BigEndian.Uint32(f.head))
			e.give(now, ref, f)
		}
		if err != nil {
			return
		}
	}
}

// give writes what the stream takes of an answer.
func (e *end) give(now machine.Time, ref session.Ref, f *fetch) {
	for f.left > 0 {
		n, err := e.Write(now, ref, e.buf[:min(f.left, len(e.buf))])
		if f.left -= n; err != nil {
			return
		}
	}
	e.CloseWrite(now, ref)
}

// take reads an answer.
func (e *end) take(now machine.Time, ref session.Ref, f *fetch) {
	for {
		n, err := e.Read(now, ref, e.buf[:])
		f.got += n
		if errors.Is(err, io.EOF) {
			f.done(now, f.got)
		}
		if err != nil {
			return
		}
	}
}

// HandleDatagram takes a session packet.
func (e *end) HandleDatagram(now machine.Time, _ netip.AddrPort, b []byte) {
	e.core().HandlePacket(now, 0, b)
	e.Touch(e.member)
	e.pass()
}

func (e *end) pass() {
	for own := true; own; {
		_, own = e.Pass(e.member)
	}
}

// PollTransmit yields the next session packet.
func (e *end) PollTransmit(now machine.Time, b []byte) (netip.AddrPort, int, bool) {
	e.Next()
	sent := e.core().PollPacket(now, 0, b[:wire.SessionPacketSize])
	e.pass()
	e.Settle(e.member)
	return e.peer, wire.SessionPacketSize, sent
}

// PollJob yields nothing.
func (e *end) PollJob() (machine.Job, bool) { return nil, false }

// HandleJob takes back nothing.
func (e *end) HandleJob(machine.Time, machine.Job) {}
