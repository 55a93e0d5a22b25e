package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control/capacity"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// capacitySessions and capacitySeconds are what a run holds, and for how
	// much virtual time, unless asked for others.
	capacitySessions = 10_000
	capacitySeconds  = 60
	// capacityPerSecond is how many sessions begin in a second: a set-up takes a
	// mix's processor for a while, and a rush would measure queues.
	capacityPerSecond = 200
	// capacityGap is the mean time between two requests of a session, of
	// capacityBody bytes there and back.
	capacityGap  = 5 * time.Second
	capacityBody = 256
)

// capacityRun is what a phase's network did in the simulator.
type capacityRun struct {
	plan            capacity.Phase
	sessions        int
	asked, answered int
	took            []time.Duration
	seconds         float64 // virtual, of traffic
	virtual         time.Duration
	wall, cpu       time.Duration // all of it
	trafficCPU      time.Duration
	heap            uint64 // added by all sessions, both ends
	peak            uint64
	hops            uint64  // datagrams over a link while there was traffic
	streamIn, mixIn float64 // datagrams that nodes received, a second and session
	hash            string
}

// runCapacity runs a phase of the capacity plan in the simulator, with real
// cores of every node and every client, and calculates from what it and the
// measurements of one hop, one set-up and idle sessions show what the nodes of
// every phase need.
func runCapacity(ctx context.Context, o Options) ([]Figure, error) {
	if os.Getenv(idleNodeEnv) != "" {
		return runIdle(ctx, o)
	}
	var plan *capacity.Phase
	for i := range capacity.Phases {
		if capacity.Phases[i].Name == o.Phase || o.Phase == "" && i == 0 {
			plan = &capacity.Phases[i]
		}
	}
	if plan == nil {
		return nil, fmt.Errorf("there is no phase %q; use alpha, beta, gamma or delta", o.Phase)
	}
	sessions, seconds := o.Sessions, o.Seconds
	if sessions == 0 {
		sessions = capacitySessions
	}
	if seconds == 0 {
		seconds = capacitySeconds
	}
	o = o.withDefaults()
	c, err := simulateCapacity(ctx, *plan, sessions, seconds, o.Progress)
	if err != nil {
		return nil, err
	}
	o.Progress("measuring a hop, a set-up and idle sessions, for the calculation")
	cost, err := measureNodes(ctx, c)
	if err != nil {
		return nil, err
	}
	figures := c.figures()
	for _, p := range capacity.Phases {
		figures = append(figures, needs(cost, p)...)
	}
	return figures, nil
}

// simulateCapacity builds the network of a phase and has so many sessions stand
// and ask for so many seconds.
func simulateCapacity(ctx context.Context, plan capacity.Phase, sessions, seconds int, progress func(string)) (*capacityRun, error) {
	c := &capacityRun{plan: plan, sessions: sessions, seconds: float64(seconds)}
	begun, cpu := time.Now(), cpuTime()
	progress(fmt.Sprintf("building %d Stream and %d Mix nodes", plan.Streams, plan.Mixes))
	w, err := lab.NewRun(&lab.Scenario{}, 1).NewNetwork(lab.Plan{Streams: plan.Streams, Mixes: plan.Mixes, Level: wire.Fast,
		Hop: sim.Link{Latency: 10 * time.Millisecond}, Client: func(c *client.Config) { c.Ahead = -1 }})
	if err != nil {
		return nil, err
	}
	before := liveHeap()
	if err := c.begin(ctx, w, progress); err != nil {
		return nil, err
	}
	after := liveHeap()
	c.heap = after - min(before, after)
	if err := c.traffic(ctx, w, progress); err != nil {
		return nil, err
	}
	c.wall, c.cpu, c.virtual = time.Since(begun), cpuTime()-cpu, w.Sim.Now().Sub(0)
	_, _, c.peak = residentBytes(os.Getpid())
	c.hash = w.Sim.TraceHash()
	return c, nil
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// begin has the sessions begin one after the other.
func (c *capacityRun) begin(ctx context.Context, w *lab.Network, progress func(string)) error {
	stand := 0
	for i := range c.sessions {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.AddUsers(1)
		w.Users[i].Ask("a", make([]byte, capacityBody), func(_ machine.Time, _ []byte, err error) {
			if err == nil {
				stand++
			}
		})
		w.Sim.RunFor(time.Second / capacityPerSecond)
		if i%1000 == 999 {
			progress(fmt.Sprintf("%d sessions begun, %d stand", i+1, stand))
		}
	}
	if !w.Sim.RunWhile(w.Sim.Now().Add(time.Minute), func() bool { return stand < c.sessions }) {
		return fmt.Errorf("%d of %d sessions stand after a minute", stand, c.sessions)
	}
	w.Sim.RunFor(5 * time.Second) // second routes
	return nil
}

// traffic has the sessions ask at random times.
func (c *capacityRun) traffic(ctx context.Context, w *lab.Network, progress func(string)) error {
	received := func() (streams, mixes uint64) {
		for _, g := range w.Gateways {
			streams += g.Node.Stats().Received
		}
		for _, m := range w.Relays {
			mixes += m.Node.Stats().Received
		}
		return streams, mixes
	}
	streams, mixes := received()
	before, cpu, end := w.Sim.Stats(), cpuTime(), w.Sim.Now().Add(time.Duration(c.seconds*float64(time.Second)))
	body := bytes.Repeat([]byte{1}, capacityBody)
	w.Poisson("requests", float64(c.sessions)/capacityGap.Seconds(), end, func(asked machine.Time, i int) {
		c.asked++
		w.Users[i%c.sessions].Ask("a", body, func(now machine.Time, answer []byte, err error) {
			if err == nil && bytes.Equal(answer, body) {
				c.answered++
				c.took = append(c.took, now.Sub(asked))
			}
		})
	})
	for w.Sim.Now() < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.Sim.RunFor(min(10*time.Second, end.Sub(w.Sim.Now())))
		progress(fmt.Sprintf("%v to go, %d requests answered", end.Sub(w.Sim.Now()), c.answered))
	}
	streamsAfter, mixesAfter := received()
	perSession := func(n uint64) float64 { return float64(n) / c.seconds / float64(c.sessions) }
	c.streamIn, c.mixIn = perSession(streamsAfter-streams), perSession(mixesAfter-mixes)
	c.hops, c.trafficCPU = w.Sim.Stats().Delivered-before.Delivered, cpuTime()-cpu
	w.Sim.RunFor(2 * time.Second) // the last answers
	return nil
}

func (c *capacityRun) figures() []Figure {
	where := fmt.Sprintf("phase %s: %d Stream and %d Mix nodes, %d clients, level fast, real cores", c.plan.Name, c.plan.Streams, c.plan.Mixes, c.sessions)
	return []Figure{
		{Name: "sessions that stand", Value: float64(c.sessions), Unit: "sessions", Note: where},
		{Name: "requests answered", Value: 100 * float64(c.answered) / float64(max(c.asked, 1)), Unit: "%", Note: fmt.Sprintf("%d of %d in %.0f s, one of a session in %v", c.answered, c.asked, c.seconds, capacityGap)},
		{Name: "request, P95 in virtual time", Value: milliseconds(percentile(c.took, 95)), Unit: "ms", Note: "10 ms a link"},
		{Name: "the whole run, as it ran", Value: c.wall.Seconds(), Unit: "s", Note: fmt.Sprintf("%.0f s of virtual time", c.virtual.Seconds())},
		{Name: "the whole run, CPU", Value: c.cpu.Seconds(), Unit: "s"},
		{Name: "the traffic, CPU", Value: c.trafficCPU.Seconds(), Unit: "s", Note: fmt.Sprintf("%d datagram-hops", c.hops)},
		{Name: "most resident", Value: float64(c.peak) / 1e6, Unit: "MB"},
		{Name: "heap of a session", Value: float64(c.heap) / float64(c.sessions), Unit: "B/session", Note: "client, both routes at every hop, links, both ends of the session"},
		{Name: "datagrams that Stream nodes take in", Value: c.streamIn, Unit: "1/s/session"},
		{Name: "datagrams that Mix nodes take in", Value: c.mixIn, Unit: "1/s/session", Note: "trace " + c.hash},
	}
}
