package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// mixInUse is the place of a Mix node through which the session of an isolation
// key sends.
func mixInUse(w *lab.Network, u *lab.User, isolation string) int {
	id := u.Core().ActiveMix(isolation)
	return slices.IndexFunc(w.Relays, func(m *lab.Relay) bool { return m.ID == id })
}

// A mix announces that it will stop and does so a minute later: not one of the
// datagrams that were sent meanwhile, each once, is lost, and no route leads
// through the mix when it stops. (Control: where it says nothing, some are.)
func TestRoutesLeaveAMixThatWillStop(t *testing.T) {
	for _, announced := range []bool{true, false} {
		for _, level := range []wire.Level{wire.Fast, wire.Standard} {
			w, u := withUserIn(t, newWorld(t, lab.Plan{Streams: 4, Mixes: 12, Level: level,
				Client: func(c *client.Config) { c.Patient = !announced }}))
			arrived, sent := 0, 0
			for _, g := range w.Gateways {
				g.Service.Message = func(machine.Time, []byte) { arrived++ }
			}
			u.Flow("a", func(now machine.Time, send func(machine.Time, []byte) error) {
				w.Sim.Every(now, 100*time.Millisecond, func(machine.Time) bool {
					sent++
					w.Sim.Do(u.Node, func(now machine.Time) { send(now, []byte("datagram")) })
					return sent < 900
				})
			})
			w.Sim.RunFor(10 * time.Second)
			exit, place := u.Core().ExitOf("a"), mixInUse(w, u, "a")
			if announced {
				if err := w.SetCapacity(len(w.Gateways)+place, 0); err != nil {
					t.Fatal(err)
				}
				v, err := w.ViewOf(nil)
				if err != nil {
					t.Fatal(err)
				}
				w.Distribute(v)
			}
			w.Sim.RunFor(time.Minute)
			if n := u.Core().Through(w.Relays[place].ID); (n == 0) != announced {
				t.Errorf("%v, announced %v: %d routes lead through the mix when it stops", level, announced, n)
			}
			w.Sim.Crash(w.Relays[place].Node)
			w.Sim.RunFor(30 * time.Second)
			if lost := sent - arrived; (lost == 0) != announced || sent < 900 {
				t.Errorf("%v, announced %v: %d of %d datagrams lost", level, announced, lost, sent)
			}
			if announced && u.Core().ExitOf("a") != exit {
				t.Errorf("%v: the session has moved", level)
			}
		}
	}
}

// Sessions built ahead leave an exit that will stop, and new ones do not begin
// there; a session that is in use stays.
func TestWhatIsBuiltAheadLeavesAnExitThatWillStop(t *testing.T) {
	w, u := withUserIn(t, newWorld(t, lab.Plan{Streams: 6, Mixes: 9, Level: wire.Fast}))
	ask(t, w, u, "a", 100, 5*time.Second)
	w.Sim.RunFor(10 * time.Second)
	used, ahead := u.Core().ExitOf("a"), u.Core().ExitAhead()
	for i, g := range w.Gateways {
		if g.ID == used || g.ID == ahead {
			if err := w.SetCapacity(i, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	v, err := w.ViewOf(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Distribute(v)
	w.Sim.RunFor(time.Minute)
	if now := u.Core().ExitAhead(); now == ahead || now == used || now == [32]byte{} {
		t.Errorf("the session ahead ends at %x, where it was at %x", now[:4], ahead[:4])
	}
	ask(t, w, u, "b", 100, 5*time.Second)
	if exit := u.Core().ExitOf("b"); exit == ahead || exit == used {
		t.Error("a new session ends at a node that will stop")
	}
	ask(t, w, u, "a", 100, 5*time.Second)
	if u.Core().ExitOf("a") != used {
		t.Error("the session in use has moved")
	}
}

// Routes that carry nothing stay for as long as they may wait, and with them the
// links between their hops; a session of five routes uses one or two. (Control:
// links that close after 5 minutes of nothing but pads take all of these with
// them.)
func TestRoutesThatWaitStay(t *testing.T) {
	down := 0
	w, u := withUserIn(t, newWorld(t, lab.Plan{Streams: 6, Mixes: 18, Client: func(c *client.Config) {
		c.RoutesPerSession = 5
		c.Sink = func(e trace.Event) {
			if e.Kind == trace.RouteDown {
				down++
			}
		}
	}}))
	for range 14 {
		ask(t, w, u, "a", 100, 5*time.Second)
		w.Sim.RunFor(30 * time.Second)
	}
	if n := u.Core().Routes(); down != 0 || n != 10 { // five of them wait for a session
		t.Errorf("after 7 minutes %d routes are lost, %d stand", down, n)
	}
}

// The way between two regions becomes long: within 30 s routes that cross it are replaced
// but for those that the law lets stay, an eighth, and who asks meanwhile waits no longer
// than usual. Delays that waver replace none. (Control: without moveNearer all stay.)
func TestRoutesLeaveWhatHasBecomeFar(t *testing.T) {
	regions := []string{"a", "b", "c"}
	for name, millis := range map[string]uint16{"far": 200, "control: as ever": 15} {
		w, u := withUserIn(t, newWorld(t, lab.Plan{Streams: 9, Mixes: 18, Regions: regions}))
		b, err := w.NewBulletins()
		if err != nil {
			t.Fatal(err)
		}
		between := func(ab uint16) (all []directory.Delay) {
			for i, from := range regions {
				for _, to := range regions[i:] {
					d := directory.Delay{From: from, To: to, Millis: 5}
					if from == "a" && to == "b" {
						d.Millis = ab
					}
					all = append(all, d)
				}
			}
			return all
		}
		b.Delays = between(5)
		w.Sim.RunFor(20 * time.Second)
		var keys []string
		for i := range 12 {
			keys = append(keys, string(rune('a'+i)))
			ask(t, w, u, keys[i], 100, 5*time.Second)
		}
		w.Sim.RunFor(10 * time.Second)
		regionOf := map[wire.NodeID]string{}
		for i := range w.View.Len() {
			regionOf[w.View.At(i).ID] = w.View.At(i).Region
		}
		crossing := func() (n int) {
			for _, key := range keys {
				for _, path := range u.Core().Paths(key) {
					for i := 1; i < len(path); i++ {
						if x, y := regionOf[path[i-1]], regionOf[path[i]]; min(x, y) == "a" && max(x, y) == "b" {
							n++
							break
						}
					}
				}
			}
			return n
		}
		before := crossing()
		b.Delays = between(millis)
		w.Sim.RunFor(30 * time.Second)
		after, moved := crossing(), u.Core().Distributions[trace.RouteUpdateLatency].Count
		if before < 5 {
			t.Fatalf("only %d routes lead between a and b", before)
		}
		if far := millis > 100; far && after > before/2 || !far && (after != before || moved != 0) {
			t.Errorf("%s: %d routes led between a and b, %d do, %d have moved", name, before, after, moved)
		}
		for _, key := range keys {
			if took := ask(t, w, u, key, 100, 5*time.Second); took > 200*time.Millisecond {
				t.Errorf("%s: an answer took %v", name, took)
			}
		}
	}
}
