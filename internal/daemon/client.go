package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/carrier/udp"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/proxy"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

// ClientConfig is a client of a network.
type ClientConfig struct {
	Client      client.Config
	Trust       directory.Trust
	Directories []string      // URLs of authorities
	Replicas    []string      // URLs of replicas, which are asked first
	Poll        time.Duration // of the directory; 0 is the default
	Log         *slog.Logger  // nil: none
	// StateDir is where the mark of the newest document is kept; "" for none.
	StateDir string
	// Listen is the UDP address to send from; zero is any.
	Listen netip.AddrPort
	Clock  *drive.Clock
	// Use says which carriers serve the links to entries, Carriers which the
	// program has beside UDP, in the order in which they are tried.
	Use      joint.Use
	Carriers []joint.Kind
	// Wallet has the unlinkable tokens that the client shows; nil: none. Order says
	// how more are fetched; nil: they are not.
	Wallet *Wallet
	Order  *PassOrder

	block func(drive.Carrier) drive.Carrier // for tests: a network that loses UDP
}

// Client is a running client. It is a proxy.Dialer.
type Client struct {
	host    *drive.Host
	core    *client.Client
	side    *tunnel.Side
	cancel  context.CancelFunc
	running sync.WaitGroup
	ready   chan struct{}
	once    sync.Once
	feedErr atomic.Pointer[error]
	passErr atomic.Pointer[error] // why passes cannot be had or kept
	asker   *mirror.Asker
	delays  delays // between regions, by which paths are drawn
	// fellBack says whether datagrams go otherwise than by UDP; nil: they cannot.
	fellBack func() bool
	// asked are the streams that were opened to another end, answered those of
	// them from which it answered, whatever it said. What a caller gave up first
	// is in neither.
	asked, answered atomic.Uint64
	// opening are the streams whose other end has not answered; under the host's lock.
	opening map[session.Ref]opening
	failed  uint64 // set-ups, when they were looked at last; likewise

	mu     sync.Mutex
	wallet *Wallet
	until  map[[32]byte]int64 // when passes are good no more, by key; under the host's lock

	listeners map[service.Address]*Listener
	services  map[service.Address]*service.Descriptor
}

// opening is a stream that waits for the other end's answer.
type opening struct {
	since  machine.Time
	giveUp context.CancelCauseFunc
}

// StartClient runs a client. It builds routes as soon as it has a directory.
func StartClient(cfg ClientConfig, rng prng.Source) (*Client, error) {
	if cfg.Clock == nil {
		cfg.Clock = drive.NewClock()
	}
	if cfg.Client.Stream.UnixStart == 0 {
		cfg.Client.Stream.UnixStart = cfg.Clock.At(0).Unix()
	}
	if cfg.Log != nil {
		cfg.Client.Sink = tellingAvoided(cfg.Client.Sink, cfg.Log)
	}
	c := &Client{
		ready: make(chan struct{}), listeners: map[service.Address]*Listener{}, services: map[service.Address]*service.Descriptor{},
		opening: map[session.Ref]opening{}, wallet: cfg.Wallet, until: map[[32]byte]int64{},
	}
	c.core = client.New(cfg.Client, rng)
	c.side = tunnel.NewSide(c.core, c.incoming)
	conn, err := udp.Listen(cfg.Listen, udp.Options{})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	carrier, setDoors := cfg.carrier(conn)
	if j, ok := carrier.(*joint.Client); ok && cfg.Use == joint.Auto {
		c.fellBack = j.FellBack
	}
	bulletins, err := newAsker(cfg.Replicas, cfg.Directories, nil, rng.Stream("bulletins"), cfg.Log)
	if err != nil {
		carrier.Close()
		return nil, fmt.Errorf("client: %w", err)
	}
	listener, err := newListener(cfg.Trust, bulletins)
	if err != nil {
		carrier.Close()
		return nil, fmt.Errorf("client: %w", err)
	}
	listener.plan = func(plan *wire.CoverPlan) { c.takePlan(plan, logOrNone(cfg.Log)) }
	listener.deliver = func(known *directory.Conditions, left time.Duration) {
		c.delays.set(known.Delays())
		c.host.Do(func(now machine.Time) { c.core.HandleConditions(now, known, left) })
	}
	feed, err := newFeed(feedConfig{
		trust: cfg.Trust, urls: cfg.Directories, poll: cfg.Poll, dir: cfg.StateDir, mark: "client.newest",
		deliver: func(v *directory.View) {
			setDoors(v)
			listener.view.Store(v.Clone())
			c.host.Do(func(now machine.Time) { c.core.SetView(now, v) })
		},
	})
	if err != nil {
		carrier.Close()
		return nil, fmt.Errorf("client: %w", err)
	}
	if c.asker, err = newAsker(cfg.Replicas, cfg.Directories, nil, rng.Stream("asker"), cfg.Log); err != nil {
		carrier.Close()
		return nil, fmt.Errorf("client: %w", err)
	}
	feed.read(c.asker, directory.NewSample(rng.Stream("sample")))
	c.host, err = drive.Start(drive.Config{
		Name: "client", Machine: c.core, Carrier: carrier, Clock: cfg.Clock, AfterRound: c.afterRound,
	})
	if err != nil {
		carrier.Close()
		return nil, fmt.Errorf("client: %w", err)
	}
	c.side.Attach(c.host)
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.running.Go(func() { listener.run(ctx) })
	if cfg.Wallet != nil {
		c.running.Go(func() {
			c.keepPasses(ctx, cfg.Wallet, cfg.Order, func(err error) { c.passErr.Store(&err) })
		})
	}
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		feed.run(ctx, func(err error) { c.feedErr.Store(&err) })
	}()
	return c, nil
}

// carrier is what the client sends with, and what tells it the entries' doors.
func (cfg *ClientConfig) carrier(base drive.Carrier) (drive.Carrier, func(*directory.View)) {
	if cfg.block != nil {
		base = cfg.block(base)
	}
	if cfg.Use == joint.UDP || cfg.Use == joint.Auto && len(cfg.Carriers) == 0 {
		return base, func(*directory.View) {}
	}
	c := joint.NewClient(base, cfg.Use, cfg.Carriers)
	return c, func(v *directory.View) { c.SetDoors(doors(v)) }
}

// JoinNetwork starts a client of the network that a network file describes. It shows the
// unlinkable tokens of a wallet, "" for none.
func JoinNetwork(n *setup.Network, cfg client.Config, wallet string, use joint.Use, kinds []joint.Kind) (*Client, error) {
	w, err := credentials(&cfg, n, wallet)
	if err != nil {
		return nil, err
	}
	return StartClient(ClientConfig{Client: cfg, Trust: n.Trust, Directories: n.Directories, Replicas: n.Replicas, Use: use, Carriers: kinds, Wallet: w}, systemEntropy())
}

// credentials has a client show what entries of a network ask for, and opens its
// wallet, "" for none.
func credentials(cfg *client.Config, n *setup.Network, wallet string) (*Wallet, error) {
	cfg.NetworkKey = n.PSK
	cfg.Passes = n.Issuer != nil && n.Issuer.Required
	if wallet == "" {
		return nil, nil
	}
	return OpenWallet(wallet)
}

func (c *Client) afterRound(now machine.Time) {
	c.side.AfterRound(now)
	if c.core.Ready() {
		c.once.Do(func() { close(c.ready) })
	}
	failed := c.core.SetupsFailed()
	if failed == c.failed {
		return
	}
	c.failed = failed
	for ref, o := range c.opening {
		if err := c.core.Stuck(ref, o.since); err != nil {
			o.giveUp(err)
		}
	}
}

// Ready is closed when traffic can flow for the first time.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// WaitReady waits until traffic can flow, and says what is missing if it
// cannot.
func (c *Client) WaitReady(ctx context.Context) error {
	select {
	case <-c.ready:
		return nil
	case <-c.host.Done():
		return c.host.Err()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", proxy.ErrNetworkDown, c.why())
	}
}

// why is the reason for which traffic does not flow.
func (c *Client) why() error {
	var err error
	c.host.Do(func(machine.Time) { err = c.core.LastError() })
	if err != nil {
		return err
	}
	if err := c.Err(); err != nil {
		return err
	}
	return errNoRoute
}

var errNoRoute = errors.New("no route stands yet")

// Err is why the client does not work fully, or nil: it lacks the newest
// document, has had no route yet, or can set up none now.
func (c *Client) Err() error {
	if p := c.feedErr.Load(); p != nil && *p != nil {
		return *p
	}
	if p := c.passErr.Load(); p != nil && *p != nil {
		return *p
	}
	select {
	case <-c.ready:
	default:
		return errNoRoute
	}
	var trouble error
	c.host.Do(func(machine.Time) { trouble = c.core.Trouble() })
	if trouble != nil {
		return fmt.Errorf("no route can be set up now, and it is tried on: %w", trouble)
	}
	return nil
}

// DialStream opens a stream to a target, with the exit's answer awaited.
func (c *Client) DialStream(ctx context.Context, isolation, host string, port uint16) (net.Conn, error) {
	return c.dial(ctx, isolation, wire.Target{Network: wire.TCP, Host: host, Port: port})
}

// DialCompressed is DialStream with the wish that content travel compressed
// between here and the exit, which decides and is not asked for ports of protocols
// that are encrypted by themselves, nor are services. Conn.Compressed says whether
// the content is that of package pack. What it leaks: docs/threat-model.md.
func (c *Client) DialCompressed(ctx context.Context, isolation, host string, port uint16) (*tunnel.Conn, error) {
	t := wire.Target{Network: wire.TCPCompressed, Host: host, Port: port}
	if wire.Sealed(port) || service.Inside(host) {
		t.Network = wire.TCP
	}
	return c.dial(ctx, isolation, t)
}

func (c *Client) dial(ctx context.Context, isolation string, t wire.Target) (*tunnel.Conn, error) {
	if !wire.ValidHost(t.Host) {
		return nil, fmt.Errorf("%w: %q is neither a name nor an address", proxy.ErrHostUnreachable, t.Host)
	}
	if a, err := service.ParseAddress(t.Host); err == nil {
		return c.dialService(ctx, isolation, a, t)
	}
	if service.Inside(t.Host) {
		return nil, fmt.Errorf("%w: %q is not the address of a service", proxy.ErrHostUnreachable, t.Host)
	}
	open := func(now machine.Time) (session.Ref, error) { return c.core.Open(now, isolation, t) }
	conn, err := c.open(ctx, open)
	for tries := 1; tries < exitsTried && errors.Is(err, session.ErrGone) && ctx.Err() == nil; tries++ {
		// The session ended before the exit answered, as it does when an exit
		// dies. Nothing of the application's was sent: another exit is asked.
		conn, err = c.open(ctx, open)
	}
	return conn, err
}

// exitsTried is how many exits a dial asks for a session before it says why it has
// none.
const exitsTried = 3

// openAt opens a stream to the store of a node.
func (c *Client) openAt(isolation string, node wire.NodeID) func(machine.Time) (session.Ref, error) {
	return func(now machine.Time) (session.Ref, error) {
		return c.core.OpenAt(now, isolation, node, wire.Target{Network: wire.TCP, Host: keeperHost, Port: 1})
	}
}

// open opens a stream and waits for the status with which the other end answers:
// until ctx ends, or the session's routes cannot be set up, of which the error then
// says why.
func (c *Client) open(ctx context.Context, open func(machine.Time) (session.Ref, error)) (*tunnel.Conn, error) {
	waits, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	conn, err := c.side.Open(func(now machine.Time) (session.Ref, error) {
		ref, err := open(now)
		if err == nil {
			c.opening[ref] = opening{now, giveUp}
		}
		return ref, err
	})
	if errors.Is(err, client.ErrTooManyKeys) {
		return nil, fmt.Errorf("%w: at most %d", proxy.ErrTooManyKeys, client.KeysMax)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", proxy.ErrNetworkDown, err)
	}
	stop := context.AfterFunc(waits, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	status := [1]byte{}
	_, err = conn.Read(status[:])
	if !stop() && ctx.Err() == nil {
		err = context.Cause(waits)
	}
	c.host.Do(func(machine.Time) { delete(c.opening, conn.Ref()) })
	if err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		c.asked.Add(1)
	}
	if err == nil {
		c.answered.Add(1)
	}
	if err != nil {
		conn.Reset()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", proxy.ErrTTL, c.why())
		}
		if errors.Is(err, session.ErrGone) {
			err = fmt.Errorf("%w: %w", err, c.why())
		}
		return nil, fmt.Errorf("%w: %w", proxy.ErrNetworkDown, err)
	}
	if ctx.Err() != nil {
		conn.Reset()
		return nil, ctx.Err()
	}
	if err := statusError(wire.Status(status[0])); err != nil {
		conn.Close()
		return nil, err
	}
	conn.Compressed = wire.Status(status[0]) == wire.StatusCompressed
	return conn, nil
}

func statusError(s wire.Status) error {
	switch s {
	case wire.StatusOK, wire.StatusCompressed:
		return nil
	case wire.StatusNotAllowed:
		return proxy.ErrNotAllowed
	case wire.StatusUnreachable, wire.StatusNoHost:
		return fmt.Errorf("%w: %v", proxy.ErrHostUnreachable, s)
	case wire.StatusRefused:
		return proxy.ErrRefused
	case wire.StatusTimeout:
		return proxy.ErrTTL
	}
	return errors.New(s.String())
}

// OpenDatagrams opens a flow of UDP messages, for the proxy.
func (c *Client) OpenDatagrams(ctx context.Context, isolation string) (proxy.Datagrams, error) {
	return c.OpenFlow(ctx, isolation)
}

// OpenFlow opens a flow of UDP messages.
func (c *Client) OpenFlow(ctx context.Context, isolation string) (*tunnel.Datagrams, error) {
	conn, err := c.dial(ctx, isolation, wire.Target{Network: wire.UDP, Host: "0.0.0.0", Port: 0})
	if err != nil {
		return nil, err
	}
	return tunnel.NewDatagrams(conn), nil
}

// Stats returns the client's counters.
func (c *Client) Stats() (n trace.Counts) {
	c.host.Do(func(machine.Time) { n = c.core.Stats() })
	addAhead(&n, c.host.Snapshot().Ahead)
	return n
}

// Distributions returns what the client has measured of its sessions.
func (c *Client) Distributions() (d trace.Distributions) {
	c.host.Do(func(machine.Time) { d = c.core.Distributions })
	return d
}

// Sessions returns the figures of the client's sessions, oldest first.
func (c *Client) Sessions() (out []stream.Stats) {
	c.host.Do(func(machine.Time) { out = c.core.Figures() })
	return out
}

// Addr is the address of the client's socket.
func (c *Client) Addr() netip.AddrPort { return c.host.Addr() }

// Do runs f with the client's core. f must not keep it.
func (c *Client) Do(f func(now machine.Time, core *client.Client)) {
	c.host.Do(func(now machine.Time) { f(now, c.core) })
}

// Done is closed when the client has stopped.
func (c *Client) Done() <-chan struct{} { return c.host.Done() }

// Close tells the entries and stops.
func (c *Client) Close() error {
	c.cancel()
	var kept error
	c.running.Wait()
	c.host.Do(func(now machine.Time) {
		if c.wallet != nil {
			kept = c.giveBack(c.wallet)
		}
		c.core.Close(now)
	})
	return errors.Join(c.host.Close(), kept)
}

var _ proxy.Dialer = (*Client)(nil)

// Load returns what the client's host has done.
func (c *Client) Load() drive.Stats { return c.host.Snapshot() }
