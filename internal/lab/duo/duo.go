// Package duo runs the two ends of one session as machines on an in-memory
// network, with nothing between them, so that what stands on streams can be
// tried without links, routes and sockets.
package duo

import (
	"net/netip"

	"github.com/nyxnet/nyx/internal/carrier/mem"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

// End is one end: a machine (see machine.Machine) with one session.
type End struct {
	*session.Set[struct{}]
	Side *tunnel.Side
	Host *drive.Host

	member *session.Member[struct{}]
	peer   netip.AddrPort
	counts trace.Counts
}

// Pair is a session between two hosts. The Client opens streams.
type Pair struct {
	Client, Server *End
}

// New starts a pair. served is given each stream that the client opens.
func New(cfg stream.Config, served func(*tunnel.Conn)) (*Pair, error) {
	return NewSeeded(1, cfg, served)
}

// NewSeeded starts a pair with a seed of its own, so that one server can be
// told of several sessions.
func NewSeeded(seed uint64, cfg stream.Config, served func(*tunnel.Conn)) (*Pair, error) {
	key, err := seal.NewKEMPrivate(&[seal.KEMSeedSize]byte{1})
	if err != nil {
		return nil, err
	}
	at := [2]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1")}
	p := &Pair{Client: &End{peer: at[1]}, Server: &End{peer: at[0]}}
	core, err := stream.Dial(0, cfg, key.Public(), prng.FromUint64(2*seed-1), &p.Client.counts)
	if err != nil {
		return nil, err
	}
	answer, err := stream.NewAcceptor(cfg, prng.FromUint64(2*seed)).Accept(0, cfg.Level, key, core.FirstFlight(), &p.Server.counts)
	if err != nil {
		return nil, err
	}
	network := &mem.Network{}
	clock := drive.NewClock()
	for i, e := range []*End{p.Client, p.Server} {
		e.Set = session.NewSet[struct{}]()
		e.member = e.Add([]*stream.Session{core, answer}[i], struct{}{})
		e.member.Core.AddPath(0, 0)
		e.Side = tunnel.NewSide(e, []func(*tunnel.Conn){nil, served}[i])
		conn, err := network.Listen(at[i])
		if err != nil {
			return nil, err
		}
		if e.Host, err = drive.Start(drive.Config{Name: "end", Machine: e, Carrier: conn, Clock: clock,
			AfterRound: e.Side.AfterRound}); err != nil {
			return nil, err
		}
		e.Side.Attach(e.Host)
	}
	p.Client.Host.Wake()
	return p, nil
}

// Close stops both ends.
func (p *Pair) Close() {
	p.Client.Host.Close()
	p.Server.Host.Close()
}

// Open opens a stream with a first message, as a client opens one with its
// request.
func (p *Pair) Open(first []byte) (*tunnel.Conn, error) {
	e := p.Client
	return e.Side.Open(func(now machine.Time) (session.Ref, error) {
		id, err := e.member.Core.OpenStream(now, stream.PriorityNormal)
		if err != nil {
			return session.Ref{}, err
		}
		e.Touch(e.member)
		ref := session.Ref{Session: e.member.ID, Stream: id}
		_, err = e.Write(now, ref, first)
		return ref, err
	})
}

// Lane is the lane in which this end has a connection.
func (e *End) Lane(c *tunnel.Conn) (l stream.Lane, err error) {
	e.Host.Do(func(machine.Time) { l, _, err = e.member.Core.Lane(c.Ref().Stream) })
	return l, err
}

// End ends the session.
func (p *Pair) End() {
	p.Client.Host.Do(func(now machine.Time) {
		p.Client.member.Core.Close(now, wire.CodeNone, "")
		p.Client.Touch(p.Client.member)
	})
}

// HandleDatagram takes a session packet.
func (e *End) HandleDatagram(now machine.Time, _ netip.AddrPort, b []byte) {
	e.member.Core.HandlePacket(now, 0, b)
	e.Touch(e.member)
	e.pass()
}

func (e *End) pass() {
	for {
		ev, ok := e.Pass(e.member)
		if !ok {
			return
		}
		if ev.Kind == stream.Closed {
			e.Set.End(e.member)
		}
	}
}

// PollTransmit yields the next session packet.
func (e *End) PollTransmit(now machine.Time, b []byte) (netip.AddrPort, int, bool) {
	e.Next()
	sent := e.member.Core.PollPacket(now, 0, b[:wire.SessionPacketSize])
	e.pass()
	e.Settle(e.member)
	return e.peer, wire.SessionPacketSize, sent
}

// PollJob yields nothing.
func (e *End) PollJob() (machine.Job, bool) { return nil, false }

// HandleJob takes back nothing.
func (e *End) HandleJob(machine.Time, machine.Job) {}
