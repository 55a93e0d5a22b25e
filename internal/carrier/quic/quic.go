// Package quic carries datagrams in QUIC: HTTP/3 datagrams (RFC 9297) of a
// request to a path that only the directory tells, for networks that let
// nothing on UDP through but what looks like the web.
//
// A datagram of 1280 bytes needs a QUIC packet of 1318, more than the
// 1200 that every path must carry. Packets have packetSize from the first on,
// so that a path which is too small for them fails in the handshake, and not
// later in silence; such a path has the WebSocket carrier.
package quic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	quicgo "github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/pipe"
)

const (
	// packetSize is the UDP payload of QUIC packets. A datagram needs 1318
	// (TestPacketSize); the rest is room for longer headers.
	packetSize = 1330
	// silenceMax is how long nothing may arrive. A link says something every
	// 10 s and is given up after 35 s, so QUIC's own pings are not needed.
	silenceMax = 45 * time.Second
	// handshakeMax bounds a handshake.
	handshakeMax = 5 * time.Second
	// headerMax bounds the header of a request.
	headerMax = 16 << 10
	// streamsMax bounds the requests of one connection at a time.
	streamsMax = 16
	// window bounds what a peer may send on streams, of which only requests
	// for pages make use.
	window = 64 << 10
)

func config() *quicgo.Config {
	return &quicgo.Config{
		HandshakeIdleTimeout: handshakeMax, MaxIdleTimeout: silenceMax,
		InitialPacketSize: packetSize, EnableDatagrams: true,
		MaxIncomingStreams: streamsMax, MaxIncomingUniStreams: streamsMax,
		InitialStreamReceiveWindow: window, MaxStreamReceiveWindow: window,
		InitialConnectionReceiveWindow: window, MaxConnectionReceiveWindow: window,
		Allow0RTT: false, // its first flight could be replayed at the server
	}
}

// datagrams is what the streams of both sides have.
type datagrams interface {
	SendDatagram(b []byte) error
	ReceiveDatagram(ctx context.Context) ([]byte, error)
}

// conn is a request as a pipe.
type conn struct {
	stream datagrams
	ctx    context.Context
	close  func() error
}

// Send queues one datagram; it waits for congestion control.
func (c *conn) Send(b []byte) error {
	err := c.stream.SendDatagram(b)
	var large *quicgo.DatagramTooLargeError
	if errors.As(err, &large) {
		return nil // lost, as on a wire: it is not one of the network's
	}
	return err
}

// Receive returns the next datagram.
func (c *conn) Receive() ([]byte, error) { return c.stream.ReceiveDatagram(c.ctx) }

// Close ends the connection.
func (c *conn) Close() error { return c.close() }

// Dial opens a pipe through a door. Each has a socket of its own, so that
// connections to several servers have no port in common.
func Dial(ctx context.Context, d *front.Door) (pipe.Pipe, error) {
	sock, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, fmt.Errorf("quic: %w", err)
	}
	transport := &quicgo.Transport{Conn: sock}
	end := func() {
		transport.Close()
		sock.Close()
	}
	p, err := dial(ctx, transport, d, sync.OnceFunc(end))
	if err != nil {
		end()
		return nil, fmt.Errorf("quic: %w", err)
	}
	return p, nil
}

func dial(ctx context.Context, transport *quicgo.Transport, d *front.Door, end func()) (pipe.Pipe, error) {
	qc, err := transport.Dial(ctx, net.UDPAddrFromAddrPort(d.Addr), d.TLS(http3.NextProtoH3), config())
	if err != nil {
		return nil, err
	}
	h3 := (&http3.Transport{EnableDatagrams: true}).NewClientConn(qc)
	str, err := h3.OpenRequestStream(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+d.Host()+d.Path, nil)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, end)
	defer stop()
	if err := str.SendRequestHeader(req); err != nil {
		return nil, err
	}
	rsp, err := str.ReadResponse()
	if err != nil {
		return nil, err
	}
	if rsp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", rsp.Status)
	}
	return &conn{str, qc.Context(), func() error {
		err := qc.CloseWithError(quicgo.ApplicationErrorCode(http3.ErrCodeNoError), "")
		end()
		return err
	}}, nil
}

// Server takes QUIC connections at one address, and shows a site to everyone
// else.
type Server struct {
	addr      netip.AddrPort
	sock      *net.UDPConn
	transport *quicgo.Transport
	http      *http3.Server
	limits    *front.Limits
	pipes     pipe.Group
	serving   sync.WaitGroup
}

var errFull = errors.New("no room for a connection from this address")

// Listen opens a server. accept is called with each pipe, in a goroutine of its
// own, and returns when it is done with it; it must do so after the pipe has
// been closed, which Close does.
func Listen(addr netip.AddrPort, face *front.Face, accept func(pipe.Pipe)) (pipe.Listener, error) {
	sock, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("open the UDP socket: %w", err)
	}
	s := &Server{sock: sock, limits: face.Limits(), addr: sock.LocalAddr().(*net.UDPAddr).AddrPort()}
	s.transport = &quicgo.Transport{
		Conn: sock, ConnContext: s.admit, VerifySourceAddress: func(net.Addr) bool { return s.limits.Busy() },
	}
	s.http = &http3.Server{
		Handler:         face.Handler(takesDatagrams, func(w http.ResponseWriter, r *http.Request) { s.take(w, r, accept) }),
		EnableDatagrams: true, MaxHeaderBytes: headerMax,
		ConnContext: func(ctx context.Context, qc *quicgo.Conn) context.Context {
			go shaken(qc)
			return context.WithValue(ctx, connKey{}, qc)
		},
	}
	ln, err := s.transport.ListenEarly(http3.ConfigureTLSConfig(face.TLS()), config())
	if err != nil {
		sock.Close()
		return nil, fmt.Errorf("listen for QUIC: %w", err)
	}
	s.serving.Go(func() { s.http.ServeListener(ln) })
	return s, nil
}

// visitKey is the key of a connection's visit in its context.
type visitKey struct{}

// admit counts a connection until it ends.
func (s *Server) admit(ctx context.Context, info *quicgo.ClientInfo) (context.Context, error) {
	udp, ok := info.RemoteAddr.(*net.UDPAddr)
	if !ok {
		return nil, errFull
	}
	visit := s.limits.Take(udp.AddrPort().Addr())
	if visit == nil {
		return nil, errFull
	}
	context.AfterFunc(ctx, visit.End)
	return context.WithValue(ctx, visitKey{}, visit), nil
}

// shaken takes note of the end of a handshake.
func shaken(qc *quicgo.Conn) {
	select {
	case <-qc.HandshakeComplete():
		qc.Context().Value(visitKey{}).(*front.Visit).Shaken()
	case <-qc.Context().Done():
	}
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

func takesDatagrams(r *http.Request) bool { return r.Method == http.MethodGet }

func (s *Server) take(w http.ResponseWriter, r *http.Request, accept func(pipe.Pipe)) {
	w.WriteHeader(http.StatusOK)
	stream := w.(http3.HTTPStreamer).HTTPStream()
	qc := r.Context().Value(connKey{}).(*quicgo.Conn)
	s.pipes.Serve(&conn{stream, qc.Context(), func() error {
		return qc.CloseWithError(quicgo.ApplicationErrorCode(http3.ErrCodeNoError), "")
	}}, accept)
}

// Addr is the server's address.
func (s *Server) Addr() netip.AddrPort {
	return netip.AddrPortFrom(s.addr.Addr().Unmap(), s.addr.Port())
}

// Close ends the server and its connections, and waits for them.
func (s *Server) Close() error {
	s.pipes.Close()
	err := errors.Join(s.transport.Close(), s.http.Close())
	s.serving.Wait()
	if e := s.sock.Close(); !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	return err
}
