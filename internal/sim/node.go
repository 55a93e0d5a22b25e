package sim

import (
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// NodeConfig describes one machine on the network.
type NodeConfig struct {
	// Name stands in messages and labels the node's randomness; it must be
	// unique. Empty: the address.
	Name string
	// Addr is where the node receives. Several nodes may share an IP address
	// on different ports: they then share one host and its access link.
	Addr netip.AddrPort
	// Region chooses the link model; empty is a region like any other.
	Region string
	// New makes the machine, at once and after each Restart. It gets the
	// node's own time and randomness that differs between incarnations.
	New func(now machine.Time, rng prng.Source) machine.Machine
	// Clock makes the node's time differ from the network's.
	Clock Clock
	// Cost models the node's processor; zero takes no time.
	Cost Cost
	// Batches has it take datagrams in together.
	Batches Batches
}

// Clock is an error of a node's clock: its time is the network's, plus Offset,
// plus DriftPPB billionths of it.
type Clock struct {
	Offset   time.Duration // not negative
	DriftPPB int64         // between -10^9 and 10^9, exclusive
}

// Cost is what work takes on a node. Jobs run at once, here; their results
// reach the machine after the modelled time.
type Cost struct {
	// Datagram is the time that each received datagram occupies the node.
	Datagram time.Duration
	// DatagramQueue is the longest wait for it before datagrams are dropped;
	// 0 is 50 ms, which is some thousand datagrams in the socket's buffer.
	DatagramQueue time.Duration
	// Job is the time of a job on one of Workers processors (0: one).
	Job     time.Duration
	Workers int
}

// Node is one machine's place in the network. The machine comes and goes by
// Crash and Restart; the node stays.
type Node struct {
	// Name is as in NodeConfig, or the address.
	Name string

	net     *Network
	cfg     NodeConfig
	index   uint32
	region  int32
	addrID  uint32
	host    *host
	side    uint16 // of a partition; 0: reaches both
	machine machine.Machine
	life    uint32 // incarnation, so that jobs of a dead one are not handed back

	timerAt   machine.Time // network time of the pending timer event
	workers   []machine.Time
	processor pipe
	batch     batch
	onStep    func(now machine.Time)

	out      map[netip.AddrPort]*pair // links by address; void after a change of topology
	lastTo   netip.AddrPort
	lastPair *pair
	stats    NodeStats
}

// host is one IP address with its access link.
type host struct{ up, down pipe }

// runningJob is a job whose modelled time has not passed.
type runningJob struct {
	job  machine.Job
	life uint32
}

// AddNode puts a machine on the network and starts it.
func (n *Network) AddNode(cfg NodeConfig) *Node {
	if cfg.Name == "" {
		cfg.Name = cfg.Addr.String()
	}
	switch {
	case n.names[cfg.Name] != nil:
		panic("sim: two nodes have the name " + cfg.Name)
	case !cfg.Addr.IsValid():
		panic("sim: node " + cfg.Name + " has no address")
	case cfg.Clock.Offset < 0 || cfg.Clock.DriftPPB <= -1e9 || cfg.Clock.DriftPPB >= 1e9:
		panic("sim: clock of " + cfg.Name + " runs backwards")
	}
	nd := &Node{Name: cfg.Name, net: n, cfg: cfg, index: uint32(len(n.nodes)), timerAt: machine.Never,
		out: map[netip.AddrPort]*pair{}}
	nd.region = n.region(cfg.Region)
	nd.workers = make([]machine.Time, max(1, cfg.Cost.Workers))
	nd.processor.set(0, 0, cfg.Cost.Datagram)
	if cfg.Cost.DatagramQueue > 0 {
		nd.processor.limit = cfg.Cost.DatagramQueue
	}
	n.nodes = append(n.nodes, nd)
	n.names[nd.Name] = nd
	n.settleAt(nd, cfg.Addr)
	nd.start()
	return nd
}

// settleAt gives a node its address.
func (n *Network) settleAt(nd *Node, addr netip.AddrPort) {
	id := n.addrID(addr)
	if n.book[id].node != nil {
		panic("sim: address " + addr.String() + " is taken by " + n.book[id].node.Name)
	}
	n.book[id].node = nd
	nd.addrID, nd.host = id, n.hostOf(addr.Addr())
	n.topology++
}

func (n *Network) addrID(addr netip.AddrPort) uint32 {
	id, ok := n.addrs[addr]
	if !ok {
		id = uint32(len(n.book))
		n.addrs[addr] = id
		n.book = append(n.book, place{addr: addr})
		n.trace.address(id, addr)
	}
	return id
}

func (n *Network) hostOf(addr netip.Addr) *host {
	h := n.hosts[addr]
	if h == nil {
		h = &host{}
		n.hosts[addr] = h
	}
	return h
}

// SetAccess limits the access link of a host, which all its nodes share: bytes
// per second up and down; 0 is no limit.
func (n *Network) SetAccess(addr netip.Addr, up, down int64) {
	h := n.hostOf(addr)
	h.up.set(up, 0, 0)
	h.down.set(down, 0, 0)
}

// Nodes returns all nodes in the order in which they were added. The slice is
// the network's.
func (n *Network) Nodes() []*Node { return n.nodes }

// Node returns the node of a name, or nil.
func (n *Network) Node(name string) *Node { return n.names[name] }

// Machine returns the running machine, or nil after Crash.
func (nd *Node) Machine() machine.Machine { return nd.machine }

// Addr returns where the node is now.
func (nd *Node) Addr() netip.AddrPort { return nd.net.book[nd.addrID].addr }

// Region returns the node's region.
func (nd *Node) Region() string { return nd.cfg.Region }

// Up reports whether the machine runs.
func (nd *Node) Up() bool { return nd.machine != nil }

// Stats returns what the node has done.
func (nd *Node) Stats() NodeStats { return nd.stats }

// OnStep sets a function that is called after every input to the node's
// machine, before its transmits are polled: the place of the application
// beside the machine. It may call any method of the machine.
func (nd *Node) OnStep(f func(now machine.Time)) { nd.onStep = f }

// Do runs f at the network's current time with the node's own clock reading,
// and polls the machine afterwards, as its runtime would. It is how a load
// generator calls methods of a concrete machine. Inside a step of a machine (an
// observer, OnStep) it happens right after that step instead. If the machine
// is down when its turn comes, f is not called.
func (n *Network) Do(nd *Node, f func(now machine.Time)) {
	if n.current != nil {
		n.At(n.now, func(machine.Time) { n.Do(nd, f) })
		return
	}
	if nd.machine == nil {
		return
	}
	n.current = nd
	f(nd.Local(n.now))
	nd.settle()
}

// Touch polls a node whose machine was called from outside.
func (n *Network) Touch(nd *Node) { n.Do(nd, func(machine.Time) {}) }

// Crash stops a node's machine without a word: its memory is gone, datagrams
// that reach it are lost.
func (n *Network) Crash(nd *Node) {
	if n.current != nil {
		n.At(n.now, func(machine.Time) { n.Crash(nd) })
		return
	}
	if nd.machine == nil {
		return
	}
	nd.machine = nil
	nd.timerAt = machine.Never
	n.trace.fault(traceCrash, n.now, nd.index)
}

// Restart starts a new machine where one crashed, or replaces a running one.
func (n *Network) Restart(nd *Node) {
	if n.current != nil {
		n.At(n.now, func(machine.Time) { n.Restart(nd) })
		return
	}
	n.Crash(nd)
	nd.life++
	n.trace.fault(traceRestart, n.now, nd.index)
	nd.start()
}

// Rebind moves a node to another address, as a NAT does that forgot a mapping:
// the machine is not told; what is under way to the old address is lost.
func (n *Network) Rebind(nd *Node, addr netip.AddrPort) {
	if addr == nd.Addr() {
		return
	}
	n.book[nd.addrID].node = nil
	n.settleAt(nd, addr)
	n.trace.fault(traceRebind, n.now, nd.index)
}

// start makes the machine. A node's incarnations draw different randomness.
func (nd *Node) start() {
	n := nd.net
	rng := n.source.Child("node/" + nd.Name)
	for range nd.life {
		rng = rng.Child("restart")
	}
	for i := range nd.workers {
		nd.workers[i] = 0
	}
	nd.machine = nd.cfg.New(nd.Local(n.now), rng)
	if nd.machine == nil {
		panic("sim: node " + nd.Name + " made no machine")
	}
	n.At(n.now, func(machine.Time) { n.Touch(nd) })
}

// Local converts network time to the node's clock.
func (nd *Node) Local(t machine.Time) machine.Time {
	if t == machine.Never || nd.cfg.Clock == (Clock{}) {
		return t
	}
	return t.Add(nd.cfg.Clock.Offset + nd.cfg.Clock.drift(t))
}

// network converts a reading of the node's clock to the network time at which
// the clock first shows it.
func (nd *Node) network(local machine.Time) machine.Time {
	c := nd.cfg.Clock
	if local == machine.Never || c == (Clock{}) {
		return local
	}
	guess := float64(local.Add(-c.Offset)-2) / (1 + float64(c.DriftPPB)/1e9)
	if guess >= float64(machine.Never) {
		return machine.Never
	}
	// The guess lies below, by a reading or two; half of what is missing never
	// goes too far, since a clock runs at twice the speed at most.
	t := max(0, machine.Time(guess*(1-1e-12))-2)
	for nd.Local(t) < local {
		t += max(1, (local-nd.Local(t))/2)
	}
	return t
}

// drift is computed in whole seconds and a rest: exact, and never overflows.
func (c Clock) drift(t machine.Time) time.Duration {
	second := machine.Time(time.Second)
	return time.Duration(int64(t/second)*c.DriftPPB + int64(t%second)*c.DriftPPB/1e9)
}

// fire handles the node's timer event. An event that was overtaken by an
// earlier one, or by a crash, is stale.
func (nd *Node) fire(at machine.Time) {
	if at != nd.timerAt {
		return
	}
	nd.timerAt = machine.Never
	now := nd.Local(at)
	if nd.machine.NextTimer() > now {
		nd.arm()
		return
	}
	nd.net.stats.Timers++
	nd.net.current = nd
	nd.machine.HandleTimer(now)
	nd.settle()
}

// finish hands a job back, unless the machine that asked for it is gone.
func (nd *Node) finish(j runningJob) {
	if nd.machine == nil || j.life != nd.life {
		return
	}
	nd.net.current = nd
	nd.machine.HandleJob(nd.Local(nd.net.now), j.job)
	nd.settle()
}

// settle does what a runtime does after an input: the application's turn, jobs
// and transmits until both are empty, then the timer.
func (nd *Node) settle() {
	n := nd.net
	n.current = nd
	now := nd.Local(n.now)
	for again := true; again; {
		if nd.onStep != nil {
			nd.onStep(now)
		}
		again = nd.pollJobs(now)
		nd.pollTransmits(now)
	}
	nd.arm()
	n.current, n.last = nil, nd
}

// pollJobs runs what the machine asks for. It reports whether a job came back
// at once, after which the machine may have more to do.
func (nd *Node) pollJobs(now machine.Time) (handled bool) {
	n := nd.net
	for {
		j, ok := nd.machine.PollJob()
		if !ok {
			return handled
		}
		n.stats.Jobs++
		j.Run()
		if nd.cfg.Cost.Job == 0 {
			nd.machine.HandleJob(now, j)
			handled = true
			continue
		}
		w := 0
		for i, free := range nd.workers {
			if free < nd.workers[w] {
				w = i
			}
		}
		nd.workers[w] = max(n.now, nd.workers[w]).Add(nd.cfg.Cost.Job)
		n.push(nd.workers[w], eventJob, nd.index, n.jobs.put(runningJob{j, nd.life}))
	}
}

func (nd *Node) pollTransmits(now machine.Time) {
	n := nd.net
	for range burstMax {
		k := n.packets.get()
		to, size, ok := nd.machine.PollTransmit(now, k.b[:])
		if !ok {
			n.packets.free = append(n.packets.free, k.index)
			return
		}
		k.size = uint16(size)
		n.send(nd, to, k)
	}
	panic("the machine yields datagrams without end")
}

func (nd *Node) arm() {
	n := nd.net
	at := max(n.now, nd.network(nd.machine.NextTimer()))
	if at != machine.Never && at < nd.timerAt {
		nd.timerAt = at
		n.push(at, eventTimer, nd.index, 0)
	}
}
