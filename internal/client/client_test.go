package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

func newWorld(t *testing.T, p lab.Plan) *lab.Network {
	t.Helper()
	return seededWorld(t, 1, p)
}

func seededWorld(t *testing.T, seed uint64, p lab.Plan) *lab.Network {
	t.Helper()
	if p.Streams == 0 {
		p.Streams, p.Mixes = 4, 6
	}
	if p.Hop == (sim.Link{}) {
		p.Hop = sim.Link{Latency: 5 * time.Millisecond}
	}
	w, err := lab.NewRun(&lab.Scenario{ID: "test"}, seed).NewNetwork(p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func withUser(t *testing.T, p lab.Plan) (*lab.Network, *lab.User) {
	t.Helper()
	return withUserIn(t, newWorld(t, p))
}

// cutOff lets time pass in which nothing gets from a user to the entries, or back.
func cutOff(w *lab.Network, u *lab.User, d time.Duration) {
	var entries []*sim.Node
	for _, g := range w.Gateways {
		entries = append(entries, g.Node)
	}
	w.Sim.Partition([]*sim.Node{u.Node}, entries)
	w.Sim.RunFor(d)
	w.Sim.Heal()
}

func withUserIn(t *testing.T, w *lab.Network) (*lab.Network, *lab.User) {
	t.Helper()
	w.AddUsers(1)
	if err := w.WaitReadyOrOpen(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	return w, w.Users[0]
}

// ask sends a request and returns how long its answer took; it fails the test
// if there is none within limit.
func ask(t *testing.T, w *lab.Network, u *lab.User, isolation string, size int, limit time.Duration) time.Duration {
	t.Helper()
	body := bytes.Repeat([]byte{9}, size)
	begun, done := w.Sim.Now(), false
	u.Ask(isolation, body, func(_ machine.Time, answer []byte, err error) {
		if done = true; err != nil || !bytes.Equal(answer, body) {
			t.Errorf("%d bytes of %d came back, %v", len(answer), size, err)
		}
	})
	if !w.Sim.RunWhile(begun.Add(limit), func() bool { return !done }) {
		t.Fatalf("no answer within %v; last error: %v", limit, u.Core().LastError())
	}
	return w.Sim.Now().Sub(begun)
}

// Streams of different isolation keys are in different sessions, and streams
// of one key in one.
func TestIsolationKeysMeetInNoSession(t *testing.T) {
	w, u := withUser(t, lab.Plan{})
	target := wire.Target{Network: wire.TCP, Host: "service.lab", Port: 80}
	sessions := map[string]uint32{}
	w.Sim.Do(u.Node, func(now machine.Time) {
		for _, key := range []string{"", "alice", "bob", "alice\x00bob", "alice"} {
			ref, err := u.Core().Open(now, key, target)
			if err != nil {
				t.Fatal(err)
			}
			if old, known := sessions[key]; known && old != ref.Session {
				t.Errorf("key %q has two sessions", key)
			}
			sessions[key] = ref.Session
		}
		at, err := u.Core().OpenAt(now, "alice", w.Gateways[0].ID, target)
		if err != nil {
			t.Fatal(err)
		}
		sessions["at 0"] = at.Session
		if at, err = u.Core().OpenAt(now, "alice", w.Gateways[1].ID, target); err != nil {
			t.Fatal(err)
		}
		sessions["at 1"] = at.Session
	})
	seen := map[uint32]string{}
	for key, id := range sessions {
		if other, ok := seen[id]; ok {
			t.Errorf("%q and %q share a session", key, other)
		}
		seen[id] = key
	}
	if _, err := u.Core().OpenAt(0, "", wire.NodeID{1}, target); err == nil {
		t.Error("a stream to a node that nobody knows was opened")
	}
}

// Where 15 % is lost each way, over the route or on the client's own line, a
// session stands within two seconds of the client's start, links and admission
// included, 99 times in 100.
func TestSessionsStandSoonInABadNetwork(t *testing.T) {
	hop, own := sim.Link{Latency: 5 * time.Millisecond}, sim.Link{Latency: 5 * time.Millisecond, Loss: 150_000}
	lossy := hop
	lossy.Loss = 32_000 // 0.968^5 = 0.85
	for _, c := range []struct {
		name  string
		level wire.Level
		hop   sim.Link
		own   sim.Link
	}{
		{"FAST, the route", wire.Fast, lossy, lossy},
		{"FAST, the client's line", wire.Fast, hop, own},
		{"STANDARD, the route", wire.Standard, lossy, lossy},
	} {
		var took []time.Duration
		for seed := range 25 {
			w := seededWorld(t, uint64(seed+1), lab.Plan{Streams: 6, Mixes: 8, Level: c.level, Hop: c.hop})
			for range 4 {
				u := w.AddUser()
				for _, g := range w.Gateways {
					w.SetAccess(u, g, c.own)
				}
				begun := w.Sim.Now()
				w.Sim.Do(u.Node, func(now machine.Time) { u.Core().SetView(now, w.View) })
				u.Ask("a", nil, func(machine.Time, []byte, error) {})
				w.Sim.RunWhile(begun.Add(time.Minute), func() bool { return !u.Core().Established("a") })
				took = append(took, w.Sim.Now().Sub(begun))
			}
		}
		slices.Sort(took)
		p99 := took[len(took)*99/100-1]
		t.Logf("%s: median %v, 99th of %d %v, worst %v", c.name, took[len(took)/2], len(took), p99, took[len(took)-1])
		if p99 > 2*time.Second {
			t.Errorf("%s: the 99th session of 100 stands after %v", c.name, p99)
		}
	}
}

// A route whose answer is lost stands a quarter of a second later, and not when
// its time is over and another was tried. (Control: without the LOOP it takes
// more than a second.)
func TestALostAnswerIsAskedFor(t *testing.T) {
	w, u := withUser(t, lab.Plan{Streams: 6, Mixes: 8})
	w.Sim.RunFor(3 * time.Second)
	w.Sim.Do(u.Node, func(now machine.Time) { u.Core().DropRoute(now, "a") })
	begun := w.Sim.Now()
	w.Sim.RunFor(30 * time.Millisecond) // the set-up is on its way
	cutOff(w, u, 170*time.Millisecond)
	w.Sim.RunWhile(begun.Add(5*time.Second), func() bool { return len(u.Core().LastMixes("a")) < 2 })
	if took := w.Sim.Now().Sub(begun); took > 500*time.Millisecond {
		t.Errorf("the route stands after %v", took)
	}
}

// Set-ups that begin together and fail together are one failure: what comes next
// is not waited for longer because a session has several routes.
func TestSetupsThatFailTogetherAreOneFailure(t *testing.T) {
	w, u := withUser(t, lab.Plan{Streams: 6, Mixes: 8})
	w.Sim.RunFor(3 * time.Second)
	w.Sim.Do(u.Node, func(now machine.Time) {
		u.Core().DropRoute(now, "a")
		u.Core().DropRoute(now, "a")
	})
	cutOff(w, u, 1050*time.Millisecond)
	if n := u.Core().Failures(); n != 1 {
		t.Errorf("two set-ups that were cut off at once count as %d failures", n)
	}
}

// An exit that dies costs its session, and nothing after it.
func TestExitDies(t *testing.T) {
	w, u := withUser(t, lab.Plan{})
	exit := u.Core().ExitOf("a")
	for _, g := range w.Gateways {
		if g.ID == exit {
			w.Sim.Crash(g.Node)
		}
	}
	var failed error
	begun := w.Sim.Now()
	u.Ask("a", []byte("lost"), func(_ machine.Time, _ []byte, err error) { failed = err })
	w.Sim.RunWhile(begun.Add(2*time.Minute), func() bool { return failed == nil })
	if failed == nil {
		t.Fatal("a stream to a dead exit does not end")
	}
	t.Logf("the dead exit was given up after %v", w.Sim.Now().Sub(begun))
	ask(t, w, u, "a", 1000, 30*time.Second)
}

// Entries that refuse are avoided while others admit.
func TestEntriesRefuse(t *testing.T) {
	w := newWorld(t, lab.Plan{Streams: 8, Mixes: 6})
	for _, g := range w.Gateways[:6] {
		g.Core().Drain()
	}
	for range 8 {
		w.AddUsers(1)
		u := w.Users[len(w.Users)-1]
		if d := ask(t, w, u, "a", 10, 30*time.Second); d > 5*time.Second {
			t.Log(u.Core().LastError())
			t.Errorf("the first answer took %v", d)
		}
	}
	if w.Gateways[0].Core().Admitted() != 0 {
		t.Error("a draining entry admitted someone")
	}
}

// An entry that is gone is found out, with the routes through it.
func TestEntriesDie(t *testing.T) {
	w, u := withUser(t, lab.Plan{Streams: 5, Mixes: 6})
	exit := u.Core().ExitOf("a")
	for _, g := range w.Gateways {
		if g.ID != exit && g.Core().Admitted() > 0 {
			w.Sim.Crash(g.Node)
			break
		}
	}
	ask(t, w, u, "a", 100_000, 20*time.Second)
	w.Sim.RunFor(time.Minute)
	ask(t, w, u, "a", 100_000, 5*time.Second)
}

// A mix that dies is told by its neighbours or found out; the session goes on.
func TestMixesDie(t *testing.T) {
	w, u := withUser(t, lab.Plan{Streams: 4, Mixes: 9})
	for i := range 3 {
		w.Sim.Crash(w.Relays[i].Node)
		ask(t, w, u, "a", 200_000, 20*time.Second)
		w.Sim.RunFor(time.Minute)
	}
	ask(t, w, u, "a", 100_000, 5*time.Second)
}

// Routes are replaced before they end, without a request noticing.
func TestRoutesAreRenewed(t *testing.T) {
	w, u := withUser(t, lab.Plan{Client: func(c *client.Config) { c.RouteTTL = 20 * time.Second }})
	for range 30 {
		if d := ask(t, w, u, "a", 2000, 5*time.Second); d > time.Second {
			t.Errorf("a request took %v", d)
		}
		w.Sim.RunFor(4 * time.Second)
	}
	if n := u.Core().Held(); n > 10 {
		t.Errorf("%d routes are held by one session and one ahead", n)
	}
}

// Five routes are replaced one after the other, each by one that stands before it
// goes: there are never fewer.
func TestFiveRoutesAreReplacedBeforeTheyGo(t *testing.T) {
	w, u := withUser(t, lab.Plan{Streams: 12, Mixes: 30, Client: func(c *client.Config) {
		c.Ahead, c.RoutesPerSession, c.RouteTTL = -1, 5, 3*time.Minute
	}})
	w.Sim.RunFor(10 * time.Second)
	id := u.Core().ExitOf("a")
	for range 400 {
		ask(t, w, u, "a", 2000, 5*time.Second)
		w.Sim.RunFor(time.Second)
		if n := len(u.Core().LastMixes("a")); n < 5 {
			t.Fatalf("%d routes at %v", n, w.Sim.Now())
		}
	}
	if u.Core().ExitOf("a") != id {
		t.Error("another session")
	}
}

// Admission is renewed before it ends.
func TestAdmissionIsRenewed(t *testing.T) {
	w, u := withUser(t, lab.Plan{
		Gateway: func(c *gateway.Config) { c.Policy.Lifetime = 20 * time.Second },
		Client:  func(c *client.Config) { c.RouteTTL = 30 * time.Second },
	})
	for range 12 {
		w.Sim.RunFor(10 * time.Second)
		ask(t, w, u, "a", 100, 3*time.Second)
	}
}

// Who closes tells exit and entries.
func TestCloseLeavesNothingBehind(t *testing.T) {
	w, u := withUser(t, lab.Plan{})
	w.Sim.RunFor(5 * time.Second)
	w.Sim.Do(u.Node, func(now machine.Time) { u.Core().Close(now) })
	w.Sim.RunFor(time.Second)
	w.Sim.Crash(u.Node)
	for i, g := range w.Gateways {
		if a, r := g.Core().Admitted(), g.Core().Routes(); a != 0 || r != 0 {
			t.Errorf("gateway %d keeps %d records and %d routes", i, a, r)
		}
	}
}

// The network's key is asked for, and a client without it learns why it has no
// route, and keeps it in mind while it tries again.
func TestNetworkKey(t *testing.T) {
	key := seal.Key{1}
	wrong := seal.Key{2}
	for _, c := range []struct {
		key *seal.Key
		why string
	}{{&key, ""}, {&wrong, "another pre-shared key"}, {nil, "put its psk line into the network file"}} {
		w := newWorld(t, lab.Plan{
			Gateway: func(g *gateway.Config) { g.Policy.NetworkKey = &key },
			Client:  func(cfg *client.Config) { cfg.NetworkKey = c.key },
		})
		w.AddUsers(1)
		if err := w.WaitReady(5 * time.Second); (err == nil) != (c.why == "") {
			t.Errorf("ready: %v", err)
		}
		for range 10 {
			if err := w.Users[0].Core().LastError(); c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
				t.Errorf("the reason is %v, want %q", err, c.why)
			}
			w.Sim.RunFor(4 * time.Second)
		}
	}
}

// Shaped levels carry requests, with cover in every slot that has none.
func TestShapedLevelCarriesRequests(t *testing.T) {
	w := newWorld(t, lab.Plan{Level: wire.Standard, Client: func(c *client.Config) {
		c.Class, c.RouteTTL, c.Stream.IdleTimeout = 200, time.Minute, 30*time.Second
	}})
	w.AddUsers(1)
	if err := w.WaitReady(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	ask(t, w, w.Users[0], "", 20_000, 20*time.Second)
	ask(t, w, w.Users[0], "other", 2_000, 20*time.Second)
	w.Sim.RunFor(90 * time.Second) // sessions idle out, routes expire
	ask(t, w, w.Users[0], "", 2_000, 20*time.Second)
}

func TestWithoutDirectory(t *testing.T) {
	c := client.New(client.Config{}, prng.FromUint64(1))
	target := wire.Target{Network: wire.TCP, Host: "a", Port: 1}
	_, open := c.Open(0, "", target)
	_, at := c.OpenAt(0, "", wire.NodeID{}, target)
	_, call := c.Call(0, "", newService(t).descriptor(nil), target)
	for _, err := range []error{open, at, call, c.Host(0, newService(t).key)} {
		if !errors.Is(err, client.ErrNoDirectory) {
			t.Errorf("%v, want ErrNoDirectory", err)
		}
	}
	if c.Ready() || len(c.Meetings(newService(t).key.Address())) != 0 || len(c.Keepers(newService(t).key.Address().Index(0), 3)) != 0 {
		t.Error("a client without a directory knows nodes")
	}
	c.HandleDatagram(0, w0, []byte("nonsense"))
	c.Close(0)
}

// A route that is given up ends with a slot: nothing leaves at the moment when
// it is, and its hops are told. Control: at FAST, where there are no slots, the
// cell that closes it leaves at once.
func TestARouteEndsInItsSlot(t *testing.T) {
	told := func(level wire.Level) (atOnce int) {
		w := newWorld(t, lab.Plan{Level: level, Ideal: true, Client: func(c *client.Config) { c.Class, c.Ahead = 100, -1 }})
		w.AddUsers(1)
		u, key := w.Users[0], newService(t).key
		w.Sim.Do(u.Node, func(now machine.Time) {
			if err := u.Core().Host(now, key); err != nil {
				t.Fatal(err)
			}
		})
		w.Sim.RunFor(5*time.Second + 123457)
		routes := func() (n int) {
			for _, g := range w.Gateways {
				n += g.Core().Routes()
			}
			return n
		}
		before, held := routes(), u.Core().Held()
		view := w.Sim.Tap(u.Node.Addr(), netip.AddrPort{}, sim.Departure)
		w.Sim.Do(u.Node, func(now machine.Time) { u.Core().Withdraw(now, key.Address()) })
		atOnce = view.Len()
		closed := held - u.Core().Held()
		w.Sim.RunFor(time.Second)
		if closed == 0 || before-routes() != closed {
			t.Errorf("%v: of %d routes %d were closed at the client, and %d at their ends", level, before, closed, before-routes())
		}
		return atOnce
	}
	if n := told(wire.Standard); n != 0 {
		t.Errorf("%d datagrams leave at the moment when routes are given up", n)
	}
	if n := told(wire.Fast); n == 0 {
		t.Error("control: nothing leaves at FAST either")
	}
}

// Isolation keys are bounded, since each costs a session and its routes: one
// more is refused, those in use and the absence of one go on, and a place is
// free again when a session has been idle until its end.
func TestIsolationKeysAreBounded(t *testing.T) {
	w, u := withUser(t, lab.Plan{})
	target := wire.Target{Network: wire.TCP, Host: "service.lab", Port: 80}
	open := func(key string) (err error) {
		w.Sim.Do(u.Node, func(now machine.Time) {
			var ref session.Ref
			if ref, err = u.Core().Open(now, key, target); err == nil {
				u.Core().Abort(now, ref, 0)
			}
		})
		return err
	}
	for i := u.Core().Keys(); i < client.KeysMax; i++ {
		if err := open(fmt.Sprint("key ", i)); err != nil {
			t.Fatalf("key %d of %d: %v", i+1, client.KeysMax, err)
		}
	}
	if err := open("one more"); !errors.Is(err, client.ErrTooManyKeys) {
		t.Errorf("a key beyond the bound: %v", err)
	}
	openAt := func(key string) (err error) {
		w.Sim.Do(u.Node, func(now machine.Time) {
			var ref session.Ref
			if ref, err = u.Core().OpenAt(now, key, w.Gateways[0].ID, target); err == nil {
				u.Core().Abort(now, ref, 0)
			}
		})
		return err
	}
	for i := range client.KeysMax { // look-ups have places of their own
		if err := openAt(fmt.Sprint("key ", i)); err != nil {
			t.Fatalf("look-up %d of %d: %v", i+1, client.KeysMax, err)
		}
	}
	if err := openAt("one more"); !errors.Is(err, client.ErrTooManyKeys) {
		t.Errorf("a look-up beyond the bound: %v", err)
	}
	for _, key := range []string{"key 99", ""} {
		if err := open(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	w.Sim.RunFor(10 * time.Minute)
	if err := open("one more"); err != nil {
		t.Errorf("after the sessions were idle: %v", err)
	}
}
