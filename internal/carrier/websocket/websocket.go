// Package websocket carries datagrams as binary messages over TLS on TCP, for
// networks that let nothing else through.
//
// TCP holds back what follows a lost segment. Buffers are therefore small at
// every step, and what finds no room is lost, as a datagram may be: no queue of
// late datagrams builds up.
package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	ws "github.com/coder/websocket"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/inbox"
	"github.com/nyxnet/nyx/internal/carrier/pipe"
)

const (
	// writeBuffer is what TCP may hold unsent: 100 datagrams, 25 ms at 40
	// Mbit/s.
	writeBuffer = 128 << 10
	// silenceMax is how long nothing may arrive. A link says something every
	// 10 s and is given up after 35 s, so no pings of TCP's or WebSocket's own
	// are needed.
	silenceMax = 45 * time.Second
	// headerTime, headerMax and idleMax bound requests to the site.
	headerTime = 10 * time.Second
	headerMax  = 16 << 10
	idleMax    = 60 * time.Second
)

// conn is a WebSocket as a pipe.
type conn struct {
	ws   *ws.Conn
	buf  [inbox.SlotSize]byte
	late *time.Timer // closes a silent connection
}

func newConn(c *ws.Conn) *conn {
	c.SetReadLimit(inbox.SlotSize)
	p := &conn{ws: c}
	p.late = time.AfterFunc(silenceMax, func() { p.Close() })
	return p
}

// Send writes one message.
func (c *conn) Send(b []byte) error { return c.ws.Write(context.Background(), ws.MessageBinary, b) }

// Receive reads one message.
func (c *conn) Receive() ([]byte, error) {
	kind, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	n, err := io.ReadFull(r, c.buf[:])
	if err != io.EOF && err != io.ErrUnexpectedEOF || kind != ws.MessageBinary {
		return nil, fmt.Errorf("websocket: not a datagram: %w", err)
	}
	c.late.Reset(silenceMax)
	return c.buf[:n], nil
}

// Close closes the TLS connection at once: a link has said its own farewell.
func (c *conn) Close() error {
	c.late.Stop()
	return c.ws.CloseNow()
}

// Dial opens a pipe through a door.
func Dial(ctx context.Context, d *front.Door) (pipe.Pipe, error) {
	transport := &http.Transport{
		// Not TLSClientConfig: the transport would leave http/1.1 out of the
		// hello, where browsers have it for WebSockets.
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			c, err := dialer.DialContext(ctx, "tcp", d.Addr.String())
			if err != nil {
				return nil, err
			}
			c.(*net.TCPConn).SetWriteBuffer(writeBuffer)
			t := tls.Client(c, d.TLS("http/1.1"))
			if err := t.HandshakeContext(ctx); err != nil {
				c.Close()
				return nil, err
			}
			return t, nil
		},
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	c, _, err := ws.Dial(ctx, "wss://"+d.Host()+d.Path, &ws.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return nil, fmt.Errorf("websocket: %w", err)
	}
	return newConn(c), nil
}

// Server takes WebSockets at one address, and shows a site to everyone else.
type Server struct {
	addr    netip.AddrPort
	http    *http.Server
	pipes   pipe.Group
	serving sync.WaitGroup
}

// Listen opens a server. accept is called with each pipe, in a goroutine of its
// own, and returns when it is done with it; it must do so after the pipe has
// been closed, which Close does.
func Listen(addr netip.AddrPort, face *front.Face, accept func(pipe.Pipe)) (pipe.Listener, error) {
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("open the TCP socket: %w", err)
	}
	s := &Server{addr: ln.Addr().(*net.TCPAddr).AddrPort()}
	s.http = &http.Server{
		Handler:   face.Handler(isUpgrade, func(w http.ResponseWriter, r *http.Request) { s.take(w, r, accept) }),
		TLSConfig: face.TLS("h2", "http/1.1"), ReadHeaderTimeout: headerTime, MaxHeaderBytes: headerMax, IdleTimeout: idleMax,
		ConnState: front.Shaken,
		ErrorLog:  log.New(io.Discard, "", 0), // it would name the addresses of clients
	}
	s.serving.Go(func() { s.http.ServeTLS(&front.Listener{Listener: buffered{ln}, Limits: face.Limits()}, "", "") })
	return s, nil
}

// isUpgrade tells a WebSocket from a request for a page: only the first is
// taken, so that the path shows nothing to who merely opens it.
func isUpgrade(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

func (s *Server) take(w http.ResponseWriter, r *http.Request, accept func(pipe.Pipe)) {
	if c, err := ws.Accept(w, r, nil); err == nil {
		s.pipes.Serve(newConn(c), accept)
	}
}

// Addr is the server's address.
func (s *Server) Addr() netip.AddrPort {
	return netip.AddrPortFrom(s.addr.Addr().Unmap(), s.addr.Port())
}

// Close ends the server and its connections, and waits for them.
func (s *Server) Close() error {
	err := s.http.Close()
	s.pipes.Close()
	s.serving.Wait()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// buffered is a listener whose connections have a send buffer of writeBuffer.
type buffered struct{ *net.TCPListener }

// Accept returns the next connection.
func (l buffered) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	c.SetWriteBuffer(writeBuffer)
	return c, nil
}
