package gateway_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

func (a *attacker) last() wire.Admission { return a.Admission[len(a.Admission)-1] }

// A link is one client's: made-up names do not fill the records.
func TestOneLinkIsOneClient(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	a := w.attacker()
	entry := w.Gateways[0].Core()
	for i := range 100 {
		a.do(func(machine.Time) { a.Init(a.link, byte(100+i), byte(i)) })
	}
	if n := entry.Admitted(); n != 1 {
		t.Errorf("%d records for one link", n)
	}
	if a.last().Refused.Reason != wire.RefusedPolicy {
		t.Errorf("the last answer is %+v", a.last())
	}
}

// Whose record has ended builds no routes, on whatever link.
func TestSetUpsNeedALiveRecord(t *testing.T) {
	w := newWorld(t, lab.Plan{Gateway: func(c *gateway.Config) { c.Policy.Lifetime = 30 * time.Second }})
	a := w.attacker()
	a.route(nil)
	w.Sim.RunFor(31 * time.Second)
	refused := func() uint64 { return w.Gateways[0].Core().Counts[trace.DropSetupPeer] }
	set := func() {
		a.do(func(now machine.Time) {
			if _, err := a.Route(now, wire.Fast, w.Gateways[0].ID, w.Gateways[1].ID, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	if set(); refused() != wire.TrainFrames {
		t.Errorf("%d frames of a set-up were refused after the record's end, want all %d", refused(), wire.TrainFrames)
	}
	a.do(func(machine.Time) { a.Init(a.link, 1, 2) })
	a.route(nil)
	ready := a.last().Ready
	a.do(func(machine.Time) { a.Push(a.link, func(f *wire.Frame) { wire.PutTerminate(f, &ready.Token) }) })
	if n := w.Gateways[0].Core().Admitted(); n != 0 {
		t.Errorf("%d records after SESSION_TERMINATE", n)
	}
	if set(); refused() != 2*wire.TrainFrames {
		t.Errorf("%d frames were refused after SESSION_TERMINATE", refused())
	}
	if a.do(func(machine.Time) { a.Init(a.link, 2, 1) }); a.last().Refused.Reason != wire.RefusedPolicy {
		t.Errorf("another name on the link after SESSION_TERMINATE: %+v", a.last())
	}
	a.do(func(machine.Time) {
		a.Push(a.link, func(f *wire.Frame) { f.B = [wire.LinkPayloadSize]byte{byte(wire.FrameAdmission), 9} })
	})
	if w.Gateways[0].Core().Counts[trace.DropLinkMalformed] != 1 {
		t.Error("a malformed admission frame was not counted")
	}
}

// A client that comes again by a new link keeps its record when the old link
// dies, and who vanishes leaves nothing.
func TestVanishedClientsLeaveNothing(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	a := w.attacker()
	entry := w.Gateways[0].Core()
	w.Sim.RunFor(10 * time.Second)
	w.Sim.Restart(a.node) // its links are forgotten, its name is not
	a.do(func(now machine.Time) {
		a.link = a.Dial(now, w.Gateways[0].ID)
		a.Init(a.link, 1, 7)
	})
	w.Sim.RunFor(40 * time.Second) // the entry has given up the old link
	if n := entry.Admitted(); n != 1 {
		t.Fatalf("%d records, want that of the client that came again", n)
	}
	a.route(nil)
	w.Sim.Crash(a.node)
	w.Sim.RunFor(11 * time.Minute) // hops behind the entry know by the silence of 10 min only
	if entry.Admitted() != 0 || entry.Links.Links() > 3 {
		t.Errorf("%d records and %d links are left of a vanished client", entry.Admitted(), entry.Links.Links())
	}
	if n := w.victim().Routes(); n != 0 {
		t.Errorf("%d routes are left at the exit", n)
	}
}

// A session whose client vanished ends, with its streams told.
func TestSessionsOfVanishedClientsEnd(t *testing.T) {
	w := newWorld(t, lab.Plan{})
	w.AddUsers(1)
	if err := w.WaitReadyOrOpen(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	sessions := func() (n int) {
		for _, g := range w.Gateways {
			n += g.Core().Len()
		}
		return n
	}
	if sessions() == 0 {
		t.Fatal("no session to begin with")
	}
	w.Users[0].Ask("a", make([]byte, 5<<20), func(machine.Time, []byte, error) {})
	w.Sim.RunFor(20 * time.Millisecond)
	w.Sim.Crash(w.Users[0].Node)
	w.Sim.RunFor(11 * time.Minute)
	if n := sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	for i, g := range w.Gateways {
		if n := g.Core().Routes(); n != 0 {
			t.Errorf("gateway %d has %d routes left", i, n)
		}
	}
}

// On every level requests are answered, and a pinned class stays.
func TestRequestsAreAnsweredOnShapedRoutes(t *testing.T) {
	w := newWorld(t, lab.Plan{Level: wire.Standard, Gateway: func(c *gateway.Config) { c.Class = 200 }})
	w.AddUsers(1)
	if err := w.WaitReady(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("nyx"), 30_000)
	var got []byte
	w.Users[0].Ask("a", body, func(_ machine.Time, answer []byte, err error) { got = bytes.Clone(answer) })
	w.Sim.RunFor(30 * time.Second)
	if !bytes.Equal(got, body) {
		t.Errorf("%d bytes of %d came back", len(got), len(body))
	}
	var dummies uint64
	for _, g := range w.Gateways {
		c := g.Core().Stats()
		dummies += c[trace.DummyOut]
		for _, s := range g.Core().Figures() {
			if s.PacketsReceived == 0 {
				t.Error("a session without packets")
			}
		}
	}
	if dummies == 0 {
		t.Error("shaped routes carried no cover")
	}
}

// A node that drains refuses newcomers; a full one refuses sessions.
func TestDrainAndLimit(t *testing.T) {
	w := newWorld(t, lab.Plan{Gateway: func(c *gateway.Config) { c.SessionsMax = 1 }})
	w.Gateways[0].Core().Drain()
	a := w.attacker()
	if a.last().Refused.Reason != wire.RefusedDrain {
		t.Errorf("a draining node answers %+v", a.last())
	}
	w = newWorld(t, lab.Plan{Gateway: func(c *gateway.Config) { c.SessionsMax = 1 }})
	a = w.attacker()
	a.dialSession(1)
	a.route(make([]byte, 2000))
	if w.victim().Len() != 1 || w.victim().Counts[trace.DropSessionUnknown] != 1 {
		t.Errorf("%d sessions where 1 is allowed", w.victim().Len())
	}
}

// The configuration's limits hold in a gateway that runs: for new sessions, and for
// plans.
func TestLimitsHoldWhileItRuns(t *testing.T) {
	w := newWorld(t, lab.Plan{Gateway: func(c *gateway.Config) { c.Policy.PerMinute = 2 }})
	a := w.attacker() // one session
	core := w.Gateways[0].Core()
	init := func(nonce byte) wire.Refusal {
		a.do(func(machine.Time) { a.Init(a.link, 1, nonce) })
		return a.last().Refused.Reason
	}
	offer := func(percent uint16) (why obfs.Refusal) {
		r := wire.CoverRegion{Name: "eu", Weight: wire.CoverWeightOne, Rates: obfs.Nominal()}
		r.Rates[9] = r.Rates[9] / 100 * percent
		a.do(func(now machine.Time) {
			why = core.HandleParams(now, gateway.Params{Plan: &wire.CoverPlan{Epoch: 1 + obfs.EpochAt(int64(now/machine.Time(time.Second))), Regions: []wire.CoverRegion{r}}})
		})
		return why
	}
	limits := func(l gateway.Limits) { a.do(func(now machine.Time) { core.HandleLimits(now, l) }) }
	init(2)
	if why := init(3); why != wire.RefusedRate {
		t.Fatalf("a third session: %v", why)
	}
	limits(gateway.Limits{Limits: control.Limits{PerMinute: 100}, RateMax: 120})
	if init(4); a.last().Kind != wire.AdmissionReady {
		t.Errorf("under new limits: %+v", a.last())
	}
	if why := offer(150); why != obfs.RefusedRate {
		t.Errorf("a plan above the bound: %v", why)
	}
	if why := offer(100); why != 0 {
		t.Errorf("a plan within it: %v", why)
	}
	if limits(gateway.Limits{}); init(5) != wire.RefusedRate {
		t.Errorf("after they were taken back: %+v", a.last())
	}
}
