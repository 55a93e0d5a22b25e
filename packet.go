package nyx

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/tunnel"
)

// packetConn is a flow of UDP datagrams as a net.PacketConn.
type packetConn struct {
	flow    *tunnel.Datagrams
	sending sync.Mutex
	taking  sync.Mutex
}

// ListenPacket opens a UDP socket at an exit. WriteTo sends to any address whose
// String is "host:port", where host is an IP address or a name that the exit
// resolves; ReadFrom takes answers of those to whom was sent, as *net.UDPAddr.
//
// A datagram that fits a packet, of about 1,000 bytes, is sent once. A larger
// one, of up to 65,507 bytes, travels in fragments, of which lost ones are sent
// again for 3 s.
func (c *Client) ListenPacket(ctx context.Context) (net.PacketConn, error) {
	if err := c.running.WaitReady(ctx); err != nil {
		return nil, &net.OpError{Op: "listen", Net: "udp", Err: err}
	}
	flow, err := c.running.OpenFlow(ctx, c.isolation)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "udp", Err: err}
	}
	return &packetConn{flow: flow}, nil
}

// WriteTo sends one datagram. As with UDP, no error does not mean it arrives.
func (p *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	host, text, err := net.SplitHostPort(to.String())
	if err != nil {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: to, Err: err}
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || host == "" || len(host) > 253 {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: to, Err: errors.New("not a host and a port of 1 to 65535")}
	}
	p.sending.Lock()
	defer p.sending.Unlock()
	if err := p.flow.Send(host, uint16(port), b); err != nil {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: to, Err: err}
	}
	return len(b), nil
}

// ReadFrom waits for the next datagram. As with UDP, what b has no room for is
// lost.
func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	p.taking.Lock()
	defer p.taking.Unlock()
	for {
		host, port, data, err := p.flow.Receive()
		if err != nil {
			return 0, nil, err
		}
		if a, err := netip.ParseAddr(host); err == nil {
			return copy(b, data), net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port)), nil
		}
	}
}

// Close ends the flow.
func (p *packetConn) Close() error {
	p.flow.Close()
	return nil
}

// LocalAddr names the network and nothing else.
func (p *packetConn) LocalAddr() net.Addr { return tunnel.Addr{} }

// SetReadDeadline bounds ReadFrom.
func (p *packetConn) SetReadDeadline(t time.Time) error { return p.flow.Conn.SetReadDeadline(t) }

// SetDeadline bounds ReadFrom; WriteTo never waits.
func (p *packetConn) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// SetWriteDeadline does nothing: WriteTo never waits.
func (p *packetConn) SetWriteDeadline(time.Time) error { return nil }
