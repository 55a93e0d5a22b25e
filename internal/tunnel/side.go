// Package tunnel gives the streams of a running machine to ordinary code: as
// net.Conn, and as flows of datagrams.
//
// A Side belongs to one drive.Host. Its connections may be used by any number
// of goroutines; every call into the machine is made under the Host's lock.
package tunnel

import (
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/session"
)

// Machine is a machine with streams: a client or a gateway.
type Machine interface {
	machine.Machine
	session.Streams
	PollEvent() (session.Event, bool)
}

// Side is the application's side of one machine.
type Side struct {
	host    *drive.Host
	machine Machine
	conns   map[session.Ref]*Conn // under the host's lock
	opened  func(*Conn)
}

// NewSide returns the side of a machine. opened, if not nil, is given every
// stream that the peer opens, on a goroutine of the host: it must not block.
// AfterRound must be the host's hook, and Attach be called once it runs.
func NewSide(m Machine, opened func(*Conn)) *Side {
	return &Side{machine: m, conns: map[session.Ref]*Conn{}, opened: opened}
}

// Attach tells the side its host. No connection exists before.
func (s *Side) Attach(h *drive.Host) { s.host = h }

// AfterRound passes on what the machine has to tell. It runs with the host's
// lock held.
func (s *Side) AfterRound(machine.Time) {
	for {
		ev, ok := s.machine.PollEvent()
		if !ok {
			return
		}
		switch {
		case ev.Kind == session.Closed && ev.Ref.Stream == session.AllStreams:
			s.sessionEnded(ev.Ref.Session)
		case ev.Kind == session.Opened:
			if s.opened != nil && s.conns[ev.Ref] == nil {
				s.opened(s.adopt(ev.Ref))
			}
		default:
			if c := s.conns[ev.Ref]; c != nil {
				c.notify(ev.Kind)
			}
		}
	}
}

func (s *Side) sessionEnded(id uint32) {
	for ref, c := range s.conns {
		if ref.Session == id {
			c.notify(session.Closed)
		}
	}
}

// adopt makes the connection of a stream. The host's lock is held.
func (s *Side) adopt(ref session.Ref) *Conn {
	c := newConn(s, ref)
	s.conns[ref] = c
	return c
}

// Open runs open, which opens a stream of the machine, and returns the stream
// as a connection.
func (s *Side) Open(open func(now machine.Time) (session.Ref, error)) (*Conn, error) {
	var c *Conn
	var err error
	if !s.host.Do(func(now machine.Time) {
		var ref session.Ref
		if ref, err = open(now); err == nil {
			c = s.adopt(ref)
		}
	}) {
		return nil, ErrStopped
	}
	return c, err
}

// Len is the number of open connections.
func (s *Side) Len() (n int) {
	s.host.Do(func(machine.Time) { n = len(s.conns) })
	return n
}
