package exit

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// udpIdle ends a flow of datagrams that is silent (RFC 4787 asks for at
	// least 2 minutes).
	udpIdle = 5 * time.Minute
	// namesMax bounds the names that a flow has resolved.
	namesMax = 64
)

// serveDatagrams carries a flow: one UDP socket for each address family.
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
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.receiveDatagrams(flow, socket)
		c.Reset()
	}()
	x.sendDatagrams(flow, socket)
	socket.Close()
	<-done
}

// sendDatagrams moves messages from the stream to their targets.
func (x *Exit) sendDatagrams(flow *tunnel.Datagrams, socket *net.UDPConn) {
	names := map[string]netip.Addr{}
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
		a, known := names[host]
		if !known {
			ctx, cancel := context.WithTimeout(x.ctx, x.cfg.DialTimeout)
			addrs, status := x.resolve(ctx, host)
			cancel()
			if status != wire.StatusOK {
				x.Counts.Refused.Add(1)
				continue
			}
			if len(names) >= namesMax {
				clear(names)
			}
			a = addrs[0]
			names[host] = a
		}
		socket.WriteToUDPAddrPort(data, netip.AddrPortFrom(a, port))
	}
}

// receiveDatagrams moves answers back. The source is named by its address, as
// UDP programs expect. The receiving goroutine needs a sender's state of its
// own: Datagrams.Send and Receive share none.
func (x *Exit) receiveDatagrams(flow *tunnel.Datagrams, socket *net.UDPConn) {
	buf := make([]byte, tunnel.MessageMax)
	for {
		n, from, err := socket.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		flow.Send(from.Addr().Unmap().String(), from.Port(), buf[:n])
	}
}
