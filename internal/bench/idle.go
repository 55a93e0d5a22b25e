package bench

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

const (
	// idleSessions is how many sessions the measurement holds unless asked for
	// another number.
	idleSessions = 20_000
	// idleSettle is the virtual time after which everything that only traffic
	// needs has been given back, idleWatch what the costs are counted over: a
	// multiple of the intervals of keep-alives and heartbeats.
	idleSettle = 40 * time.Second
	idleWatch  = time.Minute
)

// runIdle measures what a session costs a Stream node while nothing moves on
// it: one open stream, heartbeats, the link's keep-alive, a route in and a
// route out, since the node is entry and exit of each. All of them were set up
// by real handshakes. Clients live in the same process: the heap is read once
// more when they are gone, and the node's share of the resident memory is its
// share of the heap.
func runIdle(ctx context.Context, o Options) ([]Figure, error) {
	o = o.withDefaults()
	n := o.Sessions
	if n == 0 {
		n = idleSessions
	}
	w, err := newIdleWorld()
	if err != nil {
		return nil, err
	}
	heapBefore, residentBefore := settledMemory()
	o.Progress("setting up sessions")
	begun := cpuTime()
	gap := max(time.Second/idlePerSecond, idleSpread/time.Duration(n))
	for made := 1; made <= n; made++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := w.connect(); err != nil {
			return nil, err
		}
		w.run(machine.Time(made) * machine.Time(gap))
		if made%10_000 == 0 {
			o.Progress(fmt.Sprintf("%d sessions", made))
		}
	}
	setup, setupGate := cpuTime()-begun, w.gateCPU
	o.Progress("waiting in virtual time")
	w.run(w.now.Add(idleSettle))
	if w.gate.Len() != n {
		return nil, fmt.Errorf("the Stream node holds %d sessions of %d", w.gate.Len(), n)
	}
	cpu, datagrams := w.gateCPU, w.gateDatagrams
	w.run(w.now.Add(idleWatch))
	cpu, datagrams = w.gateCPU-cpu, w.gateDatagrams-datagrams
	held := w.gate.Len()
	heapAll, resident := settledMemory()
	w.letGo()
	heap, left := settledMemory()
	runtime.KeepAlive(w)
	if links := w.gate.Links.Links(); links != n+1 {
		return nil, fmt.Errorf("the Stream node has %d links, not those of %d clients and the Mix node", links, n)
	}
	if held != n {
		return nil, fmt.Errorf("%d sessions of %d are left after %v of rest", held, n, idleWatch)
	}
	perSession := (heap - heapBefore) / float64(n)
	overhead := (resident - residentBefore) / (heapAll - heapBefore)
	perSecond := float64(n) * idleWatch.Seconds()
	return []Figure{
		{Name: "idle session, resident", Value: perSession * overhead, Unit: "B/session", Bound: 4096,
			Note: fmt.Sprintf("%d sessions at one Stream node, entry and exit of each; the heap, with its part of the process's overhead", n)},
		{Name: "idle session, heap", Value: perSession, Unit: "B/session", Bound: 4096, Note: "after a collection"},
		{Name: "idle session, left when the clients are gone", Value: (left - residentBefore) / float64(n), Unit: "B/session",
			Note: "resident memory (statm), with the holes that the clients leave between"},
		{Name: "idle session, CPU of the node", Value: micros(cpu) / perSecond, Unit: "µs/s",
			Note: fmt.Sprintf("of one session; %.1f %% of a core for all", 100*cpu.Seconds()/idleWatch.Seconds())},
		{Name: "idle session, datagrams at the node", Value: float64(datagrams) / perSecond, Unit: "1/s", Note: "in and out"},
		{Name: "one round of heartbeats over all sessions, CPU of the node", Value: cpu.Seconds() * idleSpread.Seconds() / idleWatch.Seconds(), Unit: "s",
			Note: fmt.Sprintf("a heartbeat of each side and two keep-alives of each link in %v", idleSpread)},
		{Name: "setting up a session, CPU of the node", Value: micros(setupGate) / float64(n), Unit: "µs/session", Note: "link, admission, two set-ups, session: key work of both jobs and handshakes"},
		{Name: "setting up a session, CPU of everything", Value: micros(setup) / float64(n), Unit: "µs/session", Note: "client, Stream node twice on the route, Mix node"},
	}, nil
}

// settledMemory is the live heap and the resident memory in bytes, after
// everything that can go has gone.
func settledMemory() (heap, resident float64) {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc), residentMB() * 1e6
}
