package joint

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/inbox"
	"github.com/nyxnet/nyx/internal/carrier/pipe"
	"github.com/nyxnet/nyx/internal/wire"
)

// inboxMax bounds the datagrams that arrived by connections and wait for the
// machine: 5 MB, as much as a socket's buffer holds.
const inboxMax = 4096

// prefix holds the addresses of connections: the block that is to be discarded
// everywhere (RFC 6666), so that no real neighbour has one.
var prefix = netip.MustParsePrefix("100::/64")

// Server is a node's carrier: UDP, and the connections that its servers accept.
// To the node each connection is a neighbour at an address of its own, under
// 100::/64, which no other connection ever has again.
type Server struct {
	merged

	mu    sync.Mutex
	conns map[netip.AddrPort]*pipe.Conn
	count uint64
}

// NewServer puts connections beside base, which it owns.
func NewServer(base Carrier) *Server {
	return &Server{merged: newMerged(base), conns: make(map[netip.AddrPort]*pipe.Conn)}
}

// Accept serves a connection until it ends.
func (s *Server) Accept(p pipe.Pipe) {
	s.mu.Lock()
	s.count++
	addr := connAddr(s.count)
	conn := pipe.Run(p, func(b []byte) { s.put(b, addr) })
	s.conns[addr] = conn
	s.mu.Unlock()
	<-conn.Done()
	s.mu.Lock()
	delete(s.conns, addr)
	s.mu.Unlock()
	conn.Close()
}

func connAddr(n uint64) netip.AddrPort {
	a := prefix.Addr().As16()
	binary.BigEndian.PutUint64(a[8:], n)
	return netip.AddrPortFrom(netip.AddrFrom16(a), 1)
}

// At returns datagram i of the last Read.
func (s *Server) At(i int) ([]byte, netip.AddrPort) {
	b, from, _ := s.at(i)
	return b, from
}

// Commit adds the first n bytes of what Next returned to the batch.
func (s *Server) Commit(n int, to netip.AddrPort) {
	if !to.Addr().Is6() || !prefix.Contains(to.Addr()) {
		s.base.Commit(n, to)
		return
	}
	s.mu.Lock()
	conn := s.conns[to]
	s.mu.Unlock()
	if conn != nil {
		s.hold(conn, n)
	}
}

// Close sends what waits, closes the connections, then the base.
func (s *Server) Close() error {
	s.mu.Lock()
	conns := make([]*pipe.Conn, 0, len(s.conns))
	for _, c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	closeAll(conns)
	return s.base.Close()
}

// closeAll closes connections side by side: each may take a moment.
func closeAll(conns []*pipe.Conn) {
	var closing sync.WaitGroup
	for _, c := range conns {
		closing.Go(c.Close)
	}
	closing.Wait()
}

// merged reads a base carrier and an inbox as one. Read, At, Next, Commit and
// Flush belong to one goroutine, put to any.
type merged struct {
	base  Carrier
	in    *inbox.Inbox
	taken int    // of the last Read, from the inbox; the rest is the base's
	room  []byte // what Next returned
	// Of the batch, what goes by connections: it must not leave before Flush,
	// which waits for what has to be on disk first.
	held  []parcel
	bytes []byte // heldMax datagrams
}

type parcel struct {
	conn *pipe.Conn
	n    int
}

// heldMax bounds what a batch holds for connections.
const heldMax = 64

func newMerged(base Carrier) merged { return merged{base: base, in: inbox.New(inboxMax)} }

// put gives a datagram of a connection to the reader; without room it is lost.
func (m *merged) put(b []byte, from netip.AddrPort) {
	if m.in.Put(b, from) {
		m.base.Wake()
	}
}

// Read takes what has arrived either way.
func (m *merged) Read(wait time.Duration) (int, error) {
	m.taken = 0
	n, err := m.in.Read(0)
	if err != nil {
		return 0, err
	}
	if n > 0 {
		wait = 0
	}
	fromBase, err := m.base.Read(wait)
	if err != nil {
		return 0, err
	}
	if n == 0 && fromBase == 0 && wait != 0 {
		if n, err = m.in.Read(0); err != nil {
			return 0, err
		}
	}
	m.taken = n
	return n + fromBase, nil
}

// at returns datagram i of the last Read, and which way it came.
func (m *merged) at(i int) (b []byte, from netip.AddrPort, by way) {
	if i < m.taken {
		b, from = m.in.At(i)
		return b, from, byConn
	}
	b, from = m.base.At(i - m.taken)
	return b, from, byUDP
}

// Addr is the base's address.
func (m *merged) Addr() netip.AddrPort { return m.base.Addr() }

// Wake makes Read return.
func (m *merged) Wake() { m.base.Wake() }

// Next returns room for one datagram, or nil when the batch is full.
func (m *merged) Next() []byte {
	if len(m.held) == heldMax {
		return nil
	}
	m.room = m.base.Next()
	return m.room
}

// hold adds the first n bytes of what Next returned to what goes by conn.
func (m *merged) hold(conn *pipe.Conn, n int) {
	if m.bytes == nil {
		m.bytes, m.held = make([]byte, heldMax*wire.DatagramSize), make([]parcel, 0, heldMax)
	}
	copy(m.bytes[len(m.held)*wire.DatagramSize:], m.room[:n])
	m.held = append(m.held, parcel{conn, n})
}

// Flush sends the batch.
func (m *merged) Flush() error {
	for i, p := range m.held {
		p.conn.Push(m.bytes[i*wire.DatagramSize:][:p.n])
	}
	clear(m.held)
	m.held = m.held[:0]
	return m.base.Flush()
}
