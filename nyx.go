// Package nyx is the SDK of Nyx, a private transport network: a Client opens
// ordinary streams through the network, and offers services inside it, with
// the types of package net.
//
//	client, err := nyx.Open(nyx.Config{NetworkFile: "network.toml"})
//	if err != nil { … }
//	defer client.Close()
//	conn, err := client.Dial(ctx, "tcp", "example.com:443")
//
// Names are resolved at the exit; nothing is asked of a local resolver.
package nyx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/carrier/quic"
	"github.com/nyxnet/nyx/internal/carrier/websocket"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/pack"
	"github.com/nyxnet/nyx/internal/proxy"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/wire"
)

// Level is an anonymity level, from the cheapest to the most expensive.
type Level int

// Levels. Standard is the default.
const (
	Standard Level = iota // mixes with 10 ms a hop over 3 mixes, shapes every route
	Fast                  // neither delays nor shapes; hides from single relays only
	High                  // 20 ms a hop over 3 mixes, two regions or more
	Extreme               // 40 ms a hop over 5 mixes, three regions or more
)

var levels = [...]wire.Level{Standard: wire.Standard, Fast: wire.Fast, High: wire.High, Extreme: wire.Extreme}

// Profile says for what kind of machine a client's routes are shaped, which bounds
// what they emit: see Client.SetProfile.
type Profile int

// Profiles. ProfileFull is the default.
const (
	ProfileFull   Profile = iota // from the floor of the level to its ceiling
	ProfileMobile                // 10 to 50 cells per second and direction
	ProfileLow                   // 5: a mobile machine whose screen is off
)

var profiles = [...]wire.Profile{ProfileFull: wire.ProfileFull, ProfileMobile: wire.ProfileMobile, ProfileLow: wire.ProfileLow}

// Priority is a connection's share of what its session carries: while
// connections of several priorities have something to send or to receive, high
// ones get 8 parts, normal ones 4 and low ones 1, and those of one priority share
// evenly. Nothing on any wire shows it; the other end of the session knows it.
type Priority int

// Priorities.
const (
	PriorityNormal Priority = iota
	PriorityHigh
	PriorityLow
)

var lanes = [...]stream.Lane{PriorityNormal: stream.PriorityNormal, PriorityHigh: stream.PriorityHigh, PriorityLow: stream.PriorityLow}

// Carrier is how a client's datagrams reach its entry. With QUIC and WebSocket
// alone none leaves by plain UDP, and only entries that offer them are reached.
type Carrier int

// Carriers. Auto is the default.
const (
	Auto      Carrier = iota // UDP, and where it is blocked QUIC, then WebSocket, until it passes again
	UDP                      // plain datagrams
	QUIC                     // in HTTP/3, on UDP
	WebSocket                // in messages over TLS, on TCP
)

var carriers = [...]struct {
	use   joint.Use
	kinds []joint.Kind
}{
	Auto:      {joint.Auto, []joint.Kind{quicKind, webSocketKind}},
	UDP:       {joint.UDP, nil},
	QUIC:      {joint.Only, []joint.Kind{quicKind}},
	WebSocket: {joint.Only, []joint.Kind{webSocketKind}},
}

var (
	quicKind      = joint.Kind{Kind: directory.CarrierQUIC, Dial: quic.Dial}
	webSocketKind = joint.Kind{Kind: directory.CarrierWebSocket, Dial: websocket.Dial}
)

// Config says which network a client joins, and how.
type Config struct {
	// NetworkFile is the path of the network file: whom to trust, where to ask.
	NetworkFile string
	// Level is the anonymity level; zero is Standard.
	Level Level
	// Profile is what routes are shaped for at first; zero is ProfileFull.
	Profile Profile
	// Class pins the emission rate of shaped routes, in cells per second and
	// direction, whatever the profile; 0 lets it follow use at scheduled reviews.
	Class int
	// Carrier is how datagrams reach an entry; zero is Auto.
	Carrier Carrier
	// Wallet is the directory of unlinkable tokens, which nyx token get fills; "" for
	// none. Networks whose entries ask for tokens admit nobody without.
	Wallet string
}

// Errors by which Dial says why a target was not reached. They are wrapped.
var (
	ErrNotAllowed  = proxy.ErrNotAllowed      // the exit's policy forbids the target
	ErrNetworkDown = proxy.ErrNetworkDown     // the network cannot carry traffic now
	ErrUnreachable = proxy.ErrHostUnreachable // the name does not resolve, or no path leads there
	ErrRefused     = proxy.ErrRefused         // the target refused the connection
	ErrTimeout     = proxy.ErrTTL             // the target did not answer in time
)

// Client is a member of a network. Its methods may be called from any
// goroutine.
type Client struct {
	running   *daemon.Client
	isolation string
	priority  Priority
	codec     *pack.Codec // nil: streams are not compressed
	root      bool
}

// Open joins a network. It returns at once; Dial waits for routes as long as
// its context permits, and Ready tells when they stand.
func Open(cfg Config) (*Client, error) {
	if cfg.Level < 0 || int(cfg.Level) >= len(levels) {
		return nil, fmt.Errorf("nyx: %d is not a level", cfg.Level)
	}
	if cfg.Class < 0 || cfg.Class > 10000 {
		return nil, fmt.Errorf("nyx: class %d is out of range: use 0 to 10000 cells per second", cfg.Class)
	}
	if cfg.Profile < 0 || int(cfg.Profile) >= len(profiles) {
		return nil, fmt.Errorf("nyx: %d is not a profile", cfg.Profile)
	}
	if cfg.Carrier < 0 || int(cfg.Carrier) >= len(carriers) {
		return nil, fmt.Errorf("nyx: %d is not a carrier", cfg.Carrier)
	}
	n, err := setup.LoadNetwork(cfg.NetworkFile)
	if err != nil {
		return nil, err
	}
	running, err := daemon.JoinNetwork(n, client.Config{Level: levels[cfg.Level], Profile: profiles[cfg.Profile], Class: obfs.Class(cfg.Class)},
		cfg.Wallet, carriers[cfg.Carrier].use, carriers[cfg.Carrier].kinds)
	if err != nil {
		return nil, err
	}
	return &Client{running: running, root: true}, nil
}

// SetProfile has routes shaped for another profile, as when a screen goes off. It
// holds from the next full minute of the clock on, so that what is seen of the
// change is not the moment at which the user brought it about. At Fast, where
// nothing is shaped, it changes nothing.
func (c *Client) SetProfile(p Profile) error {
	if p < 0 || int(p) >= len(profiles) {
		return fmt.Errorf("nyx: %d is not a profile", p)
	}
	c.running.SetProfile(profiles[p])
	return nil
}

// Ready waits until traffic can flow. Its error says what is missing.
func (c *Client) Ready(ctx context.Context) error { return c.running.WaitReady(ctx) }

// view returns a copy of the client whose Close does nothing.
func (c *Client) view() *Client {
	v := *c
	v.root = false
	return &v
}

// Isolated returns a view of the client whose streams share no session, and so
// no route and no exit's memory, with streams of another key. Closing it does
// nothing.
func (c *Client) Isolated(key string) *Client {
	v := c.view()
	v.isolation = "sdk\x00" + key
	return v
}

// Prioritized returns a view of the client that dials with a priority, in the
// sessions of the same key. Closing it does nothing.
func (c *Client) Prioritized(p Priority) *Client {
	v := c.view()
	v.priority = p
	return v
}

// SetPriority changes the priority of a connection that a Client dialled or a
// listener accepted, for both directions. If both ends do so at once, one of the
// two holds at both.
func SetPriority(conn net.Conn, p Priority) error {
	c, ok := conn.(interface{ SetLane(stream.Lane) error })
	if !ok || p < 0 || int(p) >= len(lanes) {
		return &net.OpError{Op: "set priority", Net: "nyx", Err: errors.ErrUnsupported}
	}
	return c.SetLane(lanes[p])
}

// Compressed returns a view of the client that asks exits to compress what its
// streams carry, between here and there. Who can put text of its own beside a
// secret in one write, and sees how much is sent, can guess the secret (as in
// CRIME and BREACH): use it for content without secrets, or where nobody else
// chooses what is sent. It does nothing for services, for ports of protocols
// that are encrypted by themselves (443 among them), and at exits that do not
// offer it. Closing the view does nothing.
func (c *Client) Compressed() *Client {
	v := c.view()
	v.codec = &pack.Codec{}
	return v
}

// Dial opens a stream to an address as "host:port", where host is a name, an IP
// address, or the address of a service inside the network. network is "tcp",
// "tcp4" or "tcp6"; the last two are accepted for what the target resolves to
// at the exit. The connection has CloseWrite for half-close.
//
// It has the signature of http.Transport's DialContext.
func (c *Client) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("port " + strconv.Quote(text) + " is not 1 to 65535")}
	}
	if err := c.running.WaitReady(ctx); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	conn, err := c.dial(ctx, host, uint16(port))
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if c.priority != PriorityNormal {
		if err := SetPriority(conn, c.priority); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// dial opens a stream, compressed if that is wished and the exit agrees.
func (c *Client) dial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	if c.codec == nil {
		return c.running.DialStream(ctx, c.isolation, host, port)
	}
	conn, err := c.running.DialCompressed(ctx, c.isolation, host, port)
	if err != nil {
		return nil, err
	}
	if !conn.Compressed {
		return conn, nil
	}
	return c.codec.Conn(conn), nil
}

// Listen offers a service inside the network under a key. It returns when
// callers can find it, or with ctx's error. Its Addr is the host name by which
// others dial it, with any port.
func (c *Client) Listen(ctx context.Context, key *ServiceKey) (net.Listener, error) {
	if err := c.running.WaitReady(ctx); err != nil {
		return nil, &net.OpError{Op: "listen", Net: "nyx", Err: err}
	}
	ln, err := c.running.Listen(key.key)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "nyx", Err: err}
	}
	select {
	case <-ln.Published():
		return ln, nil
	case <-ctx.Done():
		ln.Close()
		return nil, &net.OpError{Op: "listen", Net: "nyx", Err: ctx.Err()}
	}
}

// Close leaves the network. Open connections end.
func (c *Client) Close() error {
	if !c.root {
		return nil
	}
	return c.running.Close()
}
