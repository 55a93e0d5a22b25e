// Package exit connects the streams that end at a gateway to their targets: it
// resolves names, opens TCP connections and UDP sockets under a policy, and
// moves bytes both ways.
//
// It keeps no record of what it connected; its counters name nothing.
package exit

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

// Policy says which targets an exit connects to.
type Policy struct {
	// AllowPrivate permits loopback, private, link-local and other addresses
	// that are not on the public internet.
	AllowPrivate bool
	// Ports, if not nil, decides on each port.
	Ports func(port uint16) bool
}

// Config is an exit's surroundings. Zero fields take the defaults.
type Config struct {
	Policy Policy
	// Resolver resolves names; nil is the system's.
	Resolver *net.Resolver
	// DialTimeout bounds a connection attempt over all addresses; 15 s.
	DialTimeout time.Duration
	// StreamsMax bounds the streams served at once; 65536.
	StreamsMax int
	// Services are hosts that this node answers itself.
	Services map[string]func(*tunnel.Conn)
	// Compress returns the content of a stream that is compressed (package
	// pack); nil: streams are served as they are.
	Compress func(*tunnel.Conn) io.ReadWriter
}

// compressedMax bounds the streams that are compressed at a time, at 130 KB
// each; more are served as they are.
const compressedMax = 512

const (
	defaultDialTimeout = 15 * time.Second
	defaultStreamsMax  = 65536
	// requestTimeout bounds the wait for a stream's request.
	requestTimeout = 30 * time.Second
	// copyBuffer is the size of the buffers that move bytes.
	copyBuffer = 64 << 10
)

// Counts are counters of an exit, safe for concurrent use.
type Counts struct {
	Opened  atomic.Uint64 // targets connected
	Failed  atomic.Uint64 // targets that could not be connected
	Refused atomic.Uint64 // targets refused by policy
	Busy    atomic.Uint64 // streams and messages refused for want of room
	Active  atomic.Int64  // streams being served
	// Compressed is the streams being served that are compressed.
	Compressed atomic.Int64
}

// Exit serves streams.
type Exit struct {
	cfg     Config
	policy  atomic.Pointer[Policy]
	ctx     context.Context
	cancel  context.CancelFunc
	starts  sync.Mutex // held while a stream begins and while the exit ends
	running sync.WaitGroup
	buffers sync.Pool
	lookups lookups // for messages
	Counts  Counts
}

// New returns an exit.
func New(cfg Config) *Exit {
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = defaultDialTimeout
	}
	if cfg.StreamsMax == 0 {
		cfg.StreamsMax = defaultStreamsMax
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	x := &Exit{cfg: cfg}
	x.policy.Store(&cfg.Policy)
	x.ctx, x.cancel = context.WithCancel(context.Background())
	x.buffers.New = func() any { b := make([]byte, copyBuffer); return &b }
	return x
}

// Serve serves one stream, on a goroutine of its own.
func (x *Exit) Serve(c *tunnel.Conn) {
	x.starts.Lock()
	defer x.starts.Unlock()
	if x.ctx.Err() != nil {
		go c.Reset() // the caller may hold the host's lock
		return
	}
	x.running.Add(1)
	go func() {
		defer x.running.Done()
		defer x.Counts.Active.Add(-1)
		if x.Counts.Active.Add(1) > int64(x.cfg.StreamsMax) {
			x.Counts.Busy.Add(1)
			x.refuse(c, wire.StatusBusy)
			return
		}
		stop := context.AfterFunc(x.ctx, func() { c.Reset() })
		defer stop()
		x.serve(c)
	}()
}

// SetPolicy decides on targets that are asked for from now on. Connections that are
// open stay.
func (x *Exit) SetPolicy(p Policy) { x.policy.Store(&p) }

// Close ends every stream and waits for their goroutines.
func (x *Exit) Close() {
	x.starts.Lock()
	x.cancel()
	x.starts.Unlock()
	x.running.Wait()
}

func (x *Exit) serve(c *tunnel.Conn) {
	target, rest, err := readTarget(c)
	if err != nil {
		c.Reset()
		return
	}
	if service := x.cfg.Services[target.Host]; service != nil && len(rest) == 0 {
		service(c)
		return
	}
	if target.Network == wire.UDP {
		x.serveDatagrams(c)
		return
	}
	conn, status := x.dial(target)
	if status != wire.StatusOK {
		x.refuse(c, status)
		return
	}
	x.Counts.Opened.Add(1)
	if target.Network == wire.TCPCompressed && x.mayCompress(target.Port, rest) {
		defer x.Counts.Compressed.Add(-1)
		x.splice(c, x.cfg.Compress(c), conn, nil, wire.StatusCompressed)
		return
	}
	x.splice(c, c, conn, rest, wire.StatusOK)
}

// mayCompress takes one of the places for compressed streams, unless the port's
// protocol is encrypted by itself, or the opener has sent content before it had
// the answer, which is not in chunks.
func (x *Exit) mayCompress(port uint16, rest []byte) bool {
	if x.cfg.Compress == nil || wire.Sealed(port) || len(rest) > 0 {
		return false
	}
	if x.Counts.Compressed.Add(1) > compressedMax {
		x.Counts.Compressed.Add(-1)
		return false
	}
	return true
}

// readTarget reads a stream's request. rest is what came behind it.
func readTarget(c *tunnel.Conn) (t wire.Target, rest []byte, err error) {
	c.SetReadDeadline(time.Now().Add(requestTimeout))
	defer c.SetReadDeadline(time.Time{})
	buf := make([]byte, 0, 2*wire.TargetSizeMax)
	for {
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		target, used, ok := wire.ParseTarget(buf)
		switch {
		case !ok:
			return t, nil, errors.New("exit: malformed request")
		case used > 0:
			return target, buf[used:], nil
		case err != nil:
			return t, nil, err
		case len(buf) == cap(buf):
			return t, nil, errors.New("exit: request too long")
		}
	}
}

// refuse answers with a status and ends the stream.
func (x *Exit) refuse(c *tunnel.Conn, s wire.Status) {
	if s == wire.StatusNotAllowed {
		x.Counts.Refused.Add(1)
	} else {
		x.Counts.Failed.Add(1)
	}
	c.Write([]byte{byte(s)})
	c.Close()
}

// dial resolves and connects. Every address is checked against the policy
// after it was resolved, so that a name cannot lead where an address may not.
func (x *Exit) dial(t wire.Target) (net.Conn, wire.Status) {
	if !x.portAllowed(t.Port) {
		return nil, wire.StatusNotAllowed
	}
	ctx, cancel := context.WithTimeout(x.ctx, x.cfg.DialTimeout)
	defer cancel()
	addrs, status := x.resolve(ctx, t.Host)
	if status != wire.StatusOK {
		return nil, status
	}
	var dialer net.Dialer
	status = wire.StatusFailed
	for _, a := range addrs {
		conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(a, t.Port).String())
		if err == nil {
			return conn, wire.StatusOK
		}
		status = statusOf(err)
	}
	return nil, status
}

func (x *Exit) portAllowed(port uint16) bool {
	p := x.policy.Load()
	return port != 0 && (p.Ports == nil || p.Ports(port))
}

// resolve returns the addresses of a host that the policy permits. Names of
// services inside the network are nobody's outside: no resolver hears of them.
func (x *Exit) resolve(ctx context.Context, host string) ([]netip.Addr, wire.Status) {
	if service.Inside(host) {
		return nil, wire.StatusNoHost
	}
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if addrs, err = x.cfg.Resolver.LookupNetIP(ctx, "ip", host); err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil, wire.StatusTimeout
		}
		return nil, wire.StatusNoHost
	}
	allowed := addrs[:0]
	for _, a := range addrs {
		if a = a.Unmap(); a.Zone() == "" && (x.policy.Load().AllowPrivate || Public(a)) {
			allowed = append(allowed, a)
		}
	}
	if len(allowed) == 0 {
		return nil, wire.StatusNotAllowed
	}
	return allowed, wire.StatusOK
}

// special are the ranges of the IANA special-purpose registries that the
// methods of netip.Addr do not name.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), // leads to IPv4 addresses of any kind
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // likewise
	netip.MustParsePrefix("fec0::/10"),
}

// Public reports whether a is an address of the public internet.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

func statusOf(err error) wire.Status {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return wire.StatusRefused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return wire.StatusUnreachable
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return wire.StatusTimeout
	}
	return wire.StatusFailed
}

// splice answers with a status and moves bytes between the stream's content and
// the target until both directions have ended, each with a half-close.
func (x *Exit) splice(c *tunnel.Conn, content io.ReadWriter, target net.Conn, rest []byte, status wire.Status) {
	defer c.Close()
	defer target.Close()
	if len(rest) > 0 {
		if _, err := target.Write(rest); err != nil {
			x.refuse(c, wire.StatusFailed)
			return
		}
	}
	if _, err := c.Write([]byte{byte(status)}); err != nil {
		return
	}
	stop := context.AfterFunc(x.ctx, func() { target.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if x.copy(target, content) == nil {
			target.(*net.TCPConn).CloseWrite()
			return
		}
		target.Close()
		c.Reset()
	}()
	if x.copy(content, target) == nil {
		c.CloseWrite()
	} else {
		c.Reset()
		target.Close()
	}
	<-done
}

func (x *Exit) copy(dst io.Writer, src io.Reader) error {
	buf := x.buffers.Get().(*[]byte)
	defer x.buffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			if _, err := dst.Write((*buf)[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
