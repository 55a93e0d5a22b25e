package lab

import (
	"runtime"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
)

// releasedWithin is by when nodes hold nothing of a client that vanished: the
// life of its routes, which no node ends earlier since only the client holds the
// keys of every hop, and a minute. Records, links, sessions and connections to
// targets go sooner.
const releasedWithin = 11 * time.Minute

// Clients vanish without a word, in the middle of transfers, while others go on:
// links, records, sessions, streams, connections to targets and routes are
// released at every node, and so is their memory. Control: without timers.
func TestVanishedClientsAreCleanedUp(t *testing.T) {
	for _, protected := range []bool{true, false} {
		stopped, routes := false, 1 // of those who stay: none idles until its links end
		w, err := NewRun(&Scenario{ID: "test"}, 1).NewNetwork(Plan{Streams: 6, Mixes: 9, Hop: sim.Link{Latency: 10 * time.Millisecond},
			Wrap:   func(m machine.Machine) machine.Machine { return &timeless{m, &stopped} },
			Client: func(c *client.Config) { c.Ahead, c.RoutesPerSession = -1, routes }})
		if err != nil {
			t.Fatal(err)
		}
		const vanishing, staying = 60, 4
		w.AddUsers(staying)
		if err := w.WaitReadyOrOpen(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		w.Sim.RunFor(10 * time.Second)
		others, heap := w.held(), heapBytes()
		routes = 2
		w.AddUsers(vanishing)
		if err := w.WaitReadyOrOpen(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		for _, u := range w.Users[staying:] {
			u.Ask("a", make([]byte, 2<<20), func(machine.Time, []byte, error) {})
		}
		w.Sim.RunFor(500 * time.Millisecond)
		held, atWork := w.held()-others, heapBytes()-heap
		for _, u := range w.Users[staying:] {
			w.Sim.Crash(u.Node)
			u.forget()
		}
		stopped = !protected
		begun := w.Sim.Now()
		w.Sim.Every(begun, 10*time.Second, func(now machine.Time) bool { // the others keep the nodes' links busy
			for _, u := range w.Users[:staying] {
				if u.Pending() < 4 {
					u.Ask("a", make([]byte, 100), func(machine.Time, []byte, error) {})
				}
			}
			return now.Sub(begun) < releasedWithin
		})
		for _, at := range []time.Duration{40 * time.Second, 70 * time.Second, 5 * time.Minute, releasedWithin} {
			w.Sim.RunUntil(begun.Add(at))
			t.Logf("protected %v: %d of %d are left after %v", protected, max(0, w.held()-others), held, at)
		}
		sessions, connections, links := 0, 0, 0
		for _, g := range w.Gateways {
			sessions, connections, links = sessions+g.Core().Len(), connections+g.Service.Open(), links+g.Core().Links.Clients()
		}
		if protected {
			t.Logf("%d sessions, %d connections to targets, %d links are there; %d KiB of heap, %d KiB at work", sessions, connections, links, (heapBytes()-heap)>>10, atWork>>10)
		}
		for _, u := range w.Users[:staying] { // what is left then is of who vanished
			w.Sim.Do(u.Node, func(now machine.Time) { u.Core().Close(now) })
		}
		w.Sim.RunFor(time.Second)
		for _, u := range w.Users[:staying] {
			w.Sim.Crash(u.Node)
		}
		w.Sim.RunFor(time.Minute) // their links have no other end
		left := w.held()
		if released := float64(held-left) / float64(held); (released >= 0.998) != protected {
			t.Errorf("protected %v: %d of %d resources are left, %.2f %% released", protected, left, held, 100*released)
		}
		// What the simulator keeps for datagrams to come is some of it.
		if grown := heapBytes() - heap; protected && grown > atWork/8 {
			t.Errorf("%d KiB of %d KiB of memory are left", grown>>10, atWork>>10)
		}
		runtime.KeepAlive(w)
	}
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
