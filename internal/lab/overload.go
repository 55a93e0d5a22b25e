package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// strained is a network whose Stream nodes are overloaded now and then, watched by
// three: an oracle that sees every node at every hundredth of a second, each node's
// guard, and the control plane, to which reports take their time or do not come.
type strained struct {
	*Network
	run       *Run
	capacity  uint32
	scheduler *control.Scheduler
	// lag is how long the next report is on its way; negative: it does not arrive.
	lag   func(now machine.Time) time.Duration
	nodes []*strainedNode
}

// strainedNode is one Stream node and what is known of its load.
type strainedNode struct {
	g       *Gateway
	id      wire.NodeID
	sampler *control.Sampler
	sent    [oracleLooks]uint64 // by the oracle's looks, the last ones
	told    trace.Counts        // at the last report
	acts    bool                // who reacts, does
	onset   machine.Time        // of the overload that lasts; Never: there is none
	acted   bool                // somebody did since
	ended   func(lasted time.Duration, acted bool)
}

const (
	oracleEvery = 10 * time.Millisecond
	oracleLooks = 50 // over which the oracle takes a load: half a second
	// overloadedFrom is the load, of the capacity, from which on the oracle takes a node
	// for overloaded, until it is at overloadedTo.
	overloadedFrom, overloadedTo = 0.95, 0.7
)

// newStrained builds the network. reacted is told of each reaction and how long after
// the onset it came, ended of each overload that is over, how long it lasted, and
// whether anybody reacted.
func (r *Run) newStrained(lag func(now machine.Time, draw *prng.Stream) time.Duration, reacted func(after time.Duration), ended func(lasted time.Duration, acted bool)) (*strained, error) {
	s := &strained{run: r, capacity: uint32(r.Param("capacity")), scheduler: control.NewScheduler()}
	w, err := r.NewNetwork(Plan{Streams: 2, Mixes: 3, Level: wire.Fast, Hop: wan,
		Gateway: func(c *gateway.Config) { c.Capacity, c.Region = s.capacity, region },
		Client:  func(c *client.Config) { c.RoutesPerSession, c.Ahead = 1, -1 }})
	if err != nil {
		return nil, err
	}
	s.Network = w
	draw := r.Source("telemetry").Stream("lag")
	s.lag = func(now machine.Time) time.Duration { return lag(now, draw) }
	s.scheduler.Follow(0, nil, []string{region})
	w.AddUsers(int(r.Param("users")))
	if err := w.WaitReadyOrOpen(20 * time.Second); err != nil {
		return nil, err
	}
	for i, g := range w.Gateways {
		n := &strainedNode{g: g, id: wire.NodeID{byte(i)}, onset: machine.Never, told: g.Core().Counts}
		n.sampler = control.NewSampler(r.Source("telemetry").Stream(g.Node.Name))
		n.ended = ended
		if !r.Protected { // every report is sent: what fails is not for want of them
			g.Core().Guard.Off, n.sampler.OneIn = true, 1
		}
		s.nodes = append(s.nodes, n)
		for look := range n.sent {
			n.sent[look] = g.Core().Counts[trace.LinkOut]
		}
	}
	s.watch(reacted)
	return s, nil
}

// watch has the oracle look and the nodes report, as long as the network runs.
func (s *strained) watch(reacted func(time.Duration)) {
	looks := 0
	s.Sim.Every(s.Sim.Now().Add(oracleEvery), oracleEvery, func(now machine.Time) bool {
		looks++
		for _, n := range s.nodes {
			n.look(now, s.capacity, looks, s.scheduler.Strained(region, n.id), reacted)
			if looks%int(time.Second/oracleEvery) == 0 {
				s.report(now, n)
			}
		}
		s.scheduler.Turn(now)
		return true
	})
}

// look is the oracle's.
func (n *strainedNode) look(now machine.Time, capacity uint32, looks int, central bool, reacted func(time.Duration)) {
	core := n.g.Core()
	place := looks % oracleLooks
	load := float64(core.Counts[trace.LinkOut]-n.sent[place]) / (oracleLooks * oracleEvery.Seconds()) / float64(capacity)
	n.sent[place] = core.Counts[trace.LinkOut]
	_, limited := core.Guard.Pace()
	acts := limited || central
	switch {
	case n.onset == machine.Never && load >= overloadedFrom:
		if n.onset, n.acted = now, acts; acts {
			reacted(0)
		}
	case n.onset != machine.Never && load <= overloadedTo:
		n.ended(now.Sub(n.onset), n.acted)
		n.onset = machine.Never
	}
	if acts && !n.acts && n.onset != machine.Never && !n.acted {
		n.acted = true
		reacted(now.Sub(n.onset))
	}
	n.acts = acts
}

// report has a node report the last second, as its daemon does.
func (s *strained) report(now machine.Time, n *strainedNode) {
	core, was := n.g.Core(), n.told
	n.told = core.Counts
	t := wire.Telemetry{Millis: int64(now / machine.Time(time.Millisecond)), Span: 1000, Capacity: s.capacity,
		Sent: uint32(n.told[trace.LinkOut] - was[trace.LinkOut]), Came: uint32(n.told[trace.LinkIn] - was[trace.LinkIn])}
	if core.Guard.Overloaded() {
		t.Flags |= wire.TelemetryOverloaded
	}
	if !n.sampler.Take(&t) {
		return
	}
	lag := s.lag(now)
	if lag < 0 {
		return
	}
	b := t.Append(nil)
	s.Sim.At(now.Add(lag), func(at machine.Time) {
		t, _, err := wire.ParseTelemetry(b)
		if err != nil {
			panic("lab: " + err.Error())
		}
		millis := int64(at / machine.Time(time.Millisecond))
		s.scheduler.Take(at, millis, n.id, region, &t)
	})
}

// load has the users ask, at a rate that is times the base rate, until end.
func (s *strained) load(label string, times float64, from, end machine.Time) {
	body := make([]byte, int(s.run.Param("request_bytes")))
	users := len(s.Users)
	s.Sim.At(from, func(machine.Time) {
		s.Poisson(label, times*s.run.Param("requests_per_second"), end, func(now machine.Time, i int) {
			s.Users[i%users].Ask("a", body, func(_ machine.Time, _ []byte, err error) { s.run.Trial("request_failed", err != nil) })
		})
	})
}
