package exit

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// udpIdle ends a flow of datagrams that is silent (RFC 4787 asks for at
	// least 2 minutes).
	udpIdle = 5 * time.Minute
	// peersMax bounds the addresses whose answers a flow takes.
	peersMax = 1024
)

// serveDatagrams carries a flow over one UDP socket, of both address families
// where the system has both.
func (x *Exit) serveDatagrams(c *tunnel.Conn) {
	socket, err := net.ListenUDP("udp", nil)
	if err != nil {
		x.refuse(c, wire.StatusFailed)
		return
	}
	defer socket.Close()
	defer c.Reset()
	if _, err := c.Write([]byte{byte(wire.StatusOK)}); err != nil {
		return
	}
	x.Counts.Opened.Add(1)
	flow := tunnel.NewDatagrams(c)
	sentTo := &peers{seen: map[netip.Addr]struct{}{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.receiveDatagrams(flow, socket, sentTo)
		c.Reset()
	}()
	x.sendDatagrams(flow, socket, sentTo)
	socket.Close()
	<-done
}

// peers are the addresses to which a flow has sent. Nobody else gets an answer
// through: a stranger who finds the socket must not be able to mark a flow.
type peers struct {
	mu   sync.Mutex
	seen map[netip.Addr]struct{}
}

func (p *peers) add(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.seen[a]; !known && len(p.seen) >= peersMax {
		clear(p.seen)
	}
	p.seen[a] = struct{}{}
}

func (p *peers) has(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.seen[a]
	return ok
}

// sendDatagrams moves messages from the stream to their targets.
func (x *Exit) sendDatagrams(flow *tunnel.Datagrams, socket *net.UDPConn, sentTo *peers) {
	names := newNames(x, flow.Conn.Ref().Session, func(a netip.AddrPort, data []byte) bool {
		sentTo.add(a.Addr())
		_, err := socket.WriteToUDPAddrPort(data, a)
		return err == nil
	})
	defer names.close()
	for {
		flow.Conn.SetReadDeadline(time.Now().Add(udpIdle))
		host, port, data, err := flow.Receive()
		if err != nil {
			return
		}
		if !x.portAllowed(port) {
			x.Counts.Refused.Add(1)
			continue
		}
		names.send(host, port, data)
	}
}

// receiveDatagrams moves answers back. The source is named by its address, as
// UDP programs expect. The receiving goroutine needs a sender's state of its
// own: Datagrams.Send and Receive share none.
func (x *Exit) receiveDatagrams(flow *tunnel.Datagrams, socket *net.UDPConn, sentTo *peers) {
	buf := make([]byte, wire.MaxMessageSize)
	for {
		n, from, err := socket.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if a := from.Addr().Unmap(); sentTo.has(a) {
			flow.Send(a.String(), from.Port(), buf[:n])
		}
	}
}
