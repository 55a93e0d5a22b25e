package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// The simulated network: bulk at FAST, five hops, over 150 relays.
const (
	simStreams = 20
	simMixes   = 150
	simUsers   = 20
	simBody    = 64 << 10 // of each request, and of its answer
	simAtOnce  = 4        // requests of a user under way
)

// runSim measures how many datagrams the simulator carries over one hop in a
// second of CPU time, with the real cores at both ends of it. The ends of each
// route are part of it: a packet of five hops is sealed and opened by a client
// and an exit too.
func runSim(ctx context.Context, o Options) ([]Figure, error) {
	o = o.withDefaults()
	w, err := simulated(o)
	if err != nil {
		return nil, err
	}
	const step = 10 * time.Millisecond // of virtual time, between two looks at the clock
	w.Sim.RunFor(time.Second)
	floor := newAEADFloor()
	passes := floor.run(hopBatch)
	o.Progress("carrying bulk")
	before, cpu, virtual := w.Sim.Stats(), cpuTime(), w.Sim.Now()
	for cpuTime()-cpu < o.duration() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.Sim.RunFor(step)
	}
	spent, now := cpuTime()-cpu, w.Sim.Stats()
	passes = min(passes, floor.run(hopBatch))
	hops := now.Delivered - before.Delivered
	if hops == 0 || spent == 0 {
		return nil, fmt.Errorf("no datagram moved in %v of virtual time", w.Sim.Now().Sub(virtual))
	}
	each := spent / time.Duration(hops)
	return []Figure{
		{Name: "datagram-hops, one core", Value: float64(hops) / spent.Seconds(), Unit: "hops/s", Bound: 300_000,
			Note: fmt.Sprintf("%d hops, %d nodes, real cores, ends included", hops, len(w.Sim.Nodes()))},
		Figure{Name: "CPU for one datagram-hop", Value: micros(each), Unit: "µs/hop", Note: "floor: 3 AEAD passes"}.against(micros(passes)),
		{Name: "events", Value: float64(now.Events-before.Events) / spent.Seconds(), Unit: "events/s"},
		{Name: "virtual time", Value: w.Sim.Now().Sub(virtual).Seconds() / spent.Seconds(), Unit: "s/s"},
	}, nil
}

// simulated builds the network and has every user ask for bulk, again and again.
func simulated(o Options) (*lab.Network, error) {
	o.Progress("building the network")
	run := lab.NewRun(&lab.Scenario{}, 1)
	w, err := run.NewNetwork(lab.Plan{Streams: simStreams, Mixes: simMixes, Level: wire.Fast,
		Hop:    sim.Link{Latency: 5 * time.Millisecond},
		Client: func(c *client.Config) { c.Ahead = -1 }})
	if err != nil {
		return nil, err
	}
	w.AddUsers(simUsers)
	if err := w.WaitReadyOrOpen(20 * time.Second); err != nil {
		return nil, err
	}
	body := make([]byte, simBody)
	for _, g := range w.Gateways {
		g.Service.Answer = func(machine.Time, []byte) []byte { return body }
	}
	for _, u := range w.Users {
		var again func(machine.Time, []byte, error)
		again = func(_ machine.Time, _ []byte, err error) {
			if err == nil {
				u.Ask("a", body, again)
			}
		}
		for range simAtOnce {
			again(0, nil, nil)
		}
	}
	return w, nil
}
