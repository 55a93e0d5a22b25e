package bench

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	// idleSessions is how many sessions the measurement holds unless asked for
	// another number.
	idleSessions = 20_000
	// idleLeast is the least number that tells something of one.
	idleLeast = 500
	// idleSettle is the virtual time after which everything that only traffic
	// needs has been given back, idleWatch what the costs are counted over: a
	// multiple of the intervals of keep-alives and heartbeats.
	idleSettle = 40 * time.Second
	idleWatch  = time.Minute
)

// runIdle measures what a session costs a Stream node while nothing moves on
// it: one open stream, heartbeats, the link's keep-alive, a route in and a
// route out, since the node is entry and exit of each. All of them were set up
// by real handshakes. The node is a process of its own, so that its memory is
// what an operator sees.
func runIdle(ctx context.Context, o Options) ([]Figure, error) {
	if os.Getenv(idleNodeEnv) != "" {
		return nil, serveIdleNode(os.Stdin, os.Stdout)
	}
	o = o.withDefaults()
	n := o.Sessions
	if n == 0 {
		n = idleSessions
	}
	if n < idleLeast {
		return nil, fmt.Errorf("%d sessions tell nothing of one: take %d or more", n, idleLeast)
	}
	w, err := newIdleWorld(ctx)
	if err != nil {
		return nil, err
	}
	defer w.gate.stop()
	o.Progress("setting up sessions")
	// What the second half adds is theirs: what a node of any size holds, and a
	// rush of set-ups leaves, was there with the first.
	half := n / 2
	if err := w.connectAll(ctx, n-half, o.Progress); err != nil {
		return nil, err
	}
	before, err := w.gate.measure(w)
	if err != nil {
		return nil, err
	}
	everything := cpuTime()
	if err := w.connectAll(ctx, half, o.Progress); err != nil {
		return nil, err
	}
	everything = cpuTime() - everything + time.Duration(w.gate.last.CPU-before.CPU)
	setup := time.Duration(w.gate.last.CPU - before.CPU)
	o.Progress("watching in virtual time")
	cpu, datagrams := w.gate.last.CPU, w.gateDatagrams
	if err := w.run(ctx, w.now.Add(idleWatch)); err != nil {
		return nil, err
	}
	watched := time.Duration(w.gate.last.CPU - cpu)
	datagrams = w.gateDatagrams - datagrams
	after, err := w.gate.measure(w)
	if err != nil {
		return nil, err
	}
	// Of 100,000 routes over one link one is refused, on average, because its id
	// is taken there (docs/protocol.md, section 5.4); these clients do not try again.
	if lost := n - int(after.Sessions); lost < 0 || lost > n/1000 || int(after.Links) != n+1 {
		return nil, fmt.Errorf("the Stream node holds %d sessions and %d links, not those of %d clients and the Mix node", after.Sessions, after.Links, n)
	}
	per := func(before, after uint64) float64 { return (float64(after) - float64(before)) / float64(half) }
	perSecond := float64(n) * idleWatch.Seconds()
	rounds := idleWatch.Seconds() / idleSpread.Seconds()
	return []Figure{
		{Name: "idle session, resident", Value: per(before.Memory.Own, after.Memory.Own), Unit: "B/session", Bound: 4096,
			Note: fmt.Sprintf("%d sessions at one Stream node, entry and exit of each; of its process, %.1f MB in all", n, float64(after.Memory.Resident)/1e6)},
		{Name: "idle session, heap", Value: per(before.Memory.Heap, after.Memory.Heap), Unit: "B/session", Bound: 4096, Note: "after a collection"},
		{Name: "most resident while they were set up", Value: float64(after.Memory.Peak) / float64(n), Unit: "B/session", Note: fmt.Sprintf("%.1f MB in all", float64(after.Memory.Peak)/1e6)},
		{Name: "idle session, CPU of the node", Value: micros(watched) / perSecond, Unit: "µs/s",
			Note: fmt.Sprintf("of one session; %.1f %% of a core for all", 100*watched.Seconds()/idleWatch.Seconds())},
		{Name: "idle session, datagrams at the node", Value: float64(datagrams) / perSecond, Unit: "1/s", Note: "in and out"},
		{Name: "one round of heartbeats over all sessions, CPU of the node", Value: watched.Seconds() / rounds, Unit: "s",
			Note: fmt.Sprintf("%.1f µs a session; a heartbeat, its answer and two keep-alives in %v", micros(watched)/float64(n)/rounds, idleSpread)},
		{Name: "setting up a session, CPU of the node", Value: micros(setup) / float64(half), Unit: "µs/session", Note: "link, admission, two set-ups, session: key work of both jobs and handshakes"},
		{Name: "setting up a session, CPU of everything", Value: micros(everything) / float64(half), Unit: "µs/session", Note: "client, Stream node twice on the route, Mix node"},
	}, nil
}

// connectAll sets up so many sessions more, and waits until the node is at rest.
func (w *idleWorld) connectAll(ctx context.Context, n int, progress func(string)) error {
	gap := max(time.Second/idlePerSecond, idleSpread/time.Duration(n))
	for range n {
		if err := w.connect(); err != nil {
			return err
		}
		if err := w.run(ctx, w.now.Add(gap)); err != nil {
			return err
		}
		if len(w.clients)%10_000 == 0 {
			progress(fmt.Sprintf("%d sessions", len(w.clients)))
		}
	}
	return w.run(ctx, w.now.Add(idleSettle))
}
