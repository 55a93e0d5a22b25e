package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// UDP ASSOCIATE (RFC 1928, section 7). The association lives as long as its
// TCP connection. It serves one sender: the address that the client announced,
// or else the first that sends from the client's IP address.
//
//	datagram [0 0][fragment][type][address][port][data]
//
// Fragments are dropped, as the RFC allows: reassembly would be memory that a
// stranger fills.

// datagramMax is the largest UDP payload.
const datagramMax = 65535

// socketFailures is how many reads of a socket may fail in a row: a socket that
// is broken for good must not keep a core busy.
const socketFailures = 16

var datagramBuffers = sync.Pool{New: func() any { return new([datagramMax]byte) }}

// association is one client's UDP socket joined to its Datagrams.
type association struct {
	socket *net.UDPConn
	flow   Datagrams
	counts *Counts
	owner  netip.Addr                     // the client's IP address
	peer   atomic.Pointer[netip.AddrPort] // whom we serve; nil until it is known
}

// associate serves a UDP association until the client's TCP connection, the
// flow, or ctx ends.
func (c *client) associate(ctx context.Context, isolation string, req socksRequest) {
	respond := func(err error, bound netip.AddrPort) []byte { return appendReply(nil, err, bound) }
	local, ok1 := c.conn.LocalAddr().(*net.TCPAddr)
	remote, ok2 := c.conn.RemoteAddr().(*net.TCPAddr)
	if !ok1 || !ok2 {
		c.refuse(respond(ErrNotSupported, netip.AddrPort{}))
		return
	}
	dialCtx, cancel := context.WithTimeout(ctx, c.opts.DialTimeout)
	flow, err := c.dialer.OpenDatagrams(dialCtx, isolation)
	cancel()
	if err != nil {
		c.counts.Failed.Add(1)
		c.refuse(respond(err, netip.AddrPort{}))
		return
	}
	defer flow.Close()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone})
	if err != nil {
		c.refuse(respond(err, netip.AddrPort{}))
		return
	}
	defer socket.Close()
	c.releaseReader()
	c.conn.SetDeadline(time.Time{})
	bound := socket.LocalAddr().(*net.UDPAddr).AddrPort()
	if _, err := c.conn.Write(respond(nil, bound)); err != nil {
		return
	}
	a := &association{socket: socket, flow: flow, counts: c.counts, owner: remote.AddrPort().Addr().Unmap()}
	a.announce(req)
	a.run(c.conn)
}

// announce fixes the sender if the client said from where it will send.
func (a *association) announce(req socksRequest) {
	addr, err := netip.ParseAddr(req.host)
	if err == nil && req.port != 0 && addr.Unmap() == a.owner {
		peer := netip.AddrPortFrom(a.owner, req.port)
		a.peer.Store(&peer)
	}
}

// run copies both ways until one way, or the control connection, ends; then it
// ends the rest and waits for it.
func (a *association) run(control net.Conn) {
	end := func() {
		a.flow.Close()
		a.socket.Close()
		control.Close()
	}
	var ways sync.WaitGroup
	ways.Go(func() { a.outward(); end() })
	ways.Go(func() { a.inward(); end() })
	for {
		// Nothing is said on the control connection; its end is the message.
		var b [64]byte
		if _, err := control.Read(b[:]); err != nil {
			break
		}
	}
	end()
	ways.Wait()
}

// outward passes datagrams from the client to the flow.
func (a *association) outward() {
	buf := datagramBuffers.Get().(*[datagramMax]byte)
	defer datagramBuffers.Put(buf)
	var last destination
	failures := 0
	for {
		n, from, err := a.socket.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			// ICMP errors that earlier datagrams brought back are no end.
			if errors.Is(err, net.ErrClosed) || failures == socketFailures {
				return
			}
			failures++
			continue
		}
		failures = 0
		if !a.admit(from) {
			a.counts.DropDatagrams.Add(1)
			continue
		}
		data, ok := last.parse(buf[:n])
		if !ok || a.flow.Send(last.host, last.port, data) != nil {
			a.counts.DropDatagrams.Add(1)
			continue
		}
		a.counts.Datagrams.Add(1)
	}
}

// admit reports whether a sender is the one we serve.
func (a *association) admit(from netip.AddrPort) bool {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if peer := a.peer.Load(); peer != nil {
		return *peer == from
	}
	if from.Addr() != a.owner {
		return false
	}
	first := from
	a.peer.Store(&first)
	return true
}

// inward passes datagrams from the flow to the client.
func (a *association) inward() {
	buf := datagramBuffers.Get().(*[datagramMax]byte)
	defer datagramBuffers.Put(buf)
	for {
		host, port, data, err := a.flow.Receive()
		if err != nil {
			return
		}
		peer := a.peer.Load()
		b, ok := appendDatagramHeader(buf[:0], host, port)
		if peer == nil || !ok || len(b)+len(data) > len(buf) {
			a.counts.DropDatagrams.Add(1)
			continue
		}
		if _, err := a.socket.WriteToUDPAddrPort(append(b, data...), *peer); err != nil {
			a.counts.DropDatagrams.Add(1)
			continue
		}
		a.counts.Datagrams.Add(1)
	}
}

// destination is where a datagram goes. It keeps the last one, so that a
// client which talks to one target costs no allocation per datagram.
type destination struct {
	raw  []byte // type and address as the client wrote them
	host string
	port uint16
}

// parse reads the header of a client's datagram and returns its data, which
// aliases b.
func (d *destination) parse(b []byte) (data []byte, ok bool) {
	if len(b) < 5 || b[0] != 0 || b[1] != 0 || b[2] != 0 {
		return nil, false
	}
	n := 1 // length of type and address
	switch b[3] {
	case addressIPv4:
		n += 4
	case addressIPv6:
		n += 16
	case addressName:
		n += 1 + int(b[4])
	default:
		return nil, false
	}
	if len(b) < 3+n+2 {
		return nil, false
	}
	raw, rest := b[3:3+n], b[3+n:]
	port := binary.BigEndian.Uint16(rest)
	if port == 0 {
		return nil, false
	}
	if string(raw) != string(d.raw) && !d.set(raw) {
		return nil, false
	}
	d.port = port
	return rest[2:], true
}

// set keeps a new type and address.
func (d *destination) set(raw []byte) bool {
	host := ""
	if raw[0] == addressName {
		host = string(raw[2:])
	} else {
		addr, _ := netip.AddrFromSlice(raw[1:])
		host = addr.Unmap().String()
	}
	if !validHost(host) {
		return false
	}
	d.raw, d.host = append(d.raw[:0], raw...), host
	return true
}

// appendDatagramHeader appends the header of a datagram for the client.
func appendDatagramHeader(b []byte, host string, port uint16) ([]byte, bool) {
	b = append(b, 0, 0, 0)
	if addr, err := netip.ParseAddr(host); err == nil {
		return appendAddress(b, addr, port), true
	}
	if len(host) == 0 || len(host) > 255 {
		return b, false
	}
	b = append(b, addressName, byte(len(host)))
	b = append(b, host...)
	return binary.BigEndian.AppendUint16(b, port), true
}
