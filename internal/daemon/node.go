package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/udp"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/exit"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/relay"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

// NodeConfig is one Mix node or Stream node.
type NodeConfig struct {
	Name      string // for people
	Network   string
	Roles     directory.Roles
	Listen    netip.AddrPort
	Advertise netip.AddrPort // zero: the address that Listen got
	Operator  string
	Region    string
	Label     string // network label, for addresses that do not tell one
	Capacity  uint32

	Identity *seal.Signer
	Link     *seal.KEMPrivate
	Onions   OnionKeys
	Params   directory.Params
	Fleet    *seal.Key // Stream nodes
	// StateDir is where the record of accepted set-ups is kept; "" for none,
	// which is sound only if the onion keys end with the process.
	StateDir string

	Trust       directory.Trust
	Directories []string      // URLs
	Poll        time.Duration // of the directory; 0 is the default

	Policy control.Policy       // Stream nodes
	Exit   directory.ExitPolicy // Stream nodes
	Stream stream.Config        // Stream nodes
	Class  obfs.Class           // pins the emission class of shaped routes
	Clock  *drive.Clock         // nil: a new one
	// Workers are shared by the nodes of one process; nil: the node's own.
	Workers *drive.Workers
	Sink    trace.Sink
}

// Node is a running node.
type Node struct {
	cfg      NodeConfig
	host     *drive.Host
	stats    func() trace.Counts
	table    *mix.Table
	sessions func() []stream.Stats // Stream nodes
	onions   *onions
	replay   *replayFile
	drain    func()
	exit     *exit.Exit
	view     *directory.View // under the host's lock
	cancel   context.CancelFunc
	running  sync.WaitGroup
	err      atomic.Pointer[error]
	listed   chan struct{} // closed when the directory lists this node
	id       wire.NodeID
	keeper   *keeper // of a Stream node
}

// errNotListed is the state of a node that no document names yet.
var errNotListed = errors.New("the directory does not list this node yet")

// StartNode runs a node: its machine on a socket, its descriptor with the
// directory, and its view of the network kept up to date.
func StartNode(cfg NodeConfig, rng prng.Source) (*Node, error) {
	n := &Node{cfg: cfg, listed: make(chan struct{}), id: directory.NodeID(cfg.Identity.Public())}
	var onion *seal.KEMPrivate
	var err error
	if n.onions, onion, err = newOnions(cfg.Onions, cfg.Params, time.Now().Unix()); err != nil {
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	conn, err := udp.Listen(cfg.Listen, udp.Options{})
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	if cfg.Clock == nil {
		cfg.Clock = drive.NewClock()
	}
	if cfg.Stream.UnixStart == 0 {
		cfg.Stream.UnixStart = cfg.Clock.At(0).Unix()
	}
	hopConfig := hop.Config{Self: n.id, Static: cfg.Link, Onion: onion, Neighbours: n.neighbour, Sink: cfg.Sink}
	var m machine.Machine
	var side *tunnel.Side
	if cfg.Roles.Has(directory.RoleMix) {
		r := relay.New(hopConfig, rng)
		m, n.stats, n.drain, n.table = r, r.Stats, func() {}, r.Table
	} else {
		g := gateway.New(gateway.Config{
			Hop: hopConfig, Policy: cfg.Policy, Fleet: cfg.Fleet, Stream: cfg.Stream, Class: cfg.Class, Sink: cfg.Sink,
		}, rng)
		n.keeper = &keeper{id: n.id, clock: cfg.Clock, draw: rng.Stream("keeper")}
		n.sessions = g.Figures
		n.exit = exit.New(exit.Config{Policy: exit.Policy{AllowPrivate: cfg.Exit.Private, Ports: cfg.Exit.Allows}, Services: map[string]func(*tunnel.Conn){keeperHost: n.keeper.serve}})
		side = tunnel.NewSide(g, n.exit.Serve)
		m, n.stats, n.drain, n.table = g, g.Stats, g.Drain, g.Table
	}
	if cfg.StateDir != "" {
		if n.replay, err = openReplay(cfg.StateDir, n.table); err != nil {
			conn.Close()
			return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
		}
	}
	after := func(now machine.Time) {
		if err := n.replay.drain(n.table); err != nil {
			n.setErr(fmt.Errorf("cannot record set-ups, so that a restart may accept them again: %w", err))
		}
		if side != nil {
			side.AfterRound(now)
		}
	}
	n.host, err = drive.Start(drive.Config{
		Name: cfg.Name, Machine: m, Carrier: conn, Clock: cfg.Clock, Workers: cfg.Workers, AfterRound: after,
	})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	if side != nil {
		side.Attach(n.host)
	}
	return n, n.join()
}

// neighbour looks a node up in the newest document. The host's lock is held.
func (n *Node) neighbour(id wire.NodeID) (*seal.KEMPublic, netip.AddrPort, bool) {
	if n.view == nil {
		return nil, netip.AddrPort{}, false
	}
	node, ok := n.view.Node(id)
	if !ok {
		return nil, netip.AddrPort{}, false
	}
	key, ok := n.view.Link(id)
	return key, node.Addrs[0], ok
}

// join publishes the node's descriptor and follows the directory.
func (n *Node) join() error {
	feed, err := newFeed(n.cfg.Trust, n.cfg.Directories, n.cfg.Poll, n.takeView)
	if err != nil {
		n.host.Close()
		return fmt.Errorf("node %s: %w", n.cfg.Name, err)
	}
	n.setErr(errNotListed)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	changed := make(chan struct{}, 1)
	n.running.Add(3)
	go func() { defer n.running.Done(); feed.run(ctx, n.setErr) }()
	go func() { defer n.running.Done(); n.rotate(ctx, changed) }()
	go func() { defer n.running.Done(); n.keepPublished(ctx, changed) }()
	return nil
}

// republish is how often a descriptor is posted again: the authorities forget
// descriptors that are a day old.
const republish = time.Hour

// keepPublished publishes the descriptor, again when it has changed, and again
// soon when an authority could not be reached.
func (n *Node) keepPublished(ctx context.Context, changed <-chan struct{}) {
	for failures := 0; ; {
		wait := republish
		descriptor, err := n.descriptor()
		if err == nil {
			err = publish(ctx, n.cfg.Directories, descriptor)
		}
		if failures++; err == nil {
			failures = 0
		} else {
			n.setErr(err)
			wait = min(feedFirst<<min(failures, 8), feedPoll)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(wait):
		}
	}
}

func (n *Node) descriptor() ([]byte, error) {
	at := n.cfg.Advertise
	if !at.IsValid() {
		at = n.host.Addr()
	}
	d := &directory.Node{
		Version:  uint64(time.Now().Unix()),
		Roles:    n.cfg.Roles,
		Addrs:    []netip.AddrPort{at},
		Operator: n.cfg.Operator,
		Region:   n.cfg.Region,
		Label:    n.cfg.Label,
		Link:     n.cfg.Link.Public().Bytes(),
		Onion:    n.onions.published(),
		Capacity: n.cfg.Capacity,
	}
	if n.cfg.Roles.Has(directory.RoleExit) {
		d.Exit = n.cfg.Exit
	}
	return directory.SignDescriptor(n.cfg.Identity, n.cfg.Network, d)
}

func (n *Node) takeView(v *directory.View) {
	n.host.Do(func(machine.Time) { n.view = v })
	if _, ok := v.Node(n.id); ok {
		select {
		case <-n.listed:
		default:
			close(n.listed)
		}
	}
}

func (n *Node) setErr(err error) { n.err.Store(&err) }

// Err is why the node cannot work fully, or nil.
func (n *Node) Err() error {
	if p := n.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Listed is closed when the directory lists the node.
func (n *Node) Listed() <-chan struct{} { return n.listed }

// Addr is the address of the node's socket.
func (n *Node) Addr() netip.AddrPort { return n.host.Addr() }

// ID is the node's id.
func (n *Node) ID() wire.NodeID { return n.id }

// Stats returns the node's counters.
func (n *Node) Stats() (c trace.Counts) {
	n.host.Do(func(machine.Time) { c = n.stats() })
	return c
}

// Done is closed when the node has stopped by itself; Failure says why.
func (n *Node) Done() <-chan struct{} { return n.host.Done() }

// Failure is why the node stopped by itself.
func (n *Node) Failure() error { return n.host.Err() }

// Close stops the node: new sessions are refused, streams end, the socket
// closes.
func (n *Node) Close() error {
	n.host.Do(func(machine.Time) { n.drain() })
	n.cancel()
	if n.exit != nil {
		n.exit.Close()
	}
	err := n.host.Close()
	n.running.Wait()
	n.replay.close()
	return err
}

// Sessions returns the figures of the sessions that end here, oldest first.
func (n *Node) Sessions() (out []stream.Stats) {
	if n.sessions != nil {
		n.host.Do(func(machine.Time) { out = n.sessions() })
	}
	return out
}

// Load returns what the node's host has done.
func (n *Node) Load() drive.Stats { return n.host.Snapshot() }
