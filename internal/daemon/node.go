package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/udp"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/records"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/exit"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/pass"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/relay"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/telemetry/span"
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
	// Fleet is the fleet key of a Stream node, which the node owns if LoadFleet is
	// not nil: it returns the key that is present, and when it was put in its place.
	Fleet     *seal.Key
	LoadFleet func() (key *seal.Key, placed time.Time, err error)
	// StateDir is where the record of accepted set-ups and the mark of the newest
	// document are kept; "" for none, which is sound only if the onion keys end
	// with the process.
	StateDir string

	Trust       directory.Trust
	Directories []string      // URLs of authorities
	Replicas    []string      // URLs of replicas, which are asked first
	Controls    []string      // URLs of the control plane, which is told of events, asked for decisions, and whose configuration is followed; none: there is none
	Poll        time.Duration // of the directory; 0 is the default

	// Policy is that of a Stream node. Where there are Controls, decisions of admission
	// are theirs to make, under it; else the node decides by it alone.
	Policy control.Policy
	// Issuer is the public key of who issues unlinkable tokens, nil for nobody;
	// PassesRequired says that nobody is admitted without. Stream nodes.
	Issuer         []byte
	PassesRequired bool
	// Records are the session records that the fleet shares, which the node owns from
	// its start on; nil: it keeps none. Stream nodes.
	Records records.Store
	Exit    directory.ExitPolicy // Stream nodes
	Stream  stream.Config        // Stream nodes
	// Compress is how an exit compresses streams that ask for it; nil: not at all.
	Compress Compressor
	// Carriers are those that an entry has beside UDP.
	Carriers EntryCarriers
	Class    obfs.Class // pins the emission class of shaped routes
	// Probe is how the node probes the network, if it is an entry; Spans takes what
	// traces are made of (docs/telemetry.md), nil: nobody.
	Probe ProbeConfig
	Spans span.Recorder
	Clock *drive.Clock // nil: a new one
	Ways  int          // as drive.Config.Ways
	// Workers are shared by the nodes of one process; nil: the node's own.
	Workers *drive.Workers
	Sink    trace.Sink
	Log     *slog.Logger // nil: none
	// Level is that of the log, which the configuration of the network may change;
	// nil: it may not.
	Level *slog.LevelVar

	// Telemetry posts a body to the control plane, at telemetry.ReportPath, and returns
	// when it is taken; nil: as Controls say.
	Telemetry func(ctx context.Context, body []byte) error

	client *http.Client // for tests; nil asks directories directly
}

// Node is a running node.
type Node struct {
	cfg      NodeConfig
	host     *drive.Host
	stats    func() trace.Counts
	table    *mix.Table
	links    *link.Endpoint
	delays   delays                // to other regions
	sessions func() []stream.Stats // Stream nodes
	gateway  *gateway.Gateway      // likewise, under the host's lock
	measured *trace.Distributions  // of their sessions, under the host's lock; nil: no Stream node
	onions   *onions
	replay   *replayLog
	spent    *spentLog  // of a Stream node that takes unlinkable tokens; else nil
	passKeys *pass.Keys // the issuer's, of who follows them
	// rotateFleet replaces the fleet key, under the host's lock; nil: no Stream node.
	rotateFleet func(machine.Time, *seal.Key)
	reloads     reloads
	turning     sync.Mutex // one turn of onion keys at a time
	unpruned    bool       // keys have gone, and their records not yet; under turning
	health
	drain    func()
	exit     *exit.Exit
	view     *directory.View                // under the host's lock
	byAddr   map[netip.AddrPort]wire.NodeID // of view, once it was asked for; likewise
	signedAt atomic.Int64                   // second by which the newest document was signed
	cancel   context.CancelFunc
	running  sync.WaitGroup
	listed   chan struct{} // closed when the directory lists this node
	changed  chan struct{} // the descriptor must be made anew
	leaves   atomic.Bool   // it is about to stop
	left     sync.Once     // and the directory says so
	version  uint64        // of the last descriptor, of who publishes
	forgot   chan string   // a directory server that has restarted
	id       wire.NodeID
	keeper   *keeper       // of a Stream node
	asker    *mirror.Asker // nil without replicas
	carriers carriers
	gauge    gauge
	strain   strain
	checks   checks        // of the policy
	register *registrar    // nil: no session records
	drained  chan struct{} // the authorities are to hear that the node drains
	teller   *teller       // nil: no control plane
	settings Settings
	opens    atomic.Pointer[directory.ExitPolicy] // of an exit, if it is not cfg.Exit
	settler  *settler                             // nil without a control plane
	prober   *prober                              // nil: it does not probe
}

// StartNode runs a node: its machine on a socket, its descriptor with the
// directory, and its view of the network kept up to date.
func StartNode(cfg NodeConfig, rng prng.Source) (*Node, error) {
	n := &Node{cfg: cfg, listed: make(chan struct{}), changed: make(chan struct{}, 1), forgot: make(chan string), drained: make(chan struct{}, 1), health: health{log: logOrNone(cfg.Log)}, id: directory.NodeID(cfg.Identity.Public())}
	var err error
	if n.onions, err = newOnions(cfg.Onions, cfg.Params, time.Now().Unix()); err != nil {
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	conn, err := udp.Listen(cfg.Listen, udp.Options{})
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	if n.teller, err = newTeller(tellerConfig{network: cfg.Network, signer: cfg.Identity, controls: cfg.Controls, dir: cfg.StateDir, name: "node", log: cfg.Log}); err != nil {
		conn.Close()
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	cfg.Sink = n.teller.sink(cfg.Sink)
	if cfg.Clock == nil {
		cfg.Clock = drive.NewClock()
	}
	n.cfg.Clock = cfg.Clock
	if cfg.Stream.UnixStart == 0 {
		cfg.Stream.UnixStart = cfg.Clock.At(0).Unix()
	}
	accepted := n.onions.accepted()
	hopConfig := hop.Config{Self: n.id, Static: cfg.Link, Onion: accepted[len(accepted)-1], Neighbours: n.neighbour, At: n.nodeAt, Sink: cfg.Sink, Lost: n.teller.neighbourLost}
	var m machine.Machine
	var side *tunnel.Side
	if cfg.Roles.Has(directory.RoleMix) {
		r := relay.New(hopConfig, rng)
		m, n.stats, n.drain, n.table, n.links = r, r.Stats, func() {}, r.Table, r.Links
	} else {
		n.checks.come = make(chan struct{}, 1)
		if cfg.Policy.Central = n.teller != nil; cfg.Policy.Central {
			n.checks.ask = n.teller.policy
		}
		n.passRule(&cfg.Policy)
		own, steps := n.probe(rng.Child("probes"))
		g := gateway.New(gateway.Config{
			Own: own, Steps: steps,
			Hop: hopConfig, Policy: cfg.Policy, Fleet: cfg.Fleet, Stream: cfg.Stream, Class: cfg.Class, Region: cfg.Region, Capacity: cfg.Capacity, Sink: cfg.Sink, Records: cfg.Records != nil,
		}, rng)
		n.register = newRegistrar(cfg.Records, func(err error) { n.note(sharing, err) })
		n.keeper = &keeper{id: n.id, clock: cfg.Clock, draw: rng.Stream("keeper")}
		n.gateway, n.sessions, n.rotateFleet = g, g.Figures, g.RotateFleet
		exiting := exit.Config{Policy: exit.Policy{AllowPrivate: cfg.Exit.Private, Ports: cfg.Exit.Allows}, Services: map[string]func(*tunnel.Conn){keeperHost: n.keeper.serve}}
		if cfg.Compress != nil {
			exiting.Compress = cfg.Compress.Content
		}
		n.exit, n.measured = exit.New(exiting), &g.Distributions
		side = tunnel.NewSide(g, n.exit.Serve)
		m, n.stats, n.drain, n.table, n.links = g, g.Stats, g.Drain, g.Table, g.Links
	}
	if len(accepted) > 1 {
		n.table.RotateOnion(0, accepted[0])
	}
	var carrier drive.Carrier
	if n.carriers, carrier, err = startCarriers(&cfg, conn, front.Path(n.id)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	if cfg.StateDir != "" {
		held, err := cfg.Onions.Held()
		if err == nil {
			n.replay, err = openReplay(cfg.StateDir, accepted, held, n.table)
		}
		if err != nil {
			n.carriers.close()
			conn.Close()
			return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
		}
		carrier = recorded{carrier, n.replay, func(err error) { n.note(recording, err) }}
	}
	if n.spent, err = n.openPasses(); err != nil {
		n.carriers.close()
		carrier.Close()
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	if n.spent != nil {
		carrier = spentFirst{carrier, n.spent, func(err error) { n.note(spending, err) }}
	}
	n.host, err = drive.Start(drive.Config{
		Name: cfg.Name, Machine: m, Carrier: carrier, Clock: cfg.Clock, Workers: cfg.Workers, Ways: cfg.Ways, AfterRound: n.after(side),
	})
	if err != nil {
		n.carriers.close()
		carrier.Close()
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	if side != nil {
		side.Attach(n.host)
	}
	return n, n.join()
}

// heldMax bounds the rounds in a row for which the application is kept waiting
// for the record of set-ups.
const heldMax = 8

// after is the hook of the node's host: it takes new set-ups to the record, and
// lets the application hear of what came with them when they are on it, which is
// in the next round.
func (n *Node) after(side *tunnel.Side) func(machine.Time) {
	held := 0
	return func(now machine.Time) {
		waits := n.replay.take(n.table)
		if side == nil {
			return
		}
		n.collect(now)
		if n.register != nil {
			n.register.collect(n.gateway.PollRecords())
		}
		n.spent.take(n.gateway)
		if waits && held < heldMax {
			held++
			return
		}
		if waits {
			if err := n.replay.write(); err != nil {
				n.note(recording, err)
			}
		}
		held = 0
		side.AfterRound(now)
	}
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

// nodeAt looks a node up by its address.
func (n *Node) nodeAt(addr netip.AddrPort) (wire.NodeID, bool) {
	if n.byAddr == nil && n.view != nil {
		n.byAddr = make(map[netip.AddrPort]wire.NodeID, n.view.Len())
		for i := range n.view.Len() {
			node := n.view.At(i)
			for _, a := range node.Addrs {
				n.byAddr[a] = node.ID
			}
		}
	}
	id, ok := n.byAddr[addr]
	return id, ok
}

// join publishes the node's descriptor and follows the directory.
func (n *Node) join() error {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	feed, err := newFeed(feedConfig{
		trust: n.cfg.Trust, urls: n.cfg.Directories, poll: n.cfg.Poll, dir: n.cfg.StateDir, mark: "node.newest",
		client: n.cfg.client, deliver: n.takeView, report: n.reports(),
		restarted: func(url string) {
			select {
			case n.forgot <- url:
			case <-ctx.Done():
			}
		},
	})
	if err != nil {
		cancel()
		n.host.Close()
		n.carriers.close()
		return fmt.Errorf("node %s: %w", n.cfg.Name, err)
	}
	if len(n.cfg.Replicas) > 0 {
		if n.asker, err = newAsker(n.cfg.Replicas, n.cfg.Directories, n.cfg.client, systemEntropy().Stream("asker"), n.cfg.Log); err != nil {
			cancel()
			n.host.Close()
			n.carriers.close()
			return fmt.Errorf("node %s: %w", n.cfg.Name, err)
		}
		feed.read(n.asker, nil)
	}
	if n.gateway != nil {
		l, err := n.listener()
		if err != nil {
			cancel()
			n.host.Close()
			n.carriers.close()
			return fmt.Errorf("node %s: %w", n.cfg.Name, err)
		}
		l.every, l.plan = directory.RoundLength, n.takePlan
		n.running.Go(func() { l.run(ctx) })
	}
	n.teller.tell(audit.Event{Kind: audit.AdminAction, Action: "start", Subject: n.cfg.Name})
	n.note(listing, errNotListed)
	n.running.Go(func() { feed.run(ctx, func(err error) { n.note(following, err) }) })
	n.running.Go(func() { n.rotate(ctx) })
	n.running.Go(func() { n.keepPublished(ctx) })
	n.startStrain(ctx)
	n.running.Go(func() { n.keepReporting(ctx) })
	if n.checks.ask != nil {
		n.running.Go(func() { n.keepChecking(ctx) })
	}
	if n.register != nil {
		n.running.Go(func() { n.register.run(ctx) })
	}
	if n.prober != nil {
		n.running.Go(func() { n.prober.run(ctx) })
	}
	if n.gateway != nil && n.cfg.Issuer != nil {
		n.running.Go(func() { n.followPassKeys(ctx) })
	}
	if n.teller != nil {
		n.settler = newSettler(hex.EncodeToString(n.id[:]), n.roleOf(), n.cfg.StateDir, n.subscribers(), n.Err, n.log)
		n.settler.traces = newTracer(n.cfg.Name, n.cfg.Spans)
		n.running.Go(func() { n.follow(ctx) })
	}
	return nil
}

// listener follows bulletins, for the cover plans in them.
func (n *Node) listener() (*listener, error) {
	asker, err := newAsker(n.cfg.Replicas, n.cfg.Directories, n.cfg.client, systemEntropy().Stream("bulletins"), n.cfg.Log)
	if err != nil {
		return nil, err
	}
	return newListener(n.cfg.Trust, asker)
}

// reports has what is found of the authorities told to the control plane.
func (n *Node) reports() *reporter {
	r := newReporter(&n.cfg.Trust, n.cfg.StateDir, nil)
	r.tell = n.teller.evidence
	return r
}

// republish is how often a new descriptor is made: the authorities forget those
// that are two days old.
const republish = time.Hour

// keepPublished has every directory server hold the node's descriptor: a new
// one in time and when it has changed, the same again for a server that could
// not be reached or has restarted. Every new one makes a new document.
func (n *Node) keepPublished(ctx context.Context) {
	client := n.cfg.client
	if client == nil {
		client = newHTTP()
	}
	defer client.CloseIdleConnections()
	var descriptor []byte
	var lacking []string // servers
	var made time.Time
	for failures := 0; ; {
		var err error
		if descriptor == nil {
			made, lacking = time.Now(), n.cfg.Directories
			descriptor, err = n.descriptor()
		}
		if err == nil {
			lacking, err = publish(ctx, client, lacking, descriptor)
		}
		wait := republish - time.Since(made)
		if ctx.Err() == nil {
			n.note(publishing, err)
		}
		if failures++; err == nil {
			failures = 0
		} else {
			wait = min(wait, feedFirst<<min(failures, 8), feedPoll)
		}
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
			descriptor = nil
		case url := <-n.forgot:
			lacking = append(lacking, url)
		case <-time.After(wait):
			if time.Since(made) >= republish {
				descriptor = nil
			}
		}
	}
}

func (n *Node) descriptor() ([]byte, error) {
	at := n.cfg.Advertise
	if !at.IsValid() {
		at = n.host.Addr()
	}
	n.version = max(uint64(time.Now().Unix()), n.version+1) // later than the last, within a second too
	d := &directory.Node{
		Version:  n.version,
		Roles:    n.cfg.Roles,
		Addrs:    []netip.AddrPort{at},
		Operator: n.cfg.Operator,
		Region:   n.cfg.Region,
		Label:    n.cfg.Label,
		Link:     n.cfg.Link.Public().Bytes(),
		Onion:    n.onions.published(),
		Capacity: n.capacity(),
		Carriers: n.carriers.offered,
	}
	if n.cfg.Roles.Has(directory.RoleExit) {
		d.Exit = n.exitPolicy()
	}
	return directory.SignDescriptor(n.cfg.Identity, n.cfg.Network, d)
}

func (n *Node) takeView(v *directory.View) {
	n.host.Do(func(machine.Time) { n.view, n.byAddr = v, nil })
	n.signedAt.Store(v.Document().Now(0))
	n.log.Debug("directory document", "epoch", v.Document().Epoch, "revision", v.Document().Revision, "nodes", v.Len())
	own, ok := v.Node(n.id)
	if !ok {
		n.note(listing, errNotListed)
		return
	}
	if n.leaves.Load() && own.Capacity == 0 {
		n.left.Do(func() { n.log.Info("the directory says that this node leaves") })
	}
	n.note(listing, nil)
	select {
	case <-n.listed:
	default:
		close(n.listed)
	}
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
	addAhead(&c, n.host.Snapshot().Ahead)
	return c
}

// Distributions returns what the node has measured of its sessions.
func (n *Node) Distributions() (d trace.Distributions) {
	n.host.Do(func(machine.Time) {
		if n.measured != nil {
			d = *n.measured
		}
	})
	return d
}

// addAhead adds what a host counts to what its machine does.
func addAhead(c *trace.Counts, s drive.AheadStats) {
	c[trace.ReorderCorrections] += s.Corrections
	c[trace.ReorderThreshold] += s.Held
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
	err := errors.Join(n.host.Close(), n.carriers.close())
	n.running.Wait()
	n.replay.take(n.table) // of the last round; nobody else has the table now
	n.spent.take(n.gateway)
	return errors.Join(err, n.replay.close(), n.register.close(), n.spent.close(), n.teller.close(audit.Event{Kind: audit.AdminAction, Action: "stop", Subject: n.cfg.Name}))
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
