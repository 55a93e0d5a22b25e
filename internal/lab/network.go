package lab

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/relay"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Plan describes a network of the real cores in the simulator.
type Plan struct {
	Streams, Mixes int // Stream nodes and Mix nodes
	// Level of the clients.
	Level wire.Level
	// Hop is the model of every link. Zero: 1 ms.
	Hop sim.Link
	// Regions are dealt to the nodes in turn; nil is one region for all.
	Regions []string
	// Params are the directory's; zero fields are the defaults.
	Params directory.Params
	// Batches is how nodes and users take datagrams in.
	Batches sim.Batches
	// Ideal makes every processor infinitely fast.
	Ideal bool
	// Gateway, Mix and Client may change a machine's configuration before it starts.
	Gateway func(*gateway.Config)
	Mix     func(*hop.Config)
	Client  func(*client.Config)
	// Wrap may put something around the machine of a node.
	Wrap func(machine.Machine) machine.Machine
}

// costs of a node's processor in the simulator: a datagram as one core of the
// reference machine forwards it (300,000 a second), a set-up as its key
// decapsulation takes.
var nodeCost = sim.Cost{Datagram: 3300 * time.Nanosecond, Job: 150 * time.Microsecond, Workers: 2}

func (w *Network) cost() sim.Cost {
	if w.plan.Ideal {
		return sim.Cost{}
	}
	return nodeCost
}

// The directory's clock in every simulated network.
const directoryEpoch = 500_000

// Network is a whole network in the simulator: Stream nodes, Mix nodes, their
// signed directory, and users.
type Network struct {
	Sim      *sim.Network
	Gateways []*Gateway
	Relays   []*Relay
	Users    []*User
	knockers []*knocker
	View     *directory.View // of all nodes

	plan     Plan
	keys     prng.Source
	signer   *seal.Signer
	nodes    []described
	revision uint32
	fleet    seal.Key
	arrivals map[string]func(machine.Time) // by message, of controls that send once
}

// Gateway is a Stream node with the service behind it.
type Gateway struct {
	Node *sim.Node
	ID   wire.NodeID
	// Service answers what streams ask; see Service.
	Service *Service

	checks  func(now machine.Time) // answers POLICY_CHECKs; nil: there are none
	records func(now machine.Time) // takes what becomes of session records; nil: none are kept
}

// Core returns the running machine, or nil after a crash.
func (g *Gateway) Core() *gateway.Gateway {
	m, _ := unwrap(g.Node.Machine()).(*gateway.Gateway)
	return m
}

// Relay is a Mix node.
type Relay struct {
	Node *sim.Node
	ID   wire.NodeID
}

// Core returns the running machine, or nil after a crash.
func (r *Relay) Core() *relay.Relay {
	m, _ := unwrap(r.Node.Machine()).(*relay.Relay)
	return m
}

// unwrap finds the machine that Plan.Wrap put something around.
func unwrap(m machine.Machine) machine.Machine {
	for {
		w, ok := m.(interface{ Unwrap() machine.Machine })
		if !ok {
			return m
		}
		m = w.Unwrap()
	}
}

// NewNetwork builds a network under the run's seed and starts its nodes.
func (r *Run) NewNetwork(p Plan) (*Network, error) {
	w := &Network{Sim: r.Network(p.Hop), plan: p, keys: r.Source(fmt.Sprint("network ", len(r.networks)))}
	w.keys.Stream("fleet").Read(w.fleet[:])
	var seed [seal.SignSeedSize]byte
	w.keys.Stream("authority").Read(seed[:])
	var err error
	if w.signer, err = seal.NewSigner(&seed); err != nil {
		return nil, err
	}
	for i := range p.Streams {
		if err := w.addStream(i); err != nil {
			return nil, err
		}
	}
	for i := range p.Mixes {
		if err := w.addMix(i); err != nil {
			return nil, err
		}
	}
	w.View, err = w.ViewOf(nil)
	return w, err
}

// nodeKeys makes a node's keys and its signed descriptor.
func (w *Network) nodeKeys(name string, roles directory.Roles, addr netip.AddrPort, region string) (hop.Config, error) {
	var signSeed [seal.SignSeedSize]byte
	var linkSeed, onionSeed [seal.KEMSeedSize]byte
	w.keys.Stream(name + "/sign").Read(signSeed[:])
	w.keys.Stream(name + "/link").Read(linkSeed[:])
	w.keys.Stream(name + "/onion").Read(onionSeed[:])
	signer, err := seal.NewSigner(&signSeed)
	if err != nil {
		return hop.Config{}, err
	}
	link, err := seal.NewKEMPrivate(&linkSeed)
	if err != nil {
		return hop.Config{}, err
	}
	onion, err := seal.NewKEMPrivate(&onionSeed)
	if err != nil {
		return hop.Config{}, err
	}
	d := &directory.Node{
		Version: uint64(directory.Params{}.Begin(directoryEpoch)) - 60,
		Roles:   roles, Addrs: []netip.AddrPort{addr}, Operator: "operator-" + name, Region: region,
		Link:     link.Public().Bytes(),
		Onion:    []directory.OnionKey{{Epoch: directory.Params{}.OnionFrom(directoryEpoch), Key: onion.Public().Bytes()}},
		Capacity: 100_000,
	}
	if roles.Has(directory.RoleExit) {
		d.Exit.Ports = []directory.PortRange{{First: 1, Last: 65535}}
	}
	w.nodes = append(w.nodes, described{node: d, signer: signer})
	if err := w.describe(len(w.nodes)-1, func(*directory.Node) {}); err != nil {
		return hop.Config{}, err
	}
	return hop.Config{Self: directory.NodeID(signer.Public()), Static: link, Onion: onion, Neighbours: w.neighbour, At: w.nodeAt}, nil
}

// neighbour looks a node up in the document of the whole network.
func (w *Network) neighbour(id wire.NodeID) (*seal.KEMPublic, netip.AddrPort, bool) {
	n, ok := w.View.Node(id)
	if !ok {
		return nil, netip.AddrPort{}, false
	}
	key, ok := w.View.Link(id)
	return key, n.Addrs[0], ok
}

// nodeAt looks a node up by its address.
func (w *Network) nodeAt(addr netip.AddrPort) (wire.NodeID, bool) {
	for i := range w.View.Len() {
		if n := w.View.At(i); n.Addrs[0] == addr {
			return n.ID, true
		}
	}
	return wire.NodeID{}, false
}

// nodeAddr gives every node an operator's network of its own.
func nodeAddr(kind byte, i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{kind + byte(i>>8), byte(i), 0, 1}), 9000)
}

// First bytes of addresses.
const (
	streamNet, mixNet, userNet = 40, 60, 100
)

func (w *Network) regionOf(i int) string {
	if len(w.plan.Regions) == 0 {
		return "eu"
	}
	return w.plan.Regions[i%len(w.plan.Regions)]
}

func (w *Network) addStream(i int) error {
	name := fmt.Sprintf("stream-%d", i)
	at, region := nodeAddr(streamNet, i), w.regionOf(i)
	roles := directory.RoleEntry | directory.RoleExit | directory.RoleMeeting
	h, err := w.nodeKeys(name, roles, at, region)
	if err != nil {
		return err
	}
	cfg := gateway.Config{Hop: h, Fleet: &w.fleet}
	cfg.Policy.PerMinute = 1000 // a lab's user is a crowd
	if w.plan.Gateway != nil {
		w.plan.Gateway(&cfg)
	}
	g := &Gateway{ID: h.Self, Service: &Service{Answer: Echo}}
	g.Node = w.Sim.AddNode(sim.NodeConfig{Name: name, Addr: at, Region: region, Cost: w.cost(), Batches: w.plan.Batches,
		New: func(_ machine.Time, rng prng.Source) machine.Machine {
			g.Service.reset()
			return w.wrap(gateway.New(cfg, rng))
		}})
	g.Node.OnStep(func(now machine.Time) {
		core := g.Core()
		discardReplay(core.Table)
		if g.records != nil {
			g.records(now)
		}
		g.Service.step(now, core)
		if g.checks != nil {
			g.checks(now)
		}
	})
	w.Gateways = append(w.Gateways, g)
	return nil
}

func (w *Network) addMix(i int) error {
	name := fmt.Sprintf("mix-%d", i)
	at, region := nodeAddr(mixNet, i), w.regionOf(i)
	h, err := w.nodeKeys(name, directory.RoleMix, at, region)
	if err != nil {
		return err
	}
	if w.plan.Mix != nil {
		w.plan.Mix(&h)
	}
	r := &Relay{ID: h.Self}
	r.Node = w.Sim.AddNode(sim.NodeConfig{Name: name, Addr: at, Region: region, Cost: w.cost(), Batches: w.plan.Batches,
		New: func(_ machine.Time, rng prng.Source) machine.Machine { return w.wrap(relay.New(h, rng)) }})
	r.Node.OnStep(func(machine.Time) { discardReplay(r.Core().Table) })
	w.Relays = append(w.Relays, r)
	return nil
}

func (w *Network) wrap(m machine.Machine) machine.Machine {
	if w.plan.Wrap == nil {
		return m
	}
	return w.plan.Wrap(m)
}

// discardReplay takes the records that a node would keep on disk.
func discardReplay(t *mix.Table) {
	for {
		if _, ok := t.PollReplay(); !ok {
			return
		}
	}
}

// AddUser adds a client that has no directory yet.
func (w *Network) AddUser() *User { return w.AddUserIn(w.regionOf(0)) }

// AddUserIn is AddUser in a region.
func (w *Network) AddUserIn(region string) *User {
	i := len(w.Users)
	cfg := client.Config{Level: w.plan.Level}
	if w.plan.Client != nil {
		w.plan.Client(&cfg)
	}
	u := &User{net: w}
	u.Node = w.Sim.AddNode(sim.NodeConfig{
		Name: fmt.Sprintf("user-%d", i), Addr: nodeAddr(userNet, i), Region: region, Batches: w.plan.Batches,
		New: func(_ machine.Time, rng prng.Source) machine.Machine {
			u.forget()
			return client.New(cfg, rng)
		}})
	u.Node.OnStep(u.step)
	w.Users = append(w.Users, u)
	return u
}

// AddUsers adds clients that have the directory of all nodes.
func (w *Network) AddUsers(count int) {
	for range count {
		u := w.AddUser()
		w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, w.View) })
	}
}

// SetAccess sets the link by which a user reaches a Stream node, and back.
func (w *Network) SetAccess(u *User, g *Gateway, l sim.Link) {
	w.Sim.SetLink(u.Node, g.Node, l)
	w.Sim.SetLink(g.Node, u.Node, l)
}

// counts are those of all nodes and users together.
func (w *Network) counts() (sum trace.Counts) {
	for _, g := range w.Gateways {
		sum.Add(&g.Core().Counts)
	}
	for _, m := range w.Relays {
		sum.Add(&m.Core().Counts)
	}
	for _, u := range w.Users {
		sum.Add(&u.Core().Counts)
	}
	return sum
}

// WaitReady runs until every user has a route, or limit is over.
func (w *Network) WaitReady(limit time.Duration) error {
	end := w.Sim.Now().Add(limit)
	next := 0
	all := w.Sim.RunWhile(end, func() bool {
		for next < len(w.Users) && (!w.Users[next].Node.Up() || w.Users[next].Core().Ready()) {
			next++
		}
		return next < len(w.Users)
	})
	if !all {
		return fmt.Errorf("user %d has no route after %v: %w", next, limit, w.Users[next].Core().LastError())
	}
	return nil
}

// WaitReadyOrOpen waits like WaitReady for users that build no routes ahead: it
// has each of them open the session "a" with a first request.
func (w *Network) WaitReadyOrOpen(limit time.Duration) error {
	answered := 0
	for _, u := range w.Users {
		u.Ask("a", []byte("hello"), func(_ machine.Time, _ []byte, err error) {
			if err == nil {
				answered++
			}
		})
	}
	if !w.Sim.RunWhile(w.Sim.Now().Add(limit), func() bool { return answered < len(w.Users) }) {
		return fmt.Errorf("%d of %d users have a session after %v", answered, len(w.Users), limit)
	}
	return nil
}
