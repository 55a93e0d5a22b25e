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
	// idleLeast and idleMost bound it: fewer tell nothing of one, and a node
	// takes no more.
	idleLeast = 500
	idleMost  = 1_000_000
	// idleFirst is how many are set up before the memory of the others counts.
	idleFirst = 20_000
	// idleSettle is the virtual time after which everything that only traffic
	// needs has been given back.
	idleSettle = 40 * time.Second
	// idleTell is the interval of progress.
	idleTell = 10 * time.Second
)

// runIdle measures what a session costs a Stream node while nothing moves on
// it: one open stream, heartbeats, the link's keep-alive, a route in and a
// route out, since the node is entry and exit of each. To the node all of them
// were set up by real handshakes (idle_client.go). It is a process of its own, so
// that its memory is what an operator sees. An interrupt ends the setting up, and
// what stands by then is measured.
func runIdle(ctx context.Context, o Options) ([]Figure, error) {
	if os.Getenv(idleNodeEnv) != "" {
		return nil, serveIdleNode(os.Stdin, os.Stdout)
	}
	o = o.withDefaults()
	n := o.Sessions
	if n == 0 {
		n = idleSessions
	}
	if n < idleLeast || n > idleMost {
		return nil, fmt.Errorf("cannot measure %d idle sessions: take %d to %d", n, idleLeast, idleMost)
	}
	w, err := newIdleWorld(n)
	if err != nil {
		return nil, err
	}
	defer w.gate.stop()
	// What those after the first add is theirs: what a node of any size holds, and
	// a rush of set-ups leaves, was there with the first.
	first := min(n/2, idleFirst)
	warm, err := w.connect(ctx, first, o.Progress)
	if err != nil {
		return nil, err
	}
	before, err := w.gate.measure()
	if err != nil {
		return nil, err
	}
	cost, err := w.connect(ctx, n-first, o.Progress)
	if err != nil {
		return nil, err
	}
	n = int(w.begun)
	added := n - first
	if added < idleLeast/2 {
		return nil, fmt.Errorf("interrupted after %d sessions, which tell nothing of one", n)
	}
	o.Progress(fmt.Sprintf("one round of heartbeats of %d sessions", n))
	begun, cpu, answered, arrived := time.Now(), w.gate.last.CPU, w.answered(), w.arrived
	if err := w.run(idleRound, 0); err != nil {
		return nil, err
	}
	round, wall := time.Duration(w.gate.last.CPU-cpu), time.Since(begun)
	answered, arrived = w.answered()-answered, w.arrived-arrived
	after, err := w.gate.measure()
	if err != nil {
		return nil, err
	}
	if int(after.Sessions) != n || int(after.Links) != n+1 || int(answered) != n {
		return nil, fmt.Errorf("the Stream node holds %d sessions and %d links and answered %d heartbeats, not those of %d clients and the Mix node", after.Sessions, after.Links, answered, n)
	}
	m := after.Memory
	per := func(before, after uint64) float64 { return (float64(after) - float64(before)) / float64(added) }
	return []Figure{
		{Name: "idle session, resident", Value: per(before.Memory.Own, m.Own), Unit: "B/session", Bound: 4096,
			Note: fmt.Sprintf("%d sessions at one Stream node, entry and exit of each; of its process, %.1f MB in all", n, float64(m.Resident)/1e6)},
		{Name: "idle session, heap", Value: per(before.Memory.Heap, m.Heap), Unit: "B/session", Bound: 4096, Note: "after a collection"},
		{Name: "most resident while they were set up", Value: float64(m.Peak) / float64(n), Unit: "B/session", Note: fmt.Sprintf("%.1f MB in all", float64(m.Peak)/1e6)},
		{Name: "one round of heartbeats over all sessions, CPU of the node", Value: round.Seconds(), Unit: "s",
			Note: fmt.Sprintf("%.1f µs a session: a heartbeat, its answer and two keep-alives in 20 s; %.1f %% of a core", micros(round)/float64(n), 100*round.Seconds()/20)},
		{Name: "one round of heartbeats, as it ran", Value: wall.Seconds(), Unit: "s", Note: "with the clients beside it"},
		{Name: "idle session, datagrams that the node sent in the round", Value: float64(arrived) / float64(n), Unit: "1/session"},
		{Name: "setting up all sessions, as it ran", Value: (warm.wall + cost.wall).Seconds(), Unit: "s",
			Note: fmt.Sprintf("node, clients and the Mix node on this machine; %.1f s of CPU of the node", (warm.cpu + cost.cpu).Seconds())},
		{Name: "setting up a session, CPU of the node", Value: micros(cost.cpu) / float64(added), Unit: "µs/session", Note: "link, admission, two set-ups, session: key work of both jobs and handshakes; the heartbeats meanwhile"},
		{Name: "a collection of the node's heap", Value: float64(m.Cycle) / 1e6, Unit: "ms", Note: fmt.Sprintf("%.1f ms of CPU; there were %d before it", float64(m.CycleCPU)/1e6, m.Collections-1)},
		{Name: "longest stop in a collection", Value: float64(m.Pause) / 1e6, Unit: "ms", Note: "of that one"},
	}, nil
}

// idleCost is what setting up sessions took; cpu is the node's.
type idleCost struct{ wall, cpu time.Duration }

// connect sets up so many sessions more, or, when ctx ends, fewer, and waits until
// the node is at rest.
func (w *idleWorld) connect(ctx context.Context, n int, progress func(string)) (c idleCost, err error) {
	begun, cpu, told := time.Now(), w.gate.last.CPU, time.Now()
	if w.begun == 0 { // the first one makes the node open its link to the Mix node
		n--
		if err := w.run(1, 1); err != nil {
			return c, err
		}
		if err := w.run(50, 0); err != nil {
			return c, err
		}
	}
	for n > 0 || w.standing() < int(w.begun) {
		if ctx.Err() != nil {
			n = 0
		}
		now := min(idleBegun, n)
		n -= now
		if err := w.run(1, now); err != nil {
			return c, err
		}
		if time.Since(told) >= idleTell {
			told = time.Now()
			resident, _, _ := residentBytes(w.gate.cmd.Process.Pid)
			progress(fmt.Sprintf("%d sessions; the Stream node has used %.0f s of CPU and holds %.0f MB", w.standing(), time.Duration(w.gate.last.CPU).Seconds(), float64(resident)/1e6))
		}
	}
	c = idleCost{time.Since(begun), time.Duration(w.gate.last.CPU - cpu)}
	return c, w.run(int(idleSettle/idleStep), 0)
}
