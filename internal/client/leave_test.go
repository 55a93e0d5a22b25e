package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
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
