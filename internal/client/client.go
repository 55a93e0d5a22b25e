// Package client is the user's end: it is admitted by entries, draws routes
// from the signed directory with its own randomness, builds them ahead of
// need, and runs sessions across them.
//
// A session belongs to one isolation key and has routes of its own to one
// exit, at least two, so that streams of different keys meet nowhere but in
// this process.
package client

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Config is what a client wants of the network.
type Config struct {
	Level wire.Level
	// Class pins the emission class of shaped routes; 0 lets it move.
	Class obfs.Class
	// Profile is for what kind of machine routes are shaped. HandleParams changes it.
	Profile wire.Profile
	// PlansUnchecked has every cover plan followed: see obfs.Plans.
	PlansUnchecked bool
	// RoutesPerSession is how many routes a session holds; 0 means 2, the
	// least with which it survives the loss of one; at most 5.
	RoutesPerSession int
	// Ahead is how many sessions' routes are built before they are asked for;
	// 0 means 1, negative none.
	Ahead int
	// QoS is what routes are for: short delays, or capacity to spare.
	QoS directory.QoS
	// RouteTTL is the life of a route; 0 means directory.RouteTTL.
	RouteTTL time.Duration
	// NoTickets has sessions begin without tickets, as they do at HIGH and EXTREME:
	// a ticket tells the fleet's nodes that two sessions are of one client.
	NoTickets bool
	// NetworkKey is the network's pre-shared key, if it has one.
	NetworkKey *seal.Key
	// Passes says that entries admit by unlinkable tokens only: routes then enter where
	// the client has some (HandlePasses).
	Passes bool
	// HighPorts and LowPorts are the ports of targets whose streams are opened in
	// the high and the low lane of their session. The exit learns of the lane,
	// which with other ports than everybody's is a mark of this client. nil
	// HighPorts means DefaultHighPorts.
	HighPorts, LowPorts []directory.PortRange
	// Region is where the user is, as the directory names regions; routes then
	// enter there if they can, so that a path crosses no border before it begins.
	// "" means anywhere.
	Region string
	// Credulous has the client leave no route and no node for what becomes of
	// cells: a control of tests.
	Credulous bool
	// Unrepaired has cells stay lost that entries miss: a control of tests.
	Unrepaired bool
	// Moving has classes follow use where the level pins them: a control of tests.
	Moving bool
	// Patient has the client do nothing about routes that pause until they are
	// given up: a control of tests.
	Patient bool
	Stream  stream.Config // Level is set from above
	Sink    trace.Sink
	// Entry is the Stream node by which every route enters, if it is not zero. The
	// client asks it for admission as soon as the directory lists it.
	Entry wire.NodeID
	// Steps hears of the steps by which a session comes about (trace.StepInit and on).
	// It is for probes: what it hears names the nonce by which an entry knows them.
	Steps trace.Sink
}

const (
	defaultRoutes = 2
	defaultAhead  = 1
)

// DefaultHighPorts are those of remote shells and screens, where a person waits
// for each byte: ssh, RDP and VNC.
var DefaultHighPorts = []directory.PortRange{{First: 22, Last: 22}, {First: 3389, Last: 3389}, {First: 5900, Last: 5909}}

// lane is that of streams to a port.
func (c *Config) lane(port uint16) stream.Lane {
	in := func(r directory.PortRange) bool { return r.Has(port) }
	switch {
	case slices.ContainsFunc(c.HighPorts, in):
		return stream.PriorityHigh
	case slices.ContainsFunc(c.LowPorts, in):
		return stream.PriorityLow
	}
	return stream.PriorityNormal
}

func (c Config) withDefaults() Config {
	if c.HighPorts == nil {
		c.HighPorts = DefaultHighPorts
	}
	if c.RoutesPerSession == 0 {
		c.RoutesPerSession = defaultRoutes
	}
	c.RoutesPerSession = min(c.RoutesPerSession, stream.MaxPaths-1) // one place is for replacements
	if c.Ahead == 0 {
		c.Ahead = defaultAhead
	}
	if c.RouteTTL == 0 {
		c.RouteTTL = directory.RouteTTL
	}
	c.Stream.Level = c.Level
	if !c.NoTickets && c.Level <= wire.Standard {
		c.Stream.Optional = append(slices.Clone(c.Stream.Optional), wire.CapTickets)
	}
	return c
}

// ErrNoDirectory means that no directory document has been verified yet.
var ErrNoDirectory = errors.New("client: no verified directory yet")

// Client is a machine (see machine.Machine).
type Client struct {
	*session.Set[*circuit]

	Pool          wire.Pool
	Counts        trace.Counts
	Distributions trace.Distributions // of sessions and routes

	cfg    Config
	rng    prng.Source
	paths  *prng.Stream
	plans  *prng.Stream
	leaves *prng.Stream
	secret [32]byte // pseudonyms towards entries derive from it
	links  *link.Endpoint
	view   *directory.View
	// conditions are what is known of the nodes now; nil: nothing.
	conditions *directory.Conditions
	forget     machine.Timer[func(machine.Time)]
	entries    map[wire.NodeID]*entry
	byLink     map[link.ID]*entry
	routes     map[routeKey]*route
	jobs       []machine.Job
	timers     machine.Timers[func(machine.Time)]
	slots      machine.Timers[*route]
	cover      obfs.Plans
	weights    *prng.Stream

	ahead    []*circuit // built before need, oldest first
	circuits map[circuitKey]*circuit
	tickets  map[circuitKey]*stream.Ticket // of sessions that broke
	passes   map[wire.NodeID][]wire.Pass   // to be spent, by entry
	passing  *prng.Stream                  // draws the entries for which some are to be had
	hosted   []*hosted                     // services that this client offers
	refusing avoidance                     // entries that refused of late
	mute     avoidance                     // entries by which nothing came since a set-up was sent
	dead     avoidance                     // exits that died of late
	suspects avoidance                     // nodes found out by what became of cells
	failing  avoidance                     // hops at which set-ups failed of late
	abroad   []wire.NodeID                 // entries of other regions than the user's
	tries    []tried                       // what became of set-ups, by the ends of their routes
	blames   ledger                        // what speaks against nodes, until it is enough
	shunned  []wire.NodeID                 // suspects that routes are to leave at the next timer
	shunning machine.Timer[func(machine.Time)]

	serial    uint64
	batch     []opened
	handle    uint32 // of the last session
	packet    [wire.SessionPacketSize]byte
	setups    span         // what set-ups took
	failures  int          // set-ups that failed in a row
	setFailed uint64       // and ever
	unheard   int          // of them, those since which nothing at all came back
	failedAt  machine.Time // the last of them
	heard     machine.Time // the last cell of any route
	lastError error        // why the last one failed
	plan      machine.Timer[func(machine.Time)]
	watcher   machine.Timer[func(machine.Time)]
	profiling machine.Timer[func(machine.Time)] // a change of profile
	probes    *prng.Stream
}

// New returns a client. It does nothing until it has a directory.
func New(cfg Config, rng prng.Source) *Client {
	c := &Client{
		Set:      session.NewSet[*circuit](),
		cfg:      cfg.withDefaults(),
		rng:      rng,
		paths:    rng.Stream("paths"),
		plans:    rng.Stream("plans"),
		leaves:   rng.Stream("leaves"),
		probes:   rng.Stream("probes"),
		weights:  rng.Stream("weights"),
		cover:    obfs.Plans{UnixStart: cfg.Stream.UnixStart, Unchecked: cfg.PlansUnchecked},
		entries:  map[wire.NodeID]*entry{},
		byLink:   map[link.ID]*entry{},
		routes:   map[routeKey]*route{},
		circuits: map[circuitKey]*circuit{},
		tickets:  map[circuitKey]*stream.Ticket{},
		passes:   map[wire.NodeID][]wire.Pass{},
		passing:  rng.Stream("passes"),
	}
	c.cfg.Stream.Distributions = &c.Distributions
	rng.Stream("pseudonyms").Read(c.secret[:])
	c.links = link.New(link.Config{Keep: obfs.PolicyOf(cfg.Level).For(cfg.Profile).Reserve}, rng.Child("link"), &c.Pool, &c.Counts)
	c.plan.Value, c.watcher.Value = c.buildAhead, c.watch
	c.forget.Value = func(machine.Time) { c.conditions = nil }
	return c
}

// SetView gives the client a verified directory, the first or a newer one.
func (c *Client) SetView(now machine.Time, v *directory.View) {
	changed := c.view != v
	if c.view = v; changed {
		c.abroad = c.entriesAbroad()
		c.moveAway(now)
		c.enter(now)
	}
	if c.cfg.Level != wire.Fast && c.watcher.At() == machine.Never {
		c.timers.Set(&c.watcher, now.Add(watchEvery))
	}
	c.timers.Set(&c.plan, now)
}

// add takes in a session under a handle of our own: connection ids come from
// several services' callers and from ourselves, and whether one is taken by
// another must show in nothing that a caller can see.
func (c *Client) add(core *stream.Session, k *circuit) *session.Member[*circuit] {
	c.handle++
	return c.AddAs(c.handle, core, k)
}

// child returns a source of randomness for the next thing of a kind.
func (c *Client) child(kind string) prng.Source {
	c.serial++
	return c.rng.Child(kind + "/" + strconv.FormatUint(c.serial, 10))
}

// Open opens a stream to a target in the session of an isolation key, which is
// started if there is none. The exit's answer is the stream's first byte.
func (c *Client) Open(now machine.Time, isolation string, t wire.Target) (session.Ref, error) {
	k, err := c.circuitFor(now, isolation)
	if err != nil {
		return session.Ref{}, err
	}
	return c.openOn(now, k, t)
}

func (c *Client) openOn(now machine.Time, k *circuit, t wire.Target) (session.Ref, error) {
	id, err := k.member.Core.OpenStream(now, c.cfg.lane(t.Port))
	if err != nil {
		return session.Ref{}, err
	}
	c.Touch(k.member)
	if t.Network == wire.TCPCompressed && !k.member.Core.TakesCompressed() {
		t.Network = wire.TCP
	}
	request := wire.AppendTarget(nil, t)
	if n, err := k.member.Core.Write(now, id, request); n < len(request) {
		k.member.Core.Reset(now, id, 0)
		k.member.Core.StopReading(now, id, 0)
		return session.Ref{}, fmt.Errorf("client: the session takes no more: %w", err)
	}
	return session.Ref{Session: k.member.ID, Stream: id}, nil
}

// Ready reports whether a stream of a new isolation key finds its session made.
func (c *Client) Ready() bool {
	for _, k := range c.ahead {
		if k.member != nil && k.member.Core.Established() {
			return true
		}
	}
	return false
}

// LastError is why the last route could not be built, or nil after a success.
func (c *Client) LastError() error { return c.lastError }

// Stats returns the counters.
func (c *Client) Stats() trace.Counts {
	n := c.Counts
	n[trace.CoverStopped] = c.cover.Stopped()
	return n
}

// PlansRefused counts cover plans that were not followed, by why.
func (c *Client) PlansRefused() [obfs.NumRefusals]uint64 { return c.cover.Refused }

// pseudonym is the client's id towards one entry: entries that compare notes
// find nothing in common.
func (c *Client) pseudonym(entry wire.NodeID) (id [16]byte) {
	h := seal.Hash("client pseudonym", c.secret[:], entry[:])
	copy(id[:], h[:])
	return id
}

func (c *Client) proof(id, nonce [16]byte) (proof [16]byte) {
	if c.cfg.NetworkKey != nil {
		proof = control.Proof(c.cfg.NetworkKey, id, nonce)
	}
	return proof
}

// Close ends every session, closes every route and tells the entries. What it
// leaves to be sent goes out at once, outside of any schedule: the process ends.
func (c *Client) Close(now machine.Time) {
	c.view = nil // nothing more is built
	for _, m := range c.Members() {
		m.Core.Close(now, wire.CodeNone, "")
		for slot, r := range m.Owner.routes {
			if r != nil && r.joined && m.Core.PollPacket(now, uint8(slot), c.packet[:]) {
				c.emit(now, r, true)
				break
			}
		}
	}
	for _, r := range c.allRoutes() {
		c.drop(now, r)
	}
	for t, waits := c.slots.Pop(machine.Never); waits; t, waits = c.slots.Pop(machine.Never) {
		c.leave(t.Value)
	}
	for _, e := range c.allEntries() {
		if e.admitted {
			f := c.Pool.Get()
			wire.PutTerminate(f, &e.token)
			c.links.Push(e.link, f)
		}
	}
}
