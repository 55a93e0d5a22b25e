package front

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Why a Listener turned a connection away.
const (
	// NoRoom says that there were too many, in all or of its address.
	NoRoom = "connections"
	// Silent says that it ended without a whole request: its handshake or its first
	// request was broken, or too slow, or never came.
	Silent = "silent"
)

// answerMax bounds the time in which Answer is written: it fits the socket's buffer.
const answerMax = time.Second

// Listener takes the connections for which its limits have room.
type Listener struct {
	net.Listener
	Limits *Limits
	// Answer is written to a connection for which there is no room before it is closed;
	// nil: nothing is.
	Answer []byte
	// Turned is told why a connection was turned away, not whose it was; nil: nobody is.
	// It is called by several goroutines. Silent is told where the server is watched.
	Turned func(why string)
	// Yields has the connection that came first of those that are not Known give way to one
	// for which there is no room in all: who has used up what an address may have displaces
	// nobody. It wants a watched server.
	Yields bool

	watched atomic.Bool
	mu      sync.Mutex
	unknown list.List // of *Conn, where they yield: the oldest first
}

// Accept returns the next connection for which there is room, a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var from net.TCPAddr
		if at, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			from = *at
		}
		if visit := l.visit(from.AddrPort().Addr()); visit != nil {
			return l.add(&Conn{Conn: c, visit: visit, of: l}), nil
		}
		l.turn(NoRoom)
		if l.Answer != nil {
			c.SetDeadline(time.Now().Add(answerMax))
			c.Write(l.Answer)
		}
		c.Close()
	}
}

// visit counts a connection from an address, which another one may have to yield to.
func (l *Listener) visit(a netip.Addr) *Visit {
	v, full := l.Limits.take(a)
	if full && l.yield() {
		v, _ = l.Limits.take(a)
	}
	if v == nil {
		l.Limits.seen.refused.Add(1)
	}
	return v
}

func (l *Listener) turn(why string) {
	if l.Turned != nil {
		l.Turned(why)
	}
}

// add notes a connection of which nothing is known.
func (l *Listener) add(c *Conn) *Conn {
	if l.Yields {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.place = l.unknown.PushBack(c)
	}
	return c
}

// drop forgets a connection that is known now, or has ended.
func (l *Listener) drop(c *Conn) {
	if l.Yields {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unknown.Remove(c.place) // nothing, if it is gone
	}
}

// yield closes the oldest connection that is not known. It reports whether there was one.
func (l *Listener) yield() bool {
	l.mu.Lock()
	var oldest *Conn
	if e := l.unknown.Front(); e != nil {
		oldest = e.Value.(*Conn)
	}
	l.mu.Unlock()
	if oldest == nil {
		return false
	}
	oldest.Close()
	return true
}

// Known says that a request has shown who makes it: its connection yields to none.
func Known(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*Conn); ok {
		c.of.drop(c)
	}
}

// Bound bounds the connections of a listener by ConnectionsMax and PerAddressMax, and watches
// the server that is to serve it: where there is no room the oldest yields that is not Known.
// turned is told why one was turned away, as Turned.
func Bound(s *http.Server, ln net.Listener, turned func(why string)) *Listener {
	l := &Listener{Listener: ln, Limits: NewLimits(ConnectionsMax, PerAddressMax), Turned: turned, Yields: true}
	l.Watch(s)
	return l
}

// Watch has the connections of a server that have brought a request known from those
// that are silent. Call it before the server serves the listener.
func (l *Listener) Watch(s *http.Server) {
	l.watched.Store(true)
	next := s.Handler
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, connOf(c))
	}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*Conn); ok {
			c.asked.Store(true)
		}
		next.ServeHTTP(w, r)
	})
}

type connKey struct{}

// connOf is what a listener gave a server, below TLS too; nil of any other's.
func connOf(c net.Conn) *Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	own, _ := c.(*Conn)
	return own
}

// Conn is a connection whose visit ends when it closes.
type Conn struct {
	net.Conn
	visit *Visit
	of    *Listener
	place *list.Element // among the unknown
	asked atomic.Bool   // it has brought a request
	ended atomic.Bool
}

// Close closes the connection. It may be called again.
func (c *Conn) Close() error {
	c.visit.End()
	c.of.drop(c)
	if !c.ended.Swap(true) && !c.asked.Load() && c.of.watched.Load() {
		c.of.turn(Silent)
	}
	return c.Conn.Close()
}

// Shaken takes note of a connection's first request, for a server's ConnState: its
// handshake is done.
func Shaken(c net.Conn, state http.ConnState) {
	if own := connOf(c); own != nil && state == http.StateActive {
		own.visit.Shaken()
	}
}
